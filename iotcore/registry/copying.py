"""A PostgreSQL registry as files: every table as CSV (COPY), all as of one moment; and back, into a schema of its own.

No client program of PostgreSQL is needed, nor the version that the archive was made with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg

from iotcore.errors import StartError, StoreError
from iotcore.registry.audit import Head
from iotcore.registry.database import DEFAULT_SCHEMA

SUFFIX = ".csv"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY tablename"
COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position"
)
NEEDS = (  # a table and one that its rows refer to
    "SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent FROM pg_constraint"
    " WHERE contype = 'f' AND connamespace = $1::regnamespace AND conrelid <> confrelid"
)
NUMBERED = (
    "SELECT table_name, column_name, pg_get_serial_sequence(quote_ident(table_schema) || '.' || quote_ident(table_name),"
    " column_name) AS sequence FROM information_schema.columns WHERE table_schema = $1"
)


def is_postgres(url: str) -> bool:
    """Whether a registry URL names a PostgreSQL."""
    return not url.startswith("sqlite://")


def schema_of(url: str) -> str:
    """The schema of a registry URL."""
    return parse_qs(urlsplit(url).query).get("schema", [DEFAULT_SCHEMA])[0]


def in_schema(url: str, schema: str) -> str:
    """The same database, another schema."""
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()} | {"schema": schema}
    return parts._replace(query=urlencode(query)).geturl()


class Exported(NamedTuple):
    """What was written: the tables, their step, the audit's head, and the highest id of each table that numbers its rows."""

    tables: list[str]
    step: int
    head: Head
    numbers: dict[str, int]


async def export(url: str, folder: Path) -> Exported:
    """Write each table to `folder`/<table>.csv, all as of one moment.

    Raises:
        StartError: the database does not answer.
        StoreError: it stopped answering.
    """
    schema = schema_of(url)
    async with _connected(url) as server, server.transaction(isolation="repeatable_read", readonly=True):
        await server.execute(f'SET LOCAL search_path TO "{schema}"')
        tables = [row[0] for row in await server.fetch(TABLES, schema)]
        for table in tables:
            columns = [row[0] for row in await server.fetch(COLUMNS, schema, table)]
            await server.copy_from_table(
                table, schema_name=schema, columns=columns, output=str(folder / f"{table}{SUFFIX}"), format="csv", header=True
            )
        step = await server.fetchval("SELECT max(number) FROM migration")
        head = await server.fetchrow("SELECT seq, hash FROM audit_head")
        numbered = [(row["table_name"], row["column_name"]) for row in await server.fetch(NUMBERED, schema) if row["sequence"]]
        numbers = {table: int(await server.fetchval(_highest(table, column))) for table, column in numbered}
    return Exported(tables, step, Head(head["seq"], head["hash"]), numbers)


async def load(url: str, folder: Path) -> None:
    """Fill the empty tables of `url` with the files of `export`; sequences go on after the last number.

    Raises:
        StoreError: a file does not fit the tables.
    """
    schema = schema_of(url)
    async with _connected(url) as server, server.transaction():
        await server.execute(f'SET LOCAL search_path TO "{schema}"')
        tables = [row[0] for row in await server.fetch(TABLES, schema)]
        files = {path.name.removesuffix(SUFFIX): path for path in _csv(folder)}
        if strange := sorted(files.keys() - set(tables)):
            raise StoreError(f"the backup has tables that this release does not know: {', '.join(strange)}")
        await server.execute("TRUNCATE " + ", ".join(f'"{table}"' for table in tables) + " CASCADE")
        needs: dict[str, set[str]] = {}
        for row in await server.fetch(NEEDS, schema):
            needs.setdefault(row["child"].strip('"'), set()).add(row["parent"].strip('"'))
        for table in _ordered(list(files), needs):
            columns = _columns(files[table])
            await server.copy_to_table(
                table, schema_name=schema, columns=columns, source=str(files[table]), format="csv", header=True
            )
        for row in await server.fetch(NUMBERED, schema):
            if row["sequence"]:
                last = await server.fetchval(_highest(row["table_name"], row["column_name"]))
                await server.execute("SELECT setval($1::text::regclass, greatest($2::bigint, 1))", row["sequence"], last)


async def recreate(url: str, label: str) -> None:
    """Make the schema of `url` anew, empty, with `label` as its comment; what was in it is gone."""
    schema = schema_of(url)
    async with _connected(url) as server, server.transaction():
        await server.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE; CREATE SCHEMA "{schema}"')
        await server.execute(f"COMMENT ON SCHEMA \"{schema}\" IS '{label}'")


async def standing(url: str) -> tuple[bool, str]:
    """Whether anything was ever done in the schema of `url`, and its comment."""
    schema = schema_of(url)
    async with _connected(url) as server:
        there = await server.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = $1 AND tablename = 'audit_head'", schema)
        comment = await server.fetchval(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", schema
        )
        if not there:
            return False, comment or ""
        seq = await server.fetchval(f'SELECT coalesce(max(seq), 0) FROM "{schema}".audit_head')  # noqa: S608 - our own schema
    return bool(seq), comment or ""


async def put_in_place(url: str, staged: str, aside: str) -> None:
    """Let the schema `staged` take the place of the one that `url` names, in one transaction; that one goes to `aside`."""
    schema = schema_of(url)
    async with _connected(url) as server, server.transaction():
        if await server.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema):
            await server.execute(f'ALTER SCHEMA "{schema}" RENAME TO "{aside}"' if aside else f'DROP SCHEMA "{schema}" CASCADE')
        await server.execute(f'ALTER SCHEMA "{staged}" RENAME TO "{schema}"')


def _csv(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def _columns(file: Path) -> list[str]:
    with file.open(encoding="utf-8") as lines:
        return lines.readline().strip().split(",")


def _highest(table: str, column: str) -> str:
    return f'SELECT coalesce(max("{column}"), 0) FROM "{table}"'  # noqa: S608 - names of our own tables, from the catalogue


def _ordered(tables: list[str], needs: dict[str, set[str]]) -> list[str]:
    """Each table after those that its rows refer to."""
    done: list[str] = []
    left = set(tables)
    while left:
        ready = sorted(table for table in left if not (needs.get(table, set()) & left))
        if not ready:
            raise StoreError(f"tables that refer to each other: {', '.join(sorted(left))}")
        done += ready
        left -= set(ready)
    return done


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    try:
        server = await asyncpg.connect(urlsplit(url)._replace(query="").geturl().replace("asyncpg://", "postgres://"))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartError(f"The registry's database does not answer: {error}", "Check registry.url and that it runs.") from error
    try:
        yield server
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise StoreError(f"the registry's database refused: {error}") from error
    finally:
        await server.close()

"""Opening the registry's database, and the one way to write to it.

A writing transaction first locks the one row at the head of the audit chain. That is a write, so SQLite's deferred BEGIN takes
its write lock while waiting is still possible (a read first would end in "database is locked"), and on PostgreSQL it lines the
writers up, so that change ids grow in commit order and a reader that polls by id misses none.

A transaction that changed rows and noted nothing does not commit: the database itself is asked how many rows it wrote.

Tortoise keeps its state in a context variable; each operation enters a copy of this registry's context, so that several
registries and tasks in one process do not see each other's. (Tortoise binds query classes to models: one process keeps to one
kind of database.)
"""

from __future__ import annotations

import asyncio
import copy
import functools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException, OperationalError
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from iotcore import disk
from iotcore.clock import Clock
from iotcore.errors import StartError, StoreError, StoreFull
from iotcore.registry import audit, migrations
from iotcore.registry.tables import ID_LENGTH, HeadRow

BUSY_TIMEOUT_MS = 10_000
OPEN_LIMIT_S = 10.0
OPEN_PAUSE_S = 0.05
POOL_CONNECTIONS = 4
MODELS = (
    "iotcore.registry.tables",
    "iotcore.registry.tables_places",
    "iotcore.registry.tables_enrolment",
    "iotcore.registry.tables_people",
    "iotcore.registry.tables_commissioning",
    "iotcore.registry.tables_coverage",
    "iotcore.registry.tables_certs",
    "iotcore.registry.tables_acts",
    "iotcore.registry.tables_rules",
)
DEFAULT_SCHEMA = "registry"  # PostgreSQL: one schema of the platform's database
BATCH_ROWS = 500
# InternalClientError: what asyncpg says when a server goes down between the two halves of a query
DATABASE_ERRORS = (
    *(BaseORMException, sqlite3.Error, OSError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)
P = ParamSpec("P")
T = TypeVar("T")
FULL_SIGNS = ("disk is full", "No space left", "could not extend file")
OPENING_SIGNS = ("disk I/O error", "unable to open database file")  # what SQLite also says of a full disk when it opens a file
SQLITE_URL = "sqlite://"
# A plan that is kept was made while a table was small: an import of 100,000 devices then reads it whole for each chunk.
SERVER_SETTINGS = {"plan_cache_mode": "force_custom_plan"}
# Rows written so far: by this connection; by this transaction besides the lock on the head.
WRITTEN = {
    "sqlite": "SELECT total_changes() AS written",
    "postgres": "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) AS written"
    " FROM pg_stat_xact_user_tables WHERE relname <> 'audit_head'",
}


class Writing:
    """One writing transaction: queries go through `db`; what was done is noted and committed with it."""

    def __init__(self, db: BaseDBAsyncClient, now_ms: int, head: HeadRow, written: int) -> None:
        self.db = db
        self.now_ms = now_ms
        self._seq, self._hash = head.seq, head.hash
        self._written = written
        self._audit: list[list[Any]] = []
        self._changes: list[list[Any]] = []

    def note(self, by: str, action: str, subject: str, **detail: Any) -> None:
        """Add an audit entry."""
        subject = subject.replace("\0", "?")[:ID_LENGTH]  # what a stranger sent is kept, but only as far as it fits
        text = audit.canonical(detail)
        entry = audit.link(self._hash, audit.Deed(self._seq + 1, self.now_ms, by, action, subject, text))
        self._seq, self._hash = entry.deed.seq, entry.hash
        self._audit.append([*entry.deed, entry.hash])

    def changed(self, kind: str, key: str) -> None:
        """Tell whoever polls."""
        self._changes.append([kind, key, self.now_ms])

    async def finish(self) -> None:
        """Write the notes; the commit follows.

        Raises:
            StoreError: rows were changed and nothing was noted: nobody would answer for it.
        """
        if not self._audit and await written(self.db) != self._written:
            raise StoreError("the registry refuses a change without an audit entry; report this as a fault of iotcore")
        if self._audit:
            await self.db.execute_many(insertion(self.db, "audit", (*audit.Deed._fields, "hash")), self._audit)
            await HeadRow.filter(id=1).using_db(self.db).update(seq=self._seq, hash=self._hash)
        if self._changes:
            await self.db.execute_many(insertion(self.db, "change", ("kind", "key", "at_ms")), self._changes)


def insertion(db: BaseDBAsyncClient, table: str, columns: Sequence[str]) -> str:
    """The statement that inserts a row of plain columns: thrice as fast as an object of the ORM. All names are our own."""
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join(mark(db, number) for number in range(1, len(columns) + 1))
    return f'INSERT INTO "{table}" ({names}) VALUES ({marks})'  # noqa: S608 our own names


def mark(db: BaseDBAsyncClient, number: int) -> str:
    """Where a value goes in a statement, as the database writes it."""
    return "?" if db.capabilities.dialect == "sqlite" else f"${number}"


async def written(db: BaseDBAsyncClient) -> int:
    """How many rows were written, as far as `WRITTEN` counts."""
    (row,) = await db.execute_query_dict(WRITTEN[db.capabilities.dialect])
    return int(row["written"])


class Database:
    """An open registry database."""

    def __init__(self, context: TortoiseContext, dialect: str, clock: Clock) -> None:
        self._context = context
        self._dialect = dialect
        self._clock = clock

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[BaseDBAsyncClient]:
        """A connection for queries.

        Raises:
            StoreError: the database did not answer.
        """
        with copy.copy(self._context), _translated():
            yield self._context.db()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writing]:
        """A transaction that holds the audit head; it commits with its audit entries and changes, or not at all.

        Raises:
            StoreFull: the disk is full.
            StoreError: the database did not commit.
        """
        with copy.copy(self._context), _translated():
            async with in_transaction(self._dialect) as db:
                await HeadRow.filter(id=1).using_db(db).update(seq=F("seq"))
                head = await HeadRow.get(id=1, using_db=db)
                work = Writing(db, self.now_ms(), head, await written(db))
                yield work
                await work.finish()

    def now_ms(self) -> int:
        """The wall clock by which its rows are dated."""
        return int(self._clock.wall_ms())

    async def close(self) -> None:
        """Close every connection."""
        with copy.copy(self._context):
            await self._context.close_connections()


def whole(write: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """See a transaction through although its caller is cancelled: within BEGIN, tortoise would keep its connection locked."""

    @functools.wraps(write)
    async def seen_through(*args: P.args, **kwargs: P.kwargs) -> T:
        return await _seen_through(write(*args, **kwargs))

    return seen_through


async def _seen_through(work: Awaitable[T], undo: Callable[[T], Awaitable[None]] | None = None) -> T:
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None and undo is not None:
            await undo(task.result())
        raise


async def connect(url: str, clock: Clock) -> Database:
    """Open the database at a tortoise URL and bring its schema to the newest step; several processes may do so at once.

    Raises:
        StoreFull: the disk has no room for it; the same call succeeds once there is some.
        StartError: the URL is wrong, the database is not there, or it was made by a newer iotcore.
    """
    return await _seen_through(_connect(url, clock), Database.close)


async def _connect(url: str, clock: Clock) -> Database:
    context = TortoiseContext()
    async with _opening(url, context):
        dialect, schema = await _start(context, url)
        await _prepare(context, schema, int(clock.wall_ms()))
    return Database(context, dialect, clock)


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[tuple[BaseDBAsyncClient, str]]:
    """A connection to a database whatever its steps, and its schema's name on PostgreSQL; raises like `connect`."""
    context = TortoiseContext()
    async with _opening(url, context):
        _, schema = await _start(context, url)
        yield context.db(), schema
        await context.close_connections()


async def _start(context: TortoiseContext, url: str) -> tuple[str, str]:
    """Dialect and schema of the database at a URL, for which the context is made ready."""
    dialect, config = _configuration(url)
    await context.init(config=config)
    return dialect, config["connections"][dialect]["credentials"].get("schema", "")


@asynccontextmanager
async def _opening(url: str, context: TortoiseContext) -> AsyncIterator[None]:
    """Says in our own errors why a database cannot be opened; closes it then."""
    with context:
        try:
            yield
        except DATABASE_ERRORS as error:
            await context.close_connections()
            if await asyncio.to_thread(_for_want_of_room, url, error):
                raise StoreFull(
                    f"The registry {_without_password(url)} cannot be opened: no room on the disk ({error})"
                ) from error
            raise StartError(
                f"The registry {_without_password(url)} cannot be opened: {error}",
                "Check registry.url, the folder's permissions, and that the server runs.",
            ) from error
        except BaseException:
            await context.close_connections()
            raise


def _for_want_of_room(url: str, error: BaseException) -> bool:
    """Whether a full disk is why the registry cannot be opened; it blocks."""
    said = str(error)
    if any(sign in said for sign in FULL_SIGNS):
        return True
    beside = url.startswith(SQLITE_URL) and any(sign in said for sign in OPENING_SIGNS)
    return beside and disk.short_of_room(Path(url.removeprefix(SQLITE_URL).partition("?")[0]))


def _configuration(url: str) -> tuple[str, dict[str, Any]]:
    connection: dict[str, Any] = expand_db_url(url)
    scheme = urlsplit(url).scheme
    dialect = "sqlite" if scheme == "sqlite" else "postgres"
    if dialect == "sqlite":
        # journal_mode WAL is tortoise's default; FULL: a commit is on disk when it returns
        connection["credentials"] |= {"busy_timeout": BUSY_TIMEOUT_MS, "synchronous": "FULL"}
    else:
        connection["credentials"] |= {"minsize": 1, "maxsize": POOL_CONNECTIONS, "server_settings": SERVER_SETTINGS}
        if "schema" not in parse_qs(urlsplit(url).query):
            connection["credentials"]["schema"] = DEFAULT_SCHEMA
    apps = {"registry": {"models": list(MODELS), "default_connection": dialect}}
    return dialect, {"connections": {dialect: connection}, "apps": apps}


async def _prepare(context: TortoiseContext, schema: str, now_ms: int) -> None:
    """Bring the schema to the newest step, whoever comes first."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + OPEN_LIMIT_S
    while True:  # switching a new file to WAL is not covered by the busy timeout
        try:
            await migrations.apply(context.db(), schema, now_ms, migrations.STEPS)
        except (OperationalError, sqlite3.OperationalError) as error:
            if "locked" not in str(error) or loop.time() > deadline:
                raise
            await context.db().close()  # it was not opened whole; opened anew it is, references enforced and all
            await asyncio.sleep(OPEN_PAUSE_S)
        else:
            return


class _translated:  # noqa: N801 reads as a word in `with`
    """Turns what the database raises into our own errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, DATABASE_ERRORS):
            return
        if any(sign in str(error) for sign in FULL_SIGNS):
            raise StoreFull(f"the registry cannot write: {error}; free disk space and it goes on by itself") from error
        raise StoreError(f"the registry cannot do that: {error}") from error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":…@")).geturl()

"""Taking steps forward and back: each with its stamp and its audit entry in one transaction, and nobody else beside it.

Which steps were taken stands in the table `migration`, one row a step. A stamp of a step that this code does not know is that
of a newer one, whose tables we could damage. A registry in which nothing was ever done gets no audit entry for being made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.exceptions import OperationalError
from tortoise.transactions import in_transaction

from iotcore.errors import StartError
from iotcore.registry import audit
from iotcore.registry.migrations import shape
from iotcore.registry.migrations.step import Statement, Step, spoken

SCHEMA_LOCK = 7_308_904  # pg_advisory_xact_lock key of whoever changes the schema
BY = "iotcore"
CREATE = """CREATE TABLE IF NOT EXISTS "migration"
    ("number" INT NOT NULL PRIMARY KEY, "name" VARCHAR(64) NOT NULL, "at_ms" BIGINT NOT NULL)"""
THERE = {
    "sqlite": "SELECT count(*) AS there FROM sqlite_master WHERE type = 'table' AND name = '{table}'",
    "postgres": "SELECT count(to_regclass('{table}')) AS there",
}


class Stamp(NamedTuple):
    """A step that was taken, `at_ms` UTC."""

    number: int
    name: str
    at_ms: int


async def stamps(db: BaseDBAsyncClient) -> list[Stamp]:
    """The steps that were taken, by number."""
    if not await _is_there(db, "migration"):
        return []
    rows = await db.execute_query_dict('SELECT "number", "name", "at_ms" FROM "migration" ORDER BY "number"')
    return [Stamp(**row) for row in rows]


def due(taken: Sequence[Stamp], steps: Sequence[Step], to: int | None = None) -> list[Step]:
    """The steps up to number `to` that are still to be taken, in order.

    Raises:
        StartError: the registry has a step that this code does not know.
    """
    there = {one.number for one in taken}
    unknown = there - {step.number for step in steps}
    if unknown:
        raise StartError(
            f"The registry was made by a newer iotcore: it has step {max(unknown)}, which this one does not know",
            "Install that version again, or have it go back first: `iotcore registry migrate --to N`.",
        )
    return [step for step in steps if step.number not in there and (to is None or step.number <= to)]


def back(taken: Sequence[Stamp], steps: Sequence[Step], to: int) -> list[Step]:
    """The steps beyond number `to` that were taken, the last one first; raises StartError like `due`, and for step 0."""
    due(taken, steps)
    if to < 1:
        raise StartError("There is no way back over step 1", "Whoever wants to be rid of the registry deletes the database.")
    there = {one.number for one in taken}
    return [step for step in reversed(steps) if step.number in there and step.number > to]


async def lost(db: BaseDBAsyncClient, step: Step) -> dict[str, int]:
    """What going back over this step would lose: how many of what."""
    counted = {}
    for what, query in step.losses:
        ((number,),) = [tuple(row.values()) for row in await db.execute_query_dict(query)]
        if number:
            counted[what] = int(number)
    return counted


async def apply(db: BaseDBAsyncClient, schema: str, now_ms: int, steps: Sequence[Step], to: int | None = None) -> list[Step]:
    """Take every step that is due; several processes may do so at once. Returns those that we took.

    Raises:
        StartError: the registry is newer than this code, or its old tables are not what they should be.
    """
    taken = []
    while due(await stamps(db), steps, to):
        async with _alone(db, schema) as work:
            await work.execute_query(CREATE)
            ahead = due(await stamps(work), steps, to)
            if not ahead:
                break
            await _forward(work, ahead[0], now_ms)
        taken.append(ahead[0])
    return taken


async def revert(
    db: BaseDBAsyncClient, schema: str, now_ms: int, steps: Sequence[Step], to: int, *, lose_data: bool = False
) -> list[Step]:
    """Go back to step `to`, the last step first; rows that the earlier schema has no place for are lost if `lose_data`.

    Raises:
        StartError: rows would be lost, or the registry is newer than this code; then nothing was done.
    """
    ahead = back(await stamps(db), steps, to)
    if not lose_data:
        for step in ahead:
            _refuse_loss(step, await lost(db, step))
    for step in ahead:
        async with _alone(db, schema) as work:
            losing = await lost(work, step)
            if not lose_data:
                _refuse_loss(step, losing)
            await _lock_head(work)
            await _each(work, step.backward)
            await execute(work, 'DELETE FROM "migration" WHERE "number" = {}', step.number)
            await _note(work, now_ms, "registry.revert", step, lost=losing)
    return ahead


def _refuse_loss(step: Step, losing: dict[str, int]) -> None:
    if losing:
        said = ", ".join(f"{number} {what}" for what, number in losing.items())
        raise StartError(
            f"Going back over step {step.number} ({step.name}) would lose {said}", "--lose-data does it all the same."
        )


async def _forward(work: BaseDBAsyncClient, step: Step, now_ms: int) -> None:
    if await _is_there(work, "audit_head"):
        await _lock_head(work)
    await _each(work, step.forward)
    if step.number == 1 and (wrong := shape.differences(await shape.read(work), shape.meant([step]))):
        raise StartError(
            f"This database has tables of a registry that are not ours: {'; '.join(wrong)}",
            "Name the right one in registry.url, or restore it from a backup.",
        )
    await execute(work, 'INSERT INTO "migration" ("number", "name", "at_ms") VALUES ({}, {}, {})', step.number, step.name, now_ms)
    await _note(work, now_ms, "registry.migrate", step)


async def _note(work: BaseDBAsyncClient, now_ms: int, action: str, step: Step, **detail: Any) -> None:
    """The audit entry, in plain SQL: the models are those of the newest step, the tables may be at an earlier one."""
    (head,) = await work.execute_query_dict("SELECT seq, hash FROM audit_head WHERE id = 1")
    if not head["seq"]:
        return
    text = audit.canonical({"name": step.name, **detail})
    entry = audit.link(head["hash"], audit.Deed(head["seq"] + 1, now_ms, BY, action, f"step {step.number}", text))
    insert = 'INSERT INTO audit (seq, at_ms, "by", action, subject, detail, hash) VALUES ({}, {}, {}, {}, {}, {}, {})'
    await execute(work, insert, *entry.deed, entry.hash)
    await execute(work, "UPDATE audit_head SET seq = {}, hash = {} WHERE id = 1", entry.deed.seq, entry.hash)


async def _lock_head(work: BaseDBAsyncClient) -> None:
    """As every writer does first: nobody writes beside us, and none of us waits for the other in a circle."""
    await work.execute_query("UPDATE audit_head SET seq = seq WHERE id = 1")


async def _each(work: BaseDBAsyncClient, statements: tuple[Statement, ...]) -> None:
    for sql in spoken(statements, work.capabilities.dialect):
        await work.execute_query(sql)


async def execute(work: BaseDBAsyncClient, sql: str, *values: Any) -> None:
    """One statement with a value for each `{}`."""
    marks = [f"${n}" if work.capabilities.dialect == "postgres" else "?" for n in range(1, len(values) + 1)]
    await work.execute_query(sql.format(*marks), list(values))


async def _is_there(db: BaseDBAsyncClient, table: str) -> bool:
    (row,) = await db.execute_query_dict(THERE[db.capabilities.dialect].format(table=table))
    return bool(row["there"])


@asynccontextmanager
async def _alone(db: BaseDBAsyncClient, schema: str) -> AsyncIterator[BaseDBAsyncClient]:
    """A transaction in which nobody else changes the schema.

    SQLite: references are not enforced while tables are made anew, but checked before the commit.
    """
    if db.capabilities.dialect == "postgres":
        async with in_transaction(db.connection_name) as work:
            await work.execute_query(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            await work.execute_query(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            yield work
        return
    await db.execute_query("PRAGMA foreign_keys = OFF")  # of no effect within a transaction
    try:
        await db.execute_query("BEGIN IMMEDIATE")
        try:
            yield db
            _refuse_broken(await db.execute_query_dict("PRAGMA foreign_key_check"))
            await db.execute_query("COMMIT")
        except BaseException:
            with suppress(OperationalError):  # SQLite has done so itself where a disk is full
                await db.execute_query("ROLLBACK")
            raise
    finally:
        await db.execute_query("PRAGMA foreign_keys = ON")


def _refuse_broken(references: Sequence[Any]) -> None:
    if references:
        raise StartError(f"Rows would refer to nothing: {references[:3]}", "Nothing was changed; please report this.")

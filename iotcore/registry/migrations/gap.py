"""What a restore writes before any step is taken: the entry that follows the gap, and ids beyond all that were given.

In plain SQL, like the notes of the steps: the tables are those of the release that made the backup.
"""

from __future__ import annotations

from typing import NamedTuple

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.registry import audit
from iotcore.registry.migrations.run import execute

ID_JUMP = 1_000_000_000  # more than a registry commits in its life; below 2^53, which JSON's readers can hold
AUDIT_JUMP = 1_000_000  # entries beyond the last that is known: about two years of a busy city
BY = "restore"
SUBJECT_LENGTH = 64
SQLITE_NUMBERED = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
SQLITE_BEGIN = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?)"
)
POSTGRES_NUMBERED = (
    "SELECT pg_get_serial_sequence(quote_ident(table_schema) || '.' || quote_ident(table_name), column_name) AS name"
    " FROM information_schema.columns WHERE table_schema = current_schema()"
)


class Gap(NamedTuple):
    """The last entry before it, and the one that follows it."""

    after: audit.Head
    entry: audit.Head


async def leave(db: BaseDBAsyncClient, now_ms: int, backup: str, backup_ms: int, known_seq: int) -> Gap:
    """Write the entry that follows the gap; `known_seq` is the last number that an exported head knows of."""
    (head,) = await db.execute_query_dict("SELECT seq, hash FROM audit_head WHERE id = 1")
    after = audit.Head(head["seq"], head["hash"])
    text = audit.canonical({"after": after.seq, "backup_ms": backup_ms})
    number = max(after.seq, known_seq) + AUDIT_JUMP
    entry = audit.link(after.hash, audit.Deed(number, now_ms, BY, audit.RESTORED, backup[:SUBJECT_LENGTH], text))
    insert = 'INSERT INTO audit (seq, at_ms, "by", action, subject, detail, hash) VALUES ({}, {}, {}, {}, {}, {}, {})'
    await execute(db, insert, *entry.deed, entry.hash)
    await execute(db, "UPDATE audit_head SET seq = {}, hash = {} WHERE id = 1", number, entry.hash)
    await _jump(db)
    return Gap(after, audit.Head(number, entry.hash))


async def _jump(db: BaseDBAsyncClient) -> None:
    """Let every table that numbers its rows go on far beyond."""
    if db.capabilities.dialect == "sqlite":
        for row in await db.execute_query_dict(SQLITE_NUMBERED):
            await db.execute_query(SQLITE_BEGIN, [row["name"], row["name"]])
            await db.execute_query("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ?", [ID_JUMP, row["name"]])
        return
    for row in await db.execute_query_dict(POSTGRES_NUMBERED):
        if row["name"]:
            await db.execute_query_dict(f"SELECT setval('{row['name']}', nextval('{row['name']}') + {ID_JUMP})")

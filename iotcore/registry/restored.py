"""A registry that was restored: what must never go back is moved ahead of everything that may have been done since the backup.

audit        the next entry is `registry.restored`, its number beyond any that was given since; it says where the gap begins
ids          of changes and intents go on a thousand million later: no cursor that somebody kept is ahead of them
tokens       those that are open are used up: one may have been used since, and a token counts once
revocations  that a newer list holds are marked here too, so that the keeper does not take them back
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from iotcore.registry import audit, states
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.tables import CertificateRow, DeviceRow, TokenRow

ID_JUMP = 1_000_000_000  # more than a registry commits in its life; below 2^53, which JSON's readers can hold
AUDIT_JUMP = 1_000_000  # entries beyond the last that is known: about two years of a busy city
BY = "restore"
SQLITE_NUMBERED = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
SQLITE_BEGIN = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?)"
)
POSTGRES_NUMBERED = (
    "SELECT pg_get_serial_sequence(quote_ident(table_schema) || '.' || quote_ident(table_name), column_name) AS name"
    " FROM information_schema.columns WHERE table_schema = current_schema()"
)


class Known(NamedTuple):
    """What outlived the old registry: the last audit number that was exported, and what newer lists say of a serial (hex)."""

    audit_seq: int = 0
    revoked: Mapping[str, Literal["hold", "final"]] = {}


class Outcome(NamedTuple):
    """What was done: the gap in the audit, whose tokens were voided, who was suspended or revoked by a newer list."""

    after: audit.Head
    entry: audit.Head
    voided: list[str]
    suspended: list[str]
    revoked: list[str]


@whole
async def carry_forward(database: Database, backup: str, backup_ms: int, known: Known) -> Outcome:
    """Move everything ahead, in one transaction; `backup` is the archive's name, `backup_ms` when it was made."""
    async with database.writing() as work:
        after, entry = await _open(work, backup, backup_ms, known)
        voided = await _void_tokens(work)
        suspended, revoked = await _revoke(work, known.revoked)
        work.changed("restored", backup[:64])
    return Outcome(after, entry, voided, suspended, revoked)


async def _open(work: Writing, backup: str, backup_ms: int, known: Known) -> tuple[audit.Head, audit.Head]:
    """The entry that follows the gap, and ids beyond all that were given."""
    after = work.head
    work.skip_to(max(after.seq, known.audit_seq) + AUDIT_JUMP)
    work.note(BY, audit.RESTORED, backup, after=after.seq, backup_ms=backup_ms)
    entry = work.head
    if work.db.capabilities.dialect == "sqlite":
        for row in await work.db.execute_query_dict(SQLITE_NUMBERED):
            await work.db.execute_query(SQLITE_BEGIN, [row["name"], row["name"]])
            await work.db.execute_query("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ?", [ID_JUMP, row["name"]])
        return after, entry
    for row in await work.db.execute_query_dict(POSTGRES_NUMBERED):
        if row["name"]:
            await work.db.execute_query_dict(f"SELECT setval('{row['name']}', nextval('{row['name']}') + {ID_JUMP})")
    return after, entry


async def _void_tokens(work: Writing) -> list[str]:
    """Use up every open token; the devices whose they were."""
    found = await TokenRow.filter(used_ms=None, expires_ms__gt=work.now_ms).using_db(work.db)
    for row in found:
        await TokenRow.filter(hash=row.hash).using_db(work.db).update(used_ms=work.now_ms)
        work.note(BY, "token.void", row.device_id, token=row.hash)
    return sorted({row.device_id for row in found})


async def _revoke(work: Writing, newer: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What newer lists hold, marked here: a hold suspends its device, anything else revokes the certificate."""
    suspended: list[str] = []
    revoked: list[str] = []
    for serial, kind in sorted(newer.items()):
        row = await CertificateRow.get_or_none(serial=serial, using_db=work.db)
        if row is None:
            continue  # issued since: it stays on the list
        if kind == "final":
            if await states.revoke(work, serial, BY):
                revoked.append(row.cn)
        elif await DeviceRow.filter(id=row.cn, state__in=["provisioned", "active"]).using_db(work.db).update(state="suspended"):
            work.note(BY, "device.state", row.cn, after="suspended", serial=serial)
            work.changed("device", row.cn)
            suspended.append(row.cn)
    return suspended, revoked


async def uncertified(database: Database) -> list[str]:
    """Devices that speak for themselves and have no certificate: since the backup they may have got one."""
    async with database.reading() as db:
        names = (
            await DeviceRow.filter(state="registered", parent_id=None).using_db(db).order_by("id").values_list("id", flat=True)
        )
        known = set(await CertificateRow.all().using_db(db).values_list("cn", flat=True))
    return [str(name) for name in names if name not in known]

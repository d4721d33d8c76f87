"""A registry that was restored: what may have been done since the backup must not be done again, nor be undone.

audit, ids   go on beyond all that may have been given since (`migrations.gap`)
tokens       those that are open are used up: one may have been used since, and a token counts once
revocations  that a newer list holds are marked here too, so that the keeper does not take them back
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from tortoise.models import Model

from iotcore.clock import Clock
from iotcore.registry import claims, facts, migrations, states
from iotcore.registry.database import Database, Writing, bare, connect, whole
from iotcore.registry.migrations import gap
from iotcore.registry.tables import CertificateRow, DeviceRow, TokenRow
from iotcore.registry.tables_enrolment import BatchTokenRow, ClaimRow, RequestRow
from iotcore.registry.tables_people import ApiTokenRow, ApprovalRow, LinkRow, SessionRow

BY = gap.BY
FIRST_STEP = 1  # of a backup from before the steps were numbered


FIRST = "the first admin"
VOIDED: Mapping[type[Model], tuple[str, str]] = {  # what lets somebody in until it expires: how it is used up, and whose it is
    TokenRow: ("used_ms", "device_id"),
    BatchTokenRow: ("revoked_ms", "batch"),
    LinkRow: ("used_ms", "user_id"),
    SessionRow: ("ended_ms", "user_id"),
    ApiTokenRow: ("revoked_ms", "user_id"),
}


class Outcome(NamedTuple):
    """Whose tokens were voided, whom a newer list suspended or revoked, and who may have a certificate that is not known."""

    voided: dict[str, list[str]]
    suspended: list[str]
    revoked: list[str]
    uncertified: list[str]


async def made(url: str, clock: Clock, step: int) -> None:
    """Make the tables of a backup in an empty schema: those of the step that its release had come to."""
    async with bare(url) as (db, schema):
        await migrations.apply(db, schema, int(clock.wall_ms()), migrations.STEPS, max(step, FIRST_STEP))


async def leave_gap(url: str, clock: Clock, backup: str, backup_ms: int, known_seq: int) -> gap.Gap:
    """Write the audit entry that follows a restore, before a step is taken: nothing comes between it and what was restored."""
    async with bare(url) as (db, _):
        return await gap.leave(db, int(clock.wall_ms()), backup, backup_ms, known_seq)


async def carry_forward(url: str, clock: Clock, revoked: Mapping[str, Literal["hold", "final"]]) -> Outcome:
    """Bring the tables to this release, void open tokens, and mark what newer lists say of a serial (hex)."""
    database = await connect(url, clock)
    try:
        return await _carried(database, revoked)
    finally:
        await database.close()


@whole
async def _carried(database: Database, newer: Mapping[str, Literal["hold", "final"]]) -> Outcome:
    async with database.writing() as work:
        voided = await _void(work)
        suspended, revoked = await _revoke(work, newer)
    return Outcome(voided, suspended, revoked, await _uncertified(database))


async def _void(work: Writing) -> dict[str, list[str]]:
    """Use up whatever opens a door for a time; by table, whose it was."""
    voided: dict[str, list[str]] = {}
    for model, (ends, owner) in VOIDED.items():
        found = await model.filter(**{ends: None}, expires_ms__gt=work.now_ms).using_db(work.db)
        for row in found:
            await model.filter(pk=row.pk).using_db(work.db).update(**{ends: work.now_ms})
            work.note(BY, f"{model.Meta.table}.void", getattr(row, owner) or "", id=str(row.pk))  # type: ignore[attr-defined]
        if found:
            voided[model.Meta.table] = sorted({getattr(row, owner) or FIRST for row in found})  # type: ignore[attr-defined]
    for unit in await ClaimRow.filter(spent_ms=None, revoked_ms=None).exclude(device_id=None).using_db(work.db):
        device = await claims.release(work, unit.serial, BY, unit.model)  # it may have enrolled since
        voided.setdefault("claim", []).append(device)
    for request in await RequestRow.filter(state__in=[facts.WAITS, facts.APPROVED]).using_db(work.db):
        await RequestRow.filter(id=request.id).using_db(work.db).delete()
        work.note(BY, "enrolment_request.void", request.device_id, request=request.id)
    asked = await ApprovalRow.filter(state__in=["asked", "approved"]).using_db(work.db)
    for approval in asked:
        await ApprovalRow.filter(id=approval.id).using_db(work.db).update(state="rejected", decided_by=BY, decided_ms=work.now_ms)
        work.note(BY, "approval.void", approval.action, id=approval.id)
    return voided


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


async def _uncertified(database: Database) -> list[str]:
    """Devices that speak for themselves and have no certificate: since the backup they may have got one."""
    async with database.reading() as db:
        names = (
            await DeviceRow.filter(state="registered", parent_id=None).using_db(db).order_by("id").values_list("id", flat=True)
        )
        known = set(await CertificateRow.all().using_db(db).values_list("cn", flat=True))
    return [str(name) for name in names if name not in known]

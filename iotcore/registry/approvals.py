"""Two persons: one admin asks, another approves, and only then is it done, once.

What is asked for is an action and its arguments, by their hash: an approval for one authority rotates no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from iotcore.errors import Refused
from iotcore.registry import audit, people
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.rights import EVERYWHERE, Role
from iotcore.registry.tables import TEXT_LENGTH
from iotcore.registry.tables_people import ApprovalRow, GrantRow

LASTS_MS = 24 * 3_600_000  # an approval that nobody has used by then is worth nothing
LISTED = 200


@dataclass(frozen=True, slots=True)
class Approval:
    """Something that waits for a second person, or did. `state`: asked, approved, rejected, used, expired."""

    id: int
    action: str
    arguments: str
    asked_by: str
    asked_ms: int
    expires_ms: int
    state: str
    decided_by: str


class Approvals:
    """All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, *, waiting: bool = False) -> list[Approval]:
        """The newest first; with `waiting` only those that can still be decided."""
        now_ms = self._database.now_ms()
        async with self._database.reading() as db:
            found = ApprovalRow.filter(state="asked", expires_ms__gt=now_ms) if waiting else ApprovalRow.all()
            rows = await found.using_db(db).order_by("-id").limit(LISTED)
        return [_approval(row, now_ms) for row in rows]

    @whole
    async def decide(self, number: int, by: str, *, approve: bool) -> Approval:
        """An admin approves or rejects what another one has asked for.

        Raises:
            Refused: `unknown_approval`, `decided`, `expired`, `same_person`, or `no_admin`.
        """
        async with self._database.writing() as work:
            row = await ApprovalRow.get_or_none(id=number, using_db=work.db)
            if row is None:
                raise Refused("unknown_approval", f"nothing with the number {number} was asked for; see: iotcore approval list")
            if row.state != "asked":
                raise Refused("decided", f"approval {number} is {row.state}, by {row.decided_by}")
            if row.expires_ms <= work.now_ms:
                raise Refused("expired", f"approval {number} is too old; ask again")
            await _admin(work, by)
            if row.asked_by == by and approve:
                raise Refused("same_person", f"{by!r} has asked for it: another admin must approve")
            row.state, row.decided_by, row.decided_ms = "approved" if approve else "rejected", by, work.now_ms
            await (
                ApprovalRow.filter(id=number).using_db(work.db).update(state=row.state, decided_by=by, decided_ms=row.decided_ms)
            )
            work.note(by, f"approval.{row.state}", str(number), what=row.action, arguments=row.arguments, asked_by=row.asked_by)
            work.changed("approval", str(number))
            return _approval(row, work.now_ms)

    @whole
    async def take(self, action: str, arguments: Mapping[str, object], by: str) -> int | None:
        """Use an approval up that another admin has given `by`; exactly one caller wins. None: there is none to use."""
        async with self._database.writing() as work:
            await _admin(work, by)
            free = ApprovalRow.filter(hash=_hash(action, arguments), asked_by=by, state="approved", expires_ms__gt=work.now_ms)
            row = await free.using_db(work.db).order_by("id").first()
            if row is None:
                return None
            await ApprovalRow.filter(id=row.id).using_db(work.db).update(state="used")
            work.note(by, "approval.used", str(row.id), what=action, arguments=row.arguments, approved_by=row.decided_by)
            work.changed("approval", str(row.id))
            return int(row.id)

    @whole
    async def ask(self, action: str, arguments: Mapping[str, object], by: str) -> Approval:
        """Ask for a second admin; asked twice is asked once.

        Raises:
            Refused: `no_admin`, or `too_long`.
        """
        text = audit.canonical(arguments)
        if len(text) > TEXT_LENGTH:
            raise Refused("too_long", "a second person could not read all of that")
        async with self._database.writing() as work:
            await _admin(work, by)
            open_ = ApprovalRow.filter(hash=_hash(action, arguments), asked_by=by, state="asked", expires_ms__gt=work.now_ms)
            row = await open_.using_db(work.db).first()
            if row is None:
                row = await ApprovalRow.create(
                    using_db=work.db,
                    action=action,
                    arguments=text,
                    hash=_hash(action, arguments),
                    asked_by=by,
                    asked_ms=work.now_ms,
                    expires_ms=work.now_ms + LASTS_MS,
                    state="asked",
                )
                work.note(by, "approval.ask", str(row.id), what=action, arguments=text)
                work.changed("approval", str(row.id))
            return _approval(row, work.now_ms)

    @whole
    async def alone(self, action: str, arguments: Mapping[str, object], by: str, reason: str) -> None:
        """Break the glass: audit that it is done without a second person, and why."""
        async with self._database.writing() as work:
            work.note(by, "approval.ALONE", action, arguments=audit.canonical(arguments), reason=reason)
            work.changed("approval", "alone")


async def _admin(work: Writing, name: str) -> None:
    row = await people.known(work.db, name)
    held = GrantRow.filter(user_id=name, role=Role.ADMIN.value, area_id=EVERYWHERE or None)
    if row.disabled_ms is not None or not await held.using_db(work.db).exists():
        raise Refused("no_admin", f"{name!r} is no admin of everything")


def _hash(action: str, arguments: Mapping[str, object]) -> str:
    return hashlib.sha256(audit.canonical([action, arguments]).encode()).hexdigest()


def _approval(row: ApprovalRow, now_ms: int) -> Approval:
    over = row.state in {"asked", "approved"} and row.expires_ms <= now_ms
    return Approval(
        *(row.id, row.action, row.arguments, row.asked_by, row.asked_ms, row.expires_ms),
        "expired" if over else row.state,
        row.decided_by,
    )

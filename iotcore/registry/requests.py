"""Requests for certificates that a person has to approve.

All functions but the plain reads run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.asked import Asked, Waiting
from iotcore.registry.database import Writing
from iotcore.registry.facts import APPROVED, REFUSED, WAITS
from iotcore.registry.tables import TITLE_LENGTH
from iotcore.registry.tables_enrolment import RequestRow

LIFETIME_MS = 24 * 3_600_000  # to be looked at, and again from then on to be fetched: a working day, and the night before it


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """One request. `key` is the SHA-256 of its public key in hex: compare it with what the device shows. Times: ms UTC."""

    id: int
    device: str
    anchor: str
    key: str
    address: str
    state: str
    asked_ms: int
    expires_ms: int
    decided_by: str
    reason: str


async def opened(work: Writing, asked: Sequence[tuple[Asked, Waiting]]) -> None:
    """Keep requests for a person to look at; those whose time is over make room."""
    if not asked:
        return
    await RequestRow.filter(expires_ms__lte=work.now_ms).using_db(work.db).delete()
    for one, waiting in asked:
        same = RequestRow.filter(device_id=waiting.device, key=one.key, anchor=waiting.anchor)
        await same.using_db(work.db).delete()  # under another token
        await RequestRow.create(
            using_db=work.db,
            device_id=waiting.device,
            key=one.key,
            anchor=waiting.anchor,
            token=waiting.opens,
            address=one.address,
            state=WAITS,
            asked_ms=work.now_ms,
            expires_ms=work.now_ms + LIFETIME_MS,
        )
        work.note("est", "enrolment.ask", waiting.device, key=one.key, address=one.address)


async def listed(db: BaseDBAsyncClient, now_ms: int) -> list[EnrolmentRequest]:
    """Those whose time is not over, the oldest first."""
    rows = await RequestRow.filter(expires_ms__gt=now_ms).using_db(db).order_by("id")
    return [
        EnrolmentRequest(
            row.id,
            row.device_id,
            row.anchor,
            row.key,
            row.address,
            row.state,
            row.asked_ms,
            row.expires_ms,
            row.decided_by,
            row.reason,
        )
        for row in rows
    ]


async def decide(work: Writing, number: int, by: str, *, approve: bool, reason: str = "") -> str:
    """Approve or reject a request that waits; the device that it is of.

    Raises:
        Refused: `unknown_request`, or `decided` for one that was.
    """
    row = await RequestRow.get_or_none(id=number, expires_ms__gt=work.now_ms, using_db=work.db)
    if row is None:
        raise Refused("unknown_request", f"there is no request {number}, or its time is over; `iotcore enrolment list`")
    if row.state != WAITS:
        raise Refused("decided", f"request {number} is {row.state} already")
    await (
        RequestRow.filter(id=number)
        .using_db(work.db)
        .update(
            state=APPROVED if approve else REFUSED,
            decided_by=by,
            reason=reason[:TITLE_LENGTH],
            expires_ms=work.now_ms + LIFETIME_MS,
        )
    )
    verb = "approve" if approve else "reject"
    work.note(by, f"enrolment.{verb}", row.device_id, request=number, key=row.key, reason=reason)
    return str(row.device_id)

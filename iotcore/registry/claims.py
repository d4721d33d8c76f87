"""Factory claim: units that their maker told us of, and the places that technicians give them.

batch (the maker's list) ──► known ──bind──► bound ──the unit enrols──► spent
                               ▲                                          │
                               └────────────────release───────────────────┘

A device is a place, a unit what hangs there: one unit has one device at most, one device one unit. The certificates of a unit are
revoked with its release: it leaves the place. All functions but the plain reads run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Problem, Refused
from iotcore.registry import states, units
from iotcore.registry.database import Writing
from iotcore.registry.tables import CertificateRow, DeviceRow
from iotcore.registry.tables_enrolment import ClaimRow
from iotcore.registry.tokens import ENROLLABLE

BATCH_ROWS = 500  # in one statement: SQLite takes 999 values everywhere


@dataclass(frozen=True, slots=True)
class UnitEntry:
    """A line of a maker's list. `secret`: SHA-256 in hex, or "" for a unit that enrols with a token of its batch."""

    model: str
    serial: str
    secret: str


@dataclass(frozen=True, slots=True)
class UnitShown:
    """A unit and where it is. Times: ms UTC."""

    model: str
    serial: str
    batch: str
    device: str
    expires_ms: int
    bound_ms: int | None
    spent_ms: int | None
    revoked_ms: int | None

    @property
    def state(self) -> str:
        """Where it is on its way."""
        if self.revoked_ms is not None:
            return "revoked"
        if self.spent_ms is not None:
            return "enrolled"
        return "bound" if self.device else "known"


async def sorted_out(db: BaseDBAsyncClient, batch: str, entries: Sequence[UnitEntry]) -> tuple[list[UnitEntry], list[Problem]]:
    """Which of these units are new, and what speaks against the others: one is known with another secret, or in another batch."""
    known = {(row.model, row.serial): row for row in await _known(db, {entry.serial for entry in entries})}
    new, problems = [], []
    for entry in entries:
        row = known.get((entry.model, entry.serial))
        if row is None:
            new.append(entry)
        elif row.batch != batch:
            problems.append(Problem(batch, f"unit {entry.serial}", f"is known of batch {row.batch!r}"))
        elif row.secret != entry.secret:
            problems.append(Problem(batch, f"unit {entry.serial}", "is known with another secret; it is never replaced"))
    return new, problems


async def tell(work: Writing, batch: str, entries: Sequence[UnitEntry], ttl_s: float, by: str) -> None:
    """Keep new units of a batch: they may enrol for so long, once they have a place."""
    expires_ms = work.now_ms + int(ttl_s * 1000)
    rows = [
        ClaimRow(model=entry.model, serial=entry.serial, batch=batch, secret=entry.secret, expires_ms=expires_ms)
        for entry in entries
    ]
    await ClaimRow.bulk_create(rows, batch_size=BATCH_ROWS, using_db=work.db)
    work.note(by, "unit.tell", batch, units=len(rows), first=rows[0].serial, last=rows[-1].serial, expires_ms=expires_ms)


async def bind(work: Writing, serial: str, device: str, by: str) -> bool:
    """Give a unit its place; False when it has this one already.

    Raises:
        Refused: `unknown_device`, `not_enrollable`, `unknown_unit`, `bound`, `taken`, `expired`, `revoked`, `other_unit`, or
            `other_device`.
    """
    place = await DeviceRow.get_or_none(id=device, using_db=work.db)
    if place is None:
        raise Refused("unknown_device", f"{device!r} is not registered")
    if place.state not in ENROLLABLE:
        raise Refused("not_enrollable", f"{device!r} is {place.state}")
    unit = await ClaimRow.get_or_none(serial=serial, model=place.model, using_db=work.db)
    if unit is None:
        raise Refused("unknown_unit", f"no maker told us of a {place.model} with the serial {serial!r}")
    if unit.device_id == device:
        return False
    if unit.device_id is not None:
        raise Refused("bound", f"unit {serial} is {unit.device_id!r}; first: iotcore token release {serial}")
    if unit.revoked_ms is not None or unit.expires_ms <= work.now_ms:
        raise Refused("revoked" if unit.revoked_ms is not None else "expired", f"unit {serial} may not enrol any more")
    other = await ClaimRow.get_or_none(device_id=device, using_db=work.db)
    if other is not None:
        raise Refused("taken", f"{device!r} is unit {other.serial}; first: iotcore token release {other.serial}")
    if place.serial not in ("", serial):
        raise Refused(
            "other_unit", f"{device!r} is registered with the serial {place.serial!r}: correct that, or replace the unit"
        )
    if serial != device and await DeviceRow.filter(id=serial).using_db(work.db).exists():
        raise Refused("other_device", f"the serial {serial!r} is the name of another device")
    await ClaimRow.filter(id=unit.id).using_db(work.db).update(device_id=device, bound_ms=work.now_ms)
    work.note(by, "unit.bind", device, serial=serial, model=place.model)
    return True


async def release(work: Writing, serial: str, by: str, model: str = "") -> str:
    """Take a unit from its place; the device that is free now. Certificates that the unit got are revoked.

    Where another unit was registered there meanwhile (`iotcore device replace`), the certificates are that one's, and stay.

    Raises:
        Refused: `unknown_unit`, `ambiguous`, or `not_bound`.
    """
    unit = await _unit(work, serial, model)
    if unit.device_id is None:
        raise Refused("not_bound", f"unit {serial} stands nowhere")
    device = str(unit.device_id)
    stands = await DeviceRow.filter(id=device, serial__in=["", serial]).using_db(work.db).exists()
    if stands:
        await units.history_begins(work, device, by)
        await units.ends(work, device, "released", by)
    if unit.spent_ms is not None and stands:
        certificates = CertificateRow.filter(cn=device, revoked_ms=None)  # one that has run out may still raise alarms
        for number in await certificates.using_db(work.db).values_list("serial", flat=True):
            await states.revoke(work, str(number), by)
    await ClaimRow.filter(id=unit.id).using_db(work.db).update(device_id=None, bound_ms=None, spent_ms=None)
    work.note(by, "unit.release", device, serial=serial)
    return device


async def revoke(work: Writing, serial: str, by: str, model: str = "") -> None:
    """A unit that was not claimed may never enrol: lost on its way, or its secret is known.

    Raises:
        Refused: `unknown_unit`, `ambiguous`, or `spent` for one that has enrolled.
    """
    unit = await _unit(work, serial, model)
    if unit.spent_ms is not None:
        raise Refused("spent", f"unit {serial} has enrolled as {unit.device_id!r}; see `iotcore device revoke {unit.device_id}`")
    await ClaimRow.filter(id=unit.id).using_db(work.db).update(revoked_ms=work.now_ms)
    work.note(by, "unit.revoke", serial, model=unit.model, batch=unit.batch)


async def listed(db: BaseDBAsyncClient, batch: str = "") -> list[UnitShown]:
    """Units by batch and serial; of one batch, or all."""
    found = ClaimRow.filter(batch=batch) if batch else ClaimRow.all()
    return [
        UnitShown(
            row.model, row.serial, row.batch, row.device_id or "", row.expires_ms, row.bound_ms, row.spent_ms, row.revoked_ms
        )
        for row in await found.using_db(db).order_by("batch", "serial", "model")
    ]  # fmt: skip


async def _unit(work: Writing, serial: str, model: str) -> ClaimRow:
    found = await ClaimRow.filter(serial=serial, **({"model": model} if model else {})).using_db(work.db).limit(2)
    if not found:
        raise Refused("unknown_unit", f"no maker told us of a unit {serial!r}; `iotcore token units` shows all")
    if len(found) > 1:
        raise Refused("ambiguous", f"there are units {serial!r} of several models; give --model")
    return found[0]


async def _known(db: BaseDBAsyncClient, serials: set[str]) -> list[ClaimRow]:
    wanted, found = sorted(serials), []
    for first in range(0, len(wanted), BATCH_ROWS):
        found += await ClaimRow.filter(serial__in=wanted[first : first + BATCH_ROWS]).using_db(db)
    return found

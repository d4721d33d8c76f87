"""The units that stand, or stood, where a device is. A device id is a place: its unit may be replaced, and its history stays.

All functions but the plain reads run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry import bulk, city, credentials, details, states
from iotcore.registry.database import Writing
from iotcore.registry.kinds import DEVICES, rows
from iotcore.registry.records import REPLACEABLE, State, first_state
from iotcore.registry.tables import AuditRow, CertificateRow, DeviceRow, TokenRow
from iotcore.registry.tables_enrolment import ClaimRow, RequestRow
from iotcore.registry.tables_places import UnitRow
from iotcore.specs.model import DeviceSpec

MAX_WHY = 200  # characters


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of hardware at a place. Times are ms UTC; `to_ms` None: it is there now. `why` it went."""

    serial: str
    model: str
    from_ms: int
    to_ms: int | None
    why: str


class Another(NamedTuple):
    """The unit that is put in, of the same model when `model` is "", and why the one before went."""

    serial: str
    model: str
    why: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """What replacing did: the serial that stood there, the certificates that ended, the state in which the new unit begins.

    `enrols`: it needs a token, for a certificate; units behind a gateway and vendors' MQTT devices do not.
    """

    before: str
    revoked: tuple[str, ...]
    state: State
    enrols: bool


async def replace(work: Writing, device: str, another: Another, specs: Mapping[str, DeviceSpec], by: str) -> Replaced:
    """Another unit stands where a device is: the old one's certificates, password and tokens end, its place and history stay.

    The new unit begins as a new device does.

    Raises:
        Refused: `unknown_device`, `retired`, `same_unit`, `no_serial`, `no_reason`, `other_class` for a model of another class.
        ConfigError: with what is wrong with the new unit at this place, such as a serial that another device has.
    """
    entry = await details.entry(work.db, "devices", device)
    state = cast("State", (await DeviceRow.get(id=device, using_db=work.db)).state)
    _may_replace(entry, state, another)
    after = {**entry, "serial": another.serial, "model": another.model or entry["model"]}
    _same_class(entry["model"], after["model"], specs)
    await history_begins(work, device, by)
    await bulk.merge(work, city.read({"devices": [after]}), specs, by)
    revoked = await out(work, device, by)
    await ends(work, device, another.why, by)
    await _begins(work, device, after, work.now_ms, by)
    begins = first_state(behind_a_gateway=bool(entry["parent"]))
    await DeviceRow.filter(id=device).using_db(work.db).update(state=begins)
    said = {"before": entry["serial"], "after": another.serial, "model": after["model"], "state": begins, "why": another.why}
    work.note(by, "device.replace", device, **said)
    work.changed("device", device)
    return Replaced(entry["serial"], tuple(revoked), begins, begins == "registered" and specs[after["model"]].mqtt is None)


def _may_replace(entry: Mapping[str, str], state: State, another: Another) -> None:
    if state not in REPLACEABLE:
        raise Refused("retired", f"{entry['id']!r} is {state}: its place is free; register a new device there")
    if not another.serial:
        raise Refused("no_serial", "say which unit stands there now: the serial that its maker printed on it")
    if another.serial == entry["serial"]:
        raise Refused(
            "same_unit", f"unit {another.serial} stands there; a new token is enough for it: `iotcore token create {entry['id']}`"
        )
    if not another.why.strip() or len(another.why) > MAX_WHY:
        raise Refused("no_reason", f"say in 1 to {MAX_WHY} characters why the old unit went")


def _same_class(before: str, after: str, specs: Mapping[str, DeviceSpec]) -> None:
    old, new = specs.get(before), specs.get(after)
    if old is not None and new is not None and old.device_class != new.device_class:
        raise Refused(
            "other_class",
            f"a {new.device_class} cannot take the place of a {old.device_class}: its rules and history would not fit; "
            "register it as a device of its own",
        )


async def standing(db: BaseDBAsyncClient, devices: Iterable[str] | None) -> dict[str, tuple[str, str]]:
    """State and serial of these devices, or of all."""
    return {row[0]: (row[1], row[2]) for row in await rows(db, DEVICES, ("id", "state", "serial"), devices)}


def moved(devices: Sequence[city.DeviceEntry], there: Mapping[str, tuple[str, str]]) -> list[city.Fault]:
    """Where a document would change a unit: an old one must not bring back a unit that was replaced or taken down.

    A retired device gets no place again.
    """
    found = []
    for i, entry in enumerate(devices):
        state, serial = there.get(entry.id, ("", ""))
        if state == "retired" and (entry.serial or entry.premises or entry.zone):
            reason = f"{entry.id!r} is retired: take it out, or give a new device an id of its own"
            found.append(city.Fault("devices", i, "id", reason))
        elif serial and entry.serial != serial:
            reason = f"unit {serial} stands there; `iotcore device replace {entry.id} --serial …` puts another in"
            found.append(city.Fault("devices", i, "serial", reason))
    return found


async def out(work: Writing, device: str, by: str) -> list[str]:
    """End what the unit at a device could show: certificates, and whatever `let_go` ends. The serials of the certificates."""
    certificates = CertificateRow.filter(cn=device, revoked_ms=None)  # also what has run out: it may still raise alarms
    serials = [row.serial for row in await certificates.using_db(work.db).order_by("issued_ms", "serial")]
    for serial in serials:
        await states.revoke(work, serial, by)
    await let_go(work, device, by)
    return serials


async def let_go(work: Writing, device: str, by: str) -> None:
    """End what the unit at a device could enrol or sign in with: password, tokens, requests, the place that its claim has."""
    await credentials.remove(work, device, by)
    still = TokenRow.filter(device_id=device, used_ms=None, revoked_ms=None)  # also one whose time is over may be approved
    tokens = await still.using_db(work.db).update(revoked_ms=work.now_ms)
    asked = await RequestRow.filter(device_id=device).using_db(work.db).delete()
    claimed = ClaimRow.filter(device_id=device).using_db(work.db)
    released = await claimed.update(device_id=None, bound_ms=None, spent_ms=None)
    if tokens or asked or released:
        work.note(by, "unit.let_go", device, tokens=tokens, requests=asked, claims=released)


async def history_begins(work: Writing, device: str, by: str) -> None:
    """Write down the unit that stands there, unless it is, and since when: as far as that is known, of the device otherwise."""
    row = await DeviceRow.get(id=device, using_db=work.db)
    claim = await ClaimRow.get_or_none(device_id=device, using_db=work.db)
    last = await UnitRow.filter(device_id=device).using_db(work.db).order_by("-id").first()
    serial = str(claim.serial if claim is not None and not row.serial else row.serial)
    gone = last is not None and claim is None and last.serial == serial  # released: nothing hangs there
    if last is not None and (last.to_ms is None or gone or not serial):
        return
    await _begins(work, device, {"serial": serial, "model": row.model}, await _since(work, device, claim, last), by)


async def _since(work: Writing, device: str, claim: ClaimRow | None, last: UnitRow | None) -> int:
    """Since when the unit stands there: bound to the place, after the one before it, or as long as the device is registered."""
    if claim is not None and claim.bound_ms is not None:
        return int(claim.bound_ms)
    if last is not None and last.to_ms is not None:
        return int(last.to_ms)
    added = await AuditRow.filter(action="device.add", subject=device).using_db(work.db).order_by("-seq").first()
    return int(added.at_ms) if added is not None else work.now_ms


async def _begins(work: Writing, device: str, unit: Mapping[str, str], from_ms: int, by: str) -> None:
    what = {"serial": unit["serial"], "model": unit["model"], "from_ms": from_ms}
    await UnitRow.create(using_db=work.db, device_id=device, **what)
    work.note(by, "unit.begin", device, **what)


async def ends(work: Writing, device: str, why: str, by: str) -> None:
    """The unit that stands there goes."""
    await UnitRow.filter(device_id=device, to_ms=None).using_db(work.db).update(to_ms=work.now_ms, why=why)
    work.note(by, "unit.end", device, why=why)


async def listed(db: BaseDBAsyncClient, device: str) -> list[Unit]:
    """The units of a device, the newest first; none before the first replacement."""
    rows = await UnitRow.filter(device_id=device).using_db(db).order_by("-id")
    return [Unit(row.serial, row.model, row.from_ms, row.to_ms, row.why) for row in rows]

"""Taking a device out of service for good: what that will do, said beforehand, then done in one transaction.

It is put out (its certificates by its state, its password, its tokens), its unit's history ends, its serial is free for the unit
to stand elsewhere, and its building and zone are free. Where it stood is kept as a note. Its own history stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry import notes, units
from iotcore.registry.city import FIRE_CLASSES
from iotcore.registry.database import Writing
from iotcore.registry.records import RETIRABLE, State
from iotcore.registry.subjects import Subject
from iotcore.registry.tables import CertificateRow, CredentialRow, DeviceRow, PremisesRow, TokenRow, ZoneRow
from iotcore.specs.model import DeviceSpec

IN_SERVICE = ("registered", "provisioned", "active", "suspended")


@dataclass(frozen=True, slots=True)
class Plan:
    """What retiring a device does.

    `children` still stand behind it, so it cannot be retired. `unwatched` names the zone and the building that would be left
    without a working fire device. `stood` is its place in words.
    """

    device: str
    state: State
    certificates: tuple[str, ...]
    password: bool
    tokens: int
    children: tuple[str, ...]
    unwatched: tuple[str, ...]
    stood: str
    serial: str


async def plan(db: BaseDBAsyncClient, device: str, now_ms: int, specs: Mapping[str, DeviceSpec]) -> Plan:
    """What retiring a device would do; nothing is done.

    Raises:
        Refused: `unknown_device`.
    """
    row = await DeviceRow.get_or_none(id=device, using_db=db)
    if row is None:
        raise Refused("unknown_device", f"{device!r} is not registered")
    good = CertificateRow.filter(cn=device, revoked_ms=None, not_after_ms__gt=now_ms)
    children = DeviceRow.filter(parent_id=device, state__in=IN_SERVICE)
    return Plan(
        device,
        cast("State", row.state),
        tuple(one.serial for one in await good.using_db(db).order_by("issued_ms", "serial")),
        await CredentialRow.filter(device_id=device).using_db(db).exists(),
        await TokenRow.filter(device_id=device, used_ms=None, revoked_ms=None, expires_ms__gt=now_ms).using_db(db).count(),
        tuple(one.id for one in await children.using_db(db).order_by("id").only("id")),
        await _unwatched(db, row, specs),
        await _place(db, row),
        row.serial,
    )


async def retire(
    work: Writing, device: str, why: str, specs: Mapping[str, DeviceSpec], by: str, *, anyway: bool = False
) -> Plan | None:
    """Take a device out of service for good; None when it is already.

    Raises:
        Refused: `unknown_device`; `has_children`; `last_detector` unless `anyway`; `no_reason`.
    """
    found = await plan(work.db, device, work.now_ms, specs)
    if found.state not in RETIRABLE:
        return None
    if not why.strip() or len(why) > units.MAX_WHY:
        raise Refused("no_reason", f"say in 1 to {units.MAX_WHY} characters why it goes")
    if found.children:
        raise Refused("has_children", f"{', '.join(found.children)} stand behind {device!r}: retire or move them first")
    if found.unwatched and not anyway:
        raise Refused(
            "last_detector", f"no working fire device would be left in {' and in '.join(found.unwatched)}; --anyway does it"
        )
    await units.history_begins(work, device, by)
    await units.let_go(work, device, by)
    await units.ends(work, device, f"retired: {why}"[: units.MAX_WHY], by)
    await notes.add(work, Subject("device", device), f"Retired: {why}. It stood at: {found.stood}", by)
    await DeviceRow.filter(id=device).using_db(work.db).update(state="retired", serial="", premises_id=None, zone_id=None)
    work.note(by, "device.retire", device, before=found.state, why=why, stood=found.stood, serial=found.serial, anyway=anyway)
    work.changed("device", device)
    return found


async def _unwatched(db: BaseDBAsyncClient, row: DeviceRow, specs: Mapping[str, DeviceSpec]) -> tuple[str, ...]:
    """The zone and building of a fire device in which no other one is active."""
    fire = [model for model, spec in specs.items() if spec.device_class in FIRE_CLASSES]
    if row.model not in fire or row.state == "retired":
        return ()
    others = DeviceRow.filter(state="active", model__in=fire, premises_id=row.premises_id).exclude(id=row.id)
    left = [(one.zone_id, one.premises_id) for one in await others.using_db(db).only("id", "zone_id", "premises_id")]
    found = [f"zone {row.zone_id}"] if row.zone_id and all(zone != row.zone_id for zone, _ in left) else []
    return (*found, f"premises {row.premises_id}") if row.premises_id and not left else tuple(found)


async def _place(db: BaseDBAsyncClient, row: DeviceRow) -> str:
    """Where a device stands, in words that outlive its references."""
    words = []
    if row.premises_id:
        premises = await PremisesRow.get(id=row.premises_id, using_db=db)
        words.append(f"{premises.name} ({premises.id}), {premises.address}")
    if row.zone_id:
        zone = await ZoneRow.get(id=row.zone_id, using_db=db)
        words.append(f"zone {zone.number} {zone.name} ({zone.id})")
    words += [row.location] if row.location else []
    words += [f"behind {row.parent_id}"] if row.parent_id else []
    words += [f"at {row.connection}"] if row.connection else []
    unit = f"unit {row.serial} of {row.model}" if row.serial else f"a {row.model}"
    return "; ".join([*words, unit])

"""Reading the registry into a Directory: whole at a start, and afterwards only what changed.

A city has a hundred thousand devices and changes one of them; to read them all for that would stop the lanes for seconds. Rows
are read as plain columns, for objects of the ORM cost several times the time and memory.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from iotcore.registry import commissioning, disablements, landmarks, responses, walks
from iotcore.registry.directory import NO_LABELS, Area, Binding, Contact, Directory, Premises, Zone
from iotcore.registry.landmarks import Landmark
from iotcore.registry.records import Change
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow, ZoneRow
from iotcore.registry.tables_commissioning import DeviceTestRow
from iotcore.registry.tables_places import ContactRow, UnitRow
from iotcore.specs.model import DeviceSpec
from iotcore.wire.topics import DOMAIN_OF_CLASS

T = TypeVar("T")
log = logging.getLogger(__name__)

DEVICE = (
    *("id", "title", "model", "state", "parent_id", "premises_id", "zone_id", "connection", "labels"),
    *("location", "latitude", "longitude"),
)
PREMISES = ("id", "name", "address", "latitude", "longitude", "account", "key_site", "area_id", "risk_class", "hydrants")
CONTACT = ("id", "premises_id", "name", "role", "phone", "key_holder")
ZONE = ("id", "premises_id", "number", "floor", "name")
AREA = ("id", "kind", "name", "parent_id")
WITHOUT_LABELS = "{}"


async def whole(db: BaseDBAsyncClient, specs: Mapping[str, DeviceSpec]) -> Directory:
    """Everything the lanes need. A device without a spec is left out and logged: it must not stop the others."""
    premises = _premises(await _rows(db, PremisesRow, PREMISES))
    rows = await _rows(db, DeviceRow, DEVICE)
    return Directory(
        _bindings(rows, specs, await _tested(db)),
        premises,
        {row[0]: Zone(*row) for row in await _rows(db, ZoneRow, ZONE)},
        _areas(await _rows(db, AreaRow, AREA)),
        in_test=await commissioning.in_test(db),
        responses=await responses.read(db),
        disablements=await disablements.standing(db),
        walks=await walks.standing(db),
        contacts=_contacts(await _rows(db, ContactRow, CONTACT)),
        landmarks=landmarks.cells(_landmarks(rows, specs, premises)),
    )


async def patched(
    db: BaseDBAsyncClient, known: Directory, changes: Sequence[Change], specs: Mapping[str, DeviceSpec]
) -> Directory:
    """`known` with what `changes` name read anew; the very same when they concern nothing in it."""
    devices = {change.key for change in changes if change.kind in {"device", "device_test"}}
    premises = _keys(changes, "premises")
    zones = _keys(changes, "zone")
    areas = _keys(changes, "area")
    contacts = _keys(changes, "contact")
    tests = _keys(changes, "test_mode")
    plans, out, walked = (_keys(changes, kind) for kind in ("response", "disablement", "walk_test"))
    if not (devices or premises or zones or areas or contacts or tests or plans or out or walked):
        return known
    rows = await _rows(db, DeviceRow, DEVICE, devices)
    buildings = _with(known.premises, premises, _premises(await _rows(db, PremisesRow, PREMISES, premises)))
    moved = {row[0]: row for row in (*await _landmark_rows(db, specs, premises), *rows)}
    return replace(
        known,
        devices=_with(known.devices, devices, _bindings(rows, specs, await _tested(db, devices) if devices else {})),
        premises=buildings,
        zones=_with(known.zones, zones, {row[0]: Zone(*row) for row in await _rows(db, ZoneRow, ZONE, zones)}),
        areas=_with(known.areas, areas, _areas(await _rows(db, AreaRow, AREA, areas))),
        in_test=_with(known.in_test, tests, await commissioning.in_test(db, sorted(tests)) if tests else {}),
        responses=_with(known.responses, plans, await responses.read(db, plans) if plans else {}),
        disablements=_with(known.disablements, out, await disablements.standing(db, out) if out else {}),
        walks=_with(known.walks, walked, await walks.standing(db, walked) if walked else {}),
        contacts=await _contacts_after(db, known, contacts),
        landmarks=landmarks.moved(known.landmarks, {*devices, *moved}, _landmarks(moved.values(), specs, buildings)),
        routes={} if devices or premises or zones or areas else known.routes,  # a test mode leads no topic elsewhere
    )


def _keys(changes: Sequence[Change], kind: str) -> set[str]:
    return {change.key for change in changes if change.kind == kind}


async def _rows(
    db: BaseDBAsyncClient, table: type[Model], columns: tuple[str, ...], ids: Collection[str] | None = None
) -> Sequence[tuple[Any, ...]]:
    """The columns of all rows, or of those with these ids."""
    if ids is None:
        return await table.all().using_db(db).values_list(*columns)
    return await table.filter(id__in=sorted(ids)).using_db(db).values_list(*columns) if ids else ()


async def _tested(db: BaseDBAsyncClient, ids: Collection[str] | None = None) -> dict[str, int]:
    """When a test alarm of each device last came through, ms UTC; of those whose unit that is there now ever had one."""
    rows = DeviceTestRow.all() if ids is None else DeviceTestRow.filter(device_id__in=sorted(ids))
    tested = dict(await rows.using_db(db).values_list("device_id", "at_ms"))
    there = UnitRow.filter(to_ms=None) if ids is None else UnitRow.filter(to_ms=None, device_id__in=sorted(ids))
    since = dict(await there.using_db(db).order_by("from_ms").values_list("device_id", "from_ms"))
    return {device: at_ms for device, at_ms in tested.items() if at_ms >= since.get(device, 0)}


def _with(known: Mapping[str, T], changed: Collection[str], found: Mapping[str, T]) -> Mapping[str, T]:
    """`known` without what is gone, and with what was found."""
    if not changed:
        return known
    kept = dict(known)
    for name in changed:
        kept.pop(name, None)
    kept.update(found)
    return kept


def _premises(rows: Iterable[tuple[Any, ...]]) -> dict[str, Premises]:
    return {
        id_: Premises(id_, name, address, latitude, longitude, account, key_site, area or "", risk_class, hydrants)
        for id_, name, address, latitude, longitude, account, key_site, area, risk_class, hydrants in rows
    }


def _contacts(rows: Iterable[tuple[Any, ...]]) -> dict[str, tuple[Contact, ...]]:
    """By premises: who can open it first, then by id."""
    found: dict[str, list[Contact]] = {}
    for row in rows:
        found.setdefault(row[1], []).append(Contact(*row))
    return {premises: tuple(sorted(ones, key=lambda one: (not one.key_holder, one.id))) for premises, ones in found.items()}


async def _contacts_after(db: BaseDBAsyncClient, known: Directory, changed: Collection[str]) -> Mapping[str, tuple[Contact, ...]]:
    """The contacts of every building that a changed contact belonged or belongs to, read anew."""
    if not changed:
        return known.contacts
    rows = await _rows(db, ContactRow, CONTACT, changed)
    premises = {row[1] for row in rows}
    premises |= {of for of, ones in known.contacts.items() if any(one.id in changed for one in ones)}
    there = await ContactRow.filter(premises_id__in=sorted(premises)).using_db(db).values_list(*CONTACT)
    return _with(known.contacts, premises, _contacts(there))


def _landmarks(
    rows: Iterable[tuple[Any, ...]], specs: Mapping[str, DeviceSpec], premises: Mapping[str, Premises]
) -> list[Landmark]:
    """Devices that crews or their officers look for near a fire. A retired one is not there any more."""
    found = []
    for row in rows:
        spec = specs.get(row[2])
        if spec is None or spec.device_class not in landmarks.LANDMARKS or row[3] == "retired":
            continue
        at = premises.get(row[5] or "")
        place = (at.id, at.latitude, at.longitude) if at is not None else None
        if (one := landmarks.landmark(row[0], row[1], spec.device_class, (row[10], row[11]), place)) is not None:
            found.append(one)
    return found


async def _landmark_rows(
    db: BaseDBAsyncClient, specs: Mapping[str, DeviceSpec], premises: Collection[str]
) -> Sequence[tuple[Any, ...]]:
    """The devices at these buildings that may be landmarks."""
    if not premises:
        return ()
    models = sorted(model for model, spec in specs.items() if spec.device_class in landmarks.LANDMARKS)
    return await DeviceRow.filter(premises_id__in=sorted(premises), model__in=models).using_db(db).values_list(*DEVICE)


def _areas(rows: Iterable[tuple[Any, ...]]) -> dict[str, Area]:
    return {id_: Area(id_, kind, name, parent or "") for id_, kind, name, parent in rows}


def _bindings(rows: Iterable[tuple[Any, ...]], specs: Mapping[str, DeviceSpec], tested: Mapping[str, int]) -> dict[str, Binding]:
    """The devices of known models. Equal texts are one object: a hundred thousand devices name few places and states."""
    found: dict[str, Binding] = {}
    unknown: set[str] = set()
    shared: dict[str, str] = {"": ""}
    labels: dict[str, Mapping[str, str]] = {WITHOUT_LABELS: NO_LABELS}
    for device, title, model, state, parent, premises, zone, connection, labelled, location, _, _ in rows:
        if model not in specs:
            unknown.add(model)
            continue
        if labelled not in labels:
            labels[labelled] = json.loads(labelled)
        spec = specs[model]
        found[device] = Binding(
            device,
            title,
            spec,
            DOMAIN_OF_CLASS[spec.device_class],
            shared.setdefault(parent, parent) if parent else device,
            shared.setdefault(state, state),
            shared.setdefault(premises or "", premises),
            shared.setdefault(zone or "", zone),
            connection,
            labels[labelled],
            tested.get(device),
            location,
        )
    if unknown:
        log.warning("no spec for %s: devices of these models are not known to this process", ", ".join(sorted(unknown)))
    return found

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

from iotcore.registry import commissioning, disablements, responses, walks
from iotcore.registry.directory import NO_LABELS, Area, Binding, Directory, Premises, Zone
from iotcore.registry.records import Change
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow, ZoneRow
from iotcore.registry.tables_commissioning import DeviceTestRow
from iotcore.registry.tables_places import UnitRow
from iotcore.specs.model import DeviceSpec
from iotcore.wire.topics import DOMAIN_OF_CLASS

T = TypeVar("T")
log = logging.getLogger(__name__)

DEVICE = ("id", "title", "model", "state", "parent_id", "premises_id", "zone_id", "connection", "labels")
PREMISES = ("id", "name", "address", "latitude", "longitude", "account", "key_site", "area_id")
ZONE = ("id", "premises_id", "number", "floor", "name")
AREA = ("id", "kind", "name", "parent_id")
WITHOUT_LABELS = "{}"


async def whole(db: BaseDBAsyncClient, specs: Mapping[str, DeviceSpec]) -> Directory:
    """Everything the lanes need. A device without a spec is left out and logged: it must not stop the others."""
    return Directory(
        _bindings(await _rows(db, DeviceRow, DEVICE), specs, await _tested(db)),
        _premises(await _rows(db, PremisesRow, PREMISES)),
        {row[0]: Zone(*row) for row in await _rows(db, ZoneRow, ZONE)},
        _areas(await _rows(db, AreaRow, AREA)),
        in_test=await commissioning.in_test(db),
        responses=await responses.read(db),
        disablements=await disablements.standing(db),
        walks=await walks.standing(db),
    )


async def patched(
    db: BaseDBAsyncClient, known: Directory, changes: Sequence[Change], specs: Mapping[str, DeviceSpec]
) -> Directory:
    """`known` with what `changes` name read anew; the very same when they concern nothing in it."""
    devices = {change.key for change in changes if change.kind in {"device", "device_test"}}
    premises = _keys(changes, "premises")
    zones = _keys(changes, "zone")
    areas = _keys(changes, "area")
    tests = _keys(changes, "test_mode")
    plans, out, walked = (_keys(changes, kind) for kind in ("response", "disablement", "walk_test"))
    if not (devices or premises or zones or areas or tests or plans or out or walked):
        return known
    return replace(
        known,
        devices=_with(known.devices, devices, await _devices(db, specs, devices)),
        premises=_with(known.premises, premises, _premises(await _rows(db, PremisesRow, PREMISES, premises))),
        zones=_with(known.zones, zones, {row[0]: Zone(*row) for row in await _rows(db, ZoneRow, ZONE, zones)}),
        areas=_with(known.areas, areas, _areas(await _rows(db, AreaRow, AREA, areas))),
        in_test=_with(known.in_test, tests, await commissioning.in_test(db, sorted(tests)) if tests else {}),
        responses=_with(known.responses, plans, await responses.read(db, plans) if plans else {}),
        disablements=_with(known.disablements, out, await disablements.standing(db, out) if out else {}),
        walks=_with(known.walks, walked, await walks.standing(db, walked) if walked else {}),
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


async def _devices(db: BaseDBAsyncClient, specs: Mapping[str, DeviceSpec], ids: Collection[str]) -> dict[str, Binding]:
    return _bindings(await _rows(db, DeviceRow, DEVICE, ids), specs, await _tested(db, ids)) if ids else {}


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
    return {row[0]: Premises(*_without_null(row)) for row in rows}


def _areas(rows: Iterable[tuple[Any, ...]]) -> dict[str, Area]:
    return {row[0]: Area(*_without_null(row)) for row in rows}


def _without_null(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row whose last column refers to something, or to nothing."""
    return (*row[:-1], row[-1] or "")


def _bindings(rows: Iterable[tuple[Any, ...]], specs: Mapping[str, DeviceSpec], tested: Mapping[str, int]) -> dict[str, Binding]:
    """The devices of known models. Equal texts are one object: a hundred thousand devices name few places and states."""
    found: dict[str, Binding] = {}
    unknown: set[str] = set()
    shared: dict[str, str] = {"": ""}
    labels: dict[str, Mapping[str, str]] = {WITHOUT_LABELS: NO_LABELS}
    for device, title, model, state, parent, premises, zone, connection, labelled in rows:
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
        )
    if unknown:
        log.warning("no spec for %s: devices of these models are not known to this process", ", ".join(sorted(unknown)))
    return found

"""Reading the registry into a Directory: whole at a start, and afterwards only what changed.

A city has a hundred thousand devices and changes one of them; to read them all for that would stop the lanes for seconds. Rows
are read as plain columns, for objects of the ORM cost several times the time and memory.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from iotcore.registry import commissioning
from iotcore.registry.directory import Area, Binding, Directory, Premises, Zone
from iotcore.registry.records import Change
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow, ZoneRow
from iotcore.specs.model import DeviceSpec
from iotcore.wire.topics import DOMAIN_OF_CLASS

T = TypeVar("T")
log = logging.getLogger(__name__)

DEVICE = ("id", "title", "model", "state", "parent_id", "premises_id", "zone_id", "connection")
PREMISES = ("id", "name", "address", "latitude", "longitude", "account", "key_site", "area_id")
AREA = ("id", "kind", "name", "parent_id")
ZONE = ("id", "premises_id", "number", "floor", "name")


async def whole(db: BaseDBAsyncClient, specs: Mapping[str, DeviceSpec]) -> Directory:
    """Everything the lanes need. A device without a spec is left out and logged: it must not stop the others."""
    return Directory(
        _bindings(await _rows(db, DeviceRow, DEVICE), specs),
        {row[0]: _premises(row) for row in await _rows(db, PremisesRow, PREMISES)},
        {row[0]: Zone(*row) for row in await _rows(db, ZoneRow, ZONE)},
        {row[0]: _area(row) for row in await _rows(db, AreaRow, AREA)},
        in_test=await commissioning.in_test(db),
    )


async def patched(
    db: BaseDBAsyncClient, known: Directory, changes: Sequence[Change], specs: Mapping[str, DeviceSpec]
) -> Directory:
    """`known` with what `changes` name read anew; the very same when they concern nothing in it."""
    devices = {change.key for change in changes if change.kind == "device"}
    premises = {change.key for change in changes if change.kind == "premises"}
    zones = {change.key for change in changes if change.kind == "zone"}
    areas = {change.key for change in changes if change.kind == "area"}
    tests = {change.key for change in changes if change.kind == "test_mode"}
    if not (devices or premises or zones or areas or tests):
        return known
    return replace(
        known,
        devices=_with(known.devices, devices, _bindings(await _rows(db, DeviceRow, DEVICE, devices), specs)),
        premises=_with(known.premises, premises, {r[0]: _premises(r) for r in await _rows(db, PremisesRow, PREMISES, premises)}),
        zones=_with(known.zones, zones, {row[0]: Zone(*row) for row in await _rows(db, ZoneRow, ZONE, zones)}),
        areas=_with(known.areas, areas, {row[0]: _area(row) for row in await _rows(db, AreaRow, AREA, areas)}),
        in_test=_with(known.in_test, tests, await commissioning.in_test(db, sorted(tests)) if tests else {}),
        routes={} if devices or premises or zones or areas else known.routes,  # a test mode leads no topic elsewhere
    )


async def _rows(
    db: BaseDBAsyncClient, table: type[Model], columns: tuple[str, ...], ids: Collection[str] | None = None
) -> Sequence[tuple[Any, ...]]:
    """The columns of all rows, or of those with these ids."""
    if ids is None:
        return await table.all().using_db(db).values_list(*columns)
    return await table.filter(id__in=sorted(ids)).using_db(db).values_list(*columns) if ids else ()


def _with(known: Mapping[str, T], changed: Collection[str], found: Mapping[str, T]) -> Mapping[str, T]:
    """`known` without what is gone, and with what was found."""
    if not changed:
        return known
    kept = dict(known)
    for name in changed:
        kept.pop(name, None)
    kept.update(found)
    return kept


def _premises(row: tuple[Any, ...]) -> Premises:
    premises, name, address, latitude, longitude, account, key_site, area = row
    return Premises(premises, name, address, latitude, longitude, account, key_site, area or "")


def _area(row: tuple[Any, ...]) -> Area:
    area, kind, name, parent = row
    return Area(area, kind, name, parent or "")


def _bindings(rows: Iterable[tuple[Any, ...]], specs: Mapping[str, DeviceSpec]) -> dict[str, Binding]:
    """The devices of known models."""
    found: dict[str, Binding] = {}
    unknown: set[str] = set()
    for device, title, model, state, parent, premises, zone, connection in rows:
        if model not in specs:
            unknown.add(model)
            continue
        spec = specs[model]
        domain = DOMAIN_OF_CLASS[spec.device_class]
        found[device] = Binding(device, title, spec, domain, parent or device, state, premises or "", zone or "", connection)
    if unknown:
        log.warning("no spec for %s: devices of these models are not known to this process", ", ".join(sorted(unknown)))
    return found

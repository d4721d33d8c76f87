"""Merging a city document into the registry: what is new is added, what differs is changed, what is missing stays.

All functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from tortoise.models import Model

from iotcore.registry import audit, city
from iotcore.registry.database import BATCH_ROWS, Writing
from iotcore.registry.records import Imported
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow, ZoneRow
from iotcore.registry.tables_places import ContactRow
from iotcore.specs.model import DeviceSpec

Fields = dict[str, Any]


class Kind(NamedTuple):
    """One kind of row, and those of it that are there already, by id."""

    name: str
    table: type[Model]
    there: Mapping[str, Any]


def plain(entries: city.City) -> Any:
    """A city as the plain document it came from."""
    return msgspec.to_builtins(entries)


async def merge(work: Writing, entries: city.City, specs: Mapping[str, DeviceSpec], by: str) -> Imported:
    """Check the entries against what is there, then store them.

    Raises:
        ConfigError: with every problem.
    """
    areas = {row.id: row for row in await AreaRow.all().using_db(work.db)}
    contacts = {row.id: row for row in await ContactRow.all().using_db(work.db)}
    premises = {row.id: row for row in await PremisesRow.all().using_db(work.db)}
    zones = {row.id: row for row in await ZoneRow.all().using_db(work.db)}
    devices = {row.id: row for row in await DeviceRow.all().using_db(work.db)}
    known = city.Known(
        {row.id: row.account for row in premises.values()},
        {row.id: (row.premises_id, row.number) for row in zones.values()},
        {row.id: row.model for row in devices.values()},
        {row.id: (row.kind, row.parent_id or "") for row in areas.values()},
        {row.id: (row.model, row.serial) for row in devices.values() if row.serial},
    )
    city.check(entries, specs, known)
    first = [entry for entry in entries.devices if not entry.parent]
    then = [entry for entry in entries.devices if entry.parent]
    down = sorted(entries.areas, key=lambda entry: list(city.LIES_IN).index(entry.kind))
    done = [
        await _store(work, by, Kind("area", AreaRow, areas), [_area(entry) for entry in down]),
        await _store(work, by, Kind("premises", PremisesRow, premises), [_premises(entry) for entry in entries.premises]),
        await _store(work, by, Kind("contact", ContactRow, contacts), [_contact(entry) for entry in entries.contacts]),
        await _store(work, by, Kind("zone", ZoneRow, zones), [_zone(entry) for entry in entries.zones]),
        await _store(work, by, Kind("device", DeviceRow, devices), [_device(entry) for entry in first]),
        await _store(work, by, Kind("device", DeviceRow, devices), [_device(entry) for entry in then]),
    ]
    return Imported(sum(d.added for d in done), sum(d.changed for d in done), sum(d.same for d in done))


async def _store(work: Writing, by: str, kind: Kind, wanted: Sequence[Fields]) -> Imported:
    """Insert what is new and update what differs; a device's state is never touched by an update."""
    new = [fields for fields in wanted if fields["id"] not in kind.there]
    changed = [(fields, difference) for fields in wanted if (difference := _difference(kind.there.get(fields["id"]), fields))]
    if new:
        rows = [kind.table(**fields, **_birth(kind, fields)) for fields in new]
        await kind.table.bulk_create(rows, batch_size=BATCH_ROWS, using_db=work.db)
    for fields, difference in changed:
        await kind.table.filter(id=fields["id"]).using_db(work.db).update(**difference)
    for fields in new:
        work.note(by, f"{kind.name}.add", fields["id"], **fields)
    for fields, difference in changed:
        work.note(by, f"{kind.name}.change", fields["id"], **difference)
    for fields in [*new, *(fields for fields, _ in changed)]:
        work.changed(kind.name, fields["id"])
    return Imported(len(new), len(changed), len(wanted) - len(new) - len(changed))


def _difference(row: Any, fields: Fields) -> Fields:
    return {} if row is None else {key: value for key, value in fields.items() if getattr(row, key) != value}


def _birth(kind: Kind, fields: Fields) -> Fields:
    """A new device waits for its certificate; one behind a gateway needs none of its own: the gateway's speaks for it."""
    if kind.table is not DeviceRow:
        return {}
    return {"state": "provisioned" if fields["parent_id"] else "registered"}


def _area(entry: city.AreaEntry) -> Fields:
    return {"id": entry.id, "kind": entry.kind, "name": entry.name, "parent_id": entry.parent or None}


def _premises(entry: city.PremisesEntry) -> Fields:
    fields = {**msgspec.structs.asdict(entry), "account": entry.account.upper(), "area_id": entry.area or None}
    del fields["area"]
    return fields


def _contact(entry: city.ContactEntry) -> Fields:
    fields = {**msgspec.structs.asdict(entry), "premises_id": entry.premises}
    del fields["premises"]
    return fields


def _zone(entry: city.ZoneEntry) -> Fields:
    return {"id": entry.id, "premises_id": entry.premises, "number": entry.number, "floor": entry.floor, "name": entry.name}


def _device(entry: city.DeviceEntry) -> Fields:
    return {
        "id": entry.id,
        "title": entry.title,
        "model": entry.model,
        "parent_id": entry.parent or None,
        "premises_id": entry.premises or None,
        "zone_id": entry.zone or None,
        "connection": entry.connection,
        "serial": entry.serial,
        "location": entry.location,
        "latitude": entry.latitude,
        "longitude": entry.longitude,
        "labels": audit.canonical(entry.labels),
    }

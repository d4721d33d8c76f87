"""Merging a city document into the registry: what is new is added, what differs is changed, what is missing stays.

All functions run inside the caller's transaction. Rows are plain columns, in and out: objects of the ORM cost several times the
time and memory, and who holds the head of the audit chain keeps everybody else from writing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.registry import city
from iotcore.registry.database import Writing, insertion, mark
from iotcore.registry.kinds import AREAS, DEVICES, KINDS, PREMISES, ZONES, Fields, Kind, rows
from iotcore.registry.records import Imported, first_state
from iotcore.specs.model import DeviceSpec

ALL_FROM = 2_000  # entries; for so many, reading everything is quicker than asking for each


def plain(entries: city.City) -> Any:
    """A city as the plain document it came from."""
    return msgspec.to_builtins(entries)


async def merge(work: Writing, entries: city.City, specs: Mapping[str, DeviceSpec], by: str) -> Imported:
    """Check the entries against what is there, then store them.

    Raises:
        ConfigError: with every problem.
    """
    city.check(entries, specs, await known(work.db, entries))
    return await store(work, entries, by)


async def store(work: Writing, entries: city.City, by: str) -> Imported:
    """Store entries that were checked in this transaction; what others refer to comes first."""
    done = [await _store(work, by, kind, part) for kind, part in in_order(entries)]
    return Imported(sum(d.added for d in done), sum(d.changed for d in done), sum(d.same for d in done))


def in_order(entries: city.City) -> Iterator[tuple[Kind, list[Any]]]:
    """The entries by kind, so that nothing comes before what it refers to."""
    levels = list(city.LIES_IN)
    yield AREAS, sorted(entries.areas, key=lambda entry: levels.index(entry.kind))
    for name, kind in KINDS.items():
        if kind not in (AREAS, DEVICES):
            yield kind, getattr(entries, name)
    yield DEVICES, [entry for entry in entries.devices if not entry.parent]
    yield DEVICES, [entry for entry in entries.devices if entry.parent]


async def known(db: BaseDBAsyncClient, entries: city.City) -> city.Known:
    """What is there, as far as these entries refer to it or clash with it."""
    asked = None if sum(len(part) for _, part in in_order(entries)) > ALL_FROM else _named(entries)
    areas = await rows(db, AREAS, ("id", "kind", "parent_id"), asked and asked["areas"])
    premises = await rows(db, PREMISES, ("id", "account"), asked and asked["premises"])
    zones = await rows(db, ZONES, ("id", "premises_id", "number"), asked and asked["zones"])
    devices = await rows(db, DEVICES, ("id", "model", "serial"), asked and asked["devices"])
    if asked:
        premises += await rows(db, PREMISES, ("id", "account"), (e.account.upper() for e in entries.premises), "account")
        zones += await rows(db, ZONES, ("id", "premises_id", "number"), (e.premises for e in entries.zones), "premises_id")
        devices += await rows(db, DEVICES, ("id", "model", "serial"), (e.serial for e in entries.devices if e.serial), "serial")
    return city.Known(
        dict(premises),
        {one: (building, number) for one, building, number in zones},
        {one: model for one, model, _ in devices},
        {one: (kind, parent or "") for one, kind, parent in areas},
        {one: (model, serial) for one, model, serial in devices if serial},
    )


def _named(entries: city.City) -> dict[str, set[str]]:
    """The ids that the entries have or name, by kind."""
    found: dict[str, set[str]] = {name: set() for name in KINDS}
    for name, kind in KINDS.items():
        for entry in getattr(entries, name):
            found[name].add(entry.id)
            for field, target in kind.references.items():
                found[target].add(getattr(entry, field))
    return found


async def there(db: BaseDBAsyncClient, kind: Kind, ids: Iterable[str] | None) -> dict[str, tuple[Any, ...]]:
    """The rows that are there, by id: those named, or all of them."""
    return {row[0]: row for row in await rows(db, kind, kind.columns, ids)}


async def _store(work: Writing, by: str, kind: Kind, entries: Sequence[Any]) -> Imported:
    """Insert what is new and update what differs; a device's state is never touched by an update."""
    if not entries:
        return Imported(0, 0, 0)
    before = await there(work.db, kind, None if len(entries) > ALL_FROM else [entry.id for entry in entries])
    wanted = [kind.row(entry) for entry in entries]
    new = [fields for fields in wanted if fields["id"] not in before]
    changed = [
        (fields["id"], differs)
        for fields in wanted
        if (row := before.get(fields["id"])) is not None and (differs := difference(kind, row, fields))
    ]
    await _insert(work, by, kind, new)
    await _update(work, by, kind, changed)
    return Imported(len(new), len(changed), len(wanted) - len(new) - len(changed))


def difference(kind: Kind, row: Sequence[Any], fields: Fields) -> Fields:
    """The columns that `fields` has otherwise."""
    return {name: fields[name] for name, value in zip(kind.columns, row, strict=True) if fields[name] != value}


async def _insert(work: Writing, by: str, kind: Kind, new: Sequence[Fields]) -> None:
    if not new:
        return
    names = [*kind.columns, *kind.birth]
    values = [[*fields.values(), *_birth(kind, fields).values()] for fields in new]
    await work.db.execute_many(insertion(work.db, kind.stored_in, names), values)
    for fields in new:
        work.note(by, f"{kind.name}.add", fields["id"], **fields)
        work.changed(kind.name, fields["id"])


async def _update(work: Writing, by: str, kind: Kind, changed: Sequence[tuple[str, Fields]]) -> None:
    """Change rows, those that differ in the same columns together."""
    alike: dict[tuple[str, ...], list[list[Any]]] = {}
    for one, fields in changed:
        alike.setdefault(tuple(fields), []).append([*fields.values(), one])
    for names, values in alike.items():
        set_to = ", ".join(f'"{name}" = {mark(work.db, number)}' for number, name in enumerate(names, 1))
        where = f'WHERE "id" = {mark(work.db, len(names) + 1)}'
        await work.db.execute_many(f'UPDATE "{kind.stored_in}" SET {set_to} {where}', values)  # noqa: S608 our own names
    for one, fields in changed:
        work.note(by, f"{kind.name}.change", one, **fields)
        work.changed(kind.name, one)


def _birth(kind: Kind, fields: Fields) -> Fields:
    """A new device waits for its certificate; one behind a gateway needs none of its own: the gateway's speaks for it."""
    if kind is not DEVICES:
        return kind.birth
    return {**kind.birth, "state": first_state(behind_a_gateway=bool(fields["parent_id"]))}

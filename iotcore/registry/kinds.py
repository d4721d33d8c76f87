"""The kinds of a city document beside their tables: which entry is which row, both ways.

A field of an entry is the column of the same name; one that names another entry is `<field>_id` there, and NULL for "".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from iotcore.registry import audit, city
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow, ZoneRow
from iotcore.registry.tables_places import ContactRow

Fields = dict[str, Any]
Change = Callable[[Any], Any]
STORED: dict[str, Change] = {"account": str.upper, "labels": audit.canonical}
SHOWN: dict[str, Change] = {"labels": json.loads}
MAX_NAMED = 1_000  # ids in one question: both databases take it


@dataclass(frozen=True)
class Kind:
    """One kind of entry. `plural` is its list in the document; `references`: its fields that name entries, and of which kind."""

    plural: str
    name: str  # in the audit and in changes
    table: type[Model]
    entry: type[Any]
    references: Mapping[str, str]

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of an entry, as the document orders them."""
        return tuple(self.entry.__struct_fields__)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The column of each field."""
        return tuple(f"{name}_id" if name in self.references else name for name in self.fields)

    @property
    def stored_in(self) -> str:
        """The name of its table."""
        return str(self.table._meta.db_table)  # noqa: SLF001 tortoise has no other way to ask for it

    @cached_property
    def birth(self) -> Fields:
        """Columns that no entry has, as they are in a new row."""
        described = self.table._meta.fields_map  # noqa: SLF001 tortoise has no other way to ask for it
        known = {*self.columns, *self.references}
        return {name: one.default for name, one in described.items() if one.has_db_field and name not in known}

    def row(self, entry: Any) -> Fields:
        """An entry as columns."""
        values = (getattr(entry, field) for field in self.fields)
        return {
            column: value if change is None else change(value)
            for column, value, change in zip(self.columns, values, self._stored, strict=True)
        }

    def plain(self, row: Sequence[Any]) -> Fields:
        """Columns as the plain entry that they came from."""
        return {
            field: value if change is None else change(value)
            for field, value, change in zip(self.fields, row, self._shown, strict=True)
        }

    @cached_property
    def _stored(self) -> tuple[Change | None, ...]:
        return tuple(_none if name in self.references else STORED.get(name) for name in self.fields)

    @cached_property
    def _shown(self) -> tuple[Change | None, ...]:
        return tuple(_empty if name in self.references else SHOWN.get(name) for name in self.fields)


def _none(name: str) -> str | None:
    return name or None


def _empty(name: str | None) -> str:
    return name or ""


AREAS = Kind("areas", "area", AreaRow, city.AreaEntry, {"parent": "areas"})
PREMISES = Kind("premises", "premises", PremisesRow, city.PremisesEntry, {"area": "areas"})
CONTACTS = Kind("contacts", "contact", ContactRow, city.ContactEntry, {"premises": "premises"})
ZONES = Kind("zones", "zone", ZoneRow, city.ZoneEntry, {"premises": "premises"})
DEVICES = Kind("devices", "device", DeviceRow, city.DeviceEntry, {"parent": "devices", "premises": "premises", "zone": "zones"})
KINDS = {kind.plural: kind for kind in (AREAS, PREMISES, CONTACTS, ZONES, DEVICES)}  # what is referred to comes first


async def rows(
    db: BaseDBAsyncClient, kind: Kind, columns: Sequence[str], named: Iterable[Any] | None = None, by: str = "id"
) -> list[tuple[Any, ...]]:
    """Plain columns of all rows, or of those whose column `by` has one of these values."""
    if named is None:
        return list(await kind.table.all().using_db(db).values_list(*columns))
    wanted = sorted(set(named))
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(wanted), MAX_NAMED):
        asked = kind.table.filter(**{f"{by}__in": wanted[start : start + MAX_NAMED]}).using_db(db)
        found += await asked.values_list(*columns)
    return found


async def document(db: BaseDBAsyncClient, kinds: Iterable[str] = KINDS) -> dict[str, list[Fields]]:
    """The registry as the city document that would make it, each kind by id: both databases give the same."""
    found = {name: await rows(db, KINDS[name], KINDS[name].columns) for name in kinds}
    return {name: [KINDS[name].plain(row) for row in sorted(table, key=itemgetter(0))] for name, table in found.items()}

"""Changing a few details of what is registered: the entry of the city document as it is, with the details changed, merged.

So a detail is checked and audited as an import is. All functions run inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from iotcore.errors import Refused
from iotcore.registry import bulk, city
from iotcore.registry.database import Writing
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow
from iotcore.registry.tables_places import ContactRow
from iotcore.specs.model import DeviceSpec

Kind = Literal["areas", "premises", "contacts", "devices"]
TABLES: dict[Kind, tuple[type[Model], type[Any], str]] = {
    "areas": (AreaRow, city.AreaEntry, "area"),
    "premises": (PremisesRow, city.PremisesEntry, "premises"),
    "contacts": (ContactRow, city.ContactEntry, "contact"),
    "devices": (DeviceRow, city.DeviceEntry, "device"),
}
REFERENCES = ("parent", "area", "premises", "zone")  # of an entry; its row has `…_id`


async def entry(db: BaseDBAsyncClient, kind: Kind, id_: str) -> dict[str, Any]:
    """What is registered under an id, as the city document says it.

    Raises:
        Refused: `unknown_area`, `unknown_premises`, `unknown_contact` or `unknown_device`.
    """
    table, _, name = TABLES[kind]
    row = await table.get_or_none(id=id_, using_db=db)
    if row is None:
        raise Refused(f"unknown_{name}", f"no {name} {id_!r} is registered")
    return _said(kind, row)


async def entries(db: BaseDBAsyncClient, kind: Kind) -> list[dict[str, Any]]:
    """Everything of a kind, by id."""
    return [_said(kind, row) for row in await TABLES[kind][0].all().using_db(db).order_by("id")]


def _said(kind: Kind, row: Model) -> dict[str, Any]:
    struct = TABLES[kind][1]
    found = {}
    for field in struct.__struct_fields__:
        value = getattr(row, f"{field}_id" if field in REFERENCES else field)
        found[field] = "" if field in REFERENCES and value is None else value
    if "labels" in found:
        found["labels"] = json.loads(found["labels"])
    return found


async def change(
    work: Writing, kind: Kind, id_: str, details: Mapping[str, Any], *, specs: Mapping[str, DeviceSpec], by: str
) -> bool:
    """Change details of what is registered; False when they are so already. Of `labels` only those named: "" takes one away.

    Raises:
        Refused: `unknown_…`; `retired` for a retired device; `has_unit` for the serial of a device that has one.
        ConfigError: with everything that is wrong with the new details.
    """
    before = await entry(work.db, kind, id_)
    if kind == "devices":
        await _may(work.db, before, details)
    after = {**before, **details}
    if "labels" in details:
        after["labels"] = {name: value for name, value in {**before["labels"], **details["labels"]}.items() if value}
    outcome = await bulk.merge(work, city.read({kind: [after]}), specs, by)
    return bool(outcome.changed)


async def _may(db: BaseDBAsyncClient, before: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    row = await DeviceRow.get(id=before["id"], using_db=db)
    if row.state == "retired":
        raise Refused("retired", f"{row.id!r} is retired; what was known of it stays as it was")
    if row.serial and details.get("serial", row.serial) != row.serial:
        raise Refused("has_unit", f"unit {row.serial} stands there; `iotcore device replace {row.id} --serial …` puts another in")

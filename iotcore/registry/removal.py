"""Removing what nothing refers to any more: an area, a building, a zone, a contact. Devices are retired, never removed.

Inside the caller's transaction.
"""

from __future__ import annotations

from typing import Literal

from tortoise.models import Model

from iotcore.errors import Refused
from iotcore.registry.database import Writing
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow, ZoneRow
from iotcore.registry.tables_places import AttachmentRow, ContactRow, NoteRow

Removable = Literal["area", "premises", "zone", "contact"]
# What may refer to it: (table, column, name)
REFERRERS: dict[Removable, tuple[tuple[type[Model], str, str], ...]] = {
    "area": ((AreaRow, "parent_id", "area"), (PremisesRow, "area_id", "premises")),
    "premises": (
        (ZoneRow, "premises_id", "zone"),
        (DeviceRow, "premises_id", "device"),
        (ContactRow, "premises_id", "contact"),
        (AttachmentRow, "premises_id", "file"),
    ),
    "zone": ((DeviceRow, "zone_id", "device"),),
    "contact": (),
}
TABLES: dict[Removable, type[Model]] = {"area": AreaRow, "premises": PremisesRow, "zone": ZoneRow, "contact": ContactRow}


async def remove(work: Writing, kind: Removable, id_: str, by: str) -> None:
    """Remove one; a building's notes go with it, and stay in the audit.

    Raises:
        Refused: `unknown_…`, or `in_use` with what refers to it.
    """
    for table, column, name in REFERRERS[kind]:
        first = await table.filter(**{column: id_}).using_db(work.db).order_by("id").first()
        if first is not None:
            raise Refused("in_use", f"{kind} {id_!r} is that of {name} {first.pk!r}: move or remove that first")
    if kind == "premises":
        await NoteRow.filter(premises_id=id_).using_db(work.db).delete()
    if not await TABLES[kind].filter(id=id_).using_db(work.db).delete():
        raise Refused(f"unknown_{kind}", f"no {kind} {id_!r} is registered")
    work.note(by, f"{kind}.remove", id_)
    work.changed(kind, id_)

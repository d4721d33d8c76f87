"""Removing what nothing refers to any more: an area, a building, a zone, a contact. Devices are retired, never removed.

Inside the caller's transaction.
"""

from __future__ import annotations

from typing import Literal

from tortoise.exceptions import IntegrityError
from tortoise.models import Model

from iotcore.errors import Refused
from iotcore.registry.database import Writing
from iotcore.registry.tables import AreaRow, DeviceRow, PremisesRow, ZoneRow
from iotcore.registry.tables_acts import ResponseRow
from iotcore.registry.tables_people import GrantRow
from iotcore.registry.tables_places import AttachmentRow, ContactRow, NoteRow

Removable = Literal["area", "premises", "zone", "contact"]
# What people move or remove first: (table, its reference, what it is called, how one is named)
REFERRERS: dict[Removable, tuple[tuple[type[Model], str, str, str], ...]] = {
    "area": (
        (AreaRow, "parent_id", "area", "id"),
        (PremisesRow, "area_id", "premises", "id"),
        (GrantRow, "area_id", "a role of user", "user_id"),
    ),
    "premises": (
        (ZoneRow, "premises_id", "zone", "id"),
        (DeviceRow, "premises_id", "device", "id"),
        (ContactRow, "premises_id", "contact", "id"),
        (AttachmentRow, "premises_id", "file", "id"),
    ),
    "zone": ((DeviceRow, "zone_id", "device", "id"),),
    "contact": (),
}
TABLES: dict[Removable, type[Model]] = {"area": AreaRow, "premises": PremisesRow, "zone": ZoneRow, "contact": ContactRow}


async def remove(work: Writing, kind: Removable, id_: str, by: str) -> None:
    """Remove one; a building's notes and response plan go with it, and stay in the audit.

    Raises:
        Refused: `unknown_…`, or `in_use` with what refers to it.
    """
    for table, column, name, key in REFERRERS[kind]:
        first = await table.filter(**{column: id_}).using_db(work.db).order_by("id").first()
        if first is not None:
            raise Refused("in_use", f"{kind} {id_!r} is that of {name} {getattr(first, key)!r}: move or remove that first")
    try:
        if kind == "premises":
            await NoteRow.filter(premises_id=id_).using_db(work.db).delete()
            await ResponseRow.filter(premises_id=id_).using_db(work.db).delete()
        gone = await TABLES[kind].filter(id=id_).using_db(work.db).delete()
    except IntegrityError as error:
        raise Refused("in_use", f"something else still refers to {kind} {id_!r}: {error}") from error
    if not gone:
        raise Refused(f"unknown_{kind}", f"no {kind} {id_!r} is registered")
    work.note(by, f"{kind}.remove", id_)
    work.changed(kind, id_)

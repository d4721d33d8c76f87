"""What people wrote about a building or a device: added, never changed."""

from __future__ import annotations

from dataclasses import dataclass

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.database import Writing
from iotcore.registry.subjects import Subject, exists
from iotcore.registry.tables_places import NOTE_LENGTH, NoteRow


@dataclass(frozen=True, slots=True)
class Note:
    """A note; `at_ms` UTC."""

    text: str
    by: str
    at_ms: int


async def add(work: Writing, subject: Subject, text: str, by: str) -> int:
    """Write a note; its number.

    Raises:
        Refused: `unknown_premises`, `unknown_device`, `empty` or `too_long`.
    """
    await exists(work.db, subject)
    text = text.strip()
    if not text:
        raise Refused("empty", "a note says something")
    if len(text) > NOTE_LENGTH:
        raise Refused("too_long", f"{len(text)} characters of at most {NOTE_LENGTH}; attach a file instead")
    row = await NoteRow.create(using_db=work.db, text=text, by=by, at_ms=work.now_ms, **subject.column())
    work.note(by, "note.add", subject.id, number=row.id, text=text)
    work.changed("note", str(row.id))
    return int(row.id)


async def listed(db: BaseDBAsyncClient, subject: Subject, last: int = 50) -> list[Note]:
    """The newest notes, the newest first."""
    rows = await NoteRow.filter(**subject.column()).using_db(db).order_by("-id").limit(last)
    return [Note(row.text, row.by, row.at_ms) for row in rows]

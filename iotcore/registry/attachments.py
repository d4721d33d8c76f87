"""Files of buildings and devices: what they are, by whom, since when. Their content lies in a folder, by its SHA-256.

What a file is, its first bytes say, never its name. All functions but the plain reads run inside the caller's transaction.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry.database import Writing
from iotcore.registry.subjects import Subject, exists
from iotcore.registry.tables import TITLE_LENGTH
from iotcore.registry.tables_places import AttachmentRow

FileKind = Literal["floor_plan", "photo", "record"]
MAX_FILE_BYTES = 16 << 20  # a scanned plan; a phone's photo is 3 to 8 MB
MAX_FILES = 200  # of one building or device
SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"%PDF-", "application/pdf"))
TAKEN = {
    "floor_plan": ("application/pdf", "image/png", "image/jpeg"),
    "photo": ("image/jpeg", "image/png"),
    "record": ("application/pdf",),
}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file; `sha256` in hex names its content, `size` is in bytes, `at_ms` UTC when it was added."""

    id: str
    subject: Subject
    kind: str
    title: str
    media_type: str
    size: int
    sha256: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Content:
    """A file on its way in: `sha256` in hex and `size` in bytes of what lies in the folder."""

    kind: FileKind
    title: str
    media_type: str
    size: int
    sha256: str


def media_type(content: bytes, kind: str) -> str:
    """What a file is; whether this kind may be that.

    Raises:
        Refused: `unknown_kind`, `empty`, `too_large`, `has_scripts` for SVG, or `media_type`.
    """
    if kind not in get_args(FileKind):
        raise Refused("unknown_kind", f"{kind!r}; there are: {', '.join(get_args(FileKind))}")
    if not content:
        raise Refused("empty", "the file has no content")
    if len(content) > MAX_FILE_BYTES:
        raise Refused("too_large", f"more than {MAX_FILE_BYTES / 1e6:.0f} MB; scan it more coarsely")
    found = next((media for start, media in SIGNATURES if content.startswith(start)), "")
    if not found and b"<svg" in content[:4096].lower():
        raise Refused(
            "has_scripts", "an SVG can hold scripts, which would run in the browser of whoever opens it; save it as PDF or PNG"
        )
    if found not in TAKEN[kind]:
        allowed = ", ".join(one.split("/")[1].upper() for one in TAKEN[kind])
        raise Refused(
            "media_type", f"a {kind} is one of {allowed}; this file is {found or 'none of them, whatever its name says'}"
        )
    return found


async def add(work: Writing, subject: Subject, file: Content, by: str) -> str:
    """Say that a file belongs to a building or device; its content must lie in the folder already. Returns the id.

    Raises:
        Refused: `unknown_premises`, `unknown_device`, or `too_many`.
    """
    await exists(work.db, subject)
    if await AttachmentRow.filter(**subject.column()).using_db(work.db).count() >= MAX_FILES:
        raise Refused("too_many", f"{subject} has {MAX_FILES} files already; remove some first")
    id_ = secrets.token_hex(8)
    about = {**asdict(file), "title": file.title[:TITLE_LENGTH]}
    await AttachmentRow.create(using_db=work.db, id=id_, by=by, at_ms=work.now_ms, **about, **subject.column())
    work.note(by, f"attachment.{file.kind}", subject.id, attachment=id_, **about)
    work.changed("attachment", id_)
    return id_


async def remove(work: Writing, id_: str, by: str) -> None:
    """Take a file away; its content goes with the next sweep unless another one has the same.

    Raises:
        Refused: `unknown_file`, or `kept` for a signed record.
    """
    row = await AttachmentRow.get_or_none(id=id_, using_db=work.db)
    if row is None:
        raise Refused("unknown_file", f"no file is called {id_!r}; `iotcore file list` shows all")
    if row.kind == "record":
        raise Refused("kept", f"{id_} is a signed record; it stays")
    await AttachmentRow.filter(id=id_).using_db(work.db).delete()
    work.note(by, "attachment.remove", row.device_id or row.premises_id or "", attachment=id_, sha256=row.sha256, title=row.title)
    work.changed("attachment", id_)


async def get(db: BaseDBAsyncClient, id_: str) -> Attachment:
    """One file; raises Refused `unknown_file`."""
    row = await AttachmentRow.get_or_none(id=id_, using_db=db)
    if row is None:
        raise Refused("unknown_file", f"no file is called {id_!r}; `iotcore file list` shows all")
    return _plain(row)


async def listed(db: BaseDBAsyncClient, subject: Subject | None = None) -> list[Attachment]:
    """The files of a building or device, or all, newest first."""
    wanted = AttachmentRow.filter(**subject.column()) if subject else AttachmentRow.all()
    return [_plain(row) for row in await wanted.using_db(db).order_by("-at_ms", "id")]


async def contents(db: BaseDBAsyncClient) -> set[str]:
    """The SHA-256 of every content that some file has."""
    rows = await AttachmentRow.all().using_db(db).distinct().values_list("sha256", flat=True)
    return {str(row) for row in rows}


def _plain(row: AttachmentRow) -> Attachment:
    subject = Subject("device", row.device_id) if row.device_id else Subject("premises", row.premises_id or "")
    return Attachment(row.id, subject, row.kind, row.title, row.media_type, row.size, row.sha256, row.by, row.at_ms)

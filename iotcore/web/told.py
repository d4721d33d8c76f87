"""What a technician's phone sends, checked by its kind before anything is kept. Blocks while a photo is encoded anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from iotcore.errors import Refused
from iotcore.paper import photo
from iotcore.registry.attachments import Content
from iotcore.registry.commissioning import Told

TOO_FAR_AHEAD_MS = 86_400_000.0  # a phone in another time zone is right; one that is a day ahead is not
Text = Annotated[str, Meta(min_length=1, max_length=2_000)]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]


class Location(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the device is: degrees (WGS 84) with the phone's accuracy in m, or words, or both."""

    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    accuracy_m: Annotated[float, Meta(ge=0)] | None = None
    text: Annotated[str, Meta(max_length=200)] = ""


class Remark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Anything that the next one should know."""

    text: Text


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who answers for it, and the steps that were seen to be open."""

    name: Name
    open: tuple[str, ...] = ()


SHAPES: dict[str, Any] = {"location": Location, "remark": Remark, "sign": Signature}


class Keeps(Protocol):
    """Where photos go."""

    def keep(self, content: bytes) -> str:
        """Write a file; its SHA-256."""


def checked(told: Told, content: bytes, files: Keeps) -> Told:
    """The entry with what the phone sent; of a photo, with the file that was made of it.

    Raises:
        Refused: `bad_entry`, `no_photo`, `too_large`.
    """
    if told.kind == "photo":
        kept = photo.cleaned(content)
        file = Content("photo", told.device, "image/jpeg", len(kept.content), files.keep(kept.content))
        body = {"sha256": hashlib.sha256(content).hexdigest(), "width": kept.width, "height": kept.height}
        return replace(told, body=body, file=file)
    if told.kind not in SHAPES:
        raise Refused("bad_entry", f"{told.kind!r}; there are: photo, {', '.join(SHAPES)}")
    try:
        body = msgspec.to_builtins(msgspec.json.decode(content, type=SHAPES[told.kind]))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused("bad_entry", str(error)) from error
    if told.kind == "location" and body["latitude"] is None and not body["text"].strip():
        raise Refused("bad_entry", "a place needs degrees or words")
    if told.kind == "location" and (body["latitude"] is None) is not (body["longitude"] is None):
        raise Refused("bad_entry", "latitude and longitude belong together")
    return replace(told, body=body)

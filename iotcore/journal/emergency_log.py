"""The emergency log: a file whose room is put aside beforehand, for fires that the journal does not take in time.

A file of two areas (`iotcore.two_areas`), whose record is an event of one fire. It blocks, and belongs on a thread of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from iotcore.journal.records import Raise
from iotcore.two_areas import TwoAreas

log = logging.getLogger(__name__)

AREA_BYTES = 4 * 1024 * 1024  # some 4,000 fires at 1 kB: every premises of a city at once
MAGIC = b"iotcore2"


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """A fire that the journal did not take: what raised it, and the number of its notice on each channel."""

    incident: str
    at_ms: float
    cause: Raise
    numbers: dict[str, int]


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """A receiver has acknowledged it."""

    incident: str
    channel: str
    sent_ms: float | None
    at_ms: float
    reply: str


class Freed(msgspec.Struct, frozen=True, tag="freed"):
    """The journal has it."""

    incident: str


Record = Opened | Answered | Freed


class EmergencyLog:
    """One file of two areas. `held` says whether its room is put aside."""

    def __init__(self, path: Path, *, area_bytes: int = AREA_BYTES) -> None:
        self.held = False
        self.path = path
        self._areas = TwoAreas(path, area_bytes, MAGIC)

    def open(self) -> list[Record]:
        """Put the room aside if it is not, and read what the last run left. A disk that is full has none to give: `held`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            found = self._areas.open()
        except OSError as error:
            log.critical("%s: there is no emergency log for fires: %s", self.path, error)
            self.close()
            return []
        self.held = True
        return [record for content in found if (record := self._understood(content)) is not None]

    def close(self) -> None:
        """Close the file; what it holds stays."""
        self._areas.close()
        self.held = False

    def append(self, records: Sequence[Record]) -> bool:
        """Keep these too; when it returns True the disk has them. False: the area is full, or the disk refuses."""
        return self._kept(self._areas.append, records)

    def rewrite(self, records: Sequence[Record]) -> bool:
        """Go over to the other area with these and nothing else; False when they do not fit, or the disk refuses."""
        return self._kept(self._areas.rewrite, records)

    def _kept(self, write: Callable[[Sequence[bytes]], bool], records: Sequence[Record]) -> bool:
        try:
            return write([msgspec.msgpack.encode(record) for record in records])
        except OSError as error:
            log.critical("%s: %s", self.path, error)
            return False

    def _understood(self, content: bytes) -> Record | None:
        try:
            record: Record = msgspec.msgpack.decode(content, type=Record)
        except msgspec.DecodeError as error:  # of another version: what cannot be understood hides nothing else
            log.critical("%s: a record cannot be read and is left out: %s", self.path, error)
            return None
        return record

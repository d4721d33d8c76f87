"""The emergency log: a file whose room is put aside beforehand, for fires that the journal does not take in time.

    area 0 | area 1        each: header (generation), then records; the readable area with the higher generation counts

Its space is written and fsynced when it is made, and written over in place afterwards: a full disk does not matter (on a file
system that writes in place: ext4, xfs; not btrfs or zfs). A record is its length, a checksum over generation and content, and the
content; the first that does not check ends the log, so that a power cut in the middle of a write costs that write only. When an
area is full, what still counts is written to the other, whose header comes last. It blocks, and belongs on a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from iotcore.journal.records import Raise

log = logging.getLogger(__name__)

AREA_BYTES = 4 * 1024 * 1024  # some 4,000 fires at 1 kB: every premises of a city at once
AREAS = 2
HEADER_BYTES = 512  # a sector: it is written whole or not at all
HEADER = struct.Struct("<8sQI")  # magic, generation, checksum
MAGIC = b"iotcore2"
RECORD = struct.Struct("<II")  # length, checksum
CHUNK = bytes(256 * 1024)
OWNER_ONLY = 0o600


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
        self._area_bytes = area_bytes
        self._file: int | None = None
        self._generation = 0
        self._end = HEADER_BYTES  # where the next record goes, within the area

    def open(self) -> list[Record]:
        """Put the room aside if it is not, and read what the last run left. A disk that is full has none to give: `held`."""
        try:
            if not self.path.exists() or self.path.stat().st_size != AREAS * self._area_bytes:
                self._make()
            self._file = os.open(self.path, os.O_RDWR)
            found = self._load()
        except OSError as error:
            log.critical("%s: there is no emergency log for fires: %s", self.path, error)
            self.close()
            return []
        self.held = True
        return found

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._file is not None:
            os.close(self._file)
        self._file, self.held = None, False

    def append(self, records: Sequence[Record]) -> bool:
        """Keep these too; when it returns True the disk has them. False: the area is full, or the disk refuses."""
        content = b"".join(_framed(record, self._generation) for record in records)
        if self._file is None or self._end + len(content) > self._area_bytes:
            return False
        try:
            self._put(self._generation, self._end, content)
        except OSError as error:
            log.critical("%s: %s", self.path, error)
            return False
        self._end += len(content)
        return True

    def rewrite(self, records: Sequence[Record]) -> bool:
        """Go over to the other area with these and nothing else; False when they do not fit, or the disk refuses."""
        if self._file is None:
            return False
        try:
            return self._begin(self._generation + 1, records)
        except OSError as error:
            log.critical("%s: %s", self.path, error)
            return False

    def _begin(self, generation: int, records: Sequence[Record]) -> bool:
        content = b"".join(_framed(record, generation) for record in records)
        if HEADER_BYTES + len(content) > self._area_bytes:
            return False
        if content:
            self._put(generation, HEADER_BYTES, content)
        check = zlib.crc32(MAGIC + generation.to_bytes(8, "little"))
        self._put(generation, 0, HEADER.pack(MAGIC, generation, check))
        self._generation, self._end = generation, HEADER_BYTES + len(content)
        return True

    def _put(self, generation: int, at: int, content: bytes) -> None:
        assert self._file is not None
        where = (generation % AREAS) * self._area_bytes + at
        while content:
            written = os.pwrite(self._file, content, where)
            content, where = content[written:], where + written
        os.fdatasync(self._file)

    def _make(self) -> None:
        """The file whole, or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "wb") as file:
                for at in range(0, AREAS * self._area_bytes, len(CHUNK)):
                    file.write(CHUNK[: AREAS * self._area_bytes - at])
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _load(self) -> list[Record]:
        assert self._file is not None
        areas = [os.pread(self._file, self._area_bytes, n * self._area_bytes) for n in range(AREAS)]
        found = [(generation, area) for area in areas if (generation := _generation(area)) is not None]
        if not found:
            self._begin(0, ())
            return []
        self._generation, area = max(found)
        self._end, records = HEADER_BYTES, list[Record]()
        while (content := _content(area, self._end, self._generation)) is not None:
            self._end += RECORD.size + len(content)
            try:
                records.append(msgspec.msgpack.decode(content, type=Record))
            except msgspec.DecodeError as error:  # of another version: what cannot be understood hides nothing else
                log.critical("%s: a record cannot be read and is left out: %s", self.path, error)
        return records


def _framed(record: Record, generation: int) -> bytes:
    content = msgspec.msgpack.encode(record)
    return RECORD.pack(len(content), _check(content, generation)) + content


def _check(content: bytes, generation: int) -> int:
    return zlib.crc32(content, zlib.crc32(generation.to_bytes(8, "little")))


def _generation(area: bytes) -> int | None:
    magic, generation, check = HEADER.unpack_from(area)
    sound = magic == MAGIC and check == zlib.crc32(MAGIC + generation.to_bytes(8, "little"))
    return int(generation) if sound else None


def _content(area: bytes, at: int, generation: int) -> bytes | None:
    """The record at `at`; None where the log ends."""
    if at + RECORD.size > len(area):
        return None
    length, check = RECORD.unpack_from(area, at)
    content = area[at + RECORD.size : at + RECORD.size + length]
    return content if length and len(content) == length and check == _check(content, generation) else None

"""A log in a file whose room is put aside beforehand: two areas, written in turns.

    area 0 | area 1        each: header (generation), then records; the readable area with the higher generation counts

The room is written and fsynced when it is made, and written over in place afterwards: a full disk does not matter (on a file
system that writes in place: ext4, xfs; not btrfs or zfs). A record is its length, a checksum over generation and content, and the
content; the first that does not check ends the log, so that a power cut in the middle of a write costs that write only. When an
area is full, what still counts is written to the other, whose header comes last. It blocks, and belongs on a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

AREAS = 2
HEADER_BYTES = 512  # a sector: it is written whole or not at all
HEADER = struct.Struct("<8sQI")  # magic, generation, checksum
RECORD = struct.Struct("<II")  # length, checksum
CHUNK = bytes(256 * 1024)
OWNER_ONLY = 0o600


class TwoAreas:
    """Records of bytes, none of them empty. `magic`, 8 bytes, names what they are. All methods may raise OSError."""

    def __init__(self, path: Path, area_bytes: int, magic: bytes) -> None:
        self.path = path
        self._area_bytes = area_bytes
        self._magic = magic
        self._file: int | None = None
        self._generation = 0
        self._end = HEADER_BYTES  # where the next record goes, within the area

    @property
    def is_open(self) -> bool:
        """Whether it can be written."""
        return self._file is not None

    @property
    def is_empty(self) -> bool:
        """Whether it holds no record."""
        return self._end == HEADER_BYTES

    def open(self) -> list[bytes]:
        """Put the room aside if it is not, in a folder that is there, and read what the last run left, oldest first."""
        if not self.path.exists() or self.path.stat().st_size != AREAS * self._area_bytes:
            self._make()
        self._file = os.open(self.path, os.O_RDWR)
        return self._load()

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def append(self, records: Sequence[bytes]) -> bool:
        """Keep these too; when it returns True the disk has them. False: the area is full, or the file is not open."""
        content = b"".join(_framed(record, self._generation) for record in records)
        if self._file is None or self._end + len(content) > self._area_bytes:
            return False
        self._put(self._file, self._generation, self._end, content)
        self._end += len(content)
        return True

    def rewrite(self, records: Sequence[bytes]) -> bool:
        """Go over to the other area with these and nothing else; False when they do not fit, or the file is not open."""
        return self._file is not None and self._begin(self._file, self._generation + 1, records)

    def _begin(self, file: int, generation: int, records: Sequence[bytes]) -> bool:
        content = b"".join(_framed(record, generation) for record in records)
        if HEADER_BYTES + len(content) > self._area_bytes:
            return False
        if content:
            self._put(file, generation, HEADER_BYTES, content)
        self._put(file, generation, 0, HEADER.pack(self._magic, generation, self._sum(generation)))
        self._generation, self._end = generation, HEADER_BYTES + len(content)
        return True

    def _put(self, file: int, generation: int, at: int, content: bytes) -> None:
        where = (generation % AREAS) * self._area_bytes + at
        while content:
            written = os.pwrite(file, content, where)
            content, where = content[written:], where + written
        os.fdatasync(file)

    def _make(self) -> None:
        """The file whole, or not at all."""
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

    def _load(self) -> list[bytes]:
        assert self._file is not None
        areas = [os.pread(self._file, self._area_bytes, n * self._area_bytes) for n in range(AREAS)]
        found = [(generation, area) for area in areas if (generation := self._readable(area)) is not None]
        if not found:
            self._begin(self._file, 0, ())
            return []
        self._generation, area = max(found)
        self._end, records = HEADER_BYTES, list[bytes]()
        while (content := _content(area, self._end, self._generation)) is not None:
            self._end += RECORD.size + len(content)
            records.append(content)
        return records

    def _readable(self, area: bytes) -> int | None:
        """The generation of an area that has one."""
        magic, generation, check = HEADER.unpack_from(area)
        return int(generation) if magic == self._magic and check == self._sum(generation) else None

    def _sum(self, generation: int) -> int:
        return zlib.crc32(self._magic + generation.to_bytes(8, "little"))


def _framed(content: bytes, generation: int) -> bytes:
    return RECORD.pack(len(content), _check(content, generation)) + content


def _check(content: bytes, generation: int) -> int:
    return zlib.crc32(content, zlib.crc32(generation.to_bytes(8, "little")))


def _content(area: bytes, at: int, generation: int) -> bytes | None:
    """The record at `at`; None where the log ends."""
    if at + RECORD.size > len(area):
        return None
    length, check = RECORD.unpack_from(area, at)
    content = area[at + RECORD.size : at + RECORD.size + length]
    return content if length and len(content) == length and check == _check(content, generation) else None

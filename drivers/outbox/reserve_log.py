"""Reserve log: where fire readings are kept when the disk takes no more.

Its space is put aside when the disk still has some: a file of zeros, fsynced, written over in place afterwards, so that keeping a
reading needs nothing of the disk but what it already gave (on a file system that writes in place: ext4, xfs; not btrfs or zfs).

    area 0 | area 1        each: header (generation), then records; the readable area with the higher generation counts

A record is its length, a checksum over generation and content, and the content; the first that does not check ends the log, so a
power cut in the middle of a write costs that write only. When the log is full, what is still waited for is written to the other
area, whose header comes last. What not even the log can take stays in memory, bounded and counted: a fire is still sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from drivers.outbox.rows import BEGIN, Key, Row
from iotcore.errors import StoreError

log = logging.getLogger(__name__)

AREA_BYTES = 4 * 1024 * 1024  # 10,000 readings of a detector, or 100 whole states of the largest panel (1,590 points)
AREAS = 2
HEADER_BYTES = 512  # a sector: it is written whole or not at all
HEADER = struct.Struct("<8sQI")  # magic, generation, checksum
MAGIC = b"iotcore1"
RECORD = struct.Struct("<II")  # length, checksum
MEMORY_ROWS = 1_000  # readings that are nowhere but in memory
CHUNK = bytes(256 * 1024)


class _Stored(NamedTuple):
    row: Row
    on_disk: bool


class ReserveLog:
    """One file of two areas; it blocks, and belongs on the outbox's thread. `held` says whether its space is put aside."""

    def __init__(self, path: Path, *, area_bytes: int = AREA_BYTES) -> None:
        self.held = False
        self.dropped = 0  # readings that found no room in memory either
        self.receipted = 0
        self._path = path
        self._area_bytes = area_bytes
        self._rows: dict[Key, _Stored] = {}
        self._ids = BEGIN  # its rows count up from here: a round takes them first
        self._file: int | None = None
        self._generation = 0
        self._end = HEADER_BYTES  # where the next record goes, within the area

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Row]:
        """What it holds, oldest first."""
        return [stored.row for stored in self._rows.values()]

    def open(self) -> None:
        """Put the space aside if it is not, and read what the last run left. A disk that is full has none to give: `held`."""
        try:
            if not self._path.exists() or self._path.stat().st_size != AREAS * self._area_bytes:
                self._make()
            self._file = os.open(self._path, os.O_RDWR)
            self._load()
            self.held = True
        except OSError as error:
            log.error("%s: no reserve for fire readings: %s", self._path, error)  # noqa: TRY400 - said, not a defect
            self.close()

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._file is not None:
            os.close(self._file)
        self._file, self.held = None, False

    def keep(self, rows: Iterable[Row]) -> list[Row]:
        """Keep rows that the outbox's file did not take. They come back with their ids, and are sent whatever happens here.

        `on_disk` says afterwards whether the disk has them.
        """
        kept = [self._numbered(row) for row in rows]
        if not kept:
            return []
        safe = self._write(kept)
        for row in kept:
            self._rows[row.key] = _Stored(row, safe)
        self._bound_memory()
        return kept

    def on_disk(self, row: Row) -> bool:
        """Whether the disk has this row."""
        stored = self._rows.get(row.key)
        return stored is not None and stored.on_disk

    def has(self, key: Key) -> bool:
        """Whether a reading of this identity is here."""
        return key in self._rows

    def forget(self, device: str, boot: str, up_to: int) -> None:
        """The core has these. The log itself is cleared when the last of its rows goes."""
        for key in [key for key in self._rows if key[0] == device and key[1] == boot and key[2] <= up_to]:
            del self._rows[key]
            self.receipted += 1
        if not self._rows:
            self.clear()

    def clear(self) -> None:
        """Everything here is elsewhere now."""
        self._rows.clear()
        if self._end == HEADER_BYTES or self._file is None:
            return
        try:
            self._begin(self._generation + 1, ())
        except OSError as error:  # then the next run sends these again, and the core drops them as repeats
            log.warning("%s: %s", self._path, error)

    def page(self, after_id: int, limit: int) -> list[Row]:
        """Up to `limit` rows with an id above `after_id`, oldest first."""
        return [stored.row for stored in self._rows.values() if stored.row.id > after_id][:limit]

    def _numbered(self, row: Row) -> Row:
        self._ids += 1
        return row._replace(id=self._ids)

    def _bound_memory(self) -> None:
        loose = [key for key, stored in self._rows.items() if not stored.on_disk]
        for key in loose[: max(0, len(loose) - MEMORY_ROWS)]:
            del self._rows[key]
            self.dropped += 1

    def _write(self, rows: Sequence[Row]) -> bool:
        """Append; when the area is full, go over to the other one with what is still waited for."""
        if self._file is None:
            self.open()  # perhaps there is room for it by now
        if self._file is None:
            return False
        records = b"".join(_record(row, self._generation) for row in rows)
        try:
            if self._end + len(records) <= self._area_bytes:
                self._put(self._generation, self._end, records)
                self._end += len(records)
                return True
            waiting = [stored.row for stored in self._rows.values() if stored.on_disk]
            return self._begin(self._generation + 1, [*waiting, *rows])
        except OSError as error:
            log.error("%s: %s", self._path, error)  # noqa: TRY400 - said, not a defect
            return False

    def _begin(self, generation: int, rows: Sequence[Row]) -> bool:
        """Start the other area with `rows`; False when they do not fit."""
        records = b"".join(_record(row, generation) for row in rows)
        if HEADER_BYTES + len(records) > self._area_bytes:
            return False
        if records:
            self._put(generation, HEADER_BYTES, records)
        header = HEADER.pack(MAGIC, generation, zlib.crc32(MAGIC + generation.to_bytes(8, "little")))
        self._put(generation, 0, header)
        self._generation, self._end = generation, HEADER_BYTES + len(records)
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
        beside = self._path.with_name(f".{self._path.name}.new")
        try:
            with beside.open("wb") as file:
                for at in range(0, AREAS * self._area_bytes, len(CHUNK)):
                    file.write(CHUNK[: AREAS * self._area_bytes - at])
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _load(self) -> None:
        assert self._file is not None
        areas = [os.pread(self._file, self._area_bytes, n * self._area_bytes) for n in range(AREAS)]
        found = [(generation, area) for area in areas if (generation := _generation(area)) is not None]
        if not found:
            self._begin(0, ())
            return
        self._generation, area = max(found)
        self._end = HEADER_BYTES
        while (row := _read(area, self._end, self._generation)) is not None:
            self._end += RECORD.size + RECORD.unpack_from(area, self._end)[0]
            numbered = self._numbered(row)
            self._rows[numbered.key] = _Stored(numbered, on_disk=True)


def _record(row: Row, generation: int) -> bytes:
    content = msgspec.msgpack.encode(row)
    return RECORD.pack(len(content), _check(content, generation)) + content


def _check(content: bytes, generation: int) -> int:
    return zlib.crc32(content, zlib.crc32(generation.to_bytes(8, "little")))


def _generation(area: bytes) -> int | None:
    magic, generation, check = HEADER.unpack_from(area)
    sound = magic == MAGIC and check == zlib.crc32(MAGIC + generation.to_bytes(8, "little"))
    return int(generation) if sound else None


def _read(area: bytes, at: int, generation: int) -> Row | None:
    """The record at `at`; None where the log ends."""
    if at + RECORD.size > len(area):
        return None
    length, check = RECORD.unpack_from(area, at)
    content = area[at + RECORD.size : at + RECORD.size + length]
    if not length or len(content) != length or check != _check(content, generation):
        return None
    try:
        return msgspec.msgpack.decode(content, type=Row)
    except msgspec.DecodeError as error:
        raise StoreError(f"a record of the reserve checks but cannot be read: {error}") from error

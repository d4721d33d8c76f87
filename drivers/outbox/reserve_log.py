"""Reserve log: where fire readings are kept when the disk takes no more.

Its space is put aside when the disk still has some: a file of two areas (`iotcore.two_areas`), written over in place. When one
is full, what is still waited for is written to the other. What not even the log can take stays in memory, bounded and counted: a
fire is still sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from drivers.outbox.rows import BEGIN, Key, Row
from iotcore.errors import StoreError
from iotcore.two_areas import TwoAreas

log = logging.getLogger(__name__)

AREA_BYTES = 4 * 1024 * 1024  # 10,000 readings of a detector, or 100 whole states of the largest panel (1,590 points)
MAGIC = b"iotcore1"
MEMORY_ROWS = 1_000  # readings that are nowhere but in memory


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
        self._areas = TwoAreas(path, area_bytes, MAGIC)
        self._rows: dict[Key, _Stored] = {}
        self._ids = BEGIN  # its rows count up from here: a round takes them first

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Row]:
        """What it holds, oldest first."""
        return [stored.row for stored in self._rows.values()]

    def open(self) -> None:
        """Put the space aside if it is not, and read what the last run left. A disk that is full has none to give: `held`."""
        try:
            for content in self._areas.open():
                row = self._numbered(_row(content))
                self._rows[row.key] = _Stored(row, on_disk=True)
            self.held = True
        except OSError as error:
            log.error("%s: no reserve for fire readings: %s", self._path, error)  # noqa: TRY400 - said, not a defect
            self.close()

    def close(self) -> None:
        """Close the file; what it holds stays."""
        self._areas.close()
        self.held = False

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
        if self._areas.is_empty:
            return
        try:
            self._areas.rewrite(())
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
        if not self._areas.is_open:
            self.open()  # perhaps there is room for it by now
        try:
            waiting = [stored.row for stored in self._rows.values() if stored.on_disk]
            return self._areas.append(_contents(rows)) or self._areas.rewrite(_contents([*waiting, *rows]))
        except OSError as error:
            log.error("%s: %s", self._path, error)  # noqa: TRY400 - said, not a defect
            return False


def _contents(rows: Sequence[Row]) -> list[bytes]:
    return [msgspec.msgpack.encode(row) for row in rows]


def _row(content: bytes) -> Row:
    try:
        return msgspec.msgpack.decode(content, type=Row)
    except msgspec.DecodeError as error:
        raise StoreError(f"a record of the reserve checks but cannot be read: {error}") from error

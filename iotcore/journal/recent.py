"""What the fire lane has stored of late, for whoever missed it on the broker.

A receipt is the fire lane's word alone: a broker that is killed may have forgotten the copies that it held for other consumers.
The journal has every receipted reading for a quarter of an hour; here they are read, each once, a little after they came.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from iotcore.clock import Clock
from iotcore.journal.database import UNREADABLE, Connection, Place, connect_readonly, is_there
from iotcore.reading import Reading

SETTLE_MS = 3_000.0  # by then the broker's own copy has come, as a rule
PAGE_ROWS = 2_000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """The readings of a page that were missed, and where the next page begins. `more`: there is one already."""

    readings: tuple[Reading, ...]
    cursor: int
    more: bool


class RecentReadings:
    """A journal's readings in the order of their commits. Methods may be called from any thread."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def page(self, cursor: int, missed: Callable[[str, str, int], bool]) -> Page:
        """What of the rows after `cursor` was `missed(device, boot, seq)`; nothing while the journal cannot be read."""
        with self._lock:
            try:
                return self._page(cursor, missed)
            except UNREADABLE as error:
                log.info("the fire journal cannot be read now: %s", error)
                self._close()
                return Page((), cursor, more=False)

    def close(self) -> None:
        """Let go of the file; the next page opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _page(self, cursor: int, missed: Callable[[str, str, int], bool]) -> Page:
        if self._connection is None:
            if not is_there(self._place):
                return Page((), cursor, more=False)
            self._connection = connect_readonly(self._place)
        (last,) = self._connection.execute("SELECT coalesce(max(rowid), 0) FROM reading").fetchone()
        if last < cursor:  # the table had been emptied, and SQLite counts anew
            cursor = 0
        now_ms = self._clock.wall_ms()
        rows = []
        for row in self._connection.execute(
            "SELECT rowid, device, boot, seq, received_ms FROM reading WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (cursor, PAGE_ROWS),
        ):
            if 0.0 <= now_ms - row["received_ms"] < SETTLE_MS:  # one from the future was written before the clock was set back
                break
            rows.append(row)
        lost = [row["rowid"] for row in rows if missed(row["device"], row["boot"], row["seq"])]
        bodies = [self._connection.execute("SELECT body FROM reading WHERE rowid = ?", (number,)).fetchone() for number in lost]
        readings = tuple(
            msgspec.msgpack.decode(body[0], type=Reading) for body in bodies if body is not None
        )  # None: just pruned
        return Page(readings, rows[-1]["rowid"] if rows else cursor, more=len(rows) == PAGE_ROWS)

"""What air stations near a new fire measured last: told to dispatch centres as an update, which nothing waits for.

The telemetry process keeps each station's last values in its own file; they are read there, off the fire lane's road, once the
alarm is on its way. A file that is away, or a station that has been silent, is no reason for anything: there is no update then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal import posting
from iotcore.journal.database import connect_readonly
from iotcore.journal.facts import Measured
from iotcore.journal.journal import Journal
from iotcore.journal.records import Committed, Notice
from iotcore.registry.directory import Directory

AFTER_S = 1.0  # by then the alarm is on its way
OLDEST_MS = 3_600_000.0  # what a station said an hour ago says nothing of this fire
WAITING = 1_000  # incidents that wait for their update; of more the oldest go without
MOST_VALUES = 12
TELEMETRY_FILE = "telemetry.db"
log = logging.getLogger(__name__)


class Nearby:
    """One for a fire process. `told` are the channels that get such updates."""

    def __init__(
        self, folder: Path, journal: Journal, directory: Callable[[], Directory], told: Sequence[str], clock: Clock
    ) -> None:
        self._file = folder / TELEMETRY_FILE
        self._journal = journal
        self._directory = directory
        self._told = tuple(told)
        self._clock = clock
        self._waiting: deque[tuple[float, Notice]] = deque()
        self._added = asyncio.Event()
        self._wake: Callable[[], None] = lambda: None
        self.dropped = 0

    def opened_by(self, send: Callable[[Committed], None], wake: Callable[[], None]) -> Callable[[Committed], None]:
        """What to call when incidents were opened: `send` at once, and later this, which wakes the dispatcher."""
        self._wake = wake

        def opened(committed: Committed) -> None:
            send(committed)
            self.add(row.notice for row in committed.leased)

        return opened

    def add(self, notices: Iterable[Notice]) -> None:
        """New incidents; of each one is enough, whoever it was for."""
        known = {notice.incident for _, notice in self._waiting}
        for notice in notices:
            if self._told and notice.stations and notice.incident not in known:
                known.add(notice.incident)
                self._waiting.append((self._clock.monotonic_s() + AFTER_S, notice))
        while len(self._waiting) > WAITING:
            self._waiting.popleft()
            self.dropped += 1
        if self._waiting:
            self._added.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self._added.wait()
            while self._waiting:
                due_s, notice = self._waiting.popleft()
                await asyncio.sleep(due_s - self._clock.monotonic_s())
                try:
                    if await asyncio.to_thread(self.tell, notice):
                        self._wake()
                except StoreError as error:
                    log.warning("%s: what the air nearby is like cannot be told: %s", notice.incident, error)
                except Exception:  # a fact about the air must never end the fire process
                    log.exception("%s: what the air nearby is like cannot be told", notice.incident)
            self._added.clear()

    def tell(self, notice: Notice) -> bool:
        """Post one update; False when there is nothing to tell, or nobody was told the alarm."""
        air = self.measured([one.device for one in notice.stations])
        if not air:
            return False
        with self._journal.writing() as connection:
            at_ms = self._journal.now_ms()
            return posting.post_update(connection, notice.incident, msgspec.structs.replace(notice, air=air), at_ms, self._told)

    def measured(self, stations: Sequence[str]) -> tuple[Measured, ...]:
        """The last good numbers of stations, those of the nearest first; none while the file cannot be read."""
        if not self._file.exists() or not stations:
            return ()
        try:
            with closing(connect_readonly(self._file)) as connection:
                rows = connection.execute(
                    "SELECT device, point, value, observed_ms FROM latest WHERE quality = 'good' AND observed_ms >= ? "  # noqa: S608 - marks
                    f"AND device IN ({', '.join('?' * len(stations))})",
                    (self._clock.wall_ms() - OLDEST_MS, *stations),
                ).fetchall()
        except sqlite3.Error as error:
            log.info("the last values of air stations cannot be read: %s", error)
            return ()
        found = [
            Measured(row["device"], row["point"], float(row["value"]), unit, row["observed_ms"])
            for row in rows
            if (unit := self._unit(row["device"], row["point"])) is not None
            and isinstance(row["value"], int | float)
            and math.isfinite(row["value"])
        ]
        return tuple(sorted(found, key=lambda one: (stations.index(one.device), one.point))[:MOST_VALUES])

    def _unit(self, device: str, point: str) -> str | None:
        """The unit of a number that the station's spec knows; None for what is no number of it."""
        binding = self._directory().devices.get(device)
        known = binding.spec.points.get(point) if binding is not None else None
        return known.unit if known is not None and known.kind == "number" else None

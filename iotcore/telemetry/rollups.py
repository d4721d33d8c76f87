"""The keeper's part in rolling up: every minute what is due in InfluxDB, and what came late (`rollup_influx` says how)."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec

from iotcore import metrics, settings
from iotcore.clock import Clock
from iotcore.errors import QueryError
from iotcore.journal.database import connect_readonly
from iotcore.registry.directory import Directory
from iotcore.telemetry.influx import Influx1, Influx2
from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.late import LateHour, noted
from iotcore.telemetry.rollup import HOUR_MS, STEPS
from iotcore.telemetry.rollup_influx import DEVICES, Class, classes, first_ms, lines, stretches
from iotcore.telemetry.store import Later

SETTLE_MS = 150_000  # above `late.LATE_MS` by the minute that a batch may take on its way: nothing falls between the two
NOTES_MS = 30_000  # a note is on disk so long after the time it bears
LOOK_S = 20.0
WRITE_LINES = 5_000
DAY_MS = 24 * HOUR_MS
log = logging.getLogger(__name__)


class Reached(msgspec.Struct):
    """How far rolling up came in the server at `url`: by "database_step measurement", and up to which late note."""

    url: str = ""
    until_ms: dict[str, int] = {}
    noted_ms: int = 0


class InfluxRollups:
    """Rolls up while `run` runs; several may, and write the same. `folder`: where the notes and its own memory are."""

    def __init__(self, store: settings.Store, folder: Path, clock: Clock, directory: Callable[[], Directory]) -> None:
        self.trouble = ""
        self._store = store
        self._notes = folder / "telemetry.db"
        self._memory = folder / "rollup.json"
        self._clock = clock
        self._directory = directory
        self._reached = Reached()

    def state(self) -> dict[str, Any]:
        """What keeps it from rolling up, "" when nothing does."""
        return {"rollup_trouble": self.trouble}

    async def run(self) -> None:
        """For ever; what fails is said once and tried again."""
        while True:
            try:
                await self.roll()
            except QueryError as error:
                metrics.rollup_failures.labels(error.reason).inc()
                if self.trouble != error.reason:
                    log.warning("telemetry cannot be rolled up: %s", error)
                self.trouble = error.reason
            else:
                self.trouble = ""
            await asyncio.sleep(LOOK_S)

    async def roll(self) -> None:
        """Everything that is due now.

        Raises:
            QueryError: InfluxDB does not answer or take it; what was done is remembered.
        """
        self._reached = self._remembered()
        now_ms = int(self._clock.wall_ms())
        known = classes(self._directory())
        async with Link(self._store) as link:
            try:
                for database in _databases(self._store):
                    await self._roll_late(link, database, known, now_ms)
                    for step in STEPS:
                        for made_of in known:
                            await self._roll_due(link, database, made_of, step, now_ms)
                self._reached.noted_ms = max(self._reached.noted_ms, now_ms - NOTES_MS)
            finally:
                self._remember()

    async def _roll_due(self, link: Link, database: str, made_of: Class, step: str, now_ms: int) -> None:
        """What became due since the last time; the first time all that there is."""
        width = STEPS[step]
        end = (now_ms - SETTLE_MS) // width * width
        key = f"{database}_{step} {made_of.name}"
        start = self._reached.until_ms.get(key)
        if start is None:
            first = await first_ms(link, database, made_of.name)
            if first is None:
                return
            start = first // width * width
        start = max(start, self._kept_since_ms(now_ms))
        for span in stretches(start, end, step, len(made_of.interval_s)):
            await self._write(database, step, await lines(link, database, made_of, step, span))
            self._reached.until_ms[key] = span[1]
        metrics.rolled_until.labels(database if step == "1m" else f"{database}_{step}").set(end / 1000.0)

    async def _roll_late(self, link: Link, database: str, known: Iterable[Class], now_ms: int) -> None:
        by_name = {made_of.name: made_of for made_of in known}
        since_ms = self._kept_since_ms(now_ms)
        hours: dict[tuple[str, int], list[str]] = {}
        for late in await asyncio.to_thread(self._late, now_ms):
            if late.hour_ms >= since_ms and late.measurement in by_name:
                hours.setdefault((late.measurement, late.hour_ms), []).append(late.device)
        for (name, hour_ms), devices in hours.items():
            for first in range(0, len(devices), DEVICES):
                some = devices[first : first + DEVICES]
                for step in STEPS:
                    end = min(hour_ms + HOUR_MS, self._reached.until_ms.get(f"{database}_{step} {name}", 0))
                    if end - hour_ms >= STEPS[step]:
                        made = await lines(link, database, by_name[name], step, (hour_ms, end), devices=some)
                        await self._write(database, step, made)
            metrics.rolled_again.labels("influx").inc(len(devices))

    def _late(self, now_ms: int) -> list[LateHour]:
        if not self._notes.exists():
            return []
        try:
            with closing(connect_readonly(self._notes)) as connection:
                return noted(connection, self._reached.noted_ms, now_ms - NOTES_MS)
        except sqlite3.Error as error:
            raise QueryError("unreadable", f"{self._notes} cannot be read: {error}") from error

    async def _write(self, database: str, step: str, made: list[bytes]) -> None:
        target = f"{database}_{step}"
        if not made:
            return
        async with self._target(target, step) as store:
            for first in range(0, len(made), WRITE_LINES):
                some = made[first : first + WRITE_LINES]
                result = await store.write(b"\n".join(some), len(some))
                if isinstance(result, Later) and result.reason == "no_database":
                    result = await store.write(b"\n".join(some), len(some))  # InfluxDB 1: made by the first attempt
                if isinstance(result, Later):
                    remedy = "; run `iotcore store init`" if result.reason == "no_database" else ""
                    raise QueryError(result.reason, f"{target} takes no rollups: {result.detail}{remedy}")
                if result.rejected:
                    metrics.store_rejected.inc(len(result.rejected))
                    log.warning("%s refused %d rollups: %s", target, len(result.rejected), result.rejected[0].detail)

    @asynccontextmanager
    async def _target(self, database: str, step: str) -> AsyncIterator[Influx1 | Influx2]:
        days = self._store.retention_1m_days if step == "1m" else self._store.retention_1h_days
        store = msgspec.structs.replace(self._store, database=database, retention_days=days)
        opened = Influx1 if store.kind == "influx1" else Influx2
        async with opened(store, self._clock) as target:
            yield target

    def _kept_since_ms(self, now_ms: int) -> int:
        """Before it samples may be gone in part, and a rollup made of the rest would be wrong."""
        days = self._store.retention_days
        return -((DAY_MS * days - now_ms) // HOUR_MS) * HOUR_MS if days else 0

    def _remembered(self) -> Reached:
        try:
            found = msgspec.json.decode(self._memory.read_bytes(), type=Reached)
        except (FileNotFoundError, msgspec.DecodeError):
            return Reached(self._store.url)
        return found if found.url == self._store.url else Reached(self._store.url)

    def _remember(self) -> None:
        new = self._memory.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self._reached))
        new.replace(self._memory)


def _databases(store: settings.Store) -> list[str]:
    return [store.database, *([store.database_confidential] if store.confidential else [])]

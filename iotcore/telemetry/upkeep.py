"""Upkeep of telemetry.db: rollups by the minute and hour, and the end of what is older than the settings keep.

It runs in the process that writes the file, on the thread that writes it: SQLite has one writer, and two processes that write
would wait for each other. Its work is cut into transactions of some 15 ms, so that a batch of readings waits no longer than that.

    every 5 s   ── a minute is over (and 10 s for stragglers) ─► its minutes, and the hour when that is over too
                └─ hours that late values came for ────────────► made anew
    every hour  ── the oldest day first ───────────────────────► deleted, a few hundred rows at a time

What was rolled up is known (`rolled`), so a process that was down catches up from there; everything may be done twice. Pages
that deleting frees are used again: the file stays as large as it was at its fullest.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator

from iotcore import metrics, settings
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.directory import Directory
from iotcore.telemetry.embedded import EmbeddedStore
from iotcore.telemetry.line import NS_PER_MS
from iotcore.telemetry.rollup import HOUR_MS, MINUTE_MS
from iotcore.telemetry.rollup_sql import (
    delete_older,
    first_minute_ms,
    first_ms,
    roll_hours,
    roll_late,
    roll_minutes,
)

LOOK_S = 5.0
SETTLE_MS = 10_000  # a live reading is in the store within 5 s (architecture, drain lag); what comes later is late
SLICE_S = 0.015
SLICE_STEPS = 200  # where no clock ends a slice
STRETCH_MS = 6 * HOUR_MS  # of one series in one step: at a value a second some 10 ms
STRETCH_OF_HOURS_MS = 240 * HOUR_MS  # 14,400 minutes
DELETE_ROWS = 1_000
DAY_MS = 24 * HOUR_MS
SWEEPS = 30  # a long backlog of old rows is deleted in so many rounds, oldest first
log = logging.getLogger(__name__)

Step = Callable[[sqlite3.Connection], None]


def report_interval_s(directory: Callable[[], Directory], device: str) -> float | None:
    """How often a device reports, by its spec; None when the registry does not know it."""
    binding = directory().devices.get(device)
    return None if binding is None else binding.spec.interval_s


class Upkeep:
    """Rolls up and deletes while `run` runs.

    `directory` says how often a device reports; `writer` is the number of this process among those that write the file.
    """

    def __init__(
        self,
        embedded: EmbeddedStore,
        store: settings.Store,
        clock: Clock,
        directory: Callable[[], Directory],
        *,
        writer: int = 1,
    ) -> None:
        self._file = embedded.file
        self._touched = embedded.touched
        self._touched.writer = writer
        self._keep_days = {
            "value": store.retention_days, "rollup_1m": store.retention_1m_days, "rollup_1h": store.retention_1h_days,
        }  # fmt: skip
        self._clock = clock
        self._directory = directory
        self._hour: set[int] = set()  # series that have minutes in the hour that is not over

    async def run(self) -> None:
        """For ever; what a full disk refuses is tried again."""
        swept_s: float | None = None
        while True:
            try:
                await self.roll()
                now_s = self._clock.monotonic_s()
                if swept_s is None or now_s - swept_s >= HOUR_MS / 1000.0:
                    await self.sweep()
                    swept_s = now_s
            except StoreError as error:
                self._touched.all = True  # what was taken and not rolled up is found again from `rolled`
                log.warning("the telemetry file could not be kept up: %s", error)
            await asyncio.sleep(LOOK_S)

    async def roll(self) -> None:
        """Roll up every minute that is over, and the hours that late values came for."""
        until_ms = (int(self._clock.wall_ms()) - SETTLE_MS) // MINUTE_MS * MINUTE_MS
        if until_ms > await self._file.in_transaction(self._touched.until_ms) or self._touched.all:
            since_ms, series = await self._file.in_transaction(lambda connection: self._touched.take(connection, until_ms))
            self._hour.update(series)
            await self._in_slices(self._minutes(one, since_ms, until_ms) for one in series)
            hour_ms, hours_until_ms = since_ms // HOUR_MS * HOUR_MS, until_ms // HOUR_MS * HOUR_MS
            if hours_until_ms > hour_ms:
                await self._in_slices(self._hours(one, hour_ms, hours_until_ms) for one in sorted(self._hour))
                self._hour = set(series)
            await self._file.in_transaction(lambda connection: self._touched.done(connection, until_ms))
            metrics.rolled_until.labels("embedded").set(until_ms / 1000.0)
        await self._roll_late()

    async def sweep(self) -> None:
        """Delete what is older than the settings keep; a rollup outlives its values."""
        for table, days in self._keep_days.items():
            if days:
                before_ms = int(self._clock.wall_ms()) - days * DAY_MS
                await self._sweep(table, before_ms * NS_PER_MS if table == "value" else before_ms)

    async def _sweep(self, table: str, before: int) -> None:
        column, day = ("at_ns", DAY_MS * NS_PER_MS) if table == "value" else ("start_ms", DAY_MS)

        def oldest(connection: sqlite3.Connection) -> list[tuple[int, int]]:
            return connection.execute(
                f"SELECT id, (SELECT min({column}) FROM {table} WHERE series = id) AS first FROM series WHERE first < ?",  # noqa: S608
                (before,),
            ).fetchall()

        old = await self._file.in_transaction(oldest)
        if not old:
            return
        first = min(at for _, at in old)
        width = max(day, (before - first) // SWEEPS)
        for end in range(first + width, before + width, width):
            await self._in_slices(self._deletions(table, one, min(end, before)) for one, at in old if at < end)

    def _deletions(self, table: str, series: int, before: int) -> Iterator[Step]:
        left = True

        def step(connection: sqlite3.Connection) -> None:
            nonlocal left
            deleted = delete_older(connection, table, series, before, DELETE_ROWS)
            left = deleted == DELETE_ROWS
            metrics.store_expired.labels(table).inc(deleted)

        while left:
            yield step

    def _minutes(self, series: int, since_ms: int, until_ms: int) -> Iterator[Step]:
        """A stretch at a time from the first value that is not rolled up."""
        reached: int | None = since_ms

        def step(connection: sqlite3.Connection) -> None:
            nonlocal reached
            assert reached is not None
            start = first_ms(connection, series, reached)
            if start is None or start >= until_ms:
                if start is not None:
                    self._touched.series.add(series)  # of a minute to come
                reached = None
                return
            reached = min(start + STRETCH_MS, until_ms)
            roll_minutes(connection, series, start, reached, self._report_interval_s(connection, series))

        while reached is not None:
            yield step

    def _hours(self, series: int, since_ms: int, until_ms: int) -> Iterator[Step]:
        """Likewise from the first minute."""
        reached: int | None = since_ms

        def step(connection: sqlite3.Connection) -> None:
            nonlocal reached
            assert reached is not None
            start = first_minute_ms(connection, series, reached, until_ms)
            if start is None:
                reached = None
                return
            start -= start % HOUR_MS
            reached = min(start + STRETCH_OF_HOURS_MS, until_ms)
            roll_hours(connection, series, start, reached, self._report_interval_s(connection, series))

        while reached is not None:
            yield step

    async def _roll_late(self) -> None:
        """The hours noted as late; those whose values may be gone in part stay as they were rolled up."""
        days = self._keep_days["value"]
        kept_ms = int(self._clock.wall_ms()) - days * DAY_MS if days else 0

        def noted(connection: sqlite3.Connection) -> list[tuple[int, int]]:
            own = "SELECT series, hour_ms FROM late WHERE writer = ? ORDER BY hour_ms, series"
            return connection.execute(own, (self._touched.writer,)).fetchall()

        def redo(series: int, hour_ms: int) -> Iterator[Step]:
            def step(connection: sqlite3.Connection) -> None:
                if hour_ms >= kept_ms:
                    until_ms = self._touched.until_ms(connection)
                    roll_late(connection, series, hour_ms, until_ms, self._report_interval_s(connection, series))
                    metrics.rolled_again.labels("embedded").inc()
                own = (self._touched.writer, series, hour_ms)
                connection.execute("DELETE FROM late WHERE writer = ? AND series = ? AND hour_ms = ?", own)

            yield step

        await self._in_slices(redo(*one) for one in await self._file.in_transaction(noted))

    def _report_interval_s(self, connection: sqlite3.Connection, series: int) -> float | None:
        row = connection.execute("SELECT device FROM series WHERE id = ?", (series,)).fetchone()
        return None if row is None else report_interval_s(self._directory, row[0])

    async def _in_slices(self, work: Iterator[Iterator[Step]]) -> None:
        """Many steps in few transactions, none longer than a slice; readings that wait are written in between."""
        steps = (step for piece in work for step in piece)

        def run(connection: sqlite3.Connection) -> bool:
            end_s = self._clock.monotonic_s() + SLICE_S
            for _ in range(SLICE_STEPS):
                step = next(steps, None)
                if step is None:
                    return False
                step(connection)
                if self._clock.monotonic_s() >= end_s:
                    break
            return True

        while await self._file.in_transaction(run):
            pass

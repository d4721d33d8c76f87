"""The one way to ask for telemetry, the same for every store; the web and the command line use it.

    async with open_query(settings, clock) as query:
        sample = await query.latest("air-1", "pm25")
        hours = await query.intervals(["air-1", "air-2"], "pm25", start_ms, end_ms, 3_600_000)

Which rows an interval is made of:

    a multiple of 1 h     hourly rollups as far as they reach, samples for what is newer
    a multiple of 1 min   rollups by the minute as far as they reach, samples for what is newer
    anything else         samples

so a question over old times is answered after its samples are gone. Intervals are aligned to UTC (a day begins at 00:00 UTC) and
always whole: those that [start_ms, end_ms) touches. Bad values and tests are in no interval. Times are ms UTC.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from iotcore.clock import Clock
from iotcore.errors import QueryError
from iotcore.settings import Settings
from iotcore.telemetry.queries import MAX_SAMPLES, TelemetryReader
from iotcore.telemetry.query_influx import InfluxQuery
from iotcore.telemetry.rollup import Interval, Sample
from iotcore.telemetry.stores import TELEMETRY_DB

__all__ = ["MAX_INTERVALS", "MAX_SAMPLES", "Interval", "Query", "QueryError", "Sample", "open_query"]

MAX_INTERVALS = 1_000_000  # devices × intervals of one question: 100 devices by the minute for a week
T = TypeVar("T")


class Query(Protocol):
    """A telemetry store that is asked.

    Every method raises QueryError when the store cannot answer (`reason`: unreachable, not_authorised, no_database, too_many …).
    """

    async def latest(self, device: str, point: str) -> Sample | None:
        """The newest stored value; None when there is none."""

    async def samples(self, device: str, point: str, start_ms: float, end_ms: float, limit: int) -> list[Sample]:
        """The values within [start_ms, end_ms), oldest first; the newest `limit` (≤ MAX_SAMPLES) when there are more."""

    async def intervals(
        self, devices: Sequence[str], point: str, start_ms: float, end_ms: float, interval_ms: int
    ) -> list[Interval]:
        """Mean, minimum, maximum and count of each device and interval that has a number; by device as given, then by time."""

    async def series(self, device: str) -> list[str]:
        """The points of which the store has values, sorted."""


@asynccontextmanager
async def open_query(settings: Settings, clock: Clock) -> AsyncIterator[Query]:  # noqa: ARG001 - one signature for all stores
    """The store of `settings.store.kind`, for reading; it may be closed, empty or down until it is asked."""
    if settings.store.kind == "embedded":
        async with _embedded(settings.folder / TELEMETRY_DB) as embedded:
            yield _Checked(embedded)
    else:
        async with InfluxQuery(settings.store) as influx:
            yield _Checked(influx)


class _Checked:
    """Refuses what no store should be asked, so that all refuse it alike."""

    def __init__(self, query: Query) -> None:
        self._query = query

    async def latest(self, device: str, point: str) -> Sample | None:
        return await self._query.latest(device, point)

    async def samples(self, device: str, point: str, start_ms: float, end_ms: float, limit: int) -> list[Sample]:
        _check_range(start_ms, end_ms)
        if limit < 1 or end_ms <= start_ms:
            return []
        return await self._query.samples(device, point, start_ms, end_ms, min(limit, MAX_SAMPLES))

    async def intervals(
        self, devices: Sequence[str], point: str, start_ms: float, end_ms: float, interval_ms: int
    ) -> list[Interval]:
        _check_range(start_ms, end_ms)
        if interval_ms < 1:
            raise QueryError("bad_interval", "an interval must be 1 ms or longer")
        asked = (end_ms - start_ms) / interval_ms * len(devices)
        if asked > MAX_INTERVALS:
            remedy = "ask for longer intervals, a shorter range or fewer devices"
            raise QueryError("too_many", f"{asked:.0f} intervals, and {MAX_INTERVALS} are the most: {remedy}")
        if not devices or end_ms <= start_ms:
            return []
        return await self._query.intervals(list(dict.fromkeys(devices)), point, start_ms, end_ms, interval_ms)

    async def series(self, device: str) -> list[str]:
        return await self._query.series(device)


def _check_range(start_ms: float, end_ms: float) -> None:
    if not math.isfinite(start_ms) or not math.isfinite(end_ms):
        raise QueryError("bad_range", "the range must begin and end at a time")


@asynccontextmanager
async def _embedded(path: Path) -> AsyncIterator[EmbeddedQuery]:
    query = EmbeddedQuery(path)
    try:
        yield query
    finally:
        await query.close()


class EmbeddedQuery:
    """telemetry.db on a thread of its own, opened at the first question; a writer in another process never waits for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry-query")
        self._reader: TelemetryReader | None = None

    async def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.close)
        self._thread.shutdown()

    async def latest(self, device: str, point: str) -> Sample | None:
        return await self._ask(lambda reader: reader.newest(device, point))

    async def samples(self, device: str, point: str, start_ms: float, end_ms: float, limit: int) -> list[Sample]:
        return await self._ask(lambda reader: reader.samples(device, point, start_ms, end_ms, limit))

    async def intervals(
        self, devices: Sequence[str], point: str, start_ms: float, end_ms: float, interval_ms: int
    ) -> list[Interval]:
        return await self._ask(lambda reader: reader.intervals(devices, point, start_ms, end_ms, interval_ms))

    async def series(self, device: str) -> list[str]:
        return await self._ask(lambda reader: reader.series(device))

    async def _ask(self, question: Callable[[TelemetryReader], T]) -> T:
        def run() -> T:
            if self._reader is None:
                if not self._path.exists():
                    detail = f"there is no {self._path} yet; the telemetry process makes it: `iotcore up`, or check `data`"
                    raise QueryError("no_database", detail)
                self._reader = TelemetryReader(self._path)
            try:
                with self._reader.snapshot():
                    return question(self._reader)
            except sqlite3.Error as error:
                detail = f"{self._path} cannot be read: {error}; see whether the telemetry process runs (`iotcore doctor`)"
                raise QueryError("unreadable", detail) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

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
from heapq import merge
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from iotcore.clock import Clock
from iotcore.errors import QueryError
from iotcore.settings import Settings
from iotcore.telemetry.queries import MAX_SAMPLES, TelemetryReader
from iotcore.telemetry.query_influx import InfluxQuery
from iotcore.telemetry.rollup import Interval, Sample, joined
from iotcore.telemetry.stores import CONFIDENTIAL_DB, TELEMETRY_DB

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
        names = [TELEMETRY_DB, *([CONFIDENTIAL_DB] if settings.store.confidential else [])]
        async with EmbeddedQuery([settings.folder / name for name in names]) as embedded:
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


class EmbeddedQuery:
    """telemetry.db on a thread of its own, opened at the first question; a writer in another process never waits for it.

    Confidential readings have a file of their own; a device whose class became confidential has values in both.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry-query")
        self._readers: dict[Path, TelemetryReader] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for reader in self._readers.values():
            await asyncio.get_running_loop().run_in_executor(self._thread, reader.close)
        self._thread.shutdown()

    async def latest(self, device: str, point: str) -> Sample | None:
        found = [one for one in await self._ask(lambda reader: reader.newest(device, point)) if one is not None]
        return max(found, default=None, key=lambda sample: sample.at_ms)

    async def samples(self, device: str, point: str, start_ms: float, end_ms: float, limit: int) -> list[Sample]:
        found = await self._ask(lambda reader: reader.samples(device, point, start_ms, end_ms, limit))
        return list(merge(*found, key=lambda sample: sample.at_ms))[-limit:]

    async def intervals(
        self, devices: Sequence[str], point: str, start_ms: float, end_ms: float, interval_ms: int
    ) -> list[Interval]:
        span = (start_ms, end_ms)
        found = await self._ask(lambda reader: [reader.buckets(device, point, span, interval_ms) for device in devices])
        return [
            interval
            for device, *files in zip(devices, *found, strict=True)
            for interval in joined(device, chain.from_iterable(files), interval_ms)
        ]

    async def series(self, device: str) -> list[str]:
        return sorted(set(chain.from_iterable(await self._ask(lambda reader: reader.series(device)))))

    async def _ask(self, question: Callable[[TelemetryReader], T]) -> list[T]:
        """The answer of each file that is there."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._asked, question)

    def _asked(self, question: Callable[[TelemetryReader], T]) -> list[T]:
        found = []
        for path in self._paths:
            try:
                if path not in self._readers and path.exists():
                    self._readers[path] = TelemetryReader(path)
                if path in self._readers:
                    with self._readers[path].snapshot():
                        found.append(question(self._readers[path]))
            except sqlite3.Error as error:
                detail = f"{path} cannot be read: {error}; see whether the telemetry process runs (`iotcore doctor`)"
                raise QueryError("unreadable", detail) from error
        if not found:
            detail = f"there is no {self._paths[0]} yet; the telemetry process makes it: `iotcore up`, or check `data`"
            raise QueryError("no_database", detail)
        return found

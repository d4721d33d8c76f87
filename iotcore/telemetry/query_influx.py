"""InfluxDB 1, 2 and 3 asked by InfluxQL; answers are as `query` promises them.

The schema is that of `line`, for rollups that of `rollup_influx`.

A device's class is its measurement, and a question knows only the device: it is asked of all classes at once, the tag decides.
The database of confidential classes is asked besides, where the settings name some. Large questions are cut into several.

A test is a field of its own (`test`), and InfluxQL's versions do not agree on comparing a field that is not there: so intervals
that hold a test are found by `test = 1`, and made anew from their samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, get_args

from iotcore import settings
from iotcore.errors import QueryError
from iotcore.reading import Quality
from iotcore.specs.model import DeviceClass
from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.influxql import any_of, ask, equals, identifier, select, within
from iotcore.telemetry.line import NS_PER_MS
from iotcore.telemetry.queries import LAST_MS, MAX_SAMPLES, QUALITIES
from iotcore.telemetry.rollup import STEPS, Bucket, Interval, Sample, joined, of_samples, step_of

PAGE_ROWS = 10_000  # of one answer with samples; a server's own limit (1.x [http] max-row-limit) may be lower, and is noticed
PIECE_ROWS = 50_000  # of one answer with intervals: some 4 MB
CHUNK_DEVICES = 40  # named in one statement: it stays below the 8 KiB of a request line that proxies let through
CLASSES = tuple(identifier(name) for name in get_args(DeviceClass))
RESERVED = frozenset({"quality", "test"})


class InfluxQuery:
    """`async with InfluxQuery(settings.store) as query`."""

    def __init__(self, store: settings.Store) -> None:
        self._link = Link(store)
        self._databases = [store.database, *([store.database_confidential] if store.confidential else [])]

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._link.__aexit__(kind, error, trace)

    async def latest(self, device: str, point: str) -> Sample | None:
        found = await self.samples(device, point, -LAST_MS, LAST_MS, 1)
        return found[0] if found else None

    async def series(self, device: str) -> list[str]:
        points: set[str] = set()
        for database in self._databases:
            for one in await ask(self._link, database, select(["last(*)"], CLASSES, equals("device", device))):
                for row in one.rows():
                    points |= {column.removeprefix("last_") for column, value in row.items() if value is not None}
        return sorted({name.removesuffix("_q").removesuffix("_bad") for name in points - RESERVED - {"time"}})

    async def samples(self, device: str, point: str, start_ms: float, end_ms: float, limit: int) -> list[Sample]:
        found: dict[int, Sample] = {}
        for database in self._databases:
            found |= await self._samples(database, device, point, (_ns(start_ms), _ns(end_ms)), limit)
        return [found[at_ns] for at_ns in sorted(found)][-limit:]

    async def intervals(
        self, devices: Sequence[str], point: str, start_ms: float, end_ms: float, interval_ms: int
    ) -> list[Interval]:
        start = math.floor(start_ms / interval_ms) * interval_ms
        end = math.ceil(end_ms / interval_ms) * interval_ms
        buckets: dict[str, list[Bucket]] = {device: [] for device in devices}
        for chunk in _chunks(devices):
            for first, last in _pieces(start, end, interval_ms, len(chunk)):
                for database in self._databases:
                    for device, found in (await self._buckets(database, chunk, point, (first, last), interval_ms)).items():
                        buckets[device] += found
        return [interval for device in devices for interval in joined(device, buckets[device], interval_ms)]

    async def _samples(self, database: str, device: str, point: str, span_ns: tuple[int, int], limit: int) -> dict[int, Sample]:
        """By time in ns, page by page from the newest."""
        fields = [identifier(name) for name in (point, f"{point}_bad", f"{point}_q")]
        start, end = span_ns
        rows: dict[int, dict[str, Any]] = {}
        while len(rows) < limit:
            page = f"ORDER BY time DESC LIMIT {min(PAGE_ROWS, limit - len(rows))}"
            found = await ask(
                self._link, database, select(fields, CLASSES, equals("device", device), within(start, end), then=page)
            )
            new = {row["time"]: row for one in found for row in one.rows()}
            if not new:
                break
            rows |= new
            end = min(new)
        if not rows:
            return {}
        tests = await self._tests(database, device, (min(rows), max(rows) + 1))
        return {at_ns: _sample(at_ns, row, point, test=at_ns in tests) for at_ns, row in rows.items()}

    async def _tests(self, database: str, device: str, span_ns: tuple[int, int]) -> set[int]:
        """The times of a device's tests."""
        found = await ask(
            self._link, database, select(['"test"'], CLASSES, equals("device", device), '"test" = 1.0', within(*span_ns))
        )
        return {row["time"] for one in found for row in one.rows()}

    async def _buckets(
        self, database: str, devices: Sequence[str], point: str, span: tuple[int, int], interval_ms: int
    ) -> dict[str, list[Bucket]]:
        """Rollups as far as they reach, then samples."""
        found: dict[str, list[Bucket]] = {}
        start, end = span
        step = step_of(interval_ms)
        if step is not None:
            found = await self._rolled(database, devices, point, span, step)
        reach = max((one.start_ms + one.width_ms for rolled in found.values() for one in rolled), default=start)
        unknown = [device for device in devices if device not in found]  # perhaps of a class that nobody has rolled up
        for group, since in ((list(found), reach), (unknown, start)):
            if group and since < end:
                for device, buckets in (await self._grouped(database, group, point, (since, end), interval_ms)).items():
                    found[device] = found.get(device, []) + buckets
        return found

    async def _rolled(
        self, database: str, devices: Sequence[str], point: str, span: tuple[int, int], step: str
    ) -> dict[str, list[Bucket]]:
        names = (point, f"{point}_n", f"{point}_min", f"{point}_max", "expected")
        mean, n, low, high, owed = names
        statement = select(map(identifier, names), CLASSES, *_where(devices, span), then='GROUP BY "device"')
        try:
            answer = await ask(self._link, f"{database}_{step}", statement)
        except QueryError as error:
            if error.reason == "no_database":  # nobody has rolled anything up: the samples will do
                return {}
            raise
        found: dict[str, list[Bucket]] = {}
        for one in answer:
            found.setdefault(one.tags["device"], []).extend(
                Bucket(
                    row["time"] // NS_PER_MS, STEPS[step], int(row[n]), float(row[mean]), float(row[low]), float(row[high]),
                    expected=row[owed],
                )
                for row in one.rows() if row[n]
            )  # fmt: skip
        return {device: buckets for device, buckets in found.items() if buckets}

    async def _grouped(
        self, database: str, devices: Sequence[str], point: str, span: tuple[int, int], interval_ms: int
    ) -> dict[str, list[Bucket]]:
        """Made by the server, but for the intervals that hold a test."""
        name, group = identifier(point), f'GROUP BY time({interval_ms}ms), "device" fill(none)'
        where = _where(devices, span)
        functions = [f"{function}({name})" for function in ("mean", "min", "max", "count")]
        try:
            answer = await ask(self._link, database, select(functions, CLASSES, *where, then=group))
        except QueryError:
            if await self._is_text(database, devices, point):
                return {}
            raise
        tested = await ask(self._link, database, select(['count("test")'], CLASSES, *where, '"test" = 1.0', then=group))
        marked = {(one.tags["device"], row["time"] // NS_PER_MS) for one in tested for row in one.rows() if row["count"]}
        found: dict[str, list[Bucket]] = {}
        for one in answer:
            device = one.tags["device"]
            for row in one.rows():
                start = row["time"] // NS_PER_MS
                if row["count"] and (device, start) not in marked:
                    mean, low, high = (float(row[column]) for column in ("mean", "min", "max"))
                    found.setdefault(device, []).append(Bucket(start, interval_ms, int(row["count"]), mean, low, high))
        for device, start in sorted(marked):
            first = max(start, span[0])
            samples = await self._samples(
                database, device, point, (_ns(first), _ns(min(start + interval_ms, span[1]))), MAX_SAMPLES
            )
            bucket = of_samples(list(samples.values()), start, interval_ms, None)
            found.setdefault(device, []).extend([bucket] if bucket is not None else [])
        return found

    async def _is_text(self, database: str, devices: Sequence[str], point: str) -> bool:
        """Whether the server refused because there is no mean of words; its versions say that in different words."""
        newest = "ORDER BY time DESC LIMIT 1"
        found = await ask(self._link, database, select([identifier(point)], CLASSES, any_of("device", devices), then=newest))
        return any(isinstance(row[point], str) for one in found for row in one.rows())


def _where(devices: Sequence[str], span: tuple[int, int]) -> tuple[str, str]:
    return any_of("device", devices), within(_ns(span[0]), _ns(span[1]))


def _sample(at_ns: int, row: dict[str, Any], point: str, *, test: bool) -> Sample:
    """A good value has no quality field; a bad number stands apart."""
    value = row[point] if row[point] is not None else row[f"{point}_bad"]
    level = row[f"{point}_q"]
    quality = Quality.GOOD if level is None else QUALITIES[int(level)]
    return Sample(at_ns // NS_PER_MS, value if value is None or isinstance(value, str) else float(value), quality, test)


def _chunks(devices: Sequence[str]) -> Iterator[Sequence[str]]:
    return (devices[first : first + CHUNK_DEVICES] for first in range(0, len(devices), CHUNK_DEVICES))


def _pieces(start: int, end: int, interval_ms: int, devices: int) -> Iterator[tuple[int, int]]:
    """Stretches of whole intervals whose answers are of a size."""
    step = step_of(interval_ms)
    row_ms = STEPS[step] if step is not None else interval_ms
    width = max(1, PIECE_ROWS // devices * row_ms // interval_ms) * interval_ms
    return ((first, min(first + width, end)) for first in range(start, end, width))


def _ns(at_ms: float) -> int:
    return math.ceil(max(-LAST_MS, min(at_ms, LAST_MS))) * NS_PER_MS

"""Rollups in InfluxDB 1, 2 and 3, written by the platform, so that they are the same whatever the version.

    <database>     ── SELECT mean, min, max, count … GROUP BY time(1m), * ─► <database>_1m
                   └─ … GROUP BY time(1h), * ─────────────────────────────► <database>_1h

Measurement, tags and field names stay what they are; the time is the beginning of the minute or hour. Fields of a rollup:

    <point>                    float: the mean of good and uncertain numbers; no test is in it
    <point>_n                  integer: how many there were
    <point>_min <point>_max    float
    expected                   float: how many readings the device owed, by its spec
    completeness               float 0…1: what came of them, by the point of which most came

A minute is rolled up 150 s after its end, once. Values that InfluxDB takes later are noted by who writes them (`late`), and their
hours are made again. How far it came stands in rollup.json in the data folder; without that file everything is rolled up anew.
Writing a rollup twice leaves one point, so several may do this at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from iotcore.reading import Quality
from iotcore.registry.directory import Directory
from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.influxql import Series, any_of, ask, equals, identifier, select, within
from iotcore.telemetry.line import NS_PER_MS, TEXT_KINDS
from iotcore.telemetry.rollup import STEPS, Bucket, Sample, expected, of_samples

FUNCTIONS = ("mean", "min", "max", "count")
POINTS = 25  # in one statement: 100 columns; a panel has 20,000 points
ROWS = 5_000  # of one answer, about: a kilobyte each
DEVICES = 40  # named in one statement
_TAG = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})
_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ "})

Key = tuple[tuple[tuple[str, str], ...], int]  # tags, and when the bucket begins (ms)
Rolled = dict[Key, dict[str, Bucket]]  # by point


class Class(NamedTuple):
    """What a measurement is made of, by the registry: its numeric points, and how often each device reports."""

    name: str
    points: tuple[str, ...]
    interval_s: Mapping[str, float]


def classes(directory: Directory) -> list[Class]:
    """Every device class that has a device."""
    points: dict[str, dict[str, None]] = {}
    intervals: dict[str, dict[str, float]] = {}
    for binding in directory.devices.values():
        spec = binding.spec
        numeric = {name: None for name, point in spec.points.items() if point.kind not in TEXT_KINDS}
        points.setdefault(spec.device_class, {}).update(numeric)
        intervals.setdefault(spec.device_class, {})[binding.device] = spec.interval_s
    return [Class(name, tuple(points[name]), intervals[name]) for name in sorted(points)]


async def lines(
    link: Link, database: str, made_of: Class, step: str, span: tuple[int, int], *, devices: Sequence[str] | None = None
) -> list[bytes]:
    """The rollups of a stretch of whole steps, of all devices or of some.

    Raises:
        QueryError: the server cannot answer.
    """
    rolled: Rolled = {}
    only = [any_of("device", devices)] if devices is not None else []
    group = f"GROUP BY time({STEPS[step]}ms), * fill(none)"
    where = (*only, within(span[0] * NS_PER_MS, span[1] * NS_PER_MS))
    measurement = [identifier(made_of.name)]
    tested = await ask(link, database, select(['count("test")'], measurement, *where, '"test" = 1.0', then=group))
    tests = {_key(one, row[0]) for one in tested for row in one.values if row[1]}
    for first in range(0, len(made_of.points), POINTS):
        points = made_of.points[first : first + POINTS]
        functions = [f"{function}({identifier(point)})" for point in points for function in FUNCTIONS]
        for one in await ask(link, database, select(functions, measurement, *where, then=group)):
            _gather(rolled, one, points, tests, STEPS[step])
        for key in sorted(tests):
            samples = await _samples(link, database, made_of.name, points, key, width_ms=STEPS[step])
            for point, found in samples.items():
                bucket = of_samples(found, key[1], STEPS[step], None)
                if bucket is not None and bucket.values:
                    rolled.setdefault(key, {})[point] = bucket
    return [_line(made_of, key, buckets, STEPS[step]) for key, buckets in sorted(rolled.items())]


def stretches(start_ms: int, end_ms: int, step: str, devices: int) -> Iterator[tuple[int, int]]:
    """A long time in pieces whose answers are of a size."""
    width = max(1, ROWS // max(1, devices)) * STEPS[step]
    return ((first, min(first + width, end_ms)) for first in range(start_ms, end_ms, width))


async def first_ms(link: Link, database: str, measurement: str) -> int | None:
    """When the first line of a measurement was observed."""
    oldest = select(['"quality"'], [identifier(measurement)], "time >= 0", then="ORDER BY time ASC LIMIT 1")
    times = [row[0] for one in await ask(link, database, oldest) for row in one.values]
    return min(times) // NS_PER_MS if times else None


def _gather(rolled: Rolled, one: Series, points: Sequence[str], tests: Iterable[Key], width_ms: int) -> None:
    """Columns come as they were asked for: the time, then four for each point."""
    for row in one.values:
        key = _key(one, row[0])
        if key in tests:
            continue
        for index, point in enumerate(points):
            mean, low, high, count = row[1 + 4 * index : 5 + 4 * index]
            if count:
                bucket = Bucket(key[1], width_ms, int(count), float(mean), float(low), float(high))
                rolled.setdefault(key, {})[point] = bucket


async def _samples(
    link: Link, database: str, measurement: str, points: Sequence[str], key: Key, *, width_ms: int
) -> dict[str, list[Sample]]:
    """The samples of a bucket that holds a test."""
    tags, start_ms = key
    fields = [identifier(name) for name in (*points, "test")]
    span = within(start_ms * NS_PER_MS, (start_ms + width_ms) * NS_PER_MS)
    conditions = [equals(name, text) for name, text in tags]
    found: dict[str, list[Sample]] = {}
    for one in await ask(link, database, select(fields, [identifier(measurement)], *conditions, span)):
        for row in one.rows():
            for point in points:
                if row[point] is not None:
                    sample = Sample(row["time"] // NS_PER_MS, float(row[point]), Quality.GOOD, bool(row["test"]))
                    found.setdefault(point, []).append(sample)
    return found


def _key(one: Series, time_ns: int) -> Key:
    return tuple(sorted(one.tags.items())), time_ns // NS_PER_MS


def _line(made_of: Class, key: Key, buckets: Mapping[str, Bucket], width_ms: int) -> bytes:
    tags, start_ms = key
    fields: list[str] = []
    for point, bucket in buckets.items():
        fields += [
            f"{point}={bucket.mean!r}", f"{point}_n={bucket.values}i",
            f"{point}_min={bucket.minimum!r}", f"{point}_max={bucket.maximum!r}",
        ]  # fmt: skip
    interval_s = made_of.interval_s.get(dict(tags).get("device", ""))
    if interval_s is not None:
        owed = expected(width_ms, interval_s)
        share = min(1.0, max(bucket.values for bucket in buckets.values()) / owed)
        fields += [f"expected={owed!r}", f"completeness={share!r}"]
    series = "".join(f",{name.translate(_TAG)}={text.translate(_TAG)}" for name, text in tags if text)
    return f"{made_of.name.translate(_MEASUREMENT)}{series} {','.join(fields)} {start_ms * NS_PER_MS}".encode()

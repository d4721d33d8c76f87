"""Recorded readings, read out of a telemetry store again in the order of their times: a page in memory, whatever the range.

A store keeps values by point; those of one device and millisecond are one reading again. It keeps no boot, no sequence number, no
receive time and no reason of a bad value: a reading is taken as received when it was observed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from operator import attrgetter

from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import Point
from iotcore.telemetry.query import MAX_SAMPLES, Query
from iotcore.telemetry.rollup import Sample

PAGE_ROWS = 200_000  # values in memory at once: some 60 MB as readings
LEAST_MS = 1_000.0
MS_PER_S = 1000.0
Page = list[tuple[Reading, Binding]]


async def pages(
    query: Query, wanted: Sequence[tuple[Binding, Sequence[str]]], span_ms: tuple[float, float], page_rows: int = PAGE_ROWS
) -> AsyncIterator[Page]:
    """The readings of these devices, each with the points that are asked of it, within [start, end); all by time.

    A stretch of time that holds too many values is asked for again in halves.

    Raises:
        QueryError: the store does not answer.
    """
    asked = [(one, [point for point in await query.series(one.device) if point in set(points)]) for one, points in wanted]
    asked = [(one, points) for one, points in asked if points]
    start_ms, end_ms = span_ms
    a_second = sum(len(points) / max(one.spec.interval_s, 0.1) for one, points in asked)
    if not a_second:
        return
    usual_ms = max(LEAST_MS, page_rows / a_second * MS_PER_S)
    step_ms = usual_ms
    while start_ms < end_ms:
        stop_ms = min(start_ms + step_ms, end_ms)
        page = await _page(query, asked, (start_ms, stop_ms), page_rows)
        if page is None and step_ms > LEAST_MS:
            step_ms = max(LEAST_MS, step_ms / 2)
            continue
        if page:
            yield page
        start_ms, step_ms = stop_ms, min(usual_ms, step_ms * 2)


async def _page(
    query: Query, asked: Sequence[tuple[Binding, Sequence[str]]], span_ms: tuple[float, float], page_rows: int
) -> Page | None:
    """One stretch of time; None where it holds more than a page, unless it cannot be divided further."""
    start_ms, stop_ms = span_ms
    whole = stop_ms - start_ms <= LEAST_MS
    rows = 0
    found: list[tuple[Binding, dict[str, list[Sample]]]] = []
    for binding, points in asked:
        values: dict[str, list[Sample]] = {}
        for point in points:
            samples = await query.samples(binding.device, point, start_ms, stop_ms, MAX_SAMPLES)
            rows += len(samples)
            if not whole and (len(samples) == MAX_SAMPLES or rows > 2 * page_rows):
                return None
            values[point] = samples
        found.append((binding, values))
    return await asyncio.to_thread(_joined, found)  # whoever serves others on this loop is not kept waiting


def _joined(found: Sequence[tuple[Binding, Mapping[str, Sequence[Sample]]]]) -> Page:
    return sorted(((reading, binding) for binding, values in found for reading in readings(binding, values)), key=_at)


def _at(pair: tuple[Reading, Binding]) -> float:
    return pair[0].observed_ms


def readings(binding: Binding, values: Mapping[str, Sequence[Sample]]) -> list[Reading]:
    """The readings of a device out of its points' samples, by time."""
    at: dict[tuple[float, bool], list[Value]] = {}
    for point, samples in values.items():
        spec = binding.spec.points.get(point, Point())
        for one in samples:
            at.setdefault((one.at_ms, one.test), []).append(_value(point, one, spec))
    found = [
        Reading(binding.device, "", number, "reading", at_ms, at_ms, tuple(told), test=test)
        for number, ((at_ms, test), told) in enumerate(at.items())
    ]
    return sorted(found, key=attrgetter("observed_ms"))


def _value(point: str, sample: Sample, spec: Point) -> Value:
    value = sample.value
    if spec.kind == "bool" and isinstance(value, float | int):
        value = bool(value)
    return Value(point, value, sample.quality)

"""Downsampling: what becomes of the samples of a minute or an hour, and how such buckets join to longer intervals.

A bucket is made of the numbers that were good or uncertain; a test never counts, and bad values are counted apart. `expected` is
how many readings its device owed in that time; completeness is what came of them, 1 at most. Means join weighted by count.

Pure: no clock, no I/O. Times are ms UTC; buckets begin at whole minutes and hours of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from iotcore.reading import Quality

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
STEPS = {"1m": MINUTE_MS, "1h": HOUR_MS}  # the name of a step is the end of its database's or table's name
MS_PER_S = 1000.0


class Sample(NamedTuple):
    """One stored value; `test` when a test button or a drill made it."""

    at_ms: float
    value: float | str | None
    quality: Quality
    test: bool


class Interval(NamedTuple):
    """The good and uncertain numbers of one device within [start_ms, start_ms + interval).

    `completeness`: the share of the readings owed that came, 0…1; None where nobody has worked it out yet.
    """

    device: str
    start_ms: float
    mean: float
    minimum: float
    maximum: float
    values: int
    completeness: float | None = None


class Bucket(NamedTuple):
    """What a stretch of `width_ms` came to. `expected` None: made from samples just now, nobody knows what was owed."""

    start_ms: int
    width_ms: int
    values: int
    mean: float
    minimum: float
    maximum: float
    bad: int = 0
    expected: float | None = None


def step_of(interval_ms: int) -> str | None:
    """The coarsest step that intervals of this length can be joined from; None: only samples will do."""
    return next((name for name, step_ms in reversed(STEPS.items()) if interval_ms % step_ms == 0), None)


def expected(width_ms: int, report_interval_s: float) -> float:
    """How many readings are owed within `width_ms`; below 1 where a device reports more seldom than that."""
    return width_ms / MS_PER_S / report_interval_s


def of_samples(samples: Sequence[Sample], start_ms: int, width_ms: int, owed: float | None) -> Bucket | None:
    """The bucket of the samples within [start_ms, start_ms + width_ms); None when it would say nothing."""
    counted = [one for one in samples if start_ms <= one.at_ms < start_ms + width_ms and not one.test]
    bad = sum(one.quality is Quality.BAD for one in counted)
    numbers = [one.value for one in counted if one.quality is not Quality.BAD and isinstance(one.value, float)]
    if not numbers:
        return Bucket(start_ms, width_ms, 0, math.nan, math.nan, math.nan, bad, owed) if bad else None
    mean = math.fsum(numbers) / len(numbers)
    return Bucket(start_ms, width_ms, len(numbers), mean, min(numbers), max(numbers), bad, owed)


def joined(device: str, buckets: Iterable[Bucket], interval_ms: int) -> list[Interval]:
    """Intervals from buckets that each lie within one, oldest first; one without a number is left out."""
    slots: dict[int, list[Bucket]] = {}
    for bucket in buckets:
        if bucket.values:
            slots.setdefault(bucket.start_ms // interval_ms, []).append(bucket)
    return [_interval(device, slot * interval_ms, slots[slot], interval_ms) for slot in sorted(slots)]


def _interval(device: str, start_ms: int, parts: list[Bucket], interval_ms: int) -> Interval:
    values = sum(part.values for part in parts)
    mean = parts[0].mean if len(parts) == 1 else math.fsum(part.mean * part.values for part in parts) / values
    low, high = min(part.minimum for part in parts), max(part.maximum for part in parts)
    rates = [part.expected / part.width_ms for part in parts if part.expected is not None]
    known = len(rates) == len(parts)
    return Interval(device, float(start_ms), mean, low, high, values, _share(values, max(rates) * interval_ms) if known else None)


def _share(values: int, owed: float) -> float:
    return min(1.0, values / owed) if owed > 0 else 1.0

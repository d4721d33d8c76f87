"""A small chart of one point's history: lines of means and bands from minimum to maximum, broken where there is nothing.

Pure: intervals in, coordinates of an SVG of WIDTH × HEIGHT out. A single value lies in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from iotcore.telemetry.query import Interval

WIDTH, HEIGHT = 320.0, 72.0
MARGIN = 3.0  # so that a line at the edge is drawn whole


class Chart(NamedTuple):
    """`lines` and `bands` are SVG `points`; a dot where an interval stands alone."""

    lines: tuple[str, ...]
    bands: tuple[str, ...]
    dots: tuple[tuple[str, str], ...]
    low: float
    high: float
    last: float


def draw(
    intervals: Sequence[Interval], start_ms: float, end_ms: float, interval_ms: int, *, bounds: tuple[float, float] | None = None
) -> Chart | None:
    """The chart of the intervals of one device, oldest first; None when there are none.

    It reaches from the lowest to the highest value, or from one of the `bounds` to the other.
    """
    if not intervals:
        return None
    low, high = bounds or (min(one.minimum for one in intervals), max(one.maximum for one in intervals))

    def x(at_ms: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (at_ms + interval_ms / 2 - start_ms) / (end_ms - start_ms)

    def y(value: float) -> float:
        part = (value - low) / (high - low) if high > low else 0.5
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * part

    lines, bands, dots = [], [], []
    for run in _runs(intervals, interval_ms):
        if len(run) == 1:
            dots.append((f"{x(run[0].start_ms):.1f}", f"{y(run[0].mean):.1f}"))
            continue
        lines.append(_points((x(one.start_ms), y(one.mean)) for one in run))
        above = [(x(one.start_ms), y(one.maximum)) for one in run]
        below = [(x(one.start_ms), y(one.minimum)) for one in reversed(run)]
        bands.append(_points([*above, *below]))
    return Chart(tuple(lines), tuple(bands), tuple(dots), low, high, intervals[-1].mean)


def _runs(intervals: Sequence[Interval], interval_ms: int) -> list[list[Interval]]:
    runs: list[list[Interval]] = []
    for one in intervals:
        if runs and one.start_ms - runs[-1][-1].start_ms <= interval_ms:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)

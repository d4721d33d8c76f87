"""The small chart of a point's history."""

from __future__ import annotations

from iotcore.telemetry.query import Interval
from iotcore.web.chart import HEIGHT, MARGIN, WIDTH, draw


def interval(start: int, mean: float, low: float | None = None, high: float | None = None) -> Interval:
    return Interval("d", float(start), mean, mean if low is None else low, mean if high is None else high, 1)


def test_a_line_breaks_where_an_interval_is_missing_and_what_stands_alone_is_a_dot() -> None:
    made = draw([interval(0, 1.0), interval(10, 2.0), interval(40, 3.0)], 0, 100, 10)
    assert made is not None
    assert (len(made.lines), len(made.bands), len(made.dots)) == (1, 1, 1)
    assert made.lines[0].count(",") == 2
    assert (made.low, made.high, made.last) == (1.0, 3.0, 3.0)


def test_everything_is_drawn_within_the_picture() -> None:
    made = draw([interval(at, float(at), at - 5.0, at + 5.0) for at in range(0, 100, 10)], 0, 100, 10)
    assert made is not None
    for points in (*made.lines, *made.bands):
        for pair in points.split():
            x, y = map(float, pair.split(","))
            assert MARGIN <= x <= WIDTH - MARGIN
            assert MARGIN <= y <= HEIGHT - MARGIN


def test_a_constant_lies_in_the_middle_and_nothing_is_no_chart() -> None:
    made = draw([interval(0, 7.0), interval(10, 7.0)], 0, 20, 10)
    assert made is not None
    assert all(pair.endswith(f",{HEIGHT / 2:.1f}") for pair in made.lines[0].split())
    assert draw([], 0, 20, 10) is None

"""The chart in the terminal: bounded, honest about gaps and extremes, readable without colour."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.commands.terminal_chart import Frame, Span, chart

START_MS = datetime.fromisoformat("2026-11-22T09:00+07:00").timestamp() * 1000.0
HOUR_MS = 3_600_000.0
FRAME = Frame(START_MS, START_MS + HOUR_MS, gap_ms=180_000.0, width=72, height=14)


def spans(*values: float, every_ms: float = 60_000.0) -> list[Span]:
    return [Span(START_MS + number * every_ms, value, value, value) for number, value in enumerate(values)]


def drawn(lines: list[str]) -> list[str]:
    """The drawing alone, without axes and labels."""
    return [re.split("[┤│]", line, maxsplit=1)[1] for line in lines if re.search("[┤│]", line)]


def columns(lines: list[str]) -> set[int]:
    return {at for line in drawn(lines) for at, sign in enumerate(line) if sign != " "}


@given(
    values=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=60),
    width=st.integers(0, 200),
    height=st.integers(0, 60),
)
def test_whatever_the_values_and_the_terminal_it_stays_within_its_frame(values: list[float], width: int, height: int) -> None:
    lines = chart(spans(*values), FRAME._replace(width=width, height=height))
    assert len(lines) == max(height, 6)
    assert columns(lines)
    margin = max(len(re.split("[┤│]", line)[0]) for line in lines) + 1
    assert all(len(line) <= max(width, margin + 10) for line in lines)


def test_a_gap_stays_empty_and_neighbours_are_joined() -> None:
    lines = chart(
        [span for span in spans(*[20.0, 21.0] * 30) if not START_MS + 20 * 60e3 < span.at_ms < START_MS + 40 * 60e3], FRAME
    )
    width = max(columns(lines)) + 1
    empty = set(range(width)) - columns(lines)
    assert empty
    assert empty == set(range(min(empty), max(empty) + 1)), "one gap, in one piece"
    assert width * 0.30 < min(empty) < width * 0.40
    assert width * 0.60 < max(empty) < width * 0.72


def test_a_peak_within_an_interval_is_seen_though_the_mean_hides_it() -> None:
    flat = [Span(START_MS + n * 60_000.0, 20.0, 20.0, 20.0) for n in range(60)]
    flat[30] = Span(flat[30].at_ms, 20.0, 21.0, 90.0)
    lines = drawn(chart(flat, FRAME))
    tall = {at for at in range(72) if sum(len(line) > at and line[at] != " " for line in lines) > 5}
    assert len(tall) == 1
    assert 0.45 * 72 < tall.pop() < 0.55 * 72


def test_one_value_alone_is_a_dot_between_two_labels() -> None:
    lines = chart(spans(20.0), FRAME)
    assert len(columns(lines)) == 1
    labels = [float(line.split()[0]) for line in lines if re.match(r" *-?[\d.,]+ ┤", line)]
    assert min(labels) < 20.0 < max(labels)


def test_labels_are_round_numbers_that_hold_the_values() -> None:
    lines = chart(spans(3.2, 27.9), FRAME)
    labels = [float(line.split()[0]) for line in lines if re.match(r" *-?[\d.,]+ ┤", line)]
    assert labels == sorted(labels, reverse=True)
    assert labels[0] >= 27.9
    assert labels[-1] <= 3.2
    assert all(label % 10 == 0 for label in labels)


@pytest.mark.parametrize(
    ("hours", "first"),
    [(1 / 60, "09:00:00"), (1, "09:00"), (6, "10:00"), (30 * 24, "2026-11-2")],
    ids=["min", "h", "6h", "month"],
)
def test_times_are_those_of_the_citys_clock(hours: float, first: str) -> None:
    lines = chart(spans(1.0, every_ms=1.0), FRAME._replace(end_ms=START_MS + hours * HOUR_MS))
    assert lines[-1].split()[0].startswith(first)


def test_colour_is_only_there_when_it_is_asked_for() -> None:
    assert "\x1b" not in "".join(chart(spans(1.0, 2.0), FRAME))
    assert "\x1b[36m" in "".join(chart(spans(1.0, 2.0), FRAME._replace(colour=True)))


def test_a_terminal_without_unicode_sees_a_chart_too() -> None:
    text = "\n".join(chart(spans(1.0, 2.0, 1.0), FRAME._replace(braille=False)))
    assert "*" in text
    assert text.isascii()

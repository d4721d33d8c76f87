"""The history of coverage: where its line leads, and the sum of areas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.registry.coverage import Figure
from iotcore.registry.coverage_days import TREND_LEAST_DAYS, Day, joined, trend

TODAY = date(2026, 11, 26)
GOAL = date(2030, 12, 31)


def history(covered: Sequence[int], every: int = 1, of: int = 1000) -> list[Day]:
    """The last of these is today's; `every` days lie between two of them."""
    first = TODAY - timedelta(days=every * (len(covered) - 1))
    return [Day(first + timedelta(days=every * i), "", Figure(of, of, count), 0) for i, count in enumerate(covered)]


def test_a_straight_line_arrives_where_a_ruler_would_say() -> None:
    found = trend(history([500, 501, 502, 503, 504, 505, 506, 507], every=5), GOAL)
    assert found is not None
    assert found.per_year == pytest.approx(0.1 / 5 * 365.25)
    assert found.reaches is not None
    assert (found.reaches - TODAY).days == pytest.approx((100 - 50.7) / 0.02, abs=1)
    assert not found.on_course
    assert found.needed_per_year == pytest.approx(49.3 / ((GOAL - TODAY).days / 365.25))


def test_a_line_that_is_steep_enough_is_on_course() -> None:
    found = trend(history([500, 550, 600], every=60), GOAL)
    assert found is not None
    assert found.on_course


@pytest.mark.parametrize("covered", [[700, 700, 700], [700, 650, 600], [700, 700, 700, 700, 700, 700, 700, 701]])
def test_a_line_that_stands_or_falls_never_arrives(covered: list[int]) -> None:
    found = trend(history(covered, every=30 if len(covered) == 3 else 360), GOAL)
    assert found is not None
    assert found.reaches is None
    assert not found.on_course


def test_a_city_that_is_covered_whole_has_arrived() -> None:
    found = trend(history([1000, 1000], every=30), GOAL)
    assert found is not None
    assert (found.reaches, found.on_course, found.needed_per_year) == (TODAY, True, 0.0)


@pytest.mark.parametrize(
    "days", [[], history([500]), history([500, 900], every=TREND_LEAST_DAYS - 1), history([0, 0], every=60, of=0)]
)
def test_a_history_that_is_too_short_has_no_trend(days: list[Day]) -> None:
    assert trend(days, GOAL) is None


def test_what_is_older_than_a_year_is_not_in_the_line() -> None:
    old = [Day(TODAY - timedelta(days=900), "", Figure(1000, 1000, 0), 0)]
    recent = history([500, 510], every=100)
    assert trend([*old, *recent], GOAL) == trend(recent, GOAL)


def test_a_goal_that_has_passed_still_has_an_answer() -> None:
    found = trend(history([500, 600], every=60), date(2020, 12, 31))
    assert found is not None
    assert found.needed_per_year > 0.0
    assert not found.on_course


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30), st.integers(14, 200))
def test_any_history_has_a_line_without_an_accident(covered: list[int], every: int) -> None:
    found = trend(history(covered, every), GOAL)
    assert found is not None
    assert found.reaches is None or found.reaches >= TODAY


def test_areas_beside_each_other_are_summed_by_day() -> None:
    one, other = history([1, 2], of=2), history([5], of=9)
    assert [(day.day, day.area, day.figure) for day in joined([*one, *other])] == [
        (TODAY - timedelta(days=1), "", Figure(2, 2, 1)),
        (TODAY, "", Figure(11, 11, 7)),
    ]

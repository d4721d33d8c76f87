"""When drills are due: by day, spread over it, so many days after the last that passed, and never in the past."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from iotcore.journal.drill_times import again_ms, due_ms, is_day, slot_ms
from iotcore.schedule import ZONE

HOUR_MS = 3_600_000.0
NOON_MS = datetime(2026, 11, 23, 12, 0, tzinfo=ZONE).timestamp() * 1000.0
NAMES = st.text(min_size=1, max_size=20)
MOMENTS = st.floats(0.0, 4e12)


@given(NAMES, MOMENTS)
def test_the_minute_of_a_premises_is_within_a_day_and_by_day(premises: str, after_ms: float) -> None:
    found_ms = slot_ms(premises, after_ms)
    assert is_day(found_ms)
    assert 0.0 <= found_ms - after_ms <= 24.0 * HOUR_MS


@given(NAMES, st.integers(1, 366), MOMENTS)
def test_what_passed_at_its_minute_is_due_so_many_days_later_at_the_same_minute(premises: str, days: int, at_ms: float) -> None:
    passed_ms = slot_ms(premises, at_ms)
    assert abs(due_ms(premises, passed_ms, days, passed_ms) - passed_ms - days * 24.0 * HOUR_MS) < 1.0


@given(NAMES, st.integers(1, 366), MOMENTS, MOMENTS)
def test_nothing_is_due_in_the_past_nor_later_than_its_days_and_one_more(
    premises: str, days: int, passed_ms: float, now_ms: float
) -> None:
    """Whatever the clock was when the last one passed: a pass of the future counts as one of now."""
    found_ms = due_ms(premises, passed_ms, days, now_ms)
    assert now_ms <= found_ms <= now_ms + (days + 1) * 24.0 * HOUR_MS


def test_a_thousand_premises_that_are_due_on_one_day_are_spread_over_its_nine_hours() -> None:
    by_quarter = [0] * 36
    for number in range(1000):
        at = datetime.fromtimestamp(slot_ms(f"premises-{number}", NOON_MS) / 1000.0, ZONE)
        by_quarter[(at.hour - 8) * 4 + at.minute // 15] += 1
    assert min(by_quarter) > 0
    assert max(by_quarter) < 1000 / 36 * 2.5


def test_it_is_tried_again_in_an_hour_by_day_in_the_morning_by_night_and_once_a_day_when_it_is_missed() -> None:
    assert again_ms("p1", NOON_MS, missed=False) == NOON_MS + HOUR_MS
    evening_ms = NOON_MS + 4.5 * HOUR_MS  # 16:30
    assert again_ms("p1", evening_ms, missed=False) == slot_ms("p1", evening_ms + HOUR_MS)
    assert again_ms("p1", NOON_MS, missed=True) == slot_ms("p1", NOON_MS + HOUR_MS)

"""Schedules: day and night, hours of the week, holidays; in Vietnam's time whatever the machine's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore import schedule
from iotcore.errors import ConfigError
from iotcore.schedule import ZONE, Schedule

OFFICE = {"hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "07:00", "to": "18:00"}]}
WEEK_MS = 7 * 86_400_000.0


def ms(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp() * 1000.0


def made(document: dict[str, Any]) -> Schedule:
    return schedule.check(document, "s")


def test_night_is_from_nine_to_six_in_vietnam() -> None:
    night, day = made({"named": "night"}), made({"named": "day"})
    for text, want in (("20:59", False), ("21:00", True), ("23:59", True), ("00:00", True), ("05:59", True), ("06:00", False)):
        at_ms = ms(f"2026-11-26T{text}:00")
        assert night.active(at_ms) is want
        assert day.active(at_ms) is not want
    assert night.active(datetime.fromisoformat("2026-11-26T14:00:00+00:00").timestamp() * 1000.0)  # 21:00 in Vietnam


def test_hours_of_the_week_are_those_of_their_days() -> None:
    office = made(OFFICE)
    assert office.active(ms("2026-11-26T07:00:00"))  # a Thursday
    assert office.active(ms("2026-11-26T17:59:59"))
    assert not office.active(ms("2026-11-26T18:00:00"))
    assert not office.active(ms("2026-11-28T12:00:00"))  # a Saturday


def test_hours_over_midnight_belong_to_the_day_they_began_on() -> None:
    friday = made({"hours": [{"days": ["fri"], "from": "22:00", "to": "04:00"}]})
    assert [friday.active(ms(f"2026-11-{day}T02:00:00")) for day in (27, 28, 29)] == [False, True, False]
    assert friday.active(ms("2026-11-27T22:00:00"))
    whole = made({"hours": [{"days": ["fri"], "from": "08:00", "to": "08:00"}]})
    assert [whole.active(ms(text)) for text in ("2026-11-27T07:59:00", "2026-11-27T08:00:00", "2026-11-28T07:59:00")] == [
        False,
        True,
        True,
    ]


def test_on_a_holiday_only_the_hours_of_holidays_count() -> None:
    holidays = ["2026-11-26", "2026-11-27"]
    open_then = made({"hours": [*OFFICE["hours"], {"days": ["holiday"], "from": "09:00", "to": "12:00"}], "holidays": holidays})
    assert [open_then.active(ms(f"2026-11-{day}T08:00:00")) for day in (25, 26, 27)] == [True, False, False]
    assert open_then.active(ms("2026-11-26T10:00:00"))


def test_the_next_change_is_where_it_begins_or_ends() -> None:
    office = made(OFFICE)
    assert office.next_change_ms(ms("2026-11-26T12:00:00")) == ms("2026-11-26T18:00:00")
    assert office.next_change_ms(ms("2026-11-27T18:00:00")) == ms("2026-11-30T07:00:00")  # over the weekend
    joined = made({"hours": [{"from": "06:00", "to": "12:00"}, {"from": "12:00", "to": "20:00"}]})
    assert joined.next_change_ms(ms("2026-11-26T07:00:00")) == ms("2026-11-26T20:00:00")
    assert made({"hours": [{"from": "00:00", "to": "24:00"}]}).next_change_ms(ms("2026-11-26T07:00:00")) is None


@given(st.floats(0.0, WEEK_MS), st.sampled_from([{"named": "night"}, OFFICE]))
def test_between_a_moment_and_the_next_change_nothing_changes(offset_ms: float, document: dict[str, Any]) -> None:
    found, at_ms = made(document), ms("2026-11-23T00:00:00") + offset_ms
    change_ms = found.next_change_ms(at_ms)
    assert change_ms is not None
    assert found.active((at_ms + change_ms) / 2.0) is found.active(at_ms)
    assert found.active(change_ms) is not found.active(at_ms)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        made({"hours": [{"days": ["monday"], "from": "7:00", "to": "25:00"}], "holidays": ["2026-02-30"], "zone": "UTC"})
    assert [problem.path for problem in refusal.value.problems] == [
        "zone",
        "hours[0].days[0]",
        "hours[0].from",
        "hours[0].to",
        "holidays[0]",
    ]
    with pytest.raises(ConfigError) as refusal:
        made(
            {
                "hours": [{"days": [], "from": "24:00", "to": "12:00"}, {"days": ["holiday"], "from": "01:00", "to": "02:00"}],
                "holidays": [],
            }
        )
    assert [problem.path for problem in refusal.value.problems] == ["hours[0].days", "hours[0].from", "hours[1].days"]
    with pytest.raises(ConfigError, match="names 2026-01-01 twice"):
        made(OFFICE | {"holidays": ["2026-01-01", "2026-01-01"]})


@pytest.mark.parametrize("document", [{}, {"holidays": ["2026-01-01"]}, {"named": "night"} | OFFICE, {"named": "noon"}])
def test_a_schedule_that_says_nothing_or_two_things_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        made(document)

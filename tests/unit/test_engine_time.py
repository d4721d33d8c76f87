"""Conditions over time, as timelines: what lasts, what is silent, what is verified, what a schedule lets through."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.alarms import rules
from iotcore.reading import Quality
from tests.support.rule_site import Site, rule

ALARM = {"kind": "state", "point": "alarm"}
LEVEL = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.2}


def sustained(part: dict[str, Any], for_s: float) -> dict[str, Any]:
    return {"kind": "sustained", "of": part, "for_s": for_s}


def test_what_lasts_decides_when_it_has_by_its_readings_or_by_time_alone() -> None:
    site = Site([rule(sustained(ALARM, 20))])
    assert site.repeat(18, 2, alarm=True) == []
    assert site.repeat(4, 2, alarm=True) == ["r"]
    assert site.began == [(22.0, "d1", "r", "sustained")]
    alone = Site([rule(sustained(ALARM, 20))])
    assert alone.say(alarm=True) == []
    assert alone.wait(19.9) == []
    assert alone.wait(0.2) == ["r"]
    assert alone.began == [(20.0, "d1", "r", "sustained")]


def test_what_ends_before_does_not_and_begins_anew() -> None:
    site = Site([rule(sustained(ALARM, 20))])
    site.repeat(10, 2, alarm=True)
    site.repeat(2, 2, alarm=False)
    assert site.wait(600) == []
    assert site.repeat(18, 2, alarm=True) == []
    assert site.repeat(6, 2, alarm=True) == ["r"]


@pytest.mark.parametrize("quality", [Quality.BAD, Quality.UNCERTAIN])
def test_a_value_in_doubt_neither_satisfies_in_time_nor_clears(quality: Quality) -> None:
    site = Site([rule(sustained(ALARM, 20))])
    site.say(alarm=True)
    site.wait(5)
    site.say("d1", quality, alarm=False)
    assert site.wait(60) == []
    assert site.say(alarm=True) == ["r"]  # it is known again, and nothing has said that it was over


def test_silence_longer_than_the_last_value_is_fresh_does_not_satisfy() -> None:
    site = Site([rule(sustained(ALARM, 300))])
    site.say(alarm=True)
    assert site.wait(900) == []  # the model promises a reading each 10 s: after 60 s nothing is known any more
    assert site.say(alarm=True) == ["r"]


def test_a_wall_clock_that_steps_an_hour_changes_no_duration() -> None:
    for step_ms in (3_600_000.0, -3_600_000.0):
        site = Site([rule(sustained(ALARM, 20))])
        site.repeat(10, 2, alarm=True)
        site.wall_ms += step_ms
        assert site.repeat(10, 2, alarm=True) == []
        assert site.repeat(2, 2, alarm=True) == ["r"]
        alone = Site([rule(sustained(ALARM, 20))])
        alone.say(alarm=True)
        alone.wait(10)
        alone.wall_ms += step_ms
        assert alone.wait(9) == []
        assert alone.wait(2) == ["r"]


def test_an_unlatched_rule_tells_its_end_and_a_latched_one_its_return_and_that_it_is_active_again() -> None:
    trouble = rule({"kind": "state", "point": "button"}, "t", severity="trouble", hazard="fault", latched=False)
    site = Site([rule(ALARM), trouble])
    for active in (True, True, False, False, True):
        site.wait(1)
        site.say(alarm=active, button=active)
    assert [(at, name, why) for at, _, name, why in site.began] == [
        (1.0, "r", "active"), (1.0, "t", "active"), (5.0, "r", "active_again"), (5.0, "t", "active"),
    ]  # fmt: skip
    assert [(at, name, why) for at, _, name, why in site.ended] == [(3.0, "r", "returned"), (3.0, "t", "returned")]


def test_a_point_that_nothing_good_is_heard_of_is_stale_in_time_and_no_longer_with_its_next_good_value() -> None:
    stale = {"kind": "stale", "point": "smoke", "for_s": 120}
    site = Site([rule(stale, severity="trouble", hazard="fault", latched=False)])
    site.repeat(300, 10, smoke=0.0)
    assert site.repeat(110, 10, temperature=24.0) == []
    assert site.repeat(20, 10, temperature=24.0) == ["r"]
    assert site.began == [(420.0, "d1", "r", "silent")]
    site.say("d1", Quality.BAD, smoke=0.0)
    assert site.ended == []
    site.say(smoke=0.0)
    assert site.ended == [(430.0, "d1", "r", "returned")]
    assert site.wait(200) == ["r"]


def verification(**changes: Any) -> dict[str, Any]:
    return {"kind": "verification", "of": LEVEL} | changes


def test_smoke_for_twenty_seconds_that_clears_is_a_first_alarm_cancelled_by_name() -> None:
    site = Site([rule(verification(lasts_s=30))])
    site.repeat(20, 2, smoke=0.3)
    site.repeat(300, 10, smoke=0.0)
    assert [(at, name, why) for at, _, name, why in site.began] == [(2.0, "r/first", "first_alarm")]
    assert [(at, name, why) for at, _, name, why in site.ended] == [(90.0, "r/first", "not_confirmed")]  # clear at 30, and 60 s


def test_smoke_that_is_seen_again_within_a_minute_is_a_fire() -> None:
    site = Site([rule(verification(lasts_s=30))])
    site.repeat(20, 2, smoke=0.3)
    site.repeat(50, 10, smoke=0.0)
    assert site.repeat(10, 10, smoke=0.3) == ["r"]
    assert site.began[-1] == (80.0, "d1", "r", "seen_again")
    assert site.ended == [(80.0, "d1", "r/first", "confirmed")]


def test_smoke_that_is_seen_again_too_late_is_a_first_alarm_anew() -> None:
    site = Site([rule(verification(lasts_s=30))])
    site.repeat(4, 2, smoke=0.3)
    site.repeat(80, 10, smoke=0.0)
    assert site.say(smoke=0.3) == ["r/first"]
    assert site.wait(29) == []
    assert site.wait(2) == ["r"]


def test_what_is_not_known_to_be_over_a_minute_after_it_began_is_a_fire() -> None:
    site = Site([rule(verification(lasts_s=30))])
    site.say(smoke=0.3)
    site.wait(10)
    site.say("d1", Quality.BAD, smoke=0.0)
    assert site.wait(49) == []
    assert site.wait(2) == ["r"]
    assert site.began[-1] == (60.0, "d1", "r", "not_verified")


def test_after_a_fire_nothing_is_verified_again_until_it_is_reset() -> None:
    site = Site([rule(verification())])
    site.repeat(40, 2, smoke=0.3)
    site.repeat(10, 2, smoke=0.0)
    site.repeat(60, 2, smoke=0.3)
    assert [name for _, _, name, _ in site.began] == ["r/first", "r", "r"]
    assert site.began[-1][3] == "active_again"
    site.engine.reset(["d1"])
    assert site.repeat(2, 2, smoke=0.3) == ["r"]


def test_what_hovers_at_its_threshold_lasts_and_is_not_seen_twice() -> None:
    site = Site([rule(verification(lasts_s=30))])
    for _ in range(6):
        site.repeat(2, 2, smoke=0.3)
        site.repeat(2, 2, smoke=0.0)
    assert [name for _, _, name, _ in site.began] == ["r/first"]
    site.repeat(4, 2, smoke=0.3)
    assert site.wait(3) == []
    assert site.repeat(4, 2, smoke=0.3) == ["r"]
    assert site.began[-1] == (32.0, "d1", "r", "lasted")


def test_silence_after_it_cleared_is_no_word_that_it_is_over() -> None:
    site = Site([rule(verification(lasts_s=30))])
    site.repeat(4, 2, smoke=0.3)
    site.say(smoke=0.0)
    assert site.wait(59) == []
    assert site.wait(3) == ["r"]


def test_a_rule_or_a_part_with_a_schedule_holds_in_its_hours_and_begins_with_them() -> None:
    at_ten = {"hours": [{"from": "10:00", "to": "11:00"}]}
    for document in (rule(ALARM, schedule=at_ten), rule({"kind": "during", "of": ALARM, "schedule": at_ten})):
        site = Site([document | {"latched": False}])  # it is nine in Vietnam
        site.say(alarm=True)
        assert site.wait(3599 - 40) == []
        site.say(alarm=True)
        assert site.wait(60) == ["r"]
        assert site.began == [(3600.0, "d1", "r", "active")]
        site.wait(3600 - 60)
        site.say(alarm=True)
        site.wait(60)
        assert site.ended == [(7200.0, "d1", "r", "returned")]


def test_a_rule_with_a_schedule_takes_no_other_ones_place() -> None:
    at_ten = {"hours": [{"from": "10:00", "to": "11:00"}]}
    often = rule(LEVEL | {"above": 0.1}, device="d1", schedule=at_ten)
    site = Site([rule(LEVEL), often])
    assert site.say(smoke=0.15) == []
    assert site.say(smoke=0.3) == ["r"]


def test_rules_are_swapped_under_what_goes_on() -> None:
    site = Site([rule(sustained(ALARM, 20)), rule(verification(), "v")])
    site.repeat(10, 2, alarm=True, smoke=0.3)
    longer = [rule(sustained(ALARM, 30)), rule(verification(lasts_s=25), "v")]
    site.engine.use(rules.check({"profile": "immediate", "rules": longer}, "r"))
    assert site.repeat(14, 2, alarm=True, smoke=0.3) == []
    assert site.wait(60) == ["v", "r"]
    assert [(at, name) for at, _, name, _ in site.began] == [(2.0, "v/first"), (27.0, "v"), (32.0, "r")]

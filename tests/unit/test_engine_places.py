"""Several detectors of a place: coincidence, and the profile `verified`; as timelines."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.alarms.decisions import Decision
from iotcore.alarms.engine_memory import VOTES_MAX
from iotcore.reading import Quality
from tests.support.rule_site import Site, rule

ALARM = {"kind": "state", "point": "alarm"}
LEVEL = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.2}
HEAT = {"kind": "threshold", "point": "temperature", "unit": "°C", "above": 45}
BOTH = {"d1": ("p1", "z1"), "d2": ("p1", "z1"), "d3": ("p1", "z2"), "d4": ("p2", "z1")}


def two(**changes: Any) -> dict[str, Any]:
    return {"kind": "coincidence", "of": ALARM, "within_s": 300} | changes


def test_one_detector_is_a_first_alarm_and_two_of_its_zone_are_a_fire() -> None:
    site = Site([rule(two())], places=BOTH)
    assert site.say("d1", alarm=True) == ["r/first"]
    site.wait(100)
    began = site.say("d2", alarm=True)
    assert [(at, device, name, why) for at, device, name, why in site.began if name == "r"] == [
        (100.0, "d2", "r", "second_point")
    ]
    assert sorted(began) == ["r", "r/first"]  # of d1 nothing has been heard for too long to say
    fire = next(one for one in site.decisions if one.rule == "r")
    assert fire.points == ("d1/alarm",)


def test_the_first_of_the_two_decides_too_while_it_is_known_to_be_active() -> None:
    site = Site([rule(two())], places=BOTH)
    site.say("d1", alarm=True)
    site.wait(30)
    site.say("d2", alarm=True)
    assert [(device, name) for _, device, name, _ in site.began if name == "r"] == [("d2", "r"), ("d1", "r")]


def test_a_first_alarm_alone_is_cancelled_after_its_window_and_blocks_no_second() -> None:
    site = Site([rule(two())], places=BOTH)
    site.repeat(400, 10, "d1", alarm=True)
    assert [(at, name, why) for at, _, name, why in site.ended] == [(310.0, "r/first", "alone")]
    assert "r" in site.say("d2", alarm=True)  # d1 is active all the time
    over = Site([rule(two())], places=BOTH)
    over.say("d1", alarm=True)
    over.repeat(400, 10, "d1", alarm=False)
    assert over.ended == [(300.0, "d1", "r/first", "alone")]
    assert over.say("d2", alarm=True) == ["r/first"]


def test_a_short_alarm_counts_for_the_whole_window() -> None:
    site = Site([rule(two())], places=BOTH)
    site.say("d1", alarm=True)
    site.wait(10)
    site.say("d1", alarm=False)
    site.wait(280)
    assert "r" in site.say("d2", alarm=True)


@pytest.mark.parametrize(("place", "other", "fire"), [("zone", "d3", False), ("premises", "d3", True), ("premises", "d4", False)])
def test_only_points_of_the_same_place_count(place: str, other: str, fire: bool) -> None:  # noqa: FBT001 - a column
    site = Site([rule(two(place=place))], places=BOTH)
    site.say("d1", alarm=True)
    assert ("r" in site.say(other, alarm=True)) is fire


def test_the_same_point_twice_is_not_two_points() -> None:
    site = Site([rule(two())], places=BOTH)
    site.say("d1", alarm=True)
    site.say("d1", alarm=False)
    assert site.say("d1", alarm=True) == []


@pytest.mark.parametrize("marked", [{"test": True}, {"backlog": True}, {"retained": True}])
def test_a_drill_or_a_late_delivery_bears_out_no_live_alarm(marked: dict[str, bool]) -> None:
    site = Site([rule(two())], places=BOTH)
    site.say_as(marked, "d1", alarm=True)
    assert site.say("d2", alarm=True) == ["r/first"]


def test_three_of_a_place_where_three_are_asked_for() -> None:
    site = Site([rule(two(count=3, place="premises"))], places=BOTH)
    assert "r" not in site.say("d1", alarm=True) + site.say("d2", alarm=True)
    assert "r" in site.say("d3", alarm=True)


def test_votes_of_a_place_are_bounded_and_a_fire_is_found_all_the_same() -> None:
    site = Site([rule(two())], places={f"d{n}": ("p1", "z1") for n in range(200)})
    for n in range(200):
        site.say(f"d{n}", alarm=True)
    assert len([one for one in site.began if one[2] == "r"]) == 200
    assert site.engine.places.dropped == 200 - VOTES_MAX


# --- the profile `verified`


def verified(*documents: dict[str, Any]) -> Site:
    return Site(documents or [rule(LEVEL)], "verified", places=BOTH)


def test_smoke_of_verified_premises_is_a_fire_when_it_lasts() -> None:
    site = verified()
    site.repeat(60, 2, "d1", smoke=0.3)
    assert [(at, name, why) for at, _, name, why in site.began] == [(2.0, "r/first", "first_alarm"), (32.0, "r", "lasted")]
    assert [decision.severity for decision in site.decisions if decision.change == "raise"] == ["pre-alarm", "alarm"]


def test_smoke_that_thins_out_gets_the_whole_minute_and_then_is_a_fire() -> None:
    sprayed = verified()
    for step in range(80):
        sprayed.repeat(2, 2, "d1", smoke=0.6 * 0.96**step)  # 0.33 dB/m after 30 s, back under the threshold after 56 s
    assert [name for _, _, name, _ in sprayed.began] == ["r/first"]
    slower = verified()
    for step in range(40):
        slower.repeat(2, 2, "d1", smoke=0.6 * 0.97**step)  # 0.24 dB/m after 60 s
    assert [(at, name, why) for at, _, name, why in slower.began] == [(2.0, "r/first", "first_alarm"), (62.0, "r", "lasted")]
    flickering = verified()
    for step in range(20):
        flickering.repeat(2, 2, "d1", smoke=0.5 if step % 2 else 0.4)
    assert [(at, name) for at, _, name, _ in flickering.began if name == "r"] == [(32.0, "r")]


def test_a_puff_of_smoke_is_cancelled() -> None:
    site = verified()
    site.repeat(10, 2, "d1", smoke=0.3)
    site.repeat(300, 2, "d1", smoke=0.0)
    assert [name for _, _, name, _ in site.began] == ["r/first"]
    assert [(name, why) for _, _, name, why in site.ended] == [("r/first", "not_confirmed")]


def test_a_second_detector_of_the_premises_confirms_at_once() -> None:
    site = verified()
    site.say("d1", smoke=0.3)
    site.wait(5)
    site.say("d4", smoke=0.3)  # of other premises
    assert [name for _, _, name, _ in site.began] == ["r/first", "r/first"]
    site.say("d3", smoke=0.3)
    assert [(at, device, why) for at, device, name, why in site.began if name == "r"] == [
        (5.0, "d3", "second_point"),
        (5.0, "d1", "second_point"),
    ]


def test_a_second_criterion_of_the_detector_confirms_at_once() -> None:
    site = verified(rule(LEVEL), rule(HEAT, "warm", hazard="heat", severity="pre-alarm"))
    site.say("d1", smoke=0.3)
    site.wait(5)
    site.say("d1", temperature=46.0)
    assert [(at, name, why) for at, _, name, why in site.began][1:] == [
        (5.0, "warm", "above_threshold"),
        (5.0, "r", "second_criterion"),
    ]


def test_smoke_and_heat_in_one_rule_bear_each_other_out() -> None:
    site = verified(rule({"kind": "all", "of": [LEVEL, HEAT]}))
    assert site.say("d1", smoke=0.3, temperature=46.0) == ["r"]


@pytest.mark.parametrize(
    "document", [rule(ALARM, hazard="manual", immediate=True), rule(ALARM, hazard="waterflow"), rule(HEAT, hazard="heat")]
)
def test_call_points_waterflow_and_heat_never_wait(document: dict[str, Any]) -> None:
    assert verified(document).say("d1", alarm=True, temperature=60.0) == ["r"]


def test_silence_during_verification_fails_open() -> None:
    site = verified()
    site.say("d1", smoke=0.3)
    assert site.wait(31) == ["r"]
    doubt = verified()
    doubt.say("d1", smoke=0.3)
    doubt.wait(1)
    doubt.say("d1", Quality.BAD, smoke=0.0)
    assert doubt.wait(58) == []
    assert doubt.wait(2) == ["r"]


def test_a_test_and_what_is_retained_are_not_held_back() -> None:
    site = verified()
    assert site.say_as({"test": True}, "d1", smoke=0.3) == ["r"]
    assert site.say_as({"retained": True}, "d1", smoke=0.3) == ["r"]


def test_a_profile_that_changes_to_immediate_ends_the_wait() -> None:
    profile: list[Any] = ["verified"]
    site = verified()
    site.engine._profiles = lambda _: profile[0]
    site.say("d1", smoke=0.3)
    profile[0] = "immediate"
    site.wait(2)
    assert site.say("d1", smoke=0.3) == ["r"]
    assert [(name, why) for _, _, name, why in site.ended] == [("r/first", "rule_changed")]
    assert len(site.engine.places) == 0


def test_what_is_still_active_when_a_disablement_ends_decides_anew() -> None:
    site = Site([rule(ALARM), rule(LEVEL, "s")], places=BOTH)
    site.say("d1", alarm=True, smoke=0.3)
    site.wait(3600)
    site.say("d1", smoke=0.0)
    again: list[Decision] = [timed.decision for timed in site.engine.evaluate_again(["d1", "d2"], site.now_s)]
    assert [(one.rule, one.change) for one in again] == [("r", "raise")]
    timed = site.engine.evaluate_again(["d1"], site.now_s)
    assert timed[0].reading.identity == ("d1", "b1", 1)


def excuse(site: Site, *devices: str) -> None:
    site.engine.excuse(lambda device, *_: device in devices)


def test_what_is_disabled_or_in_walk_test_is_no_second_point_before_or_after_it_was_heard() -> None:
    site = Site([rule(two())], places=BOTH)
    site.say("d1", alarm=True)
    excuse(site, "d1")
    assert site.say("d2", alarm=True) == ["r/first"], "d1 was out of service by then"
    assert "r" in site.say("d1", alarm=True), "of d1 itself it is only recorded: d2 bears it out"
    assert [(device, name) for _, device, name, _ in site.began if name == "r"] == [("d1", "r")], "and d2 is no fire for it"
    excuse(site)
    site.wait(1)
    assert "r" in site.say("d2", alarm=True), "what is in service again counts again"


def test_a_live_pair_is_a_fire_whoever_else_is_disabled() -> None:
    site = Site([rule(two(place="premises"))], places=BOTH)
    excuse(site, "d1")
    site.say("d1", alarm=True)
    assert "r" not in site.say("d2", alarm=True)
    assert "r" in site.say("d3", alarm=True)


def test_smoke_is_not_verified_by_a_detector_or_a_criterion_that_is_out_of_service() -> None:
    heat = {"kind": "threshold", "point": "temperature", "unit": "°C", "above": 45}
    documents = [rule(LEVEL, "smoke"), rule(heat, "heat", hazard="heat")]
    site = Site(documents, "verified", places=BOTH)
    excuse(site, "d1")
    site.say("d1", smoke=0.5)
    assert "smoke" not in site.say("d2", smoke=0.5)
    excuse(site, "d1", "d2")  # as when its point for heat alone is disabled
    assert site.say("d2", temperature=60.0, smoke=0.5) == ["heat"]
    excuse(site)
    assert "smoke" in site.say("d2", smoke=0.5)

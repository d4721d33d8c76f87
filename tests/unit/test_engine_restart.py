"""What is under way survives a restart: windows from the recent readings, timers as they were kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotcore.alarms.decisions import Armed
from iotcore.journal.latches import Latch
from iotcore.reading import Quality
from tests.support.rule_site import Site, rule

ALARM = {"kind": "state", "point": "alarm"}
LEVEL = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.2, "clear": 0.1}
KINDS: dict[str, dict[str, Any]] = {
    "sustained": rule({"kind": "sustained", "of": LEVEL, "for_s": 30}),
    "verification": rule({"kind": "verification", "of": LEVEL, "lasts_s": 30}),
    "coincidence": rule({"kind": "coincidence", "of": LEVEL, "within_s": 120}),
    "rise": rule({"kind": "rise", "point": "smoke", "unit": "dB/m", "by": 0.1, "within_s": 60, "mean_s": 6, "readings": 2}),
    "not": rule({"kind": "all", "of": [LEVEL, {"kind": "not", "of": ALARM}]}),
    "stale": rule({"kind": "stale", "point": "smoke", "for_s": 45}, severity="trouble", hazard="fault"),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["d1", "d2"]),
        st.sampled_from([0.0, 0.3, 0.15, None]),
        st.booleans(),
        st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.BAD]),
    ),
    max_size=40,
)
BOTH = {"d1": ("p1", "z1"), "d2": ("p1", "z1")}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(steps=STEPS, at=st.integers(0, 40), profile=st.sampled_from(["immediate", "verified"]))
def test_a_stream_that_is_split_by_a_restart_decides_as_one_that_is_not(
    kind: str, steps: list[Any], at: int, profile: Any
) -> None:
    whole, split = (Site([KINDS[kind]], profile, places=BOTH) for _ in range(2))
    for n, (device, smoke, alarm, quality) in enumerate(steps):
        if n == at:
            split.restart()
        for site in (whole, split):
            site.wait(5)
            site.say(device, quality, smoke=smoke, alarm=alarm)
    for site in (whole, split):
        site.wait(200)
    assert split.began == whole.began
    assert split.ended == whole.ended


def test_a_deadline_that_passed_while_nobody_ran_is_met_at_once() -> None:
    site = Site([KINDS["sustained"]])
    site.say(smoke=0.3)
    site.wait(10)
    site.restart(off_s=40)
    assert site.wait(0) == ["r"]
    assert site.decisions[-1].reason == "sustained"


def test_a_wall_clock_that_was_set_while_nobody_ran_does_not_move_what_was_armed() -> None:
    site = Site([KINDS["sustained"]])
    site.say(smoke=0.3)
    site.wait(10)
    armed = site.engine.armed(site.now_s)
    site.told = []  # the journal's readings seem to be of another day
    site.restart(armed, off_s=5)
    site.say(smoke=0.3)
    assert site.wait(14) == []
    assert site.wait(2) == ["r"]


def test_a_first_alarm_older_than_the_recent_readings_is_cancelled_when_it_would_have_been() -> None:
    site = Site([rule({"kind": "coincidence", "of": ALARM, "within_s": 1800})], places=BOTH)
    site.say("d1", alarm=True)
    site.wait(1)
    site.say("d1", alarm=False)
    site.wait(1199)
    (armed,) = site.engine.armed(site.now_s)
    assert (armed.rule, armed.due_in_s, armed.reading.identity) == ("r", 600.0, ("d1", "b1", 1))
    site.restart([msgspec.json.decode(msgspec.json.encode(armed), type=Armed)], off_s=100)
    site.wait(499)
    assert site.ended == []
    site.wait(2)
    assert [(name, why) for _, _, name, why in site.ended] == [("r/first", "alone")]


def test_a_first_alarm_that_was_given_back_still_counts_for_a_second() -> None:
    site = Site([rule({"kind": "coincidence", "of": ALARM, "within_s": 1800})], places=BOTH)
    site.say("d1", alarm=True)
    site.wait(1200)
    site.restart()
    assert "r" in site.say("d2", alarm=True)


def test_a_verification_whose_beginning_is_not_known_any_more_fails_open() -> None:
    site = Site([KINDS["verification"]])
    site.say(smoke=0.3)
    site.wait(10)
    site.restart(warm_s=-1.0)
    assert site.wait(19) == []
    assert site.wait(2) == ["r"]


def test_what_is_armed_has_a_name_of_its_own_and_is_armed_once() -> None:
    site = Site([KINDS["sustained"], KINDS["verification"] | {"id": "v"}, KINDS["stale"] | {"id": "t"}], places=BOTH)
    site.repeat(6, 2, "d1", smoke=0.3)
    site.say("d2", smoke=0.3)
    armed = site.engine.armed(site.now_s)
    assert sorted(one.key for one in armed) == ["d1 r 000", "d1 v 000", "d2 r 000", "d2 v 000"]
    assert all(not one.reading.told for one in armed)
    site.repeat(2, 2, "d1", smoke=0.0)
    assert sorted(one.key for one in site.engine.armed(site.now_s)) == ["d1 v 000", "d2 r 000", "d2 v 000"]


def latch(site: Site, *, returned: bool = False, late: bool = False) -> None:
    one = Latch("d1", "r", "smoke", site.wall_ms, site.wall_ms, returned=returned, late=late)
    site.engine.latch([one], site.bindings, site.now_s)


@pytest.mark.parametrize("kind", ["sustained", "verification"])
@pytest.mark.parametrize("profile", ["immediate", "verified"])
def test_what_was_confirmed_long_before_the_restart_stays_so_until_it_is_over(kind: str, profile: Any) -> None:
    site = Site([KINDS[kind]], profile)
    site.repeat(120, 10, smoke=0.3)
    assert [name for _, _, name, _ in site.began if name == "r"] == ["r"]
    site.wait(2_000)
    site.restart()
    latch(site)
    before = len(site.began), len(site.ended)
    site.repeat(60, 10, smoke=0.15)  # below the threshold, above the end of its hysteresis
    assert (len(site.began), len(site.ended)) == before, "neither over nor begun anew"
    site.say(smoke=0.0)
    assert site.ended[-1][2] == "r"


def test_late_alarms_latch_no_live_stream_and_what_is_not_in_the_journal_latches_nothing() -> None:
    site = Site([rule(LEVEL)])
    site.say(smoke=0.3)
    site.restart()
    latch(site, late=True)
    assert site.say(smoke=0.3) == [], "the readings tell that it was live"
    site.restart(warm_s=-1.0)
    latch(site, late=True)
    assert site.say(smoke=0.3) == ["r"]
    site.restart()
    site.engine.latch([], site.bindings, site.now_s)
    assert site.say(smoke=0.3) == ["r"]


def test_a_returned_alarm_that_comes_again_after_the_restart_is_active_again() -> None:
    site = Site([rule(LEVEL)])
    site.say(smoke=0.0)
    site.restart(warm_s=-1.0)
    latch(site, returned=True)
    assert site.say(smoke=0.0) == []
    site.say(smoke=0.3)
    assert [one.reason for one in site.decisions] == ["active_again"]

"""Scenarios of what is decided: from a detector's reading to a fire, or to none."""

from __future__ import annotations

from typing import Any

from tests.timelines import deeds
from tests.timelines.city import Setting
from tests.timelines.deeds import calm, press, smoke
from tests.timelines.notation import Deed, Row, at, dc09, each, never, sight, want

ASKED = {"asked_by": "Công văn 12/PCCC-CĐ"}
DELAY = Setting(plan={**ASKED, "delay": {"t1_s": 60, "t2_s": 180}})
VERIFIED = Setting(plan={**ASKED, "profile": "verified"}, detectors=1)
HOURS = Setting(detectors=1, lean=True)
COINCIDENCE: dict[str, Any] = {
    "id": "detector-alarm", "hazard": "smoke", "severity": "alarm", "source": "this test",
    "when": {"kind": "coincidence", "of": {"kind": "state", "point": "alarm"}, "place": "premises", "count": 2, "within_s": 300},
}  # fmt: skip
TWO_POINTS = Setting(rules=[COINCIDENCE], detectors=2)

FIRST = dc09("FA", "DC-09 FA at the receiver", text="FIRE smoke", at="arc", account="1001")
CALL_POINT = dc09("FA", "DC-09 FA at the receiver, of the call point or with it", account="1001", at="arc")
HEAT = dc09("KA", "DC-09 KA (heat)", text="FIRE heat", account="1001")
ANY_FIRE = dc09("FA", "any FA")


CONFIRMED = sight("acknowledged", "the receiver's own acknowledgement is on record", by="arc", event="alarm")
PENDING = sight("alarm", "first alarm of sd-1-1, told to nobody", device="sd-1-1", rule="detector-alarm/first", holds=True)
CANCELLED = sight("alarm", "first alarm cancelled, and on record", device="sd-1-1", rule="detector-alarm/first", holds=False)
NAP = Deed("the machine sleeps until the next reading", deeds.stall(1, 7.5).do)


def warm(per_minute: float, from_s: float) -> Any:
    """25 °C, and from a moment on so much more each minute."""
    return lambda at_s: deeds.says("sd-1-1", "warmer", temperature=25.0 + max(0.0, at_s - from_s) / 60.0 * per_minute)


ROWS = [
    Row(1, "one smoke alarm, immediate", Setting(), [
        at(0.5, calm("sd-1-1")),
        at(1.0, smoke("sd-1-1")),
        want(1.01, sight("incident", "one incident, durable", premises="p1", state="open")),
        want(1.1, FIRST),
        want(1.1, CONFIRMED),
        each(2.0, 8.0, 2.0, smoke("sd-1-1")),
    ], end_s=12.0),
    Row(2, "a call point in the delay", DELAY, [
        at(1.0, smoke("sd-1-1")),
        want(1.01, sight("story", "held", what="held")),
        never(ANY_FIRE, 0.0, 10.0),
        at(10.0, press("cp-1")),
        want(10.1, CALL_POINT),
    ]),
    Row(2, "a call point alone, where smoke would wait", DELAY, [at(1.0, press("cp-1")), want(1.1, CALL_POINT)]),
    Row(2, "a second detector in the delay", DELAY, [
        at(1.0, smoke("sd-1-1")),
        never(ANY_FIRE, 0.0, 10.0),
        at(10.0, smoke("sd-1-2")),
        want(10.1, FIRST),
    ]),
    Row(2, "nobody answers in the delay", DELAY, [at(1.0, smoke("sd-1-1")), never(ANY_FIRE, 0.0, 60.9), want(61.5, FIRST)]),
    Row(3, "smoke for 20 s, then none", VERIFIED, [
        each(1.0, 16.0, 5.0, smoke("sd-1-1")),
        each(21.0, 86.0, 5.0, calm("sd-1-1")),
        want(1.1, PENDING, after_s=1.0),
        want(82.5, CANCELLED, after_s=80.9),
        never(ANY_FIRE),
    ]),
    Row(3, "smoke for 20 s, then again within 60 s", VERIFIED, [
        each(1.0, 16.0, 5.0, smoke("sd-1-1")),
        each(21.0, 66.0, 5.0, calm("sd-1-1")),
        never(ANY_FIRE, 0.0, 70.0),
        at(71.0, smoke("sd-1-1")),
        want(71.1, FIRST),
    ]),
    Row(3, "smoke that lasts", VERIFIED, [
        each(1.0, 36.0, 5.0, smoke("sd-1-1")),
        never(ANY_FIRE, 0.0, 30.9),
        want(31.1, FIRST, after_s=31.0),
    ]),
    Row(4, "one detector, then a second", TWO_POINTS, [
        at(1.0, smoke("sd-1-1")),
        want(1.1, PENDING),
        never(ANY_FIRE, 0.0, 100.0),
        at(100.0, smoke("sd-1-2")),
        want(100.1, FIRST),
    ]),
    Row(4, "one detector and nobody else", TWO_POINTS, [
        each(1.0, 331.0, 30.0, smoke("sd-1-1")),
        want(1.1, PENDING),
        want(302.5, CANCELLED, after_s=300.9),
        never(ANY_FIRE),
    ], end_s=340.0),
    Row(5, "10 °C a minute", Setting(detectors=1), [
        each(0.0, 140.0, 5.0, warm(10.0, 60.0), "25 °C, and from 60 s on 10 °C a minute more: 38 °C at 140 s"),
        want(140.0, HEAT, after_s=60.0),
    ], end_s=142.0),
    Row(5, "1 °C a minute", HOURS, [
        each(2.0, 1822.0, 10.0, NAP),
        each(0.0, 1830.0, 10.0, warm(1.0, 60.0), "25 °C, and from 60 s on 1 °C a minute more: 54 °C at 1,800 s"),
        never(dc09("KA", "any KA"), 0.0, 1799.0),
        want(1820.1, HEAT, after_s=1800.0),
    ]),
    Row(6, "a smoulder of hours", HOURS, [
        each(2.0, 6022.0, 10.0, NAP),
        each(0.0, 6030.0, 10.0, lambda at_s: deeds.says("sd-1-1", "smoulders", smoke=0.15 * at_s / 3600.0),
             "0.15 dB/m an hour more: 0.25 dB/m at 6,000 s"),
        want(6020.1, FIRST, after_s=6000.0),
    ]),
    Row(7, "fire and fault together", Setting(), [
        at(0.5, deeds.says("sd-1-1", "has a weak battery", battery=3.0)),
        at(1.0, deeds.says("sd-1-1", "sees smoke, and its battery is weak", alarm=True, battery=3.0)),
        want(1.1, FIRST),
        want(1.1, sight("alarm", "the fault is kept", rule="battery-low", state="active")),
        at(5.0, deeds.act("reset")),
        want(5.5, dc09("FH", "FH: the fire is over", account="1001")),
        never(sight("alarm", "the fault ends", rule="battery-low", state="reset")),
    ]),
    Row(7, "fire on a disabled point", Setting(detectors=2), [
        at(0.5, deeds.disable("sd-1-1", 60.0)),
        each(1.5, 55.0, 10.0, smoke("sd-1-1")),
        want(1.6, sight("alarm", "recorded as disabled", device="sd-1-1", rule="detector-alarm", state="disabled")),
        never(ANY_FIRE, 0.0, 60.4),
        want(61.5, FIRST, after_s=60.5),
    ]),
    Row(7, "fire on a point in test", Setting(), [
        at(0.5, deeds.in_test("sd-1-1", 600.0)),
        at(1.0, deeds.marked_test("sd-1-1")),
        want(1.1, sight("alarm", "recorded as a test", device="sd-1-1", state="test")),
        never(ANY_FIRE),
    ], end_s=20.0),
    Row(16, "the clock is set by +1 h while a fire is held", DELAY, [
        at(1.0, smoke("sd-1-1")),
        at(20.0, deeds.step_clock(3600.0)),
        never(ANY_FIRE, 0.0, 60.9),
        want(61.5, FIRST),
    ]),
    Row(16, "the clock is set by -1 h while a fire is held", DELAY, [
        at(1.0, smoke("sd-1-1")),
        at(20.0, deeds.step_clock(-3600.0)),
        never(ANY_FIRE, 0.0, 60.9),
        want(61.5, FIRST),
    ]),
    Row(16, "the clock is set by +1 h while smoke is verified", VERIFIED, [
        each(1.0, 36.0, 5.0, smoke("sd-1-1")),
        at(12.0, deeds.step_clock(3600.0)),
        never(ANY_FIRE, 0.0, 30.9),
        want(31.1, FIRST, after_s=31.0),
    ]),
    Row(20, "smoke of five minutes ago that still burns", Setting(), [
        at(1.0, deeds.backlog("sd-1-1", 300.0)),
        want(1.1, dc09("FA", "DC-09 FA that says it is delayed", text="FIRE DELAYED smoke", account="1001")),
    ]),
    Row(20, "smoke of five minutes ago that is over", Setting(), [
        at(1.0, calm("sd-1-1")),
        at(2.0, deeds.backlog("sd-1-1", 300.0)),
        want(2.1, sight("alarm", "a historical record", device="sd-1-1", state="historical")),
        never(ANY_FIRE),
    ]),
    Row(20, "smoke of twenty minutes ago", Setting(), [
        at(1.0, deeds.backlog("sd-1-1", 1200.0)),
        want(1.1, sight("alarm", "a historical record", device="sd-1-1", state="historical")),
        never(ANY_FIRE),
    ]),
    Row(20, "a detector whose clock is eight days slow", Setting(), [
        at(1.0, deeds.wrong_clock("sd-1-1", -8 * 86_400.0)),
        want(1.1, FIRST),
        want(1.1, sight("fault", "its clock is a fault", device="sd-1-1", reason="clock_past", stands=True)),
        never(sight("alarm", "a historical record", state="historical")),
    ]),
    Row(20, "a detector whose clock is an hour fast", Setting(), [
        at(1.0, deeds.wrong_clock("sd-1-1", 3600.0)),
        want(1.1, FIRST),
        want(1.1, sight("fault", "its clock is a fault", device="sd-1-1", reason="clock_future", stands=True)),
    ]),
]  # fmt: skip

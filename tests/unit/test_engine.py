"""The rule engine as timelines: what a detector says and when, and what is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.alarms import conditions, rules
from iotcore.alarms.decisions import Decision, Reason
from iotcore.alarms.engine import Engine
from iotcore.reading import Quality, Reading, Scalar, Value
from iotcore.specs.model import DeviceSpec, Point
from tests.support.bound import bound

START_MS = 1_795_312_800_000.0  # 2026-11-22T02:00:00Z
HOUR_MS = 3_600_000.0
DETECTOR = DeviceSpec(
    model="iotcore-smoke-heat",
    vendor="iotcore",
    title="Detector",
    device_class="fire_detector",
    protocol="canonical",
    source="this test",
    verified="no",
    interval_s=2.0,
    points={
        "smoke": Point(unit="dB/m"),
        "temperature": Point(unit="°C"),
        "alarm": Point(kind="bool"),
        "button": Point(kind="bool"),
        "tamper": Point(kind="bool"),
        "battery": Point(unit="%"),
    },
)
QUIET: dict[str, Scalar] = {"smoke": 0.01, "temperature": 24.0, "alarm": False}


class Timeline:
    """One detector speaking to one engine; remembers when each rule decided, what ended, and pre-alarms apart."""

    def __init__(self, engine: Engine | None = None, device: str = "d1", every_s: float = 2.0) -> None:
        self.engine = engine or Engine(rules.load(rules.default_path()))
        self.device = device
        self.every_s = every_s
        self.at_s = 0.0
        self.seq = 0
        self.decided: dict[str, float] = {}
        self.ended: list[Decision] = []
        self.warned: list[str] = []  # pre-alarms

    def say(self, quality: Quality = Quality.GOOD, /, **values: Scalar | None) -> list[Decision]:
        return self.say_as({}, quality, **values)

    def say_as(self, changes: dict[str, Any], quality: Quality = Quality.GOOD, /, **values: Scalar | None) -> list[Decision]:
        self.at_s += self.every_s
        self.seq += 1
        now_ms = START_MS + self.at_s * 1000.0
        fields: dict[str, Any] = {"observed_ms": now_ms, "received_ms": now_ms} | changes
        said = tuple(Value(point, value, quality) for point, value in values.items())
        came_s = (fields["received_ms"] - START_MS) / 1000.0
        decisions = self.engine.evaluate(
            Reading(self.device, "b1", self.seq, "reading", told=said, **fields), bound(DETECTOR, self.device), now_s=came_s
        )
        self.ended += [decision for decision in decisions if decision.change == "clear"]
        opened = [decision for decision in decisions if decision.opens]
        self.warned += [decision.rule for decision in opened if decision.severity == "pre-alarm"]
        for decision in (beyond := [decision for decision in opened if decision.severity != "pre-alarm"]):
            self.decided[decision.rule] = self.at_s
        return beyond

    def quiet(self, seconds: float) -> Timeline:
        for _ in range(int(seconds / self.every_s)):
            assert self.say(**QUIET) == []
        return self

    def play(self, seconds: float, value: Callable[[float], dict[str, Scalar]]) -> list[Decision]:
        """Say `value(seconds since now)` for so long; returns all decisions."""
        start_s = self.at_s
        decisions: list[Decision] = []
        while self.at_s - start_s < seconds:
            decisions += self.say(**value(self.at_s + self.every_s - start_s))
        return decisions


def engine_of(*conditions: dict[str, Any], **changes: Any) -> Engine:
    base = {"hazard": "smoke", "severity": "alarm", "source": "this test"} | changes
    document = {"profile": "immediate", "rules": [{"id": f"rule-{i}", "when": w} | base for i, w in enumerate(conditions)]}
    return Engine(rules.check(document, "rules.yaml"))


# --- what alarms


@pytest.mark.parametrize("every_s", [1.0, 2.0, 5.0, 10.0])
def test_ten_degrees_a_minute_alarms_before_the_static_threshold(every_s: float) -> None:
    timeline = Timeline(every_s=every_s).quiet(120)
    start_s = timeline.at_s
    (decision,) = timeline.play(100, lambda t: {"temperature": 25.0 + t * 10.0 / 60.0})
    assert decision.reason is Reason.RISING
    assert decision.hazard == "heat"
    assert isinstance(decision.value, float)
    assert decision.value < 54.0  # EN 54-5 class A1 static minimum
    assert timeline.decided["heat-rise"] - start_s <= 75.0
    assert timeline.warned == ["heat-prealarm"]


@pytest.mark.parametrize("every_s", [1.0, 2.0, 5.0, 10.0])
def test_one_degree_a_minute_alarms_only_at_the_static_threshold(every_s: float) -> None:
    timeline = Timeline(every_s=every_s).quiet(60)
    (decision,) = timeline.play(31 * 60, lambda t: {"temperature": 25.0 + t / 60.0})
    assert decision.rule == "heat-static"
    assert decision.reason is Reason.ABOVE
    assert decision.value == pytest.approx(54.0, abs=0.3)


@pytest.mark.parametrize("zero", [-0.05, 0.0, 0.05, 0.1])
def test_smoke_that_appears_alarms_at_0_15_above_the_detectors_own_zero(zero: float) -> None:
    timeline = Timeline()
    timeline.play(600, lambda _: {"smoke": zero})
    assert timeline.decided == {}
    decision = timeline.play(10, lambda _: {"smoke": zero + 0.16})[0]
    assert (decision.rule, decision.reason, decision.unit) == ("smoke-rise", Reason.RISING, "dB/m")


def test_a_smoulder_of_hours_is_not_masked() -> None:
    timeline = Timeline(every_s=10.0).quiet(600)
    decisions = timeline.play(4 * 3600, lambda t: {"smoke": 0.01 + 0.1 * t / 3600.0})  # 0.1 dB/m an hour
    assert [decision.rule for decision in decisions] == ["smoke-level"]
    assert decisions[0].value == pytest.approx(0.25, abs=0.01)


def test_smoke_and_heat_together_alarm_where_neither_would_alone() -> None:
    def small_smoke(t: float) -> dict[str, Scalar]:
        return {"smoke": 0.01 + min(t, 20.0) * 0.004}

    def small_heat(t: float) -> dict[str, Scalar]:
        return {"temperature": 24.0 + min(t, 20.0) * 0.2}

    assert Timeline().quiet(120).play(120, small_smoke) == []
    assert Timeline().quiet(120).play(120, small_heat) == []
    (decision,) = Timeline().quiet(120).play(120, lambda t: small_smoke(t) | small_heat(t))
    assert (decision.rule, decision.reason, decision.point) == ("smoke-and-heat", Reason.COINCIDENCE, "smoke")


def test_heat_long_ago_does_not_join_smoke_of_now() -> None:
    timeline = Timeline().quiet(120)
    timeline.play(30, lambda t: {"temperature": 24.0 + t * 0.12})  # + 3.6 °C, then the heat sensor falls silent
    assert timeline.play(60, lambda _: {"smoke": 0.01}) == []
    assert timeline.play(30, lambda _: {"smoke": 0.1}) == []


def test_the_detectors_own_alarm_is_believed_at_once() -> None:
    (decision,) = Timeline().quiet(20).say(alarm=True)
    assert (decision.rule, decision.hazard, decision.reason, decision.value) == ("detector-alarm", "smoke", Reason.ACTIVE, True)


def test_a_pressed_button_is_manual_and_immediate_and_comes_first() -> None:
    first, second = Timeline().say(alarm=True, button=True)
    assert (first.rule, first.hazard, first.immediate) == ("manual-call", "manual", True)
    assert (second.rule, second.immediate) == ("detector-alarm", False)


def test_fire_comes_before_trouble_in_one_reading() -> None:
    assert [d.severity for d in Timeline().say(tamper=True, alarm=True)] == ["alarm", "trouble"]


def test_a_weak_battery_is_a_trouble_that_comes_again_after_it_was_changed() -> None:
    timeline = Timeline(every_s=60.0)
    (decision,) = timeline.play(180, lambda _: {"battery": 14.0})
    assert (decision.severity, decision.hazard, decision.reason) == ("trouble", "fault", Reason.BELOW)
    assert timeline.play(180, lambda _: {"battery": 20.0}) == []  # hysteresis: not yet cleared
    assert timeline.play(180, lambda _: {"battery": 14.0}) == []
    assert timeline.play(180, lambda _: {"battery": 100.0}) == []
    assert [d.rule for d in timeline.play(180, lambda _: {"battery": 14.0})] == ["battery-low"]


# --- what never alarms


def test_one_wild_reading_between_quiet_ones_does_not_alarm() -> None:
    timeline = Timeline().quiet(120)
    assert timeline.say(smoke=0.5, temperature=24.0) == []
    timeline.quiet(60)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "high", True])
def test_what_is_not_a_finite_number_never_satisfies(value: Scalar | None) -> None:
    timeline = Timeline().quiet(20)
    assert timeline.play(60, lambda _: {"smoke": value, "temperature": value}) == []  # type: ignore[dict-item]


@pytest.mark.parametrize("quality", [Quality.BAD, Quality.UNCERTAIN])
def test_a_value_that_is_not_good_neither_satisfies_nor_clears(quality: Quality) -> None:
    timeline = Timeline().quiet(20)
    for _ in range(30):
        assert timeline.say(quality, smoke=9.0, temperature=200.0, alarm=True) == []
    assert [d.rule for d in timeline.say(alarm=True)] == ["detector-alarm"]
    timeline.say(quality, alarm=False)
    timeline.engine.reset(["d1"])
    assert timeline.say(quality, alarm=True) == []
    assert [d.rule for d in timeline.say(alarm=True)] == ["detector-alarm"]


def test_a_number_is_no_state_and_a_state_is_no_number() -> None:
    assert Timeline().play(20, lambda _: {"alarm": 1.0, "smoke": True}) == []


def test_a_rule_leaves_out_a_model_that_has_its_point_in_another_unit() -> None:
    engine = engine_of({"kind": "threshold", "point": "smoke", "unit": "%/m", "above": 0.1})
    assert Timeline(engine).play(20, lambda _: {"smoke": 50.0}) == []


def test_an_any_makes_do_with_the_points_that_the_model_has() -> None:
    parts = [{"kind": "state", "point": "pressed"}, {"kind": "state", "point": "alarm"}]
    assert len(Timeline(engine_of({"kind": "any", "of": parts})).say(alarm=True)) == 1
    assert Timeline(engine_of({"kind": "all", "of": parts})).say(alarm=True) == []


# --- latching and reset


def test_a_rule_decides_once_until_it_is_reset() -> None:
    timeline = Timeline()
    assert len(timeline.say(alarm=True)) == 1
    assert timeline.say(alarm=False) == []
    assert timeline.say(alarm=True) == []


def test_after_a_reset_a_still_active_point_raises_anew_and_a_quiet_one_does_not() -> None:
    timeline = Timeline()
    timeline.say(alarm=True)
    timeline.engine.reset(["d1", "unknown"])
    assert [d.rule for d in timeline.say(alarm=True)] == ["detector-alarm"]
    timeline.say(alarm=False)
    timeline.engine.reset(["d1"])
    assert timeline.say(alarm=False) == []


def test_a_reset_touches_only_its_devices() -> None:
    engine = Engine(rules.load(rules.default_path()))
    one, two = Timeline(engine, "d1"), Timeline(engine, "d2")
    one.say(alarm=True)
    two.say(alarm=True)
    engine.reset(["d2"])
    assert one.say(alarm=True) == []
    assert len(two.say(alarm=True)) == 1


def test_smoke_between_clear_and_threshold_is_still_active_after_a_reset() -> None:
    condition = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.25, "clear": 0.15}
    timeline = Timeline(engine_of(condition))
    assert len(timeline.say(smoke=0.3)) == 1
    timeline.say(smoke=0.2)
    timeline.engine.reset(["d1"])
    assert len(timeline.say(smoke=0.2)) == 1
    timeline.say(smoke=0.1)
    timeline.engine.reset(["d1"])
    assert timeline.say(smoke=0.2) == []


@pytest.mark.parametrize("mode", ["test", "backlog", "retained"])
def test_a_drill_or_a_late_delivery_decides_but_never_hides_a_live_fire(mode: str) -> None:
    timeline = Timeline()
    assert len(timeline.say_as({mode: True}, alarm=True)) == 1
    assert len(timeline.say(alarm=True)) == 1


# --- time


def test_a_clock_that_steps_an_hour_neither_invents_nor_loses_a_fire() -> None:
    for step_ms in (HOUR_MS, -HOUR_MS):
        timeline = Timeline().quiet(120)
        for i in range(60):
            moved = {"observed_ms": START_MS + timeline.at_s * 1000.0 + 2000.0 + (step_ms if i >= 20 else 0.0)}
            timeline.say_as(moved, smoke=0.01, temperature=24.0 + i * 2.0 * 10.0 / 60.0)
        assert list(timeline.decided) == ["heat-rise"]
        assert timeline.decided["heat-rise"] <= 120.0 + 80.0


def test_a_frozen_clock_does_not_delay_a_fire() -> None:
    timeline = Timeline()
    for _ in range(300):
        assert timeline.say_as({"observed_ms": START_MS}, smoke=0.01, temperature=24.0) == []
    start_s = timeline.at_s
    for _ in range(10):
        timeline.say_as({"observed_ms": START_MS}, smoke=0.4, temperature=24.0)
    assert timeline.decided["smoke-rise"] - start_s <= 8.0


def test_a_network_stall_neither_squeezes_nor_stretches_a_slope() -> None:
    timeline = Timeline().quiet(120)
    arrival_ms = START_MS + timeline.at_s * 1000.0 + 40_000.0  # twenty readings arrive together, 40 s late
    for i in range(20):
        assert timeline.say_as({"received_ms": arrival_ms}, temperature=24.0 + i * 2.0 * 5.0 / 60.0) == []  # 5 °C a minute


def test_backlog_is_judged_on_its_own_clock() -> None:
    timeline = Timeline().quiet(20)
    late = {"backlog": True, "received_ms": START_MS}
    decisions = [
        decision
        for i in range(60)
        for decision in timeline.say_as(
            late | {"observed_ms": START_MS - HOUR_MS + i * 2000.0}, temperature=24.0 + i * 2.0 * 10.0 / 60.0
        )
    ]
    assert [decision.rule for decision in decisions] == ["heat-rise"]


def test_a_rare_reporter_alarms_with_its_second_reading_or_a_strong_first() -> None:
    timeline = Timeline(every_s=3600.0)
    timeline.say(smoke=0.0)
    assert timeline.say(smoke=0.3) == []
    assert [d.rule for d in timeline.say(smoke=0.3)] == ["smoke-level"]
    strong = Timeline(every_s=3600.0)
    strong.say(smoke=0.0)
    assert [d.rule for d in strong.say(smoke=0.6)] == ["smoke-level"]


# --- properties

readings = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(allow_nan=True), st.floats(-0.1, 0.6)),
        st.sampled_from(list(Quality)),
        st.one_of(st.none(), st.booleans(), st.floats(0, 100)),
    ),
    max_size=40,
)


@given(readings)
def test_whatever_a_detector_says_each_rule_decides_at_most_once_and_only_on_a_good_value(
    said: Sequence[tuple[float | None, Quality, Scalar | None]],
) -> None:
    timeline = Timeline()
    decided: list[str] = []
    for smoke, quality, alarm in said:
        for decision in timeline.say(quality, smoke=smoke, alarm=alarm):
            assert quality is Quality.GOOD
            assert decision.value == {"smoke": smoke, "alarm": alarm}[decision.point]
            decided.append(decision.rule)
    assert len(decided) == len(set(decided))


@given(st.lists(st.floats(-0.02, 0.02), min_size=40, max_size=200), st.floats(-0.1, 0.1))
def test_noise_of_a_tenth_of_the_threshold_never_alarms_whatever_the_zero(noise: list[float], zero: float) -> None:
    timeline = Timeline()
    for value in noise:
        assert timeline.say(smoke=zero + value, temperature=24.0 + 20.0 * value) == []


@given(st.lists(st.floats(0.0, 0.2), min_size=2, max_size=60), st.integers(0, 3))
def test_more_smoke_never_alarms_later(values: list[float], bad: int) -> None:
    def first(factor: float) -> float:
        timeline = Timeline(engine_of({"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.1, "readings": 1 + bad}))
        for value in values:
            timeline.say(smoke=value * factor)
        return timeline.decided.get("rule-0", math.inf)

    assert first(1.5) <= first(1.0)


def test_the_floor_that_shortens_quiet_work_never_hides_a_rise() -> None:
    plain = {"kind": "rise", "point": "smoke", "unit": "dB/m", "by": 0.1, "within_s": 30, "mean_s": 4, "base_s": 4, "readings": 2}
    timeline = Timeline(engine_of(plain, latched=False))
    # high for longer than the window, then low, then up again: the floor has to follow the window down and up
    timeline.play(1200, lambda _: {"smoke": 5.0})
    timeline.play(1200, lambda _: {"smoke": 1.0})
    timeline.play(2400, lambda _: {"smoke": 3.0})
    assert timeline.decided["rule-0"] == pytest.approx(2400, abs=6)
    (again,) = timeline.play(20, lambda _: {"smoke": 3.3})
    assert again.reason is Reason.RISING


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.0004, 2.0]), st.sampled_from([-9.0, 0.0, 4.9, 5.0, 6.0, 99.0])), max_size=40))
def test_what_is_passed_over_as_quiet_decides_nothing_that_a_full_look_would(steps: list[tuple[float, float]]) -> None:
    def engine(*, looked_at: bool) -> Engine:
        plain = [
            conditions.Threshold(point="battery", unit="%", above=5.0, clear=0.0),
            conditions.Threshold(point="battery", unit="%", below=-5.0),
        ]
        when = [conditions.AnyOf(of=(one,)) if looked_at else one for one in plain]  # what is joined is never passed over
        return Engine(
            [
                rules.Rule(id=f"r{n}", hazard="fault", severity="trouble", source="test", when=one, latched=n > 0)
                for n, one in enumerate(when)
            ]
        )

    quick, full = Timeline(engine(looked_at=False)), Timeline(engine(looked_at=True))
    for every_s, value in steps:
        quick.every_s = full.every_s = every_s
        assert quick.say(battery=value) == full.say(battery=value)

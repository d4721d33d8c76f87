"""A trial: what the rules would say of a device, and nothing of what they remember is touched."""

from __future__ import annotations

import pytest

from iotcore.alarms import rules, trial
from iotcore.alarms.engine import Engine
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceSpec
from tests.support.shipped import SPECS

RULES = rules.load(rules.default_path())
ANALOG_ONLY = {"honeywell-cgw-mb-analog"}  # tells levels beside a panel's own unit, which tells the fires
FIRE_SPECS = sorted(name for name, spec in SPECS.items() if spec.device_class in {"fire_detector", "fire_panel"})


def binding(spec: DeviceSpec) -> Binding:
    return Binding("d1", "d1", spec, "fire", "d1", "active", "p1")


def said(one: trial.AlarmPoint) -> list[Reading]:
    return [
        Reading("d1", "D1", seq, "event", 0.0, 0.0, (Value(one.point, one.value),), test=True)
        for seq in range(1, one.readings + 1)
    ]


@pytest.mark.parametrize("model", [name for name in FIRE_SPECS if name not in ANALOG_ONLY])
def test_every_fire_model_has_a_point_by_which_it_can_be_drilled_and_whose_value_alarms(model: str) -> None:
    engine, bound = Engine(RULES), binding(SPECS[model])
    one = next(trial.alarm_points(engine.plan_of(bound), bound))
    found = trial.judged(engine.plan_of(bound), bound, said(one))
    assert (found[0].point, found[0].severity, found[0].change) == (one.point, "alarm", "raise")


def test_a_detector_is_tried_by_each_of_its_points_in_turn_whatever_came_before() -> None:
    engine, bound = Engine(RULES), binding(SPECS["iotcore-smoke-heat"])
    plan = engine.plan_of(bound)
    names = [one.point for one in trial.alarm_points(plan, bound)]
    assert sorted(names) == ["alarm", "button", "smoke", "temperature"]
    for name in names:
        assert [one.point for one in trial.alarm_points(plan, bound, name)][-1] == name
    assert [one.point for one in trial.alarm_points(plan, bound, "a point of an older spec")] == names


def test_a_mean_over_two_readings_takes_two_and_one_alone_is_no_alarm() -> None:
    engine, bound = Engine(RULES), binding(SPECS["iotcore-smoke-heat"])
    plan = engine.plan_of(bound)
    smoke = next(one for one in trial.alarm_points(plan, bound) if one.point == "smoke")
    assert (smoke.value, smoke.readings) == (0.25, 2)
    assert trial.judged(plan, bound, said(smoke)[:1]) == []
    assert [one.rule for one in trial.judged(plan, bound, said(smoke))] == ["smoke-level"]


def test_a_trial_neither_sees_nor_leaves_a_latch() -> None:
    engine, bound = Engine(RULES), binding(SPECS["iotcore-smoke-heat"])
    live = Reading("d1", "b1", 1, "event", 0.0, 0.0, (Value("alarm", value=True),))
    alarm = next(one for one in trial.alarm_points(engine.plan_of(bound), bound) if one.point == "alarm")
    for _ in range(2):
        assert [one.rule for one in trial.judged(engine.plan_of(bound), bound, said(alarm))] == ["detector-alarm"]
    assert [one.rule for one in engine.evaluate(live, bound, now_s=1.0)] == ["detector-alarm"]
    assert [one.rule for one in trial.judged(engine.plan_of(bound), bound, said(alarm))] == ["detector-alarm"]
    assert engine.armed(2.0) == []
    assert len(engine.places) == 0


def test_what_is_verified_first_is_drilled_by_what_the_detector_itself_says() -> None:
    engine = Engine(RULES, profiles=lambda _: "verified")
    bound = binding(SPECS["iotcore-smoke-heat"])
    alarm = next(one for one in trial.alarm_points(engine.plan_of(bound), bound) if one.point == "alarm")
    assert [one.rule for one in trial.judged(engine.plan_of(bound), bound, said(alarm))] == ["detector-alarm"]

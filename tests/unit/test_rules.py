"""Rule files are refused whole with every problem; the shipped ones are sound, sourced, and fit the shipped specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iotcore.alarms import conditions, rules
from iotcore.alarms.engine import Engine
from iotcore.errors import ConfigError
from iotcore.reading import Reading, Value
from iotcore.specs.model import DeviceSpec, Point
from tests.support.bound import bound
from tests.support.shipped import SPECS


def spec(**points: Point) -> DeviceSpec:
    return DeviceSpec(
        model="detector",
        vendor="test",
        title="Detector",
        device_class="fire_detector",
        protocol="canonical",
        source="this test",
        verified="no",
        interval_s=2.0,
        points=points,
    )


def document(*conditions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base = {"hazard": "smoke", "severity": "alarm", "source": "this test"} | changes
    return {"profile": "immediate", "rules": [{"id": f"rule-{i}", "when": when} | base for i, when in enumerate(conditions)]}


def problems(found: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        rules.check(found, "rules.yaml")
    return [str(problem) for problem in refusal.value.problems]


def test_every_shape_problem_of_a_file_is_told_at_once() -> None:
    broken = document(
        {"kind": "threshold", "point": "smoke", "above": 0.1},
        {"kind": "rise", "point": "temperature", "unit": "°C", "by": -1, "within_s": 60},
        {"kind": "state", "point": "alarm", "colour": "red"},
    )
    broken["rules"][2]["hazard"] = "weather"
    told = problems(broken)
    assert len(told) == 4
    assert any("rules[0].when.unit: missing" in problem for problem in told)
    assert any("rules[1].when.by" in problem for problem in told)
    assert any("rules[2].when.colour: unknown key" in problem for problem in told)
    assert any("rules[2].hazard" in problem for problem in told)


def test_every_contradiction_of_a_file_is_told_at_once() -> None:
    broken = document(
        {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.1, "below": 0.2},
        {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.1, "clear": 0.2},
        {"kind": "threshold", "point": "battery", "unit": "%", "below": 15, "clear": 10},
        {"kind": "rise", "point": "smoke", "unit": "dB/m", "by": 0.1, "within_s": 10, "mean_s": 6, "base_s": 6},
        {"kind": "all", "of": []},
        {"kind": "any", "of": [{"kind": "all", "of": []}]},
    )
    broken["rules"][5]["id"] = "rule-4"
    told = problems(broken)
    assert [problem.split(": ")[1] for problem in told] == [
        "rules[0].when",
        "rules[1].when.clear",
        "rules[2].when.clear",
        "rules[3].when.within_s",
        "rules[4].when.of",
        "rules[5].when.of[0].of",
        "rules",
    ]


def test_a_file_without_rules_is_refused() -> None:
    assert "no fire would ever be found" in problems({"profile": "immediate", "rules": []})[0]


def test_a_rule_without_a_source_is_refused() -> None:
    assert "source" in problems(document({"kind": "state", "point": "alarm"}, source=""))[0]


def test_a_fault_can_never_be_a_fire() -> None:
    assert "never a fire" in problems(document({"kind": "state", "point": "tamper"}, hazard="fault"))[0]


def test_an_unknown_condition_kind_is_refused() -> None:
    assert problems(document({"kind": "expression", "text": "smoke > 1"}))


@pytest.mark.parametrize("content", [b"profile: [", b"\xff\xfe\x00"])
def test_a_file_that_is_not_yaml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rules.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not YAML"):
        rules.load(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        rules.load(tmp_path / "none.yaml")


def test_the_shipped_rules_load_and_cover_the_shipped_points_in_their_units() -> None:
    shipped = rules.load(rules.default_path())
    detector = spec(
        smoke=Point(unit="dB/m"),
        temperature=Point(unit="°C"),
        alarm=Point(kind="bool"),
        button=Point(kind="bool"),
        pressed=Point(kind="bool"),
        tamper=Point(kind="bool"),
        battery=Point(unit="%"),
    )
    assert rules.mismatches(shipped, {"detector": detector}) == []
    judged = {leaf.point for rule in shipped for leaf in conditions.leaves(rule.when) if not conditions.misfit(leaf, detector)}
    assert judged == set(detector.points)


def test_the_shipped_rules_miss_no_shipped_model_by_its_unit() -> None:
    assert rules.mismatches(rules.load(rules.default_path()), SPECS) == []


def test_only_call_points_bypass_every_delay_and_only_faults_are_not_fires() -> None:
    shipped = rules.load(rules.default_path())
    assert {rule.hazard for rule in shipped if rule.immediate} == {"manual"}
    assert {rule.severity for rule in shipped if rule.hazard == "fault"} == {"trouble"}
    assert {rule.severity for rule in shipped if rule.hazard != "fault"} == {"alarm"}
    assert all(rule.latched for rule in shipped if rule.severity == "alarm")


def test_a_point_in_another_unit_is_told_instead_of_never_alarming() -> None:
    shipped = rules.load(rules.default_path())
    told = rules.mismatches(shipped, {"detector": spec(smoke=Point(unit="%/m"), alarm=Point(kind="text"))})
    assert any("smoke-level.smoke: is judged in 'dB/m', the point is in '%/m' in spec detector" in str(p) for p in told)
    assert any("detector-alarm.alarm: needs a bool point" in str(p) for p in told)


def test_a_rule_for_named_models_covers_only_them() -> None:
    (rule,) = rules.check(document({"kind": "state", "point": "alarm"}, models=["other"]), "rules.yaml")
    assert not rule.covers(spec(alarm=Point(kind="bool")))


FIRE_MODELS = {m: s for m, s in SPECS.items() if s.device_class in ("fire_detector", "fire_panel")}
NO_FIRE = {"honeywell-cgw-mb-analog"}  # 4–20 mA inputs: what they mean is set on the panel, not by the model


@pytest.mark.parametrize("model", FIRE_MODELS)
def test_every_fire_model_has_a_point_that_the_shipped_rules_alarm_on(model: str) -> None:
    engine = Engine(rules.load(rules.default_path()))
    spec = FIRE_MODELS[model]
    decided = set()
    for name, point in spec.points.items():
        if point.kind != "bool":
            continue
        reading = Reading("d1", "b1", 1, "reading", 0.0, 0.0, (Value(name, value=True),))
        decided |= {
            each.rule.partition(":")[0] for each in engine.evaluate(reading, bound(spec), now_s=0.0) if each.severity == "alarm"
        }
        if decided:
            break
    assert bool(decided) is (model not in NO_FIRE)

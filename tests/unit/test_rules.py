"""Rule files are refused whole with every problem; the shipped ones are sound, sourced, and fit the shipped specs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from iotcore.alarms import conditions, rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.engine_bind import Numbers
from iotcore.alarms.engine_plan import Planner
from iotcore.errors import ConfigError
from iotcore.reading import Reading, Value
from iotcore.specs import decode, encode, repeat
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
    assert len({rule.id for rule in shipped if rule.severity == "pre-alarm"}) >= 4


def test_the_shipped_rules_miss_no_shipped_model_by_its_unit() -> None:
    assert rules.mismatches(rules.load(rules.default_path()), SPECS) == []


def test_only_call_points_bypass_every_delay_and_only_faults_are_not_fires() -> None:
    shipped = rules.load(rules.default_path())
    assert {rule.hazard for rule in shipped if rule.immediate} == {"manual"}
    assert {rule.severity for rule in shipped if rule.hazard == "fault"} == {"trouble", "supervisory"}
    assert {rule.severity for rule in shipped if rule.hazard != "fault"} == {"alarm", "pre-alarm"}
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


# What no shipped rule judges, and why that is right; `#` stands for a number.
UNJUDGED = {
    "linkquality": "how well the radio is heard; a lost link is found by supervision",
    "linkage_alarm": "a setting of the unit: whether others sound with it",
    "self_test": "marks the reading as a test",
    "smoke_density": "on the maker's own scale, which is nowhere explained; its dB/m are judged",
    "l#_m#_analog": "4-20 mA inputs: what they mean is set on the panel, not by the model",
    "l#_d#_event": "the same word as the points beside it, in full",
    "l#_m#_event": "the same word as the points beside it, in full",
    "troubles_#": "which troubles there are; that there are any, `trouble_count` says",
    "concentration": "on the maker's own scale; the unit decides by itself",
    "event": "the same word as alarm, battery_low, detector_trouble and tamper",
    "software_version": "no state of the detector",
    "data_change_number": "counts up with each change; the changes are judged",
    "life_check": "while it stands still every point is bad:life_check, which is a trouble",
    "fan_speed": "its limits are the unit's own: low_flow and aspirator are among its faults",
    "fire#": "alarm is either of them",
}


@pytest.mark.parametrize("model", FIRE_MODELS)
def test_every_point_of_every_fire_model_is_judged_or_there_is_a_reason_why_not(model: str) -> None:
    planned = Planner(rules.load(rules.default_path()), Numbers()).plan(bound(FIRE_MODELS[model]), frozenset(), verified=False)
    left = {re.sub(r"\d+", "#", point) for point in FIRE_MODELS[model].points if point not in planned.points}
    assert left <= UNJUDGED.keys()


def test_nothing_is_excused_that_is_judged_or_that_no_model_has() -> None:
    shipped, numbers = rules.load(rules.default_path()), Numbers()
    found: set[str] = set()
    for spec in FIRE_MODELS.values():
        points = Planner(shipped, numbers).plan(bound(spec), frozenset(), verified=False).points
        found |= {re.sub(r"\d+", "#", point) for point in spec.points if point not in points}
    assert found == UNJUDGED.keys()


NOTIFIER = repeat.narrow(SPECS["notifier-modbus-gw"], {"loop": (1, 1), "detector": (1, 1), "module": (1, 1)})


@pytest.mark.parametrize(
    ("word", "want"),
    [
        (0x0810, [("point-fire:l1_d1_fire", "alarm")]),
        (0x2000, [("point-trouble:l1_d1_trouble", "trouble")]),
        (0x4000, [("point-prealarm:l1_d1_prealarm", "pre-alarm")]),
        (0x0200, [("point-disabled:l1_d1_disabled", "supervisory")]),
        (0x2810, [("point-fire:l1_d1_fire", "alarm"), ("point-trouble:l1_d1_trouble", "trouble")]),
        (0x08FF, []),
    ],
)
def test_a_panels_word_is_fire_trouble_or_pre_alarm_and_a_missing_point_is_none_of_them(
    word: int, want: list[tuple[str, str]]
) -> None:
    words = encode.image(NOTIFIER, {})
    words["holding", 0] = word
    reading = Reading("panel", "b1", 1, "reading", 0.0, 0.0, tuple(decode.values(NOTIFIER, words)))
    decisions = Engine(rules.load(rules.default_path())).evaluate(reading, bound(NOTIFIER, "panel"), now_s=0.0)
    assert [(one.rule, one.severity) for one in decisions] == want

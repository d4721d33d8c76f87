"""Whom a rule covers: class, models, place, group, premises or device; of a family the most specific that can judge wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.errors import ConfigError
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceSpec, Point
from tests.support.bound import bound
from tests.unit.test_engine import DETECTOR, START_MS
from tests.unit.test_rules import problems

PERCENT = DeviceSpec(
    "acme-percent", "Acme", "D", "fire_detector", "canonical", "test", "no", 2.0, {"smoke": Point(unit="%/m")}
)  # fmt: skip


def level(above: float, *, rule: str = "level", unit: str = "dB/m", **scope: Any) -> dict[str, Any]:
    when = {"kind": "threshold", "point": "smoke", "unit": unit, "above": above}
    return {"id": rule, "hazard": "smoke", "severity": "alarm", "source": "this test", "when": when} | scope


def checked(*documents: dict[str, Any]) -> tuple[rules.Rule, ...]:
    return rules.check({"profile": "immediate", "rules": list(documents)}, "rules.yaml")


class Site:
    """Detectors that all speak to one engine."""

    def __init__(self, *documents: dict[str, Any], groups: Mapping[str, frozenset[str]] | None = None) -> None:
        self.groups = dict(groups or {})
        self.none: frozenset[str] = frozenset()
        self.engine = Engine(checked(*documents), lambda device: self.groups.get(device, self.none))
        self.seq = 0

    def says(self, smoke: float, binding: Binding) -> list[str]:
        self.seq += 1
        now_ms = START_MS + self.seq * 1000.0
        reading = Reading(binding.device, "b1", self.seq, "reading", now_ms, now_ms, (Value("smoke", smoke),))
        return [decision.rule for decision in self.engine.evaluate(reading, binding, now_s=float(self.seq))]

    def alarms_at(self, binding: Binding) -> float:
        """The lowest of some levels at which a device raises; it is reset before and after."""
        for smoke in (0.05, 0.15, 0.25, 0.35, 0.45, 0.55):
            self.engine.reset([binding.device])
            if self.says(smoke, binding):
                return smoke
        return 9.0


D1 = bound(DETECTOR, "d1", "school")
D2 = bound(DETECTOR, "d2", "market")


def test_the_most_specific_scope_wins_for_each_device() -> None:
    wide, model = level(0.5), level(0.4, models=[DETECTOR.model])
    group, premises, device = level(0.3, group="old"), level(0.2, premises="school"), level(0.1, device="d1")
    everything = [device, wide, group, premises, model]
    for count, want in ((5, 0.15), (4, 0.25), (3, 0.35), (2, 0.45), (1, 0.55)):
        kept = [one for one in everything if one in [wide, model, group, premises, device][:count]]
        site = Site(*kept, groups={"d1": frozenset({"old", "other"})})
        assert site.alarms_at(D1) == want
        assert site.alarms_at(D2) == (0.45 if count > 1 else 0.55)  # neither in the group, nor at the premises, nor d1


def test_a_rule_of_a_place_judges_the_detectors_that_hang_there_at_premises_of_its_profile() -> None:
    cook, bath = replace(D1, labels={"place": "kitchen"}), replace(D2, labels={"place": "steam"})
    documents = (level(0.1), level(0.3, places=["kitchen"], profile="verified"), level(0.2, places=["steam"]))
    assert [Site(*documents).alarms_at(one) for one in (D1, cook, bath)] == [0.15, 0.15, 0.25]
    site = Site(*documents)
    site.engine = Engine(checked(*documents), profiles=lambda _: "verified")
    pending = {
        one.device: [at for at in (0.05, 0.15, 0.25, 0.35) if site.says(at, one)] for one in (D1, replace(cook, device="d3"))
    }
    assert pending == {"d1": [0.15], "d3": [0.35]}  # each level is a first alarm once


def test_a_rule_of_a_group_or_the_premises_wins_over_one_of_a_place() -> None:
    cook = replace(D1, labels={"place": "kitchen"})
    assert Site(level(0.1), level(0.3, places=["kitchen"]), level(0.2, premises="school")).alarms_at(cook) == 0.25
    assert "names more than one of" in problems({"profile": "immediate", "rules": [level(0.1, places=["steam"], device="d1")]})[0]


def test_a_detector_whose_label_changes_is_judged_by_its_new_place_from_its_next_reading() -> None:
    site = Site(level(0.1), level(0.3, places=["kitchen"]))
    assert site.alarms_at(D1) == 0.15
    assert site.alarms_at(replace(D1, labels={"place": "kitchen"})) == 0.35
    assert site.alarms_at(replace(D1, labels={"place": "attic"})) == 0.15


def test_a_more_specific_rule_that_cannot_judge_a_device_does_not_take_its_rule_away() -> None:
    site = Site(level(0.3), level(5.0, unit="%/m", device="d1"))
    assert site.alarms_at(D1) == 0.35
    assert Site(level(5.0, unit="%/m"), level(0.3, premises="school")).says(6.0, bound(PERCENT, "p1", "school")) == ["level"]


def test_two_versions_that_are_equally_specific_for_a_device_both_judge_it() -> None:
    both = Site(level(0.4, group="a"), level(0.2, group="b"), groups={"d1": frozenset("ab"), "d2": frozenset("a")})
    assert both.alarms_at(D1) == 0.25
    assert both.alarms_at(D2) == 0.45


def test_two_rules_of_one_id_and_one_scope_are_refused_and_so_is_a_rule_of_two_scopes() -> None:
    same = {
        "profile": "immediate",
        "rules": [level(0.1, device="d1"), level(0.2, device="d1"), level(0.3)],
    }
    assert problems(same) == ["rules.yaml: rules: two rules have the id 'level' and the same scope"]
    models = [level(0.1, models=["a", "b"]), level(0.2, models=["b", "a"])]
    assert "same scope" in problems({"profile": "immediate", "rules": models})[0]
    two = problems({"profile": "immediate", "rules": [level(0.1, device="d1", group="g")]})
    assert two == ["rules.yaml: rules[0]: names more than one of group, premises, device and places"]


def test_a_rule_whose_scope_is_not_there_is_told_and_covers_nothing_until_it_is() -> None:
    named = checked(level(0.1, rule="a", device="d9"), level(0.1, rule="b", premises="p9"), level(0.1, rule="c", group="g9"))
    told = [str(problem) for problem in rules.unknown(named, {"d1"}, {"school"}, {"old"})]
    assert [one.split(":")[1].strip() for one in told] == ["a.device", "b.premises", "c.group"]
    assert rules.unknown(named, {"d9"}, {"p9"}, {"g9"}) == []
    site = Site(level(0.1, group="g9"))
    assert site.says(0.9, D1) == []
    site.groups["d1"] = frozenset({"g9"})
    assert site.says(0.9, D1) == ["level"]


def test_a_device_that_joins_or_leaves_a_group_is_judged_so_from_its_next_reading() -> None:
    site = Site(level(0.5), level(0.2, group="kitchen"))
    assert site.says(0.3, D1) == []
    site.groups["d1"] = frozenset({"kitchen"})
    assert site.says(0.3, D1) == ["level"]
    assert site.says(0.3, D2) == []
    del site.groups["d1"]
    site.engine.reset(["d1"])
    assert site.says(0.3, D1) == []


def test_a_device_that_moves_to_other_premises_is_judged_by_their_rules_and_stays_latched() -> None:
    site = Site(level(0.5), level(0.2, premises="market"))
    assert site.says(0.3, D1) == []
    moved = replace(D1, premises="market")
    assert site.says(0.3, moved) == ["level"]
    assert site.says(0.3, replace(moved, title="Renamed")) == []


def test_new_rules_keep_what_is_latched_and_what_the_windows_hold() -> None:
    rise = {"kind": "rise", "point": "smoke", "unit": "dB/m", "by": 0.1, "within_s": 60}
    site = Site(level(0.2), level(0.0, rule="slope") | {"when": rise})
    for _ in range(10):
        assert site.says(0.0, D1) == []
    site.engine.use(checked(level(0.1), level(0.0, rule="slope") | {"when": rise | {"within_s": 90, "mean_s": 1, "readings": 2}}))
    assert site.says(0.15, D1) == ["level"]
    assert site.says(0.15, D1) == ["slope"]  # judged against what came before the change
    site.engine.use(checked(level(0.05)))
    assert site.says(0.15, D1) == []  # the latch is the rule's, whatever its version
    site.engine.reset(["d1"])
    assert site.says(0.15, D1) == ["level"]


def test_a_rule_that_begins_to_look_back_at_a_point_starts_with_its_newest_value() -> None:
    site = Site(level(9.0))
    assert site.says(0.0, D1) == []
    mean = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.2, "mean_s": 6, "readings": 2}
    heat = {"kind": "state", "point": "alarm"}
    site.engine.use(checked(level(0.0) | {"when": {"kind": "any", "of": [heat, mean]}}))
    alarm = Reading("d1", "b1", 9, "reading", START_MS + 2000.0, START_MS + 2000.0, (Value("alarm", value=False),))
    assert site.engine.evaluate(alarm, D1, now_s=2.0) == []
    assert site.says(0.5, D1) == ["level"]


def test_a_bad_scope_is_refused_with_the_rest() -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        checked(level(0.1, region="north"))

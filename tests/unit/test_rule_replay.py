"""A back-test's replay: the engine's own decisions over past readings, counted by premises, and what it cannot know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from iotcore.alarms import replay
from iotcore.alarms.engine import Engine
from iotcore.alarms.replay import Evidence, Firing, Replay
from iotcore.alarms.rule_book import read
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from tests.support.bound import bound
from tests.support.ruling import BASE, advisory, level
from tests.support.shipped import SPECS

SPEC = SPECS["iotcore-smoke-heat"]
DETECTOR = bound(SPEC, "d1", "p1")
STEP_MS = 2_000.0


def curve(*smoke: float, device: str = "d1", start_ms: float = 0.0, test: bool = False) -> list[Reading]:
    return [
        Reading(device, "b", n, "reading", at, at, (Value("smoke", value),), test=test)
        for n, value in enumerate(smoke)
        for at in (start_ms + n * STEP_MS,)
    ]


def tried(replays: list[Replay], readings: Iterable[Reading], binding: Binding = DETECTOR) -> Evidence:
    evidence = Evidence(devices=1)
    replay.feed(replays, ((one, binding) for one in readings), evidence)
    return evidence


def test_it_fires_when_the_engine_decides_and_again_only_after_it_was_over() -> None:
    one = Replay(BASE, "smoke-level")
    readings = curve(*[0.0] * 5, *[0.4] * 60, *[0.0] * 10, *[0.4] * 10)
    tried([one], readings)
    engine = Engine(BASE)
    decided = [
        r.observed_ms
        for r in readings
        for d in engine.evaluate(r, DETECTOR, now_s=r.observed_ms / 1000.0)
        if d.rule == "smoke-level" and d.opens
    ]
    assert len(decided) == 1  # it latches in life
    assert [firing.at_ms for firing in one.outcome.firings] == [decided[0], one.outcome.firings[1].at_ms]
    assert one.outcome.firings[0] == Firing(
        decided[0], "d1", "p1", "smoke-level", "alarm", "above_threshold", "smoke", 0.4, "dB/m"
    )
    assert one.outcome.by_premises == {"p1": 2}


def test_only_the_rules_of_that_id_are_tried_each_with_its_scope() -> None:
    deaf = read(level(9.0, premises="p1"), "x")
    one = Replay([*BASE, deaf], "smoke-level")
    tried([one], curve(*[0.4] * 10))
    tried([one], curve(*[0.4] * 10, device="d2"), bound(SPEC, "d2", "p2"))
    assert one.outcome.by_premises == {"p2": 1}


def test_tests_and_bad_values_decide_nothing_and_gaps_are_counted() -> None:
    one = Replay(BASE, "smoke-level")
    bad = [replace_values(reading) for reading in curve(*[0.4] * 4, start_ms=3_600_000.0)]
    evidence = tried([one], [*curve(*[0.4] * 4, test=True), *bad, *curve(0.0, start_ms=3_700_000.0)])
    assert (one.outcome.count, evidence.tests, evidence.bad, evidence.readings) == (0, 4, 4, 9)
    assert evidence.gaps == 2
    assert evidence.gaps_s == pytest.approx(3_594.0 + 94.0)
    assert (evidence.first_ms, evidence.last_ms) == (0.0, 3_700_000.0)
    names = replay.notes(evidence, BASE[:1], 0.0, stored=True)
    assert names == ["latched", "coalesced", "gaps", "bad", "tests"]
    assert replay.notes(Evidence(devices=2, cut="time", refused=1), (), 0.0, stored=False) == ["time", "no_data", "refused"]


def replace_values(reading: Reading) -> Reading:
    return Reading(*reading.identity, "reading", reading.observed_ms, reading.received_ms, (Value("smoke", 0.4, Quality.BAD),))


def test_all_firings_are_counted_and_the_first_are_kept() -> None:
    one = Replay([read(advisory("early"), "x")], "early")
    tried([one], curve(*[0.0, 0.2] * (replay.KEPT + 5)))
    assert (one.outcome.count, len(one.outcome.firings)) == (replay.KEPT + 5, replay.KEPT)


def test_two_versions_are_paired_by_what_they_saw() -> None:
    def at(second: float, device: str = "d1") -> Firing:
        return Firing(second * 1000.0, device, "p1", "r", "alarm", "rising", "smoke", 0.1, "")

    pairs = replay.paired([at(100), at(5000), at(100, "d2")], [at(112), at(9000)])
    assert [(one and one.at_ms, two and two.at_ms) for one, two in pairs] == [
        (100_000.0, 112_000.0),
        (100_000.0, None),
        (5_000_000.0, None),
        (None, 9_000_000.0),
    ]


def test_the_points_and_devices_that_a_rule_looks_at() -> None:
    by_id = {rule.id: rule for rule in BASE}
    assert set(replay.points_of([by_id["smoke-and-heat"]], SPEC)) == {"smoke", "temperature"}
    assert replay.points_of([by_id["smoke-level"]], SPECS["vaisala-aqt530"]) == []
    panel = SPECS["notifier-modbus-gw"]
    fires = replay.points_of([by_id["point-fire"]], panel)
    assert fires == [name for name in panel.points if name.endswith("_fire")]
    d1, d2, cp = DETECTOR, bound(SPEC, "d2", "p2"), bound(SPECS["iotcore-call-point"], "cp")

    def find(document: dict[str, Any]) -> list[str]:
        return [one.device for one in replay.covered([read(document, "x")], [d1, d2, cp], lambda _: frozenset())]

    assert find(level()) == ["d1", "d2", "cp"]
    assert find(level(device="d1")) == ["d1"]
    assert find(level(premises="p2")) == ["d2"]
    assert find(level(models=["iotcore-call-point"])) == ["cp"]


def test_a_rule_of_a_group_covers_its_members() -> None:
    members = {"d2": frozenset({"g"})}
    there = [DETECTOR, replace(DETECTOR, device="d2")]
    found = replay.covered([read(level(group="g"), "x")], there, lambda device: members.get(device, frozenset()))
    assert [one.device for one in found] == ["d2"]


def test_time_decides_too() -> None:
    lasting = {"kind": "sustained", "for_s": 30, "of": {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.1}}
    one = Replay([read(advisory("lasting", when=lasting), "x")], "lasting")
    tried([one], curve(0.0, 0.2, 0.2))  # the last reading comes after 4 s
    assert one.outcome.count == 0
    replay.finish([one], 20_000.0)
    assert one.outcome.count == 0
    replay.finish([one], 60_000.0)
    assert [(firing.at_ms, firing.reason) for firing in one.outcome.firings] == [(32_000.0, "sustained")]


def test_at_premises_of_the_verified_profile_first_alarms_are_counted_apart() -> None:
    one = Replay(BASE, "smoke-level", profiles=lambda premises: "verified" if premises == "p1" else "immediate")
    one.begin("p1")
    tried([one], curve(*[0.0] * 5, *[0.4] * 4, *[0.0] * 100))
    assert (one.outcome.count, one.outcome.first_alarms) == (0, 1)  # it ended before it was confirmed
    tried([one], curve(*[0.4] * 30, start_ms=400_000.0))
    assert (one.outcome.count, one.outcome.first_alarms) == (1, 2)
    assert one.outcome.firings[-1].reason == "lasted"
    one.begin("p2")
    tried([one], curve(*[0.0] * 5, *[0.4] * 4), bound(SPEC, "d1", "p2"))
    assert one.outcome.by_premises == {"p1": 1, "p2": 1}

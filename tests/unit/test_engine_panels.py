"""Panels: one rule, thousands of detectors, each decided for itself."""

from __future__ import annotations

from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.reading import Quality, Reading, Value
from iotcore.specs.model import DeviceSpec, Point
from tests.support.bound import bound

START_MS = 1_795_312_800_000.0  # 2026-11-22T02:00:00Z


def panel(points: int = 3) -> DeviceSpec:
    names = [f"l1_d{n}_{what}" for n in range(1, points + 1) for what in ("fire", "trouble")]
    return DeviceSpec(
        model="acme-panel",
        vendor="Acme",
        title="Panel",
        device_class="fire_panel",
        protocol="modbus",
        source="this test",
        verified="no",
        interval_s=10.0,
        points={name: Point(kind="bool") for name in names},
    )


def told(engine: Engine, spec: DeviceSpec, seq: int, quality: Quality = Quality.GOOD, **values: bool) -> list[tuple[str, str]]:
    said = tuple(Value(point, value, quality) for point, value in values.items())
    now_ms = START_MS + seq * 1000.0
    found = engine.evaluate(
        Reading("panel", "b1", seq, "event", observed_ms=now_ms, received_ms=now_ms, told=said), bound(spec, "panel"), now_s=seq
    )
    return [(decision.rule, decision.severity) for decision in found if decision.opens]


def test_each_detector_of_a_panel_decides_for_itself_and_stays_latched() -> None:
    engine, spec = Engine(rules.load(rules.default_path())), panel()
    assert told(engine, spec, 1, l1_d1_fire=False, l1_d2_fire=False, l1_d3_trouble=False) == []
    assert told(engine, spec, 2, l1_d2_fire=True) == [("point-fire:l1_d2_fire", "alarm")]
    assert told(engine, spec, 3, l1_d2_fire=False) == []
    assert told(engine, spec, 4, l1_d2_fire=True, l1_d3_trouble=True) == [("point-trouble:l1_d3_trouble", "trouble")]
    assert told(engine, spec, 5, l1_d1_fire=True, l1_d3_fire=True) == [
        ("point-fire:l1_d1_fire", "alarm"),
        ("point-fire:l1_d3_fire", "alarm"),
    ]
    engine.reset(["panel"])
    assert told(engine, spec, 6, l1_d2_fire=True) == [("point-fire:l1_d2_fire", "alarm")]


def test_a_detector_that_is_not_there_is_no_fire_and_clears_none() -> None:
    engine, spec = Engine(rules.load(rules.default_path())), panel()
    assert told(engine, spec, 1, Quality.BAD, l1_d1_fire=True) == []
    assert told(engine, spec, 2, l1_d1_fire=True) == [("point-fire:l1_d1_fire", "alarm")]

"""The simulated city: what the registry and the demonstration rely on, and that its fires alarm and its quiet does not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.reading import Reading, Value
from iotcore.registry import city as registry_city
from simulators import city
from simulators.fire_growth import ALPHA_KW_PER_S2, Fire, Growth
from simulators.scenario import GREEN, SENSOR_FULL_SCALE_DB_PER_M, Scenario, phases
from tests.support.bound import bound
from tests.support.shipped import SPECS

DOCUMENT = city.document(seed=1)
DEVICES: dict[str, dict[str, Any]] = {device["id"]: device for device in DOCUMENT["devices"]}
NOON_S = 1_795_323_600.0  # 2026-11-22T05:00:00Z, noon in Vietnam


def test_the_registry_takes_the_document_without_a_problem() -> None:
    registry_city.check(registry_city.read(DOCUMENT), SPECS, registry_city.Known())


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_gives_a_city_of_the_promised_size(seed: int) -> None:
    document = city.document(seed)
    models = Counter(device["model"] for device in document["devices"])
    assert len(document["premises"]) >= 20
    assert models["iotcore-smoke-heat"] >= 60
    assert (models["vaisala-aqt530"], models["endress-liquiline-cm44x"], models["iotcore-mqtt-signal"]) == (10, 10, 188)
    assert models["iotcore-modbus-gateway"] == 1
    registry_city.check(registry_city.read(document), SPECS, registry_city.Known())


def test_the_same_seed_gives_the_same_city_and_another_seed_another() -> None:
    assert city.document(1) == city.document(1)
    assert city.document(1) != city.document(2)


def test_accounts_are_four_hex_digits_and_every_premises_has_a_detector_in_a_zone() -> None:
    accounts = [premises["account"] for premises in DOCUMENT["premises"]]
    assert len(set(accounts)) == len(accounts)
    assert all(len(account) == 4 and int(account, 16) for account in accounts)
    guarded = {device["premises"] for device in DEVICES.values() if device["model"] == "iotcore-smoke-heat" and device["zone"]}
    assert guarded == {premises["id"] for premises in DOCUMENT["premises"]}


def test_modbus_units_stand_where_the_caller_says() -> None:
    document = city.document(1, connection=lambda device: f"tcp://127.0.0.1:4000?device_id={int(device[-2:])}")
    assert {d["connection"] for d in document["devices"] if d["id"] == "wq-07"} == {"tcp://127.0.0.1:4000?device_id=7"}
    default = [device["connection"] for device in DEVICES.values() if "connection" in device]
    assert len(set(default)) == 20


@settings(max_examples=60)
@given(st.sampled_from(sorted(DEVICES)), st.floats(0.0, 366 * 86_400.0))
def test_every_device_says_every_point_of_its_spec_within_its_range_at_any_time(device: str, after_s: float) -> None:
    spec = SPECS[DEVICES[device]["model"]]
    values = Scenario(DOCUMENT).values(device, NOON_S + after_s)
    assert set(values) == set(spec.points)
    for name, point in spec.points.items():
        value = values[name]
        assert isinstance(value, bool) == (point.kind == "bool")
        assert isinstance(value, str) == (point.kind == "text")
        if point.range is not None:
            assert isinstance(value, int | float)
            assert point.range[0] <= value <= point.range[1]


def test_the_same_moment_is_told_the_same_by_two_processes() -> None:
    assert Scenario(DOCUMENT, seed=3).values("sd-0001", NOON_S) == Scenario(DOCUMENT, seed=3).values("sd-0001", NOON_S)


@given(st.floats(0.0, 119.99))
def test_crossing_directions_are_never_both_green(t_s: float) -> None:
    along, across = phases(t_s, 120)
    assert (along, across) != (GREEN, GREEN)
    assert "A" in {along, across}


def first_alarms(scenario: Scenario, devices: list[str], seconds: int, every_s: float = 2.0) -> dict[str, tuple[float, str]]:
    """When each detector's first alarm came, and by which rule, playing it to the default rules."""
    engine = Engine(rules.load(rules.default_path()))
    first: dict[str, tuple[float, str]] = {}
    for step in range(int(seconds / every_s)):
        now_s = NOON_S + step * every_s
        for device in devices:
            values = tuple(Value(point, value) for point, value in scenario.values(device, now_s).items())
            reading = Reading(device, "b", step + 1, "reading", now_s * 1000.0, now_s * 1000.0, values)
            for decision in engine.evaluate(reading, bound(SPECS[DEVICES[device]["model"]], device), now_s=now_s):
                first.setdefault(device, (step * every_s, decision.rule))
    return first


def in_premises(premises: str) -> list[str]:
    return [device["id"] for device in DEVICES.values() if device.get("premises") == premises]


@pytest.mark.parametrize("growth", sorted(ALPHA_KW_PER_S2))
def test_a_fire_is_found_in_its_own_room_within_two_minutes_of_ignition(growth: Growth) -> None:
    scenario = Scenario(DOCUMENT)
    scenario.ignite("p-001", NOON_S + 120.0, Fire(growth))
    found = first_alarms(scenario, in_premises("p-001"), seconds=240)
    assert "sd-0001" in found
    assert 120.0 < found["sd-0001"][0] <= 240.0


def test_only_the_burning_premises_alarms() -> None:
    scenario = Scenario(DOCUMENT)
    scenario.ignite("p-003", NOON_S)
    others = [device for premises in ("p-001", "p-002", "p-004") for device in in_premises(premises)]
    assert first_alarms(scenario, others, seconds=300, every_s=5.0) == {}


def test_a_quiet_city_raises_nothing_in_half_an_hour() -> None:
    detectors = [device["id"] for device in DEVICES.values() if device["model"] == "iotcore-smoke-heat"]
    assert first_alarms(Scenario(DOCUMENT), detectors[::8], seconds=1800, every_s=10.0) == {}


def test_a_dense_smoke_saturates_the_chamber_instead_of_leaving_its_range() -> None:
    scenario = Scenario(DOCUMENT)
    scenario.ignite("p-001", NOON_S, Fire("ultra-fast", maximum_kw=5000.0))
    assert scenario.values("sd-0001", NOON_S + 900.0)["smoke"] == SENSOR_FULL_SCALE_DB_PER_M


def test_a_fire_in_a_premises_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="p-999"):
        Scenario(DOCUMENT).ignite("p-999", NOON_S)


def test_a_part_of_the_city_is_a_city_that_the_registry_takes() -> None:
    part = city.part(DOCUMENT, premises=2, air=1, water=3, signals=4)
    registry_city.check(registry_city.read(part), SPECS, registry_city.Known())
    models = Counter(device["model"] for device in part["devices"])
    assert len(part["premises"]) == 2
    assert (models["vaisala-aqt530"], models["endress-liquiline-cm44x"], models["iotcore-mqtt-signal"]) == (1, 3, 4)
    assert models["iotcore-call-point"] == 2
    assert {device["premises"] for device in part["devices"] if device["model"] == "iotcore-smoke-heat"} == {"p-001", "p-002"}

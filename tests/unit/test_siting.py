"""What an import tells of a detector where people cook or shower."""

from __future__ import annotations

import pytest

from iotcore.registry.city import DeviceEntry
from iotcore.registry.siting import PLACES, advice
from iotcore.specs.model import DeviceSpec, Point

BOTH = {"smoke": Point(unit="dB/m"), "temperature": Point(unit="°C")}
SPECS = {
    "multi": DeviceSpec("multi", "Acme", "D", "fire_detector", "canonical", "test", "no", 10.0, BOTH),
    "smoke": DeviceSpec("smoke", "Acme", "D", "fire_detector", "canonical", "test", "no", 10.0, {"smoke": BOTH["smoke"]}),
    "heat": DeviceSpec(
        "heat", "Acme", "D", "fire_detector", "canonical", "test", "no", 10.0, {"temperature": BOTH["temperature"]}
    ),
}
ZONES = {"z1": "Nhà bếp", "z2": "Main kitchen", "z3": "Hành lang"}


def told(model: str, zone: str = "z3", place: str = "") -> list[str]:
    return advice([DeviceEntry("d1", "D", model, zone=zone, labels={"place": place} if place else {})], ZONES, SPECS)


@pytest.mark.parametrize("zone", ["z1", "z2"])
@pytest.mark.parametrize("model", ["multi", "smoke"])
def test_a_smoke_detector_in_a_zone_called_a_kitchen_without_the_label_is_to_be_looked_at(zone: str, model: str) -> None:
    (said,) = told(model, zone)
    assert said.startswith("d1: hangs in")
    assert "place=kitchen" in said


@pytest.mark.parametrize("place", sorted(PLACES))
def test_smoke_alone_where_people_cook_or_shower_is_to_be_looked_at(place: str) -> None:
    (said,) = told("smoke", place=place)
    assert f"place is {place}" in said
    assert told("multi", "z1", place) == []


def test_a_place_that_no_rule_knows_is_said_with_those_that_are() -> None:
    (said,) = told("multi", place="kichen")
    assert said.endswith("known are: commercial-kitchen, kitchen, steam")


def test_elsewhere_and_of_heat_detectors_nothing_is_said() -> None:
    assert told("multi") + told("smoke") + told("heat", "z1") + told("unknown", "z1") == []


def test_a_city_of_such_detectors_is_told_in_twenty_lines_and_a_count() -> None:
    city = [DeviceEntry(f"d{n}", "D", "multi", zone="z1") for n in range(5000)]
    said = advice(city, ZONES, SPECS)
    assert len(said) == 21
    assert said[-1] == "4980 more devices as these"

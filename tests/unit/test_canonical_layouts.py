"""Canonical devices whose firmware changes what they tell, and points that are words of a list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drivers.mqtt import canonical
from iotcore.reading import Quality, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.wire.arrival import Arrival
from tests.support.canonical import NOW_MS, message
from tests.support.spec_documents import document, parse

MODES = {"1": "fixed_time", "2": "flash"}
POINTS = {
    "level": {"unit": "m", "range": [0, 10]},
    "mode": {"kind": "enum", "states": MODES},
    "faults": {"kind": "flags", "states": MODES},
}
NEWER = {"versions": ["2.*"], "differs": "level in cm", "points": {"level": {"unit": "cm", "range": [0, 1000]}}}
FIRMWARE = {"base": ["1.*"], "revisions": [NEWER]}
SPEC = parse(document(POINTS, protocol="canonical", device_class="traffic_signal", firmware=FIRMWARE))
DIRECTORY = Directory(devices={"d1": Binding("d1", "One", SPEC, "traffic", "d1", "active")})


def told(values: dict[str, Any], firmware: str) -> tuple[Value, ...]:
    content = json.dumps(message(values=values, fw=firmware)).encode()
    arrival = Arrival("iot/v1/traffic/d1/up/reading/d1", content, retained=False, received_ms=NOW_MS)
    found = canonical.decode(arrival, DIRECTORY, NOW_MS)
    assert found.refusals == ()
    return found.readings[0].values


@pytest.mark.parametrize(
    ("firmware", "value"),
    [("1.4", Value("level", 250.0, Quality.BAD, "out_of_range")), ("2.0", Value("level", 250.0))],
)
def test_a_reading_is_judged_by_the_layout_of_its_own_version(firmware: str, value: Value) -> None:
    assert told({"level": 250.0}, firmware) == (value,)


@pytest.mark.parametrize("firmware", ["3.0", ""])
def test_an_unknown_version_is_a_trouble_of_every_point(firmware: str) -> None:
    assert told({"level": 2.5}, firmware) == tuple(
        Value(name, None, Quality.BAD, "unknown_firmware") for name in ("level", "mode", "faults")
    )


@pytest.mark.parametrize(
    ("values", "value"),
    [
        ({"mode": "flash"}, Value("mode", "flash")),
        ({"mode": "party"}, Value("mode", None, Quality.BAD, "unknown_state")),
        ({"mode": 2}, Value("mode", None, Quality.BAD, "wrong_type")),
        ({"faults": "fixed_time flash"}, Value("faults", "fixed_time flash")),
    ],
)
def test_a_word_is_one_that_the_spec_knows(values: dict[str, Any], value: Value) -> None:
    assert told(values, "1.0") == (value,)

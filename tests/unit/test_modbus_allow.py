"""The allow-list of writes: strict, whole, and never wider than the spec."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.allow import AllowList, parse
from iotcore.errors import ConfigError
from tests.support.pump import DEVICE, SPECS


def listed(*devices: dict[str, Any]) -> AllowList:
    return parse(json.dumps({"devices": devices}).encode(), "allow.yaml", SPECS)


def changed(section: str, i: int, **fields: Any) -> dict[str, Any]:
    entries = [dict(entry) for entry in DEVICE[section]]
    entries[i].update(fields)
    return {**DEVICE, section: entries}


def test_a_unit_is_found_by_where_it_is_whatever_its_other_parameters() -> None:
    allow = listed(DEVICE)
    unit = allow.at("tcp://10.0.0.9?device_id=4&firmware=2.1")
    assert unit is not None
    assert (unit.device, unit.timeout_s, sorted(unit.targets)) == ("pump-1", 0.5, ["damping", "run", "set_mode", "set_speed"])
    assert allow.at("tcp://10.0.0.9?device_id=5") is None
    assert allow.at("tcp://10.0.0.8?device_id=4") is None


def test_a_target_has_the_narrower_range_the_spec_s_safety_class_and_byte_order() -> None:
    targets = listed(DEVICE).units[0].targets
    assert (targets["set_speed"].range, targets["set_speed"].safety, targets["set_speed"].every_s) == ((0, 500), "routine", 60)
    assert targets["set_mode"].safety == "two_person"
    assert targets["set_speed"].shown_by is not None
    assert targets["damping"].order == "CDAB"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({**DEVICE, "model": "acme-fan"}, "devices[0].model", "no Modbus spec is named 'acme-fan'"),
    ({**DEVICE, "connection": "10.0.0.9"}, "devices[0].connection", "begins with none of"),
    ({**DEVICE, "colour": "red"}, "devices[0].colour", "unknown key"),
    (changed("commands", 0, name="set_colour"), "devices[0].commands[0].name", "there are: set_speed, set_mode, erase, run"),
    (changed("commands", 0, name="erase", range=[1, 1]), "devices[0].commands[0].name", "forbidden"),
    (changed("commands", 0, range=[0, 1001]), "devices[0].commands[0].range", "wider than the command's own"),
    (changed("commands", 0, range=[9, 1]), "devices[0].commands[0].range", "lower first"),
    (changed("commands", 0, every_s=0), "devices[0].commands[0].every_s", ">"),
    (changed("commands", 2, read_write=True), "devices[0].commands[2].read_write", "whole holding registers"),
    (changed("registers", 0, range=None), "devices[0].registers[0].range", "nothing would bound"),
    (changed("registers", 0, range=[0, 1e39]), "devices[0].registers[0].range", "more than the register can hold"),
    (
        changed("registers", 0, modbus={"table": "input", "address": 4, "type": "int16"}),
        "devices[0].registers[0].modbus.table",
        "cannot be written",
    ),
    (
        changed("registers", 0, modbus={"table": "holding", "address": 11, "type": "int16"}),
        "devices[0].registers[0].modbus",
        "is what the command set_mode writes",
    ),
    (
        changed("registers", 0, modbus={"table": "holding", "address": 9, "type": "float32"}),
        "devices[0].registers[0].modbus",
        "is what the command set_speed writes",
    ),
    (
        changed("registers", 0, modbus={"table": "holding", "address": 40, "type": "string", "length": 2}),
        "devices[0].registers[0].modbus.type",
        "a text is not written",
    ),
    (changed("registers", 0, name="erase"), "devices[0].registers[0].name", "is a command of acme-pump"),
]


@pytest.mark.parametrize(("device", "path", "reason"), REFUSED, ids=[f"{path}: {reason}" for _, path, reason in REFUSED])
def test_what_would_let_too_much_through_is_refused(device: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        listed(device)
    assert any(problem.path == path and reason in problem.reason for problem in caught.value.problems), str(caught.value)


def test_every_problem_comes_at_once() -> None:
    broken = {**changed("commands", 0, name="erase"), "registers": [{**DEVICE["registers"][0], "range": None}]}
    with pytest.raises(ConfigError) as caught:
        listed(broken, {**DEVICE, "device": "pump-2", "model": "acme-fan", "connection": "x"})
    paths = [problem.path for problem in caught.value.problems]
    assert {"devices[0].commands[0].name", "devices[0].registers[0].range", "devices[1].model"} <= set(paths)


def test_a_device_or_a_connection_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="pump-1 stands twice"):
        listed(DEVICE, DEVICE)
    with pytest.raises(ConfigError, match="has the connection of another"):
        listed(DEVICE, {**DEVICE, "device": "pump-2"})


@given(st.binary(max_size=100))
def test_no_bytes_crash_the_loader(content: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(content, "allow.yaml", SPECS)

"""Every shipped spec against its cases, and what must hold of every spec whatever its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt import canonical
from iotcore.reading import Quality, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import decode, encode, load, plan, raw, yaml12
from iotcore.specs.model import DeviceSpec, ModbusLimits, Table
from iotcore.wire.arrival import Arrival, Decoded
from iotcore.wire.topics import DOMAIN_OF_CLASS, up

CASES = Path(__file__).parents[1] / "cases"
FILES = sorted(CASES.glob("*/*.yaml"))
SPECS = load.load_folder(load.shipped_folder())
NOW_MS = 1_795_312_801_000.0
TABLE_OF_FUNCTION: dict[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}  # Modbus 1.1b3, §6
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_case(path: Path) -> None:
    spec = SPECS[path.parent.name]
    case = yaml12.parse(path.read_text(encoding="utf-8"))
    if spec.protocol == "modbus":
        words = answered(spec, bytes.fromhex(case["request"]), bytes.fromhex(case["response"]))
        assert decode.values(spec, words) == expected(case["expect"])
        return
    decoded = published(spec, case.get("kind", "reading"), case["payload"].encode())
    wanted = case["expect"] if isinstance(case["expect"], list) else [case["expect"]]
    assert [each.values for each in decoded.readings] == [expected(each) for each in wanted]
    assert [each.reason for each in decoded.refusals] == case.get("refusals", [])
    assert (decoded.presence and decoded.presence.message.state) == case.get("presence")


def expected(points: dict[str, Any]) -> tuple[Value, ...]:
    return tuple(
        Value(name, said[0], Quality(said[1]), said[2]) if isinstance(said, list) else Value(name, said)
        for name, said in points.items()
    )


def answered(spec: DeviceSpec, request: bytes, response: bytes) -> dict[tuple[Table, int], int]:
    """The words of a register read, whose request must be one of the plan's."""
    table = TABLE_OF_FUNCTION[request[0]]
    address, count = int.from_bytes(request[1:3], "big"), int.from_bytes(request[3:5], "big")
    assert (table, address, count) in [(each.table, each.address, each.count) for each in plan.requests(spec)]
    assert (response[0], response[1], len(response)) == (request[0], 2 * count, 2 + 2 * count)
    content = response[2:]
    return {(table, address + i): int.from_bytes(content[2 * i : 2 * i + 2], "big") for i in range(count)}


def published(spec: DeviceSpec, kind: str, payload: bytes) -> Decoded:
    domain = DOMAIN_OF_CLASS[spec.device_class]
    directory = Directory(devices={"d1": Binding("d1", "Device", spec, domain, "d1", "active")})
    return canonical.decode(Arrival(up(domain, "d1", kind, "d1"), payload, retained=False, received_ms=NOW_MS), directory, NOW_MS)


# every spec


def test_there_are_cases_for_every_model_and_models_for_every_case() -> None:
    folders = {path.parent.name for path in FILES}
    assert folders == set(SPECS)
    assert [model for model in SPECS if len(list((CASES / model).glob("*.yaml"))) < 2] == []


@each_spec
def test_the_cases_of_a_model_hold_every_point_and_something_bad(spec: DeviceSpec) -> None:
    good, bad = set(), 0
    for path in (CASES / spec.model).glob("*.yaml"):
        case = yaml12.parse(path.read_text(encoding="utf-8"))
        expect = case["expect"] if isinstance(case["expect"], list) else [case["expect"]]
        good |= {name for points in expect for name, said in points.items() if not isinstance(said, list)}
        bad += len(case.get("refusals", [])) + sum(isinstance(said, list) for points in expect for said in points.values())
    assert bad > 0
    assert good == set(spec.points)


@each_spec
def test_people_read_every_point_in_vietnamese_and_english(spec: DeviceSpec) -> None:
    assert {name for name, point in spec.points.items() if {"vi", "en"} - set(point.title)} == set()
    assert all(text.strip() for point in spec.points.values() for text in point.title.values())


@each_spec
def test_every_number_has_a_sane_range(spec: DeviceSpec) -> None:
    numbers = {name: point for name, point in spec.points.items() if point.kind == "number"}
    assert {name for name, point in numbers.items() if point.range is None} == set()
    assert {name for name, point in numbers.items() if not point.unit and name != "plan"} == set()


@each_spec
def test_a_spec_decodes_what_it_encodes(spec: DeviceSpec) -> None:
    numbers = {
        name: point.range for name, point in spec.points.items() if point.modbus and point.kind == "number" and point.range
    }
    for share in (0.0, 0.37, 1.0):
        told = {name: low + share * (high - low) for name, (low, high) in numbers.items()}
        for value in decode.values(spec, encode.image(spec, told))[: len(told)]:
            point = spec.points[value.point]
            assert point.modbus is not None
            step = abs(point.scale) if point.modbus.type not in raw.FLOATS else abs(told[value.point]) * 2**-23
            assert isinstance(value.value, float)
            assert value.quality is Quality.GOOD
            assert abs(value.value - told[value.point]) <= step


@each_spec
def test_every_state_of_a_quality_register_comes_back_as_it_was_said(spec: DeviceSpec) -> None:
    for name, point in spec.points.items():
        for words in (words for wire in point.quality for words in wire.states.values()):
            assert point.range is not None
            image = encode.image(spec, {name: point.range[0]}, {name: words})
            found = next(value for value in decode.values(spec, image) if value.point == name)
            assert f"{found.quality.value}:{found.why}".rstrip(":") == words


@each_spec
def test_the_plan_reads_every_point_within_the_units_limits(spec: DeviceSpec) -> None:
    requests = plan.requests(spec)
    limits = spec.modbus or ModbusLimits()
    assert all(each.count <= limits.max_registers for each in requests)
    read = {(each.table, each.address + i) for each in requests for i in range(each.count)}
    image = dict.fromkeys(read, 0)
    modbus = [name for name, point in spec.points.items() if point.modbus]
    assert [value.point for value in decode.values(spec, image) if value.why == "not_read"] == [
        name for name in spec.points if name not in modbus
    ]
    assert {name for each in requests for name in each.points} == set(modbus)

"""What must hold of every shipped spec, whatever its model."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

import pytest

from iotcore.reading import Quality, Scalar, Value
from iotcore.specs import decode, encode, firmware, meaning, payload, plan, raw
from iotcore.specs.model import DeviceSpec, ModbusLimits, Point
from tests.support import spec_cases
from tests.support.shipped import SPECS

each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
MODBUS = {name: spec for name, spec in SPECS.items() if spec.protocol == "modbus"}
VENDOR = {name: spec for name, spec in SPECS.items() if spec.protocol in ("json", "bytes")}
each_modbus_spec = pytest.mark.parametrize("spec", MODBUS.values(), ids=MODBUS)
each_vendor_spec = pytest.mark.parametrize("spec", VENDOR.values(), ids=VENDOR)
UNITLESS = (
    "plan",
    "count",
    "number",
    "index",
    "version",
    "sequence",
    "step",
    "check",
    "units",
    "kept",
    "evicted",
)  # what has no unit says so in its name
SHARES = (0.0, 0.37, 1.0)


@each_spec
def test_the_cases_of_a_model_hold_every_point_and_something_bad(spec: DeviceSpec) -> None:
    good: set[str] = set()
    bad = 0
    for case in spec_cases.of_model(spec.model):
        for points in spec_cases.expectations(case):
            good |= {name for name, said in points.items() if not isinstance(said, list)}
            bad += sum(isinstance(said, list) for said in points.values())
        bad += len(case.get("refusals", []))
    assert bad > 0
    kinds = {name: _kind(spec, name) for name in spec.points}
    assert {kinds[name] for name in good if name in kinds} == set(kinds.values())


def _kind(spec: DeviceSpec, name: str) -> str:
    """A point's name, or of a repeated one its template: a case need not show all 1,590 detectors."""
    templates = [template for each in spec.repeats for template in each.points]
    return next((each for each in templates if re.fullmatch(re.sub(r"\{[a-z]+\}", r"\\d+", each), name)), name)


@each_spec
def test_people_read_every_point_and_command_in_vietnamese_and_english(spec: DeviceSpec) -> None:
    titles = {name: point.title for name, point in spec.points.items()} | {n: c.title for n, c in spec.commands.items()}
    assert {name for name, title in titles.items() if {"vi", "en"} - set(title)} == set()
    assert all(text.strip() for title in titles.values() for text in title.values())
    assert {name for name, title in titles.items() if "{" in "".join(title.values())} == set()


@each_spec
def test_every_number_has_a_sane_range_and_a_unit(spec: DeviceSpec) -> None:
    numbers = {name: point for name, point in spec.points.items() if point.kind == "number"}
    assert {name for name, point in numbers.items() if point.range is None} == set()
    assert {name for name, point in numbers.items() if not point.unit and not any(word in name for word in UNITLESS)} == set()


@each_spec
def test_a_spec_says_where_it_comes_from_and_what_nobody_has_checked(spec: DeviceSpec) -> None:
    assert len(spec.source) > 20
    assert "our own" in spec.verified.lower() or "not tried on a unit" in spec.verified.lower()


def samples(point: Point) -> list[Scalar]:
    """Values that a point can have."""
    if point.kind == "bool":
        return [True, False]
    if point.kind == "enum":
        return list(dict.fromkeys([*point.states.values(), *filter(None, [point.otherwise])]))
    if point.kind == "flags":
        return ["", *point.states.values(), " ".join(point.states.values())]
    if point.kind == "text":
        return ["", "A", "iot 1"]
    assert point.range is not None
    low, high = point.range
    return [low + share * (high - low) for share in SHARES]


def comes_back(point: Point, told: Scalar, found: Value) -> bool:
    if isinstance(told, float) and isinstance(found.value, float):
        kind = point.modbus.type if point.modbus else point.bytes.type if point.bytes else "float64"
        step = abs(point.scale) if kind not in raw.FLOATS else abs(told) * 2**-23 + abs(point.scale) * 1e-9
        return abs(found.value - told) <= step and found.quality is Quality.GOOD
    return found == Value(found.point, told)


def sampled(spec: DeviceSpec, most: int = 60) -> list[tuple[str, Point]]:
    """All points of a small unit, some of a panel with thousands."""
    points = list(spec.points.items())
    return points if len(points) <= most else random.Random(1).sample(points, most)


@each_modbus_spec
def test_a_modbus_spec_decodes_what_it_encodes(spec: DeviceSpec) -> None:
    for name, point in sampled(spec):
        for told in samples(point):
            image = dict.fromkeys(_read(spec), 0) | encode.image(spec, {name: told})
            (found,) = decode.values(spec, image, points={name})
            if told in (0.0, *(float(each) for each in point.sentinels)) and found.why == "no_value":
                continue  # the raw value that stands for "no value" cannot be told
            if is_a_verdict(point, found):
                continue
            assert comes_back(point, told, found), (name, told, found)


def is_a_verdict(point: Point, found: Value) -> bool:
    """Whether the point's own register says by this very value how good it is: 0 of a module that is not measured."""
    own = point.modbus.address if point.modbus else None
    return any(f"{found.quality.value}:{found.why}" in wire.states.values() for wire in point.quality if wire.address == own)


@each_modbus_spec
def test_every_state_of_a_quality_register_comes_back_as_it_was_said(spec: DeviceSpec) -> None:
    for name, point in sampled(spec):
        for words in {words for wire in point.quality for words in wire.states.values()}:
            image = dict.fromkeys(_read(spec), 0)
            for patch in [*encode.unit_patches(spec), *encode.patches(spec, name, samples(point)[0], words)]:
                encode.merge(image, patch)
            (found,) = decode.values(spec, image, points={name})
            assert f"{found.quality.value}:{found.why}".rstrip(":") == words, name


@each_modbus_spec
def test_the_plan_reads_every_point_within_the_units_limits(spec: DeviceSpec) -> None:
    limits = spec.modbus or ModbusLimits()
    requests = plan.requests(spec)
    most = {"coil": limits.max_bits, "discrete": limits.max_bits}
    assert all(each.count <= most.get(each.table, limits.max_registers) for each in requests)
    image = dict.fromkeys(_read(spec), 0)
    assert [value for value in decode.values(spec, image) if value.why == "not_read"] == []
    assert {name for each in requests for name in each.points} == set(spec.points)


@each_modbus_spec
def test_the_groups_of_a_plan_read_every_point_once_and_all_they_need(spec: DeviceSpec) -> None:
    groups = plan.groups(spec)
    assert sorted(name for each in groups for name in each.points) == sorted(spec.points)
    assert [each.lane for each in groups] == sorted((each.lane for each in groups), key=["fire", "bulk"].index)
    for each in groups:
        words = {(r.table, r.address + i): 0 for r in each.requests for i in range(r.count)}
        found = decode.values(spec, words, points=set(each.points))
        assert [value for value in found if value.why == "not_read"] == []


@each_spec
def test_every_firmware_layout_is_known_and_an_unknown_one_never_guessed(spec: DeviceSpec) -> None:
    if spec.firmware is None:
        assert firmware.layout(spec, "whatever") is spec
        return
    assert firmware.layout(spec, spec.firmware.base[0].replace("*", "0")) is spec
    for revision in spec.firmware.revisions:
        found = firmware.layout(spec, revision.versions[0].replace("*", "0"))
        assert found is not None
        assert set(revision.points) <= set(found.points)
        assert not set(revision.without) & set(found.points)
    assert firmware.layout(spec, "no such version") is None
    assert {value.why for value in firmware.refused(spec)} == {"unknown_firmware"}


@each_vendor_spec
def test_a_vendors_spec_decodes_what_it_encodes(spec: DeviceSpec) -> None:
    everything: dict[str, Any] = {name: samples(point)[-1] for name, point in spec.points.items()}
    for name, point in spec.points.items():
        for told in samples(point):
            sent = payload.encode(spec, {**everything, name: told})
            found = next(value for value in payload.decode(spec, sent).values if value.point == name)
            assert comes_back(point, told, found), (name, told, found)


@cache  # the plan of a panel takes longer than all that is asked of it here
def _read(spec: DeviceSpec) -> list[tuple[Any, int]]:
    return [(each.table, each.address + i) for each in plan.requests(spec) for i in range(each.count)]


def test_a_flag_without_a_word_is_told_by_its_number() -> None:
    assert meaning.flags(Point(kind="flags", states={"0": "alert"}), 0b101) == "alert bit2"

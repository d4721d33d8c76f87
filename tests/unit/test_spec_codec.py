"""Registers to values and back: published frames, every type and byte order, and how requests are joined."""

from __future__ import annotations

import math
import struct
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.reading import Quality, Value
from iotcore.specs import decode, encode, plan, raw
from iotcore.specs.model import ByteOrder, DeviceSpec, ModbusLimits, ModbusWire, Point, QualityWire, RawType, Table
from iotcore.specs.plan import Request

ORDERS: tuple[ByteOrder, ...] = get_args(ByteOrder)
INTEGERS: tuple[RawType, ...] = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
EXACT = 2**53  # the largest integer up to which a binary64 keeps every one (IEEE 754)
STATES = {"0": "good", "1": "uncertain:why", "2": "bad:why"}


def point(kind: RawType, address: int = 0, table: Table = "holding", **meaning: Any) -> Point:
    order = meaning.pop("byte_order", None)
    return Point(modbus=ModbusWire(table=table, address=address, type=kind, byte_order=order), **meaning)


def state(address: int) -> QualityWire:
    return QualityWire(table="holding", address=address, states=STATES)


def one_bit(bit: int | None, address: int = 0, table: Table = "holding", kind: RawType = "bit") -> Point:
    return Point(kind="bool", modbus=ModbusWire(table=table, address=address, type=kind, bit=bit))


def unit(points: dict[str, Point], **limits: Any) -> DeviceSpec:
    return DeviceSpec(
        model="acme-1",
        vendor="Acme",
        title="Acme 1",
        device_class="air_station",
        protocol="modbus",
        source="none",
        verified="for tests only",
        interval_s=60,
        points=points,
        modbus=ModbusLimits(**limits),
    )


# published numbers


@pytest.mark.parametrize(
    ("order", "registers"),
    [
        ("ABCD", [0x429E, 0x46C2]),  # YSI IQ SensorNet DIQ/S 182, Modbus example: 79.1382 FNU
        ("BADC", [0x9E42, 0xC246]),
        ("CDAB", [0x46C2, 0x429E]),
        ("DCBA", [0xC246, 0x9E42]),
    ],
)
def test_a_published_float_in_all_four_orders(order: ByteOrder, registers: list[int]) -> None:
    found = decode.value("turbidity", point("float32"), registers, order)
    assert found.quality is Quality.GOOD
    assert found.value == pytest.approx(79.1382, abs=5e-5)


@pytest.mark.parametrize(
    ("kind", "registers", "number"),
    [
        ("int16", [0xFFFF], -1),
        ("uint16", [0xFFFF], 65535),
        ("int32", [0xFFFF, 0xFFFE], -2),
        ("uint32", [0x0001, 0x0000], 65536),
        ("float64", [0x4009, 0x21FB, 0x5444, 0x2D18], math.pi),
    ],
)
def test_numbers_that_anyone_can_check(kind: RawType, registers: list[int], number: float) -> None:
    assert decode.value("x", point(kind), registers, "ABCD") == Value("x", number)


@pytest.mark.parametrize(("raw_number", "value"), [(231, 23.1), (-34, -3.4), (3, 0.3), (10132, 1013.2), (0, 0.0)])
def test_tenths_come_as_people_write_them(raw_number: int, value: float) -> None:
    assert decode.value("x", point("int16", scale=0.1), [raw_number & 0xFFFF], "ABCD").value == value


def test_a_points_own_byte_order_wins() -> None:
    assert decode.value("x", point("uint16", byte_order="BADC"), [0x0100], "ABCD") == Value("x", 1.0)


def test_bits_are_numbered_from_the_least_significant() -> None:
    alarm, fault = one_bit(11), one_bit(13, kind="uint16")
    assert decode.value("alarm", alarm, [0x0810], "ABCD").value is True  # Notifier MODBUS-GW: fire, bit 11
    assert decode.value("fault", fault, [0x0810], "ABCD").value is False
    assert decode.value("fault", fault, [0x2000], "ABCD").value is True  # trouble, bit 13


# what is not a value


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_not_finite_is_no_value(kind: RawType, number: float) -> None:
    assert decode.value("x", point(kind), raw.words(kind, number, "ABCD"), "ABCD") == Value("x", None, Quality.BAD, "not_finite")


def test_a_sentinel_is_no_value_and_is_compared_raw() -> None:
    scaled = point("uint16", scale=0.1, range=(0, 6553.5), sentinels=(65535,))
    assert decode.value("x", scaled, [0xFFFF], "ABCD") == Value("x", None, Quality.BAD, "no_value")
    assert decode.value("x", scaled, [0xFFFE], "ABCD") == Value("x", 6553.4)
    binary = point("float32", sentinels=(-9999.9,))
    assert decode.value("x", binary, raw.words("float32", -9999.9, "ABCD"), "ABCD").why == "no_value"


@pytest.mark.parametrize(
    ("said", "quality", "why"),
    [
        (0, Quality.GOOD, ""),
        (1, Quality.UNCERTAIN, "why"),
        (2, Quality.BAD, "why"),
        (9, Quality.BAD, "unknown_state"),
        (None, Quality.BAD, "not_read"),
    ],
)
def test_the_units_own_verdict_comes_with_the_number(said: int | None, quality: Quality, why: str) -> None:
    spec = unit({"x": point("int16", quality=(state(1),))})
    words: dict[tuple[Table, int], int] = {("holding", 0): 5}
    if said is not None:
        words["holding", 1] = said
    assert decode.values(spec, words) == (Value("x", 5.0, quality, why),)


def test_too_few_registers_are_no_value() -> None:
    assert decode.value("x", point("float32"), [0x429E], "ABCD") == Value("x", None, Quality.BAD, "short")


def test_a_unit_has_a_value_for_every_point_whatever_was_read() -> None:
    spec = unit({"a": point("int16"), "b": point("int16", 1), "c": point("int32", 2)})
    found = decode.values(spec, {("holding", 0): 7, ("holding", 2): 1}, {"b": "timeout"})
    assert found == (
        Value("a", 7.0),
        Value("b", None, Quality.BAD, "timeout"),
        Value("c", None, Quality.BAD, "not_read"),
    )


# round trips


@given(st.data())
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", INTEGERS)
def test_every_integer_comes_back(kind: RawType, order: ByteOrder, data: st.DataObject) -> None:
    low, high = (max(-EXACT, min(EXACT, int(limit))) for limit in raw.LIMITS[kind])
    number = data.draw(st.integers(low, high))
    registers = encode.registers(point(kind), float(number), order)
    assert all(0 <= word <= 0xFFFF for word in registers)
    assert decode.value("x", point(kind), registers, order) == Value("x", float(number))


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_every_float_comes_back(kind: RawType, order: ByteOrder, number: float) -> None:
    registers = encode.registers(point(kind), number, order)
    assert decode.value("x", point(kind), registers, order) == Value("x", number)


@given(
    raw_number=st.integers(-32768, 32767),
    scale=st.sampled_from([1.0, 0.1, 0.01, -0.1, 10.0, 0.25]),
    offset=st.sampled_from([0.0, -40.0, 273.15]),
)
def test_scale_and_offset_come_back(raw_number: int, scale: float, offset: float) -> None:
    scaled = point("int16", scale=scale, offset=offset)
    value = decode.value("x", scaled, [raw_number & 0xFFFF], "ABCD").value
    assert encode.registers(scaled, value, "ABCD") == [raw_number & 0xFFFF]


@given(bits=st.lists(st.booleans(), min_size=16, max_size=16))
@pytest.mark.parametrize("order", ORDERS)
def test_sixteen_bits_share_a_word(order: ByteOrder, bits: list[bool]) -> None:
    spec = unit({f"b{i}": one_bit(i) for i in range(16)}, byte_order=order)
    told = {f"b{i}": bit for i, bit in enumerate(bits)}
    image = encode.image(spec, told)
    assert list(image) == [("holding", 0)]
    assert {value.point: value.value for value in decode.values(spec, image)} == told


def test_coils_are_one_bit_an_address() -> None:
    spec = unit({f"c{i}": one_bit(None, i, "coil") for i in range(3)})
    image = encode.image(spec, {"c0": True, "c1": False, "c2": True})
    assert image == {("coil", 0): 1, ("coil", 1): 0, ("coil", 2): 1}
    assert [value.value for value in decode.values(spec, image)] == [True, False, True]


@pytest.mark.parametrize(("kind", "sentinels"), [("float32", ()), ("float64", ()), ("int16", (-32768.0,)), ("float32", (-1.5,))])
def test_no_value_comes_back_as_none(kind: RawType, sentinels: tuple[float, ...]) -> None:
    silent = point(kind, sentinels=sentinels)
    assert decode.value("x", silent, encode.registers(silent, None, "CDAB"), "CDAB").value is None


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (point("int16"), 32768.0),
        (point("uint16"), -1.0),
        (point("uint32"), 2.0**32),
        (point("int16", scale=0.1), 3276.8),
        (point("int16"), None),
        (point("int16"), math.nan),
        (point("int16"), math.inf),
        (point("float32"), 1e39),
        (point("int16"), "5"),
        (point("int16"), True),
        (one_bit(0), 1.0),
        (Point(), 1.0),
    ],
)
def test_what_does_not_fit_is_refused(wire: Point, value: Any) -> None:
    with pytest.raises(ValueError, match=r"fit|neither|no "):
        encode.registers(wire, value, "ABCD")


def test_an_image_says_whose_value_does_not_fit() -> None:
    with pytest.raises(ValueError, match="acme-1: a: "):
        encode.image(unit({"a": point("int16")}), {"a": 1e6})
    with pytest.raises(ValueError, match=r"acme-1: a: has no quality register"):
        encode.image(unit({"a": point("int16")}), {"a": 1.0}, {"a": "bad:why"})


@given(st.sampled_from(list(raw.WORDS)), st.sampled_from(ORDERS), st.data())
def test_the_registers_are_those_of_struct(kind: RawType, order: ByteOrder, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=raw.WORDS[kind], max_size=raw.WORDS[kind]))
    letters = b"".join(word.to_bytes(2, "big") for word in words)
    if order in ("CDAB", "DCBA"):
        letters = b"".join(letters[i : i + 2] for i in range(len(letters) - 2, -1, -2))
    if order in ("BADC", "DCBA"):
        letters = b"".join(letters[i : i + 2][::-1] for i in range(0, len(letters), 2))
    code = {
        "bit": "H",
        "int16": "h",
        "uint16": "H",
        "int32": "i",
        "uint32": "I",
        "int64": "q",
        "uint64": "Q",
        "float32": "f",
    }.get(kind, "d")
    (number,) = struct.unpack(f">{code}", letters)
    assert raw.number(kind, words, order) == number or math.isnan(number)


# requests


def addressed(*addresses: int, table: Table = "holding") -> dict[str, Point]:
    return {f"p{address}": point("int16", address, table) for address in addresses}


def blocks(spec: DeviceSpec) -> list[tuple[int, int]]:
    return [(each.address, each.count) for each in plan.requests(spec)]


def test_neighbours_share_a_request_and_say_whose_it_is() -> None:
    assert plan.requests(unit(addressed(0, 1, 4))) == [Request("holding", 0, 5, ("p0", "p1", "p4"))]


@pytest.mark.parametrize(("max_hole", "found"), [(0, [(0, 2), (4, 1)]), (1, [(0, 2), (4, 1)]), (2, [(0, 5)])])
def test_a_hole_is_read_up_to_the_cap(max_hole: int, found: list[tuple[int, int]]) -> None:
    assert blocks(unit(addressed(0, 1, 4), max_hole=max_hole)) == found


def test_no_request_is_longer_than_the_unit_bears() -> None:
    assert blocks(unit(addressed(*range(10)), max_registers=4)) == [(0, 4), (4, 4), (8, 2)]


def test_a_number_is_never_cut_in_two() -> None:
    points = {f"p{i}": point("float32", 2 * i) for i in range(3)}
    assert blocks(unit(points, max_registers=3)) == [(0, 2), (2, 2), (4, 2)]


def test_tables_are_read_apart() -> None:
    found = plan.requests(unit(addressed(0) | {"i": point("int16", 1, "input"), "c": one_bit(None, 5, "coil")}))
    assert [(each.table, each.address, each.count) for each in found] == [("coil", 5, 1), ("holding", 0, 1), ("input", 1, 1)]


def test_a_value_and_its_quality_are_of_one_moment() -> None:
    judged = {
        f"p{i}": point("float32", 4 * i, quality=(QualityWire(table="holding", address=4 * i + 2, states=STATES),))
        for i in range(3)
    }
    assert blocks(unit(judged, max_registers=4)) == [(0, 3), (4, 3), (8, 3)]


def test_a_quality_register_far_away_is_a_request_of_its_own_for_the_same_point() -> None:
    judged = {"x": point("int16", 0, quality=(state(900),))}
    assert [(each.address, each.points) for each in plan.requests(unit(judged))] == [(0, ("x",)), (900, ("x",))]


@given(
    addresses=st.sets(st.integers(0, 600), min_size=1, max_size=40),
    max_registers=st.integers(1, 125),
    max_hole=st.integers(0, 124),
)
def test_every_point_is_read_once_within_the_limits(addresses: set[int], max_registers: int, max_hole: int) -> None:
    spec = unit(addressed(*addresses), max_registers=max_registers, max_hole=max_hole)
    found = plan.requests(spec)
    read = [each.address + i for each in found for i in range(each.count)]
    assert all(each.count <= max_registers for each in found)
    assert len(read) == len(set(read))
    assert addresses <= set(read)
    assert sorted(name for each in found for name in each.points) == sorted(spec.points)


def test_a_spec_survives_being_written_and_read() -> None:
    spec = unit(addressed(0, 1))
    again = msgspec.convert(msgspec.to_builtins(spec), DeviceSpec)
    assert msgspec.to_builtins(again) == msgspec.to_builtins(spec)

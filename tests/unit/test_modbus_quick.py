"""The prepared decoders say what `decode` says, for every shipped spec and whatever the words."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from drivers.modbus import layout, quick
from iotcore.specs import decode
from iotcore.specs.model import ByteOrder, DeviceSpec, ModbusLimits, ModbusWire, Point, QualityWire
from iotcore.specs.plan import Request
from tests.support import shipped

SPECS = {name: spec for name, spec in shipped.SPECS.items() if spec.protocol == "modbus"}
WORD = st.sampled_from((0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FC0, 0xFF80)) | st.integers(0, 0xFFFF)
STEPS = [(name, read, step) for name, spec in SPECS.items() for read in layout.of(spec).reads for step in read.steps]


@given(st.sampled_from(STEPS), st.randoms(use_true_random=False), st.data())
@settings(max_examples=300)
def test_prepared_decoders_agree_with_decode_on_every_shipped_spec(
    chosen: tuple[str, layout.Read, layout.Step], random: Random, data: st.DataObject
) -> None:
    _, read, step = chosen
    few = data.draw(st.lists(WORD, min_size=1, max_size=8))
    bits = step.keys[0][0] in {"coil", "discrete"}
    words = [random.choice(few) & 1 if bits else random.choice(few) for _ in step.keys]
    if step.decoders is not None:
        expected = decode.values(step.complete, dict(zip(step.keys, words, strict=True)))
        assert repr([decoder(words) for decoder in step.decoders]) == repr(list(expected))
    assert read.keeps_words or all(each.decoders is not None for each in read.steps)


@pytest.mark.parametrize("order", ["ABCD", "BADC", "CDAB", "DCBA"])
@given(words=st.lists(WORD, min_size=10, max_size=10))
@settings(max_examples=60)
def test_they_agree_on_every_type_and_order(order: ByteOrder, words: list[int]) -> None:
    def at(address: int, kind: str, **more: object) -> ModbusWire:
        return ModbusWire("holding", address, kind, **more)  # type: ignore[arg-type]

    verdict = QualityWire({"0": "good", "1": "uncertain:old", "2": "bad:off"}, "holding", 9)
    points = {
        "a": Point(modbus=at(0, "int16"), scale=0.1, offset=3.0, range=(-100, 100)),
        "b": Point(modbus=at(1, "uint16"), range=(0, 1000)),
        "c": Point(modbus=at(2, "uint16", byte_order="BADC")),
        "d": Point(modbus=at(3, "uint16"), sentinels=(65_535.0,)),
        "e": Point(modbus=at(4, "float32")),
        "f": Point(kind="bool", modbus=at(6, "uint16", bit=15)),
        "g": Point(kind="bool", modbus=at(6, "bit", bit=3)),
        "h": Point(kind="bool", modbus=at(6, "uint16"), true_when=("1", "255")),
        "i": Point(modbus=at(7, "uint16", mask=0x0FF0)),
        "j": Point(kind="enum", modbus=at(8, "uint16"), states={"0": "off", "1": "on"}),
        "k": Point(kind="flags", modbus=at(8, "uint16"), states={"0": "low"}),
        "l": Point(modbus=at(0, "int16"), quality=(verdict,)),
        "m": Point(modbus=at(1, "uint16", bit=4)),
        "n": Point(kind="text", modbus=at(2, "string", length=2)),
        "o": Point(modbus=at(0, "int64")),
    }
    spec = _spec(points, order)
    request = Request("holding", 0, 10, tuple(points))
    found = quick.decoders(spec, request, tuple(points))
    assert found is not None
    expected = decode.values(spec, {("holding", i): word for i, word in enumerate(words)})
    assert repr([decoder(words) for decoder in found]) == repr(list(expected))


def test_points_that_need_another_request_are_left_to_decode() -> None:
    far = QualityWire({"0": "good"}, "holding", 500)
    spec = _spec({"a": Point(modbus=ModbusWire("holding", 0, "int16"), quality=(far,))}, "ABCD")
    request = Request("holding", 0, 1, ("a",))
    assert quick.decoders(spec, request, ("a",)) is None
    whole = replace(_spec({"a": Point(modbus=ModbusWire("holding", 0, "int16"))}, "ABCD"), quality=(far,))
    assert quick.decoders(whole, request, ("a",)) is None


def _spec(points: dict[str, Point], order: ByteOrder) -> DeviceSpec:
    return DeviceSpec(
        model="m", vendor="v", title="t", device_class="air_station", protocol="modbus", source="s", verified="v",
        interval_s=60.0, points=points, modbus=ModbusLimits(byte_order=order),
    )  # fmt: skip

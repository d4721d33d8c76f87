"""The same values as `iotcore.specs.decode`, prepared once for each point: a poll of a thousand bits costs no thousand decisions.

Only for points that stand in one block together with their quality registers. What is not plain is left to `decode` itself; that
both agree is tested over every shipped spec with arbitrary words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from iotcore.reading import Quality, Value
from iotcore.specs import decode, meaning, raw
from iotcore.specs.model import DeviceSpec, ModbusWire, Point
from iotcore.specs.plan import Request

Decoder = Callable[[Sequence[int]], Value]
PLAIN_ORDERS = frozenset({"ABCD", "CDAB"})  # no byte swap within a word
SIGN, MODULUS = 0x8000, 0x10000


def decoders(spec: DeviceSpec, request: Request, names: Sequence[str]) -> tuple[Decoder, ...] | None:
    """One for each of `names`, from the words of one answer; None when one of them needs words of another request."""
    if spec.quality:
        return None
    found = []
    for name in names:
        point = spec.points[name]
        wire = point.modbus
        if wire is None or any(not _inside(request, state.table, state.address, 1) for state in point.quality):
            return None
        if not _inside(request, wire.table, wire.address, raw.width(wire)):
            return None
        order = wire.byte_order or (spec.modbus or decode.DEFAULT_LIMITS).byte_order
        found.append(_decoder(spec, name, point, wire, request, plain=order in PLAIN_ORDERS))
    return tuple(found)


def _inside(request: Request, table: str | None, address: int | None, width: int) -> bool:
    return (
        table == request.table and address is not None and request.address <= address <= request.address + request.count - width
    )


def _decoder(spec: DeviceSpec, name: str, point: Point, wire: ModbusWire, request: Request, *, plain: bool) -> Decoder:
    at = wire.address - request.address
    simple = plain and not point.quality and wire.mask is None
    is_bit = wire.type == "bit" or (wire.bit is not None and wire.type == "uint16")
    if simple and is_bit and point.kind == "bool" and not point.true_when:
        return _bit(name, at, wire.bit or 0)
    if simple and wire.bit is None and wire.type in {"int16", "uint16"} and point.kind == "number" and not point.sentinels:
        return _word(name, point, at, signed=wire.type == "int16")
    return _any(replace(spec, points={name: point}), point, wire, request)


def _bit(name: str, at: int, bit: int) -> Decoder:
    said = (Value(name, value=False), Value(name, value=True))
    return lambda words: said[words[at] >> bit & 1]


def _word(name: str, point: Point, at: int, *, signed: bool) -> Decoder:
    low, high = point.range or (float("-inf"), float("inf"))

    def decoder(words: Sequence[int]) -> Value:
        word = words[at]
        number = meaning.scaled(point, word - MODULUS if signed and word & SIGN else word)
        return Value(name, number) if low <= number <= high else Value(name, number, Quality.BAD, "out_of_range")

    return decoder


def _any(alone: DeviceSpec, point: Point, wire: ModbusWire, request: Request) -> Decoder:
    wanted = {wire.address + i for i in range(raw.width(wire))} | {
        state.address for state in point.quality if state.address is not None
    }
    places = [((request.table, address), address - request.address) for address in sorted(wanted)]
    return lambda words: decode.values(alone, {key: words[at] for key, at in places})[0]

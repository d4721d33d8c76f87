"""Rules between the fields of one point. Each problem names its path and what to write instead."""

from __future__ import annotations

import math
from typing import Any

from iotcore.specs import raw
from iotcore.specs.check_wire import RAW_NUMBER, Found, path_problems, quality_problems, wire_problems
from iotcore.specs.model import ByteType, DeviceSpec, ModbusLimits, ModbusWire, Point
from iotcore.specs.written_out import decimal

# field → the kinds of point that it has a meaning for, and what it is where it has none
OF_KINDS: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("scale", ("number",), 1.0),
    ("offset", ("number",), 0.0),
    ("range", ("number",), None),
    ("sentinels", ("number",), ()),
    ("deadband", ("number",), None),
    ("true_when", ("bool",), ()),
    ("states", ("enum", "flags"), {}),
    ("otherwise", ("enum",), ""),
)
WIRES = {"modbus": "modbus", "json": "json", "bytes": "bytes"}  # protocol → the field of a point that says where it stands
BYTES: dict[ByteType, int] = {
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8,
}  # fmt: skip


def point_problems(spec: DeviceSpec, point: Point) -> Found:
    """Every broken rule of one point, as (path below the point, reason)."""
    for protocol, field in WIRES.items():
        has, wanted = getattr(point, field) is not None, spec.protocol == protocol
        if has != wanted:
            yield f".{field}", f"is missing: protocol is {protocol}" if wanted else f"has no meaning for protocol {spec.protocol}"
    yield from _meaning(spec, point)
    if point.modbus is not None:
        yield from wire_problems(point.modbus, spec.modbus or ModbusLimits())
        yield from _modbus_kind(point, point.modbus)
    elif point.bytes is not None:
        yield from _bytes(spec, point)
    elif point.json is not None:
        yield from path_problems(point.json.path, ".json.path")
    for i, wire in enumerate(point.quality):
        yield from ((f".quality[{i}]{path}", reason) for path, reason in quality_problems(spec, wire))


def _meaning(spec: DeviceSpec, point: Point) -> Found:
    for key in ("scale", "offset"):
        if not math.isfinite(getattr(point, key)):
            yield f".{key}", "is not a finite number"
    if point.scale == 0:
        yield ".scale", "is 0: every value would be the offset"
    if point.range is not None and not (all(map(math.isfinite, point.range)) and point.range[0] < point.range[1]):
        yield ".range", "must be two finite numbers, the lower first"
    for key, kinds, neutral in OF_KINDS:
        if point.kind not in kinds and getattr(point, key) != neutral:
            yield f".{key}", f"has no meaning for kind {point.kind}"
    yield from _words(point)
    if spec.protocol != "modbus":
        yield from _not_polled(spec, point)
    if point.poll_s is not None and point.poll_s > spec.interval_s:
        yield ".poll_s", f"is longer than interval_s, {spec.interval_s:g}: a reading is promised that often"


def _not_polled(spec: DeviceSpec, point: Point) -> Found:
    """What devices that speak by themselves cannot be asked for."""
    for key in ("lane", "poll_s"):
        if getattr(point, key) is not None:
            yield f".{key}", f"has no meaning for protocol {spec.protocol}"
    if point.stuck_after_s is not None and point.kind != "number":
        yield ".stuck_after_s", f"has no meaning for kind {point.kind} of protocol {spec.protocol}"
    elif point.stuck_after_s is not None and point.stuck_after_s <= spec.interval_s:
        yield ".stuck_after_s", f"is not longer than interval_s, {spec.interval_s:g}: no second reading is promised by then"


def _words(point: Point) -> Found:
    if point.kind in ("enum", "flags") and not point.states:
        yield ".states", f"are missing: kind is {point.kind}"
    words = list(point.states.values())
    for key, word in point.states.items():
        if not word.strip() or (point.kind == "flags" and (" " in word or words.count(word) > 1)):
            what = "a word of its own, without a space" if point.kind == "flags" else "a word"
            yield f".states.{key}", f"{word!r} must be {what}"


def _modbus_kind(point: Point, wire: ModbusWire) -> Found:
    """The kind, range and sentinels of a point against what its raw type can hold."""
    if wire.type == "bit" or wire.bit is not None:
        if point.kind != "bool" or point.true_when:
            yield ".kind", "must be bool, without true_when, for one bit"
        return
    if (point.kind == "text") != (wire.type == "string"):
        yield ".kind", "must be text for a string" if wire.type == "string" else f"text has no meaning for a whole {wire.type}"
        return
    if point.kind == "bool" and not point.true_when:
        yield ".kind", f"bool has no meaning for a whole {wire.type}: name a bit, or true_when"
    low, high = raw.LIMITS.get(wire.type, (0, 0))
    if wire.mask is not None:
        low, high = 0, raw.masked(wire.mask, wire.mask)
    yield from _fit(point, wire.type, low, high)


def _fit(point: Point, kind: str, low: float, high: float) -> Found:
    if point.kind == "number":
        yield from _number_fits(point, kind, low, high)
    elif kind in raw.FLOATS:
        yield ".kind", f"{point.kind} has no meaning for {kind}"
    else:
        if point.kind == "flags":
            low, high = 0, int(high).bit_length() - 1
        keys = [(f".true_when[{i}]", key) for i, key in enumerate(point.true_when)]
        keys += [(f".states.{key}", key) for key in point.states]
        for path, key in keys:
            if not RAW_NUMBER.match(key) or not low <= int(decimal(key)) <= high:
                yield path, f"{key!r} is no raw value of {kind}: write a number {low:g} to {high:g} in quotes"


def _number_fits(point: Point, kind: str, low: float, high: float) -> Found:
    ends = sorted(float(end) * point.scale + point.offset for end in (low, high))
    if point.range is not None and not (ends[0] <= point.range[0] and point.range[1] <= ends[1]):
        yield ".range", f"{list(point.range)} is outside what {kind} can hold: {ends[0]:g} to {ends[1]:g}"
    for i, sentinel in enumerate(point.sentinels):
        if math.isfinite(sentinel) and not low <= sentinel <= high:
            yield f".sentinels[{i}]", f"{sentinel:g} is outside what {kind} can hold (sentinels are raw values)"
        elif kind not in raw.FLOATS and not sentinel.is_integer():
            yield f".sentinels[{i}]", f"{sentinel:g} is no integer, and {kind} is (sentinels are raw values)"


def _bytes(spec: DeviceSpec, point: Point) -> Found:
    wire = point.bytes
    assert wire is not None
    if wire.mask is not None and wire.type not in ("uint8", "uint16"):
        yield ".bytes.mask", f"has no meaning for {wire.type}"
    length = spec.mqtt.length if spec.mqtt is not None else None
    if length is not None and wire.offset + BYTES[wire.type] > length:
        yield ".bytes.offset", f"is beyond the {length} bytes of the payload"
    low, high = raw.LIMITS[wire.type]
    if wire.mask is not None:
        low, high = 0, raw.masked(wire.mask, wire.mask)
    if point.kind == "text":
        yield ".kind", "text has no meaning for bytes"
    elif point.kind == "bool" and not point.true_when:
        yield ".true_when", "is missing: which raw values mean true"
    else:
        yield from _fit(point, wire.type, low, high)

"""Rules between the fields of one point and its wires. Each problem names its path and what to write instead."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from iotcore.specs import paths, raw
from iotcore.specs.model import ByteType, DeviceSpec, ModbusLimits, ModbusWire, Point, QualityWire
from iotcore.specs.quality import parse_quality
from iotcore.specs.written_out import decimal

Found = Iterator[tuple[str, str]]
LAST_ADDRESS = 65535  # Modbus Application Protocol 1.1b3, §4.3
RAW_NUMBER = re.compile(r"(?:-?(?:0|[1-9][0-9]{0,19})|0x[0-9A-Fa-f]{1,16})\Z")
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
        yield from _path(point.json.path, ".json.path")
    for i, wire in enumerate(point.quality):
        yield from ((f".quality[{i}]{path}", reason) for path, reason in quality_problems(spec, wire))


def wire_problems(wire: ModbusWire, limits: ModbusLimits) -> Found:
    """Every broken rule of one Modbus wire."""
    if wire.table in raw.BIT_TABLES:
        if wire.type != "bit":
            yield ".modbus.type", f"must be bit in table {wire.table}"
        for key in ("bit", "mask", "byte_order", "length"):
            if getattr(wire, key) is not None:
                yield f".modbus.{key}", f"has no meaning in table {wire.table}: each address is one bit"
        return
    if wire.type == "bit" and wire.bit is None:
        yield ".modbus.bit", "is missing: which bit of the register, 0 the least significant"
    if wire.bit is not None and wire.type not in ("bit", "uint16"):
        yield ".modbus.bit", f"has no meaning for type {wire.type}"
    if wire.mask is not None and (wire.type != "uint16" or wire.bit is not None):
        yield ".modbus.mask", "is a field of a uint16 without bit"
    if (wire.length is not None) != (wire.type == "string"):
        yield (
            ".modbus.length",
            "is missing: how many registers the text takes" if wire.type == "string" else "is for strings only",
        )
    width = raw.width(wire)
    if limits.addresses == "zero_based" and wire.address + width - 1 > LAST_ADDRESS:
        reason = "is above 65535" if wire.address > LAST_ADDRESS else f"leaves no room for the {width} registers of {wire.type}"
        yield ".modbus.address", f"{reason}; 40001 and the like need modbus.addresses: modicon"
    if width > limits.max_registers:
        yield ".modbus.type", f"needs {width} registers in one request; modbus.max_registers is {limits.max_registers}"


def quality_problems(spec: DeviceSpec, wire: QualityWire) -> Found:
    """Every broken rule of one quality wire."""
    wanted = {"modbus": ("table", "address"), "json": ("path",), "bytes": ("offset",)}.get(spec.protocol, ())
    for key in ("table", "address", "path", "offset"):
        has = getattr(wire, key) is not None
        if has != (key in wanted):
            yield f".{key}", f"has no meaning for protocol {spec.protocol}" if has else f"is missing: protocol is {spec.protocol}"
    if wire.path is not None:
        yield from _path(wire.path, ".path")
    if wire.mask is not None and (spec.protocol not in ("modbus", "bytes") or wire.table in raw.BIT_TABLES):
        yield ".mask", "is a field of a register or byte"
    most = 1 if wire.table in raw.BIT_TABLES else 0xFF if spec.protocol == "bytes" else 0xFFFF
    if wire.mask is not None:
        most = raw.masked(wire.mask, wire.mask)
    for number, words in wire.states.items():
        if wire.path is None and (not RAW_NUMBER.match(number) or not 0 <= int(number, 0) <= most):
            yield f".states.{number}", f"is no register value: write a number 0 to {most} in quotes"
        if parse_quality(words) is None:
            yield f".states.{number}", f"{words!r} is not good, uncertain[:why] or bad[:why]"
    if not wire.states:
        yield ".states", "are missing"
    if parse_quality(wire.otherwise) is None:
        yield ".otherwise", f"{wire.otherwise!r} is not good, uncertain[:why] or bad[:why]"


def _meaning(spec: DeviceSpec, point: Point) -> Found:
    for key in ("scale", "offset"):
        if not math.isfinite(getattr(point, key)):
            yield f".{key}", "is not a finite number"
    if point.scale == 0:
        yield ".scale", "is 0: every value would be the offset"
    if point.range is not None and not (all(map(math.isfinite, point.range)) and point.range[0] < point.range[1]):
        yield ".range", "must be two finite numbers, the lower first"
    neutral = {"scale": 1.0, "offset": 0.0, "range": None, "sentinels": (), "deadband": None}
    if point.kind != "number":
        for key, nothing in neutral.items():
            if getattr(point, key) != nothing:
                yield f".{key}", f"has no meaning for kind {point.kind}"
    if point.true_when and point.kind != "bool":
        yield ".true_when", f"has no meaning for kind {point.kind}"
    if bool(point.states) != (point.kind in ("enum", "flags")):
        yield ".states", f"has no meaning for kind {point.kind}" if point.states else f"are missing: kind is {point.kind}"
    if point.otherwise and point.kind != "enum":
        yield ".otherwise", f"has no meaning for kind {point.kind}"
    words = list(point.states.values())
    for key, word in point.states.items():
        if not word.strip() or words.count(word) > 1 or (point.kind == "flags" and " " in word):
            yield f".states.{key}", f"{word!r} must be a word of its own" + (", without a space" if point.kind == "flags" else "")
    for key in ("lane", "poll_s", "stuck_after_s"):
        if spec.protocol != "modbus" and getattr(point, key) is not None:
            yield f".{key}", f"has no meaning for protocol {spec.protocol}"
    if point.poll_s is not None and point.poll_s > spec.interval_s:
        yield ".poll_s", f"is longer than interval_s, {spec.interval_s:g}: a reading is promised that often"


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
    whole = kind not in raw.FLOATS
    if point.kind == "number":
        ends = sorted(float(end) * point.scale + point.offset for end in (low, high))
        if point.range is not None and not (ends[0] <= point.range[0] and point.range[1] <= ends[1]):
            yield ".range", f"{list(point.range)} is outside what {kind} can hold: {ends[0]:g} to {ends[1]:g}"
        for i, sentinel in enumerate(point.sentinels):
            if math.isfinite(sentinel) and not low <= sentinel <= high:
                yield f".sentinels[{i}]", f"{sentinel:g} is outside what {kind} can hold (sentinels are raw values)"
            elif whole and not sentinel.is_integer():
                yield f".sentinels[{i}]", f"{sentinel:g} is no integer, and {kind} is (sentinels are raw values)"
        return
    if not whole and point.kind in ("enum", "flags", "bool"):
        yield ".kind", f"{point.kind} has no meaning for {kind}"
        return
    keys = [(f".true_when[{i}]", key) for i, key in enumerate(point.true_when)]
    keys += [(f".states.{key}", key) for key in point.states]
    most = int(high).bit_length() - 1 if point.kind == "flags" else high
    for path, key in keys:
        if not RAW_NUMBER.match(key) or not (0 if point.kind == "flags" else low) <= int(decimal(key)) <= most:
            yield path, f"{key!r} is no raw value of {kind}: write a number {low:g} to {most:g} in quotes"


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


def _path(path: str, where: str) -> Found:
    try:
        paths.steps(path)
    except ValueError as error:
        yield where, str(error)

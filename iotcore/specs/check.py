"""What a spec's types cannot say: rules between its fields. Each problem names its path and what to write instead."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from iotcore.errors import Problem
from iotcore.specs import raw
from iotcore.specs.model import DeviceSpec, ModbusLimits, ModbusWire, Point, Table
from iotcore.specs.quality import parse_quality

BIT_TABLES = ("coil", "discrete")
LAST_ADDRESS = 65535  # Modbus Application Protocol 1.1b3, §4.3
STATE_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,4})\Z")
LARGEST_WORD = 65535


class _Span(NamedTuple):
    """Where something of a point stands: words first..last of a table; `bit` when it is only one bit of the word."""

    table: Table
    first: int
    last: int
    bit: int | None
    path: str


def problems(spec: DeviceSpec, file: str) -> list[Problem]:
    """Every broken rule of `spec`, in the order of its fields; [] when it is sound."""
    found = [*_whole(spec, file)]
    for name, point in spec.points.items():
        found += [(f"points.{name}{path}", reason) for path, reason in _point(spec, point)]
    found += _overlaps(spec)
    return [Problem(file, path, reason) for path, reason in found]


def _whole(spec: DeviceSpec, file: str) -> Iterator[tuple[str, str]]:
    if file != f"{spec.model}.yaml":
        yield "model", f"is {spec.model!r}, so the file must be named {spec.model}.yaml"
    for key in ("vendor", "title", "source", "verified"):
        if not getattr(spec, key).strip():
            yield key, "is empty; " + ("name the document the map comes from" if key == "source" else "say it")
    if spec.protocol != "modbus" and spec.modbus is not None:
        yield "modbus", f"has no meaning for protocol {spec.protocol}"
    if spec.protocol != "canonical" and not spec.points:
        yield "points", "are missing"


def _point(spec: DeviceSpec, point: Point) -> Iterator[tuple[str, str]]:
    for wire in ("modbus", "json"):
        has, wanted = getattr(point, wire) is not None, spec.protocol == wire
        if has != wanted:
            yield f".{wire}", f"is missing: protocol is {wire}" if wanted else f"has no meaning for protocol {spec.protocol}"
    yield from _meaning(point)
    if point.modbus is not None:
        yield from _wire(point.modbus, spec.modbus or ModbusLimits())
        yield from _fit(point, point.modbus)
    if point.quality is not None:
        if point.modbus is None:
            yield ".quality", f"has no meaning for protocol {spec.protocol}"
        for number, words in point.quality.states.items():
            if not STATE_NUMBER.match(number) or int(number) > LARGEST_WORD:
                yield f".quality.states.{number}", "is no register value: write a decimal number 0 to 65535 in quotes"
            if parse_quality(words) is None:
                yield f".quality.states.{number}", f"{words!r} is not good, uncertain[:why] or bad[:why]"


def _meaning(point: Point) -> Iterator[tuple[str, str]]:
    for key in ("scale", "offset"):
        if not math.isfinite(getattr(point, key)):
            yield f".{key}", "is not a finite number"
    if point.scale == 0:
        yield ".scale", "is 0: every value would be the offset"
    if point.range is not None and not (all(map(math.isfinite, point.range)) and point.range[0] < point.range[1]):
        yield ".range", "must be two finite numbers, the lower first"
    if point.kind != "number":
        for key, neutral in (("scale", 1.0), ("offset", 0.0), ("range", None), ("sentinels", ())):
            if getattr(point, key) != neutral:
                yield f".{key}", f"has no meaning for kind {point.kind}"


def _wire(wire: ModbusWire, limits: ModbusLimits) -> Iterator[tuple[str, str]]:
    if wire.table in BIT_TABLES:
        if wire.type != "bit":
            yield ".modbus.type", f"must be bit in table {wire.table}"
        if wire.bit is not None:
            yield ".modbus.bit", f"has no meaning in table {wire.table}: each address is one bit"
        if wire.byte_order is not None:
            yield ".modbus.byte_order", f"has no meaning in table {wire.table}"
        return
    if wire.type == "bit" and wire.bit is None:
        yield ".modbus.bit", "is missing: which bit of the register, 0 the least significant"
    if wire.bit is not None and wire.type not in ("bit", "uint16"):
        yield ".modbus.bit", f"has no meaning for type {wire.type}"
    width = raw.WORDS[wire.type]
    if wire.address + width - 1 > LAST_ADDRESS:
        yield ".modbus.address", f"leaves no room for the {width} registers of {wire.type}"
    if width > limits.max_registers:
        yield ".modbus.type", f"needs {width} registers in one request; modbus.max_registers is {limits.max_registers}"


def _fit(point: Point, wire: ModbusWire) -> Iterator[tuple[str, str]]:
    """Kind, range and sentinels against what the raw type can hold."""
    one_bit = wire.type == "bit" or wire.bit is not None
    if point.kind != ("bool" if one_bit else "number"):
        yield ".kind", "must be bool for one bit" if one_bit else f"{point.kind} has no meaning for a whole {wire.type}"
    if one_bit or point.kind != "number":
        return
    low, high = raw.LIMITS[wire.type]
    ends = sorted(float(end) * point.scale + point.offset for end in (low, high))
    if point.range is not None and not (ends[0] <= point.range[0] and point.range[1] <= ends[1]):
        yield ".range", f"{list(point.range)} is outside what {wire.type} can hold: {ends[0]:g} to {ends[1]:g}"
    for i, sentinel in enumerate(point.sentinels):
        if math.isfinite(sentinel) and not low <= sentinel <= high:
            yield f".sentinels[{i}]", f"{sentinel:g} is outside what {wire.type} can hold (sentinels are raw values)"
        elif wire.type not in raw.FLOATS and not sentinel.is_integer():
            yield f".sentinels[{i}]", f"{sentinel:g} is no integer, and {wire.type} is (sentinels are raw values)"


def _overlaps(spec: DeviceSpec) -> Iterator[tuple[str, str]]:
    """Points that claim the same words of a table; bits of one word may, if they are different bits."""
    values, states = [], []
    for name, point in spec.points.items():
        if (wire := point.modbus) is not None:
            last = wire.address + raw.WORDS[wire.type] - 1
            values.append(_Span(wire.table, wire.address, last, wire.bit, f"points.{name}.modbus"))
        if (state := point.quality) is not None:
            states.append(_Span(state.table, state.address, state.address, None, f"points.{name}.quality"))
    for span in states:  # one status register may serve several values, but it is not itself a value
        for value in values:
            if span.table == value.table and value.first <= span.first <= value.last:
                yield span.path, f"{span.table} {span.first} is taken by {value.path}"
    values.sort(key=lambda span: (span.table, span.first, -1 if span.bit is None else span.bit))
    reach: _Span | None = None  # of the spans so far, the one that ends last
    before: _Span | None = None
    for span in values:
        taken = next((other for other in (before, reach) if other is not None and _clash(other, span)), None)
        if taken is not None:
            yield span.path, f"{span.table} {span.first} is taken by {taken.path}"
        if reach is None or reach.table != span.table or span.last > reach.last:
            reach = span
        before = span


def _clash(before: _Span, after: _Span) -> bool:
    same_bit = before.bit is None or after.bit is None or before.bit == after.bit
    return before.table == after.table and after.first <= before.last and same_bit

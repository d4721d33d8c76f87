"""Registers to values. Pure: what cannot be read is a BAD value with its reason, never an exception and never the last one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from iotcore.reading import Quality, Value
from iotcore.specs import raw
from iotcore.specs.model import ByteOrder, DeviceSpec, ModbusLimits, Point, QualityWire, RawType, Table
from iotcore.specs.quality import parse_quality

DEFAULT_LIMITS = ModbusLimits()
DIGITS = 15  # decimal digits that a binary64 keeps (IEEE 754): 231 × 0.1 is 23.1, not 23.100000000000001
UNKNOWN_STATE = (Quality.BAD, "unknown_state")


def value(name: str, point: Point, registers: Sequence[int], order: ByteOrder, state: int | None = None) -> Value:
    """The value of a Modbus point from its own registers (coil and discrete tables: one 0 or 1).

    `order` is the spec's byte order, unless the point has its own. `state` is the content of the point's quality register:
    the unit's own verdict, which dominates. A number out of range or called bad is kept beside its quality; one that is not
    finite or a sentinel is None.
    """
    wire = point.modbus
    if wire is None or len(registers) != raw.WORDS[wire.type]:
        return Value(name, None, Quality.BAD, "short")
    number = raw.number(wire.type, registers, wire.byte_order or order)
    quality, why = _verdict(point.quality, state, order)
    if point.kind == "bool":
        bit = wire.bit or 0
        return Value(name, bool(int(number) >> bit & 1), quality, why)
    missing = "not_finite" if not math.isfinite(number) else "no_value" if _is_sentinel(point, wire.type, number) else ""
    if missing:
        return Value(name, None, Quality.BAD, why if quality is Quality.BAD else missing)
    return judged(name, point, meaning(point, number), quality, why)


def values(
    spec: DeviceSpec, words: Mapping[tuple[Table, int], int], failures: Mapping[str, str] | None = None
) -> tuple[Value, ...]:
    """Every point of a unit, in the spec's order, from the words that were read, by (table, address).

    A point of `failures` (point → why, such as "timeout") and a point whose words are not all there is None, BAD.
    """
    order = (spec.modbus or DEFAULT_LIMITS).byte_order
    return tuple(
        Value(name, None, Quality.BAD, why) if (why := (failures or {}).get(name, "")) else _from_words(name, point, words, order)
        for name, point in spec.points.items()
    )


def meaning(point: Point, number: float) -> float:
    """A raw number in the point's unit."""
    if point.scale == 1.0 and point.offset == 0.0:
        return float(number)
    return float(f"{number * point.scale + point.offset:.{DIGITS}g}")


def judged(name: str, point: Point, number: float, quality: Quality, why: str) -> Value:
    """`number` with the worse of the verdict it came with and the point's range."""
    if point.range is not None and quality is not Quality.BAD and not point.range[0] <= number <= point.range[1]:
        return Value(name, number, Quality.BAD, "out_of_range")
    return Value(name, number, quality, why)


def _from_words(name: str, point: Point, words: Mapping[tuple[Table, int], int], order: ByteOrder) -> Value:
    wire = point.modbus
    if wire is None:
        return Value(name, None, Quality.BAD, "not_read")
    try:
        own = [words[wire.table, wire.address + i] for i in range(raw.WORDS[wire.type])]
        state = None if point.quality is None else words[point.quality.table, point.quality.address]
    except KeyError:
        return Value(name, None, Quality.BAD, "not_read")
    return value(name, point, own, order, state)


def _is_sentinel(point: Point, kind: RawType, number: float) -> bool:
    if kind == "float32":  # -9999.9 on the wire is the nearest binary32, and that is what is compared
        return any(number == raw.number(kind, raw.words(kind, sentinel, "ABCD"), "ABCD") for sentinel in point.sentinels)
    return number in point.sentinels


def _verdict(wire: QualityWire | None, state: int | None, order: ByteOrder) -> tuple[Quality, str]:
    if wire is None:
        return Quality.GOOD, ""
    if state is None:
        return Quality.BAD, "not_read"
    number = int(raw.number("uint16", (state,), order))
    words = wire.states.get(str(number))
    return UNKNOWN_STATE if words is None else parse_quality(words) or UNKNOWN_STATE

"""Registers to values. Pure: what cannot be read is a BAD value with its reason, never an exception and never the last one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from iotcore.reading import Quality, Value
from iotcore.specs import meaning, raw
from iotcore.specs.model import ByteOrder, DeviceSpec, ModbusLimits, Point, QualityWire, Table

DEFAULT_LIMITS = ModbusLimits()
Registers = Mapping[tuple[Table, int], int]


def value(
    name: str, point: Point, registers: Sequence[int], order: ByteOrder, verdict: tuple[Quality, str] = meaning.GOOD
) -> Value:
    """The value of a Modbus point from its own registers (coil and discrete tables: one 0 or 1).

    `order` is the spec's byte order, unless the point has its own. `verdict` is what the unit's quality registers say: it
    dominates. A number out of range or called bad is kept beside its quality; one that is not finite or a sentinel is None.
    """
    wire = point.modbus
    if wire is None or len(registers) != raw.width(wire):
        return Value(name, None, Quality.BAD, "short")
    order = wire.byte_order or order
    if wire.type == "string":
        text = raw.text(registers, order)
        return Value(name, None, Quality.BAD, "not_text") if text is None else meaning.value(name, point, text, *verdict)
    number = raw.number(wire.type, registers, order)
    if wire.mask is not None:
        number = raw.masked(int(number), wire.mask)
    elif wire.type == "bit" or wire.bit is not None:
        number = int(number) >> (wire.bit or 0) & 1
    return meaning.value(name, point, number, *verdict, single=wire.type == "float32")


def values(
    spec: DeviceSpec, words: Registers, failures: Mapping[str, str] | None = None, points: Collection[str] | None = None
) -> tuple[Value, ...]:
    """Every point of a unit (or only `points`), in the spec's order, from the words that were read, by (table, address).

    A point of `failures` (point → why, such as "timeout") and a point whose words are not all there is None, BAD.
    """
    order = (spec.modbus or DEFAULT_LIMITS).byte_order
    whole = verdict(spec.quality, words, order)
    failures = failures or {}
    return tuple(
        Value(name, None, Quality.BAD, failures[name])
        if failures.get(name)
        else _from_words(name, point, words, order, whole, shared=bool(spec.quality))
        for name, point in spec.points.items()
        if points is None or name in points
    )


def verdict(wires: Sequence[QualityWire], words: Registers, order: ByteOrder) -> tuple[Quality, str]:
    """What the quality registers say, the worst of them."""
    return meaning.verdict(wires, [_state(wire, words, order) for wire in wires]) if wires else meaning.GOOD


def _from_words(
    name: str, point: Point, words: Registers, order: ByteOrder, whole: tuple[Quality, str], *, shared: bool
) -> Value:
    wire = point.modbus
    if wire is None:
        return Value(name, None, Quality.BAD, "not_read")
    try:
        own = [words[wire.table, wire.address + i] for i in range(raw.width(wire))]
    except KeyError:
        return Value(name, None, Quality.BAD, "not_read")
    said = verdict(point.quality, words, order) if point.quality else meaning.GOOD
    return value(name, point, own, order, meaning.worse(whole, said) if shared else said)


def _state(wire: QualityWire, words: Registers, order: ByteOrder) -> int | None:
    assert wire.table is not None
    assert wire.address is not None  # the loader sees to both
    word = words.get((wire.table, wire.address))
    if word is None or wire.table in raw.BIT_TABLES:
        return word
    number = int(raw.number("uint16", (word,), order))
    return number if wire.mask is None else raw.masked(number, wire.mask)

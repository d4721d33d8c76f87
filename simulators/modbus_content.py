"""How registers go wrong although every frame is right: what a unit shows instead of its words.

A lens gives the word that a client sees at an address; it is made when the fault is first met, and kept while it lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

from iotcore.specs import raw
from iotcore.specs.model import ByteOrder, DeviceSpec, ModbusLimits, ModbusWire, Table
from simulators.modbus_wrong import Fault

Key = tuple[Table, int]
Lens = Callable[[Key], int | None]  # None: the address does not exist
BEFORE_WRAP = 5  # how many reads before its largest number a counter stands when it is made to wrap
INTEGERS = frozenset({"int16", "uint16", "int32", "uint32", "int64", "uint64"})


class Unit(Protocol):
    """What a lens looks at."""

    spec: DeviceSpec
    words: dict[Key, int]
    reads: int


class Content(Fault, frozen=True):
    """A fault of the registers."""

    def lens(self, unit: Unit) -> Lens:
        """How `unit` looks from now on."""
        return unit.words.get


class SwappedWords(Content, frozen=True):
    """The words of every number of several registers come in the opposite order."""

    def lens(self, unit: Unit) -> Lens:
        other: dict[Key, Key] = {}
        for wire in _wires(unit.spec):
            keys = _keys(wire)
            if wire.type != "string":
                other.update(zip(keys, reversed(keys), strict=True))
        return lambda key: unit.words.get(other.get(key, key))


class NotANumber(Content, frozen=True):
    """Every floating-point number is NaN."""

    def lens(self, unit: Unit) -> Lens:
        return _floats(unit, math.nan)


class Infinite(Content, frozen=True):
    """Every floating-point number is infinite."""

    sign: Literal["plus", "minus"] = "plus"

    def lens(self, unit: Unit) -> Lens:
        return _floats(unit, math.inf if self.sign == "plus" else -math.inf)


class Stuck(Content, frozen=True):
    """The words of the moment when the fault began, whatever is measured."""

    def lens(self, unit: Unit) -> Lens:
        frozen = dict(unit.words)
        return frozen.get


class Ones(Content, frozen=True):
    """Every register reads 0xFFFF, every coil and discrete input 1."""

    def lens(self, unit: Unit) -> Lens:
        return lambda key: None if key not in unit.words else 1 if key[0] in raw.BIT_TABLES else 0xFFFF


class CounterWrap(Content, frozen=True):
    """Every integer counts up by one a request, from a little below its largest number, over it."""

    def lens(self, unit: Unit) -> Lens:
        began = unit.reads
        order = _order(unit.spec)
        at = {key: (wire, i) for wire in _wires(unit.spec) if _is_whole(wire) for i, key in enumerate(_keys(wire))}

        def see(key: Key) -> int | None:
            found = at.get(key)
            if found is None:
                return unit.words.get(key)
            wire, i = found
            low, high = raw.LIMITS[wire.type]
            number = int(high) - BEFORE_WRAP + unit.reads - began
            span = int(high) - int(low) + 1
            return raw.words(wire.type, (number - int(low)) % span + int(low), wire.byte_order or order)[i]

        return see


def _floats(unit: Unit, number: float) -> Lens:
    order = _order(unit.spec)
    shown: Mapping[Key, int] = {
        key: word
        for wire in _wires(unit.spec)
        if wire.type in raw.FLOATS
        for key, word in zip(_keys(wire), raw.words(wire.type, number, wire.byte_order or order), strict=True)
    }
    return lambda key: shown[key] if key in shown else unit.words.get(key)


def _wires(spec: DeviceSpec) -> Iterator[ModbusWire]:
    return (point.modbus for point in spec.points.values() if point.modbus is not None)


def _keys(wire: ModbusWire) -> list[Key]:
    return [(wire.table, wire.address + i) for i in range(raw.width(wire))]


def _is_whole(wire: ModbusWire) -> bool:
    return wire.type in INTEGERS and wire.bit is None and wire.mask is None


def _order(spec: DeviceSpec) -> ByteOrder:
    return (spec.modbus or ModbusLimits()).byte_order

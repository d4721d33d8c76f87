"""A spec as it is written, turned into one that machines read: addresses 0-based, raw values in decimal, repeats expanded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from iotcore.specs import repeat
from iotcore.specs.model import DeviceSpec, ModbusLimits, ModbusWire, Point, QualityWire, Revision, Table

# Where each table's numbers begin, five-digit and six-digit: 40001 and 400001 are the first holding register
NOTATION: dict[Table, tuple[tuple[int, int], ...]] = {
    "coil": ((1, 65_536),),
    "discrete": ((10_001, 19_999), (100_001, 165_536)),
    "input": ((30_001, 39_999), (300_001, 365_536)),
    "holding": ((40_001, 49_999), (400_001, 465_536)),
}
HEX = re.compile(r"0x[0-9A-Fa-f]{1,16}\Z")


class Wire(NamedTuple):
    """One Modbus address of a spec, wherever it stands."""

    path: str
    table: Table | None
    address: int | None


def wires(spec: DeviceSpec) -> Iterator[Wire]:
    """Every Modbus address of a spec as it was written."""
    for i, state in enumerate(spec.quality):
        yield Wire(f"quality[{i}]", state.table, state.address)
    for path, point in points(spec):
        if point.modbus is not None:
            yield Wire(f"{path}.modbus", point.modbus.table, point.modbus.address)
        for i, state in enumerate(point.quality):
            yield Wire(f"{path}.quality[{i}]", state.table, state.address)
    if spec.firmware is not None and spec.firmware.modbus is not None:
        yield Wire("firmware.modbus", spec.firmware.modbus.table, spec.firmware.modbus.address)
    for name, command in spec.commands.items():
        if command.modbus is not None:
            yield Wire(f"commands.{name}.modbus", command.modbus.table, command.modbus.address)


def points(spec: DeviceSpec) -> Iterator[tuple[str, Point]]:
    """Every point that a spec writes down, with its path: its own, those of repeats and of revisions."""
    for name, point in spec.points.items():
        yield f"points.{name}", point
    for i, each in enumerate(spec.repeats):
        for name, point in each.points.items():
            yield f"repeats[{i}].points.{name}", point
    for i, revision in enumerate(spec.firmware.revisions if spec.firmware else ()):
        for name, point in revision.points.items():
            yield f"firmware.revisions[{i}].points.{name}", point


def zero_based(table: Table, address: int) -> int | None:
    """The PDU address of a number in the notation that names its table in a digit; None when it is none of this table."""
    return next((address - first for first, last in NOTATION[table] if first <= address <= last), None)


def decimal(text: str) -> str:
    """A raw value as it is compared: 0x10 is 16, everything else stays as it is."""
    return str(int(text, 16)) if HEX.match(text) else text


def expanded(spec: DeviceSpec) -> DeviceSpec:
    """The spec with all that its repeats stand for among its points."""
    return replace(spec, points=dict(spec.points) | dict(repeat.expand(spec.repeats))) if spec.repeats else spec


def normal(spec: DeviceSpec) -> DeviceSpec:
    """The spec with 0-based addresses and decimal raw values; it must have been checked."""
    limits = spec.modbus
    modicon = limits is not None and limits.addresses == "modicon"
    firmware = spec.firmware
    if firmware is not None:
        revisions = tuple(_revision(each, modicon=modicon) for each in firmware.revisions)
        firmware = replace(firmware, modbus=_wire(firmware.modbus, modicon=modicon), revisions=revisions)
    return replace(
        spec,
        points={name: _point(point, modicon=modicon) for name, point in spec.points.items()},
        repeats=tuple(
            replace(each, points={name: _point(point, modicon=modicon) for name, point in each.points.items()})
            for each in spec.repeats
        ),
        quality=_qualities(spec.quality, modicon=modicon),
        firmware=firmware,
        modbus=replace(limits, addresses="zero_based") if isinstance(limits, ModbusLimits) else None,
        commands={
            name: replace(command, modbus=_wire(command.modbus, modicon=modicon), states=_decimal_keys(command.states))
            for name, command in spec.commands.items()
        },
    )


def _revision(revision: Revision, *, modicon: bool) -> Revision:
    return replace(revision, points={name: _point(point, modicon=modicon) for name, point in revision.points.items()})


def _point(point: Point, *, modicon: bool) -> Point:
    keys: Callable[[dict[str, str]], dict[str, str]] = _decimal_keys if point.json is None else dict
    return replace(
        point,
        modbus=_wire(point.modbus, modicon=modicon),
        quality=_qualities(point.quality, modicon=modicon),
        states=keys(point.states),
        true_when=tuple(map(decimal, point.true_when)) if point.json is None else point.true_when,
    )


def _qualities(wires: Iterable[QualityWire], *, modicon: bool) -> tuple[QualityWire, ...]:
    found = []
    for wire in wires:
        address = zero_based(wire.table, wire.address) if modicon and wire.table and wire.address is not None else wire.address
        found.append(replace(wire, address=address, states=wire.states if wire.path else _decimal_keys(wire.states)))
    return tuple(found)


def _wire(wire: ModbusWire | None, *, modicon: bool) -> ModbusWire | None:
    if wire is None or not modicon:
        return wire
    address = zero_based(wire.table, wire.address)
    assert address is not None  # checked before
    return replace(wire, address=address)


def _decimal_keys(states: dict[str, str]) -> dict[str, str]:
    return {decimal(key): text for key, text in states.items()}

"""The allow-list of writes: nothing that does not stand in it is ever written. Strict YAML, refused whole with every problem.

    devices:
      - device: tank-7
        connection: tcp://10.0.0.9:502?device_id=4
        model: acme-tank
        commands:
          - {name: set_level, range: [0, 50], every_s: 60}
        registers:
          - {name: damping, modbus: {table: holding, address: 40, type: uint16}, range: [1, 10], every_s: 5}

A command takes what its spec lets it take, or less; one that its spec calls forbidden cannot be listed. Values are raw: what
stands in the register. `every_s` is the least time between two writes of one thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from iotcore.errors import ConfigError, Problem
from iotcore.specs import check_wire, raw, yaml12
from iotcore.specs.model import ByteOrder, Command, DeviceSpec, ModbusLimits, ModbusWire, Name, Point, Safety, Seconds
from iotcore.strict import convert
from iotcore.wire import modbus_address

NO_LIMITS = ModbusLimits()
WRITABLE = ("holding", "coil")
MAX_FILE_BYTES = 256 * 1024


class AllowedCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command of the device's spec. `settles_s`: how long after the write it may take to show."""

    name: Name
    every_s: Seconds
    range: tuple[float, float] | None = None
    settles_s: Annotated[float, Meta(ge=0, le=60)] = 2.0
    multiple: bool = False  # one register by function code 16, one coil by 15: for units that take nothing else
    read_write: bool = False  # write and read back in one transaction, function code 23


class AllowedRegister(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A register or coil that no command of the spec describes."""

    name: Name
    modbus: ModbusWire
    every_s: Seconds
    range: tuple[float, float] | None = None
    safety: Literal["routine", "two_person"] = "routine"
    settles_s: Annotated[float, Meta(ge=0, le=60)] = 2.0
    multiple: bool = False
    read_write: bool = False


class AllowedDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be written to one unit. `connection` as in the registry."""

    device: Annotated[str, Meta(min_length=1, max_length=64)]
    connection: str
    model: str
    commands: list[AllowedCommand] = []
    registers: list[AllowedRegister] = []


class AllowFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    devices: list[AllowedDevice]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that may be written: where, what, how often, by how many people, and how it is seen that it was taken."""

    name: str
    wire: ModbusWire
    order: ByteOrder
    safety: Safety
    every_s: float
    range: tuple[float, float] | None = None  # of the raw number; None: states or a single bit bound it
    states: Mapping[str, str] = field(default_factory=dict)  # raw → word
    shown_by: tuple[str, Point] | None = None  # the point that shows it; None: the register itself
    settles_s: float = 2.0
    multiple: bool = False
    read_write: bool = False

    @property
    def one_bit(self) -> bool:
        """Whether it is on or off."""
        return _one_bit(self.wire)


@dataclass(frozen=True, slots=True)
class Unit:
    """A device of the list with its targets by name."""

    device: str
    address: modbus_address.ModbusAddress
    spec: DeviceSpec
    targets: Mapping[str, Target]

    @property
    def timeout_s(self) -> float:
        """How long its answers may take."""
        return (self.spec.modbus or NO_LIMITS).timeout_s


@dataclass(frozen=True, slots=True)
class AllowList:
    """Units by where they are; `at` finds one."""

    units: tuple[Unit, ...] = ()

    def at(self, connection: str) -> Unit | None:
        """The unit behind a connection string, whatever its other parameters.

        Raises:
            ValueError: it is no connection string.
        """
        wanted = modbus_address.parse(connection)
        found = (unit for unit in self.units if (unit.address.line, unit.address.device_id) == (wanted.line, wanted.device_id))
        return next(found, None)


def load(path: Path, specs: Mapping[str, DeviceSpec]) -> AllowList:
    """Read and check an allow-list.

    Raises:
        ConfigError: with every problem of the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    return parse(content, path.name, specs)


def parse(content: bytes, file: str, specs: Mapping[str, DeviceSpec]) -> AllowList:
    """The allow-list that `content` (YAML, UTF-8) holds. Raises ConfigError with all its problems."""
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([Problem(file, "", f"is larger than {MAX_FILE_BYTES} bytes")])
    try:
        document = yaml12.parse(content.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        raise ConfigError([Problem(file, "", str(error))]) from error
    checked = convert(document, AllowFile, file)
    found = [_unit(i, device, specs) for i, device in enumerate(checked.devices)]
    units = [unit for unit in found if isinstance(unit, Unit)]
    problems = [Problem(file, path, reason) for each in found if not isinstance(each, Unit) for path, reason in each]
    problems += [Problem(file, path, reason) for path, reason in _twice(checked.devices, units)]
    if problems:
        raise ConfigError(problems)
    return AllowList(tuple(units))


def _one_bit(wire: ModbusWire) -> bool:
    return wire.type == "bit" or wire.bit is not None


def _unit(i: int, entry: AllowedDevice, specs: Mapping[str, DeviceSpec]) -> Unit | list[tuple[str, str]]:
    """The unit, or everything wrong with its entry."""
    where, problems = f"devices[{i}]", list[tuple[str, str]]()
    spec, address = specs.get(entry.model), None
    if spec is None or spec.protocol != "modbus":
        problems.append((f"{where}.model", f"no Modbus spec is named {entry.model!r}"))
    try:
        address = modbus_address.parse(entry.connection)
    except ValueError as error:
        problems.append((f"{where}.connection", str(error)))
    if spec is None or address is None or problems:
        return problems
    targets: dict[str, Target] = {}
    for j, command in enumerate(entry.commands):
        problems += [(f"{where}.commands[{j}]{path}", reason) for path, reason in _command_problems(command, spec)]
        known = spec.commands.get(command.name)
        if known is not None and known.modbus is not None:
            targets[command.name] = _command(command, known, known.modbus, spec)
    for j, register in enumerate(entry.registers):
        problems += [(f"{where}.registers[{j}]{path}", reason) for path, reason in _register_problems(register, spec)]
        targets[register.name] = _register(register, spec)
    names = [*(each.name for each in entry.commands), *(each.name for each in entry.registers)]
    problems += [(where, f"{name} stands twice") for name in sorted(set(names)) if names.count(name) > 1]
    return problems or Unit(entry.device, address, spec, targets)


def _command_problems(entry: AllowedCommand, spec: DeviceSpec) -> Iterator[tuple[str, str]]:
    command = spec.commands.get(entry.name)
    if command is None or command.modbus is None:
        known = ", ".join(name for name, each in spec.commands.items() if each.modbus is not None) or "none"
        yield ".name", f"{entry.name!r} is no command of {spec.model} that is written; there are: {known}"
        return
    if command.safety == "forbidden":
        yield ".name", f"{entry.name!r} is forbidden by the spec of {spec.model}: it is never written"
    yield from _range_problems(entry.range)
    if entry.range and command.range and not (command.range[0] <= entry.range[0] and entry.range[1] <= command.range[1]):
        yield ".range", f"{list(entry.range)} is wider than the command's own, {list(command.range)}"
    if not (entry.range or command.range or command.states or _one_bit(command.modbus)):
        yield ".range", "is missing, and the spec has none: nothing would bound what is written"
    yield from _way_problems(entry, command.modbus)


def _register_problems(entry: AllowedRegister, spec: DeviceSpec) -> Iterator[tuple[str, str]]:
    wire = entry.modbus
    yield from check_wire.wire_problems(wire, spec.modbus or NO_LIMITS)
    if wire.table not in WRITABLE:
        yield ".modbus.table", f"{wire.table} cannot be written; these can: {', '.join(WRITABLE)}"
    yield from _range_problems(entry.range)
    if wire.type == "string":
        yield ".modbus.type", "a text is not written"
    elif not _one_bit(wire) and entry.range is None:
        yield ".range", "is missing: nothing would bound what is written"
    elif not _one_bit(wire) and entry.range is not None and not _holds(wire, entry.range):
        yield ".range", f"{list(entry.range)} is more than the register can hold"
    if entry.name in spec.commands:
        yield ".name", f"{entry.name!r} is a command of {spec.model}: list it there, so that its safety class counts"
    yield from (
        (".modbus", f"is what the command {name} writes, whose safety class would not count")
        for name, command in spec.commands.items()
        if command.modbus is not None and _overlap(command.modbus, wire)
    )
    yield from _way_problems(entry, wire)


def _range_problems(span: tuple[float, float] | None) -> Iterator[tuple[str, str]]:
    if span is not None and not (all(map(math.isfinite, span)) and span[0] <= span[1]):
        yield ".range", "must be two finite numbers, the lower first"


def _way_problems(entry: AllowedCommand | AllowedRegister, wire: ModbusWire) -> Iterator[tuple[str, str]]:
    part_of_a_word = wire.table == "holding" and (_one_bit(wire) or wire.mask is not None)
    if entry.read_write and (wire.table != "holding" or part_of_a_word):
        yield ".read_write", "is for whole holding registers"
    if entry.multiple and part_of_a_word:
        yield ".multiple", "has no meaning for a part of a register: that is a masked write"


def _holds(wire: ModbusWire, span: tuple[float, float]) -> bool:
    low, high = raw.LIMITS[wire.type]
    if wire.mask is not None:
        low, high = 0, raw.masked(wire.mask, wire.mask)
    return low <= span[0] and span[1] <= high


def _overlap(one: ModbusWire, other: ModbusWire) -> bool:
    return (
        one.table == other.table
        and one.address < other.address + raw.width(other)
        and other.address < one.address + raw.width(one)
    )


def _twice(entries: list[AllowedDevice], units: list[Unit]) -> Iterator[tuple[str, str]]:
    names = [entry.device for entry in entries]
    yield from (("devices", f"{name} stands twice") for name in sorted(set(names)) if names.count(name) > 1)
    places = [(unit.address.line, unit.address.device_id) for unit in units]
    for unit in units:
        if places.count((unit.address.line, unit.address.device_id)) > 1:
            yield "devices", f"{unit.device} has the connection of another"


def _command(entry: AllowedCommand, command: Command, wire: ModbusWire, spec: DeviceSpec) -> Target:
    shown = command.reads_back
    return Target(
        entry.name,
        wire,
        wire.byte_order or (spec.modbus or NO_LIMITS).byte_order,
        command.safety,
        entry.every_s,
        entry.range or command.range,
        command.states,
        (shown, spec.points[shown]) if shown is not None and shown in spec.points else None,
        entry.settles_s,
        entry.multiple,
        entry.read_write,
    )


def _register(entry: AllowedRegister, spec: DeviceSpec) -> Target:
    wire = entry.modbus
    order = wire.byte_order or (spec.modbus or NO_LIMITS).byte_order
    return Target(
        entry.name,
        wire,
        order,
        entry.safety,
        entry.every_s,
        entry.range,
        settles_s=entry.settles_s,
        multiple=entry.multiple,
        read_write=entry.read_write,
    )

"""Roster: which units the directory has, on which lines, and which of them cannot be polled, with the reason. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from msgspec.structs import replace

from drivers.modbus import layout
from drivers.modbus.connection import serial_of
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import bus, repeat
from iotcore.specs.model import DeviceSpec, ModbusLimits
from iotcore.wire.modbus_address import Line, ModbusAddress, parse

NOWHERE = Line("tcp", "nowhere")  # units that are not asked at all
BAD_CONNECTION, LINE_SETTINGS, FIRE_BUDGET = "bad_connection", "line_settings", "fire_budget"
KEPT = 4096  # specs as they are fitted, kept at a time
NO_LIMITS = ModbusLimits()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a unit is not polled: the name that its readings carry, and the whole story for the log."""

    reason: str
    story: str


@dataclass(frozen=True, slots=True)
class Member:
    """A unit of the directory, with the spec as it is fitted."""

    binding: Binding
    spec: DeviceSpec
    address: ModbusAddress | None
    trouble: Trouble | None = None


@dataclass(slots=True)
class Bus:
    """The units of one line; `serial` is how characters go over it, where it is a serial one."""

    serial: bus.Serial | None = None
    members: dict[str, Member] = field(default_factory=dict)


def roster(directory: Directory, interval_s: float | None, settled: Collection[str] = ()) -> dict[Line, Bus]:
    """Every accepted Modbus unit on its line; those in trouble on NOWHERE. `settled`: those that are polled already."""
    buses: dict[Line, Bus] = {}
    nowhere = Bus()
    for device, binding in sorted(directory.devices.items()):
        if binding.spec.protocol != "modbus" or not binding.accepted:
            continue
        try:
            address = parse(binding.connection)
            spec = fitted(binding.spec, address.ranges, interval_s)
        except ValueError as error:
            unfit = fitted(binding.spec, (), interval_s)
            nowhere.members[device] = Member(binding, unfit, None, Trouble(BAD_CONNECTION, str(error)))
        else:
            buses.setdefault(address.line, Bus()).members[device] = Member(binding, spec, address)
    for line, each in buses.items():
        for device, trouble in _troubles(line, each, interval_s, settled).items():
            member = each.members.pop(device)
            nowhere.members[device] = Member(member.binding, member.spec, member.address, trouble)
    found = {line: each for line, each in buses.items() if each.members}
    return found | {NOWHERE: nowhere} if nowhere.members else found


def verdict(directory: Directory, device: str, interval_s: float | None) -> tuple[bool, str] | None:
    """Whether a unit can be polled with all others of its gateway, and the arithmetic; None for a device that is no such unit.

    The units of one gateway share its lines; those of another may have lines of the same name.
    """
    binding = directory.devices.get(device)
    if binding is None or binding.spec.protocol != "modbus" or not binding.accepted:
        return None
    beside = {name: each for name, each in directory.devices.items() if each.publisher == binding.publisher}
    for each in roster(Directory(beside), interval_s).values():
        member = each.members.get(device)
        if member is None:
            continue
        if member.trouble is not None:
            return False, member.trouble.story
        loads = [asked(name, other.spec, each.serial, interval_s) for name, other in each.members.items()]
        own = next(load for load in loads if load.name == device)
        fire = [load for load in loads if load.fire]
        tightest = own if own.fire else min(fire, key=lambda load: load.budget_s - load.poll_s(), default=None)
        return True, bus.worst_case(tightest, loads) if tightest is not None else ""
    return None


@lru_cache(maxsize=KEPT)
def fitted(spec: DeviceSpec, ranges: tuple[tuple[str, tuple[int, int]], ...], interval_s: float | None) -> DeviceSpec:
    """The spec with what of its repeats is there, and with another interval if one is given.

    Raises:
        ValueError: it has no such repeat.
    """
    narrowed = repeat.narrow(spec, dict(ranges))
    return narrowed if interval_s is None else replace(narrowed, interval_s=interval_s)


def asked(device: str, spec: DeviceSpec, serial: bus.Serial | None, longest_s: float | None = None) -> bus.Asked:
    """A unit as the fire budget sees it; no poll interval is above `longest_s`."""
    reads = layout.of(spec).reads
    fire = tuple((min(read.poll_s, longest_s or read.poll_s), read.requests) for read in reads if read.fire)
    others = tuple(request for read in reads if not read.fire for request in read.requests)
    return bus.Asked(device, fire, others, spec.modbus or NO_LIMITS, spec.fire_budget_s, serial)


def _troubles(line: Line, each: Bus, longest_s: float | None, settled: Collection[str]) -> Mapping[str, Trouble]:
    """Units that this line cannot take. The first one says how a serial line runs; on TCP each unit has its own behind."""
    found: dict[str, Trouble] = {}
    loads = []
    for device, member in each.members.items():
        assert member.address is not None
        serial = serial_of(member.address, member.spec.modbus) if member.address.is_rtu else None
        each.serial = each.serial or serial
        if serial != each.serial:
            found[device] = Trouble(LINE_SETTINGS, f"{serial} on {line}, which runs at {each.serial}")
        else:
            loads.append(asked(device, member.spec, serial, longest_s))
    return found | {device: Trouble(FIRE_BUDGET, why) for device, why in bus.refusals(loads, settled).items()}

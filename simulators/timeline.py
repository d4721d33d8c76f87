"""A scenario in YAML: which devices there are, what they measure over time, and when they misbehave.

    seed, starts        the dice, and the local time of day at which the play begins
    premises, zones     as in a city document, for the registry
    devices             name → model, where it stands, and its points; where it says nothing, what `models` says counts
    rain, fires, programs   what sources of several devices share
    faults              at a time, for a while, one device: an MQTT or a Modbus fault by its name

Read strictly: unknown keys, unknown points, values of a wrong kind, missing files and columns, unknown faults are errors, all
of them at once. `Timeline.values` is pure: the same seed gives the same values at the same time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from iotcore.errors import ConfigError, Problem
from iotcore.reading import Scalar
from iotcore.specs import yaml12
from iotcore.specs.model import DeviceSpec, Name, Words
from iotcore.strict import convert
from simulators import modbus_faults, mqtt_faults, signals
from simulators.modbus_unit import ModbusDevice
from simulators.modbus_wrong import Fault as ModbusFault
from simulators.optics import decibels_per_metre
from simulators.sources import Above, Burn, Curve, InFire, Replay, Signal, Source, Span, Steps, World, seconds, value
from simulators.weather import Rain

SHIPPED = Path(__file__).parent / "scenarios"
KINDS = {"number": "a number", "bool": "true or false", "text": "text", "enum": "text", "flags": "text"}
LOOKED_AT_S = (0.0, 1.0, 3_600.0)  # where a timeline's values are tried out when it is read

Fault = mqtt_faults.Fault | ModbusFault
Points = dict[Name, Source | Scalar | None]


class RainLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rain."""

    at: Span
    lasts: Span
    mm_per_h: float


class FaultLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`fault` of `device` from `at` on, for `lasts` (in the YAML: `for`); without it to the end. `args` are the fault's own."""

    at: Span
    device: str
    fault: str
    lasts: Span | None = msgspec.field(default=None, name="for")
    args: dict[str, Any] = {}


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device. Modbus units of the same `bus` share a port and are told apart by `unit`."""

    model: str
    title: str = ""
    premises: str = ""
    zone: str = ""
    bus: str = ""
    unit: int = 1
    points: Points = {}


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    devices: dict[str, Device]
    title: Words = {}
    seed: int = 1
    starts: signals.Hour = "06:00"
    lasts: Span | None = None
    premises: list[dict[str, Any]] = []
    zones: list[dict[str, Any]] = []
    models: dict[str, Points] = {}
    rain: tuple[RainLine, ...] = ()
    fires: dict[str, Burn] = {}
    programs: dict[str, signals.Program] = {}
    faults: tuple[FaultLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A fault in its time, s since the start; `until_s` None: to the end."""

    at_s: float
    until_s: float | None
    device: str
    name: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Timeline:
    """A scenario that was read and checked. Times are s since its start."""

    document: Document
    specs: Mapping[str, DeviceSpec]  # by device
    faults: tuple[Scheduled, ...]
    world: World

    @property
    def lasts_s(self) -> float | None:
        """How long it plays; None: until somebody ends it."""
        return None if self.document.lasts is None else seconds(self.document.lasts)

    def points(self, device: str) -> Points:
        """Where each point of a device comes from: its own, then its model's.

        Raises:
            KeyError: there is no such device.
        """
        entry = self.document.devices[device]
        return {**self.document.models.get(entry.model, {}), **entry.points}

    def values(self, device: str, t_s: float) -> dict[str, Scalar | None]:
        """What the device measures at `t_s`: the points that the scenario names.

        Raises:
            KeyError: there is no such device.
        """
        points = self.points(device)

        def tell(point: str) -> Scalar | None:
            source = points[point]
            if source is None or isinstance(source, bool | int | float | str):
                return source
            return value(source, self.world, t_s, f"{device}/{point}", tell)

        return {point: tell(point) for point in points}

    def city(self, connection: Mapping[str, str], gateway: str) -> dict[str, list[dict[str, Any]]]:
        """The document by which the registry knows it; Modbus units are children of `gateway` at their `connection`."""
        devices = []
        for name, entry in self.document.devices.items():
            device = {"id": name, "title": entry.title or self.specs[name].title, "model": entry.model}
            device |= {key: at for key, at in (("premises", entry.premises), ("zone", entry.zone)) if at}
            if name in connection:
                device |= {"parent": gateway, "connection": connection[name]}
            devices.append(device)
        return {"premises": list(self.document.premises), "zones": list(self.document.zones), "devices": devices}


def find(name: str) -> Path:
    """The file of a scenario: a path, or the name of a shipped one.

    Raises:
        ConfigError: neither; the shipped ones are listed.
    """
    path, shipped = Path(name), SHIPPED / f"{name}.yaml"
    if path.exists() or not shipped.exists():
        if not path.exists():
            known = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.yaml")))
            raise ConfigError([Problem(name, "", f"no such file, and no scenario of that name is shipped; those are: {known}")])
        return path
    return shipped


def load(path: Path, specs: Mapping[str, DeviceSpec]) -> Timeline:
    """Read and check a scenario; files that it replays are beside it.

    Raises:
        ConfigError: with every problem.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error}")]) from error
    return parse(text, specs, path)


def parse(text: str, specs: Mapping[str, DeviceSpec], path: Path) -> Timeline:
    """The same, of a text that stands at `path`.

    Raises:
        ConfigError: with every problem.
    """
    try:
        plain = yaml12.parse(text)
    except ValueError as error:
        raise ConfigError([Problem(str(path), "", str(error))]) from error
    document = convert(plain, Document, str(path))
    found = list(_problems(document, specs))
    curves: dict[tuple[str, str, str], Curve] = {}
    for where, source in _sources(document):
        if isinstance(source, Replay):
            try:
                curves[source.file, source.time, source.column] = _curve(path.parent / source.file, source)
            except ValueError as error:
                found.append((where, str(error)))
    faults = list(_faults(document, specs, found))
    if not found:
        by_device = {name: specs[device.model] for name, device in document.devices.items()}
        rains = tuple(Rain(seconds(rain.at), seconds(rain.lasts), rain.mm_per_h) for rain in document.rain)
        hours, minutes = document.starts.split(":")
        local_s = int(hours) * 3_600.0 + int(minutes) * 60.0
        world = World(document.seed, local_s, rains, document.fires, document.programs, curves)
        timeline = Timeline(document, by_device, tuple(sorted(faults, key=lambda fault: fault.at_s)), world)
        found = list(_tried_out(timeline))
        if not found:
            return timeline
    raise ConfigError([Problem(str(path), where, reason) for where, reason in found])


def _sources(document: Document) -> Iterator[tuple[str, Source]]:
    places = [(f"models.{model}", points) for model, points in document.models.items()]
    places += [(f"devices.{name}.points", device.points) for name, device in document.devices.items()]
    for place, points in places:
        for point, source in points.items():
            if isinstance(source, Source):
                yield f"{place}.{point}", source


def _problems(document: Document, specs: Mapping[str, DeviceSpec]) -> Iterator[tuple[str, str]]:
    """What the types do not tell: names that lead nowhere."""
    for name, program in document.programs.items():
        yield from ((f"programs.{name}.{path}", reason) for path, reason in signals.problems(program))
    for model, points in document.models.items():
        yield from _unknown_points(f"models.{model}", model, points, specs)
    seats: dict[tuple[str, int], str] = {}
    for name, device in document.devices.items():
        where = f"devices.{name}"
        yield from _unknown_points(where, device.model, device.points, specs)
        if (device.bus, device.unit) in seats and device.bus:
            yield f"{where}.unit", f"{device.unit} on bus {device.bus!r} is {seats[device.bus, device.unit]} already"
        seats[device.bus, device.unit] = name
        if not 0 <= device.unit <= 247:  # noqa: PLR2004 - Modbus over serial line 1.02, 2.2
            yield f"{where}.unit", f"{device.unit} is not between 0 and 247"
    for where, source in _sources(document):
        yield from ((where, reason) for reason in _dangling(source, document))


def _unknown_points(where: str, model: str, points: Points, specs: Mapping[str, DeviceSpec]) -> Iterator[tuple[str, str]]:
    spec = specs.get(model)
    if spec is None:
        yield where, f"there is no model {model!r}"
        return
    yield from ((f"{where}.{point}", f"{model} has no such point") for point in points if point not in spec.points)


def _dangling(source: Source, document: Document) -> Iterator[str]:
    if isinstance(source, InFire) and source.fire not in document.fires:
        yield f"no fire {source.fire!r}; there are: {', '.join(document.fires) or 'none'}"
    if isinstance(source, Signal):
        program = document.programs.get(source.program)
        if program is None:
            yield f"no program {source.program!r}; there are: {', '.join(document.programs) or 'none'}"
        elif source.group > program.groups:
            yield f"program {source.program!r} has {program.groups} groups, not {source.group}"
    if isinstance(source, Steps):
        times = [seconds(at) for at, _ in source.steps]
        if not times or any(later <= earlier for earlier, later in pairwise(times)):
            yield "steps: at least one, and each later than the one before"


def _faults(document: Document, specs: Mapping[str, DeviceSpec], found: list[tuple[str, str]]) -> Iterator[Scheduled]:
    for i, line in enumerate(document.faults):
        where, device = f"faults[{i}]", document.devices.get(line.device)
        if device is None or device.model not in specs:
            found += [(f"{where}.device", f"there is no device {line.device!r}")] if device is None else []
            continue
        parse_fault = modbus_faults.parse if specs[device.model].protocol == "modbus" else mqtt_faults.parse
        try:
            fault = parse_fault(line.fault, line.args)
        except ConfigError as error:
            found += [(f"{where}.args.{problem.path}", problem.reason) for problem in error.problems]
        except ValueError as error:
            found.append((f"{where}.fault", str(error)))
        else:
            at_s = seconds(line.at)
            until_s = None if line.lasts is None else at_s + seconds(line.lasts)
            yield Scheduled(at_s, until_s, line.device, line.fault, fault)


def _tried_out(timeline: Timeline) -> Iterator[tuple[str, str]]:
    """Each point's values at a few moments: of its kind, and such that the device can tell them."""
    for name, spec in timeline.specs.items():
        for point, source in timeline.points(name).items():
            if isinstance(source, Above) and (
                source.point not in timeline.points(name) or isinstance(timeline.points(name)[source.point], Above)
            ):
                yield (
                    f"devices.{name}.points.{point}",
                    f"follows {source.point!r}, which the scenario does not give a value of its own",
                )
                return
        for t_s in LOOKED_AT_S:
            wrong = list(_wrong(name, spec, timeline.values(name, t_s)))
            yield from wrong
            if wrong:
                break


def _wrong(name: str, spec: DeviceSpec, values: Mapping[str, Scalar | None]) -> Iterator[tuple[str, str]]:
    unit = ModbusDevice(spec) if spec.protocol == "modbus" else None
    for point, said in values.items():
        where, kind = f"devices.{name}.points.{point}", spec.points[point].kind
        fits = (
            isinstance(said, bool)
            if kind == "bool"
            else isinstance(said, str)
            if KINDS[kind] == "text"
            else type(said) in (int, float)
        )
        if said is not None and not fits:
            yield where, f"{said!r} is not {KINDS[kind]}"
        elif unit is not None:
            try:
                unit.set(point, said)
            except ValueError as error:
                yield where, str(error)


def _curve(path: Path, source: Replay) -> Curve:
    """The two columns of a CSV file.

    Raises:
        ValueError: what is wrong with it, with its line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in (source.time, source.column) if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path.name} has no column {' and no '.join(missing)}; it has: {', '.join(reader.fieldnames or ())}"
                )
            rows = [(number, row[source.time], row[source.column]) for number, row in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
    return _checked(path.name, rows, source)


def _checked(file: str, rows: Iterable[tuple[int, str, str]], source: Replay) -> Curve:
    times: list[float] = []
    values: list[float] = []
    for number, time, cell in rows:
        try:
            at_s, said = float(time), float(cell)
            said = decibels_per_metre(said, source.smoke_unit) if source.smoke_unit is not None else said
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file} line {number}: {error}") from error
        if not (isfinite(at_s) and isfinite(said)) or (times and at_s <= times[-1]):
            raise ValueError(f"{file} line {number}: times must rise and numbers be finite, got {time}, {cell}")
        times.append(at_s)
        values.append(said)
    if not times:
        raise ValueError(f"{file} has no rows")
    return Curve(tuple(times), tuple(values))

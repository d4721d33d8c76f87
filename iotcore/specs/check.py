"""What a spec's types cannot say: rules between its fields. Each problem names its path and what to write instead."""

from __future__ import annotations

import re
from math import prod
from typing import get_args

from iotcore.errors import Problem, SpecError
from iotcore.specs import firmware, raw, repeat, written_out
from iotcore.specs.check_overlap import overlaps
from iotcore.specs.check_point import point_problems
from iotcore.specs.check_wire import LAST_ADDRESS, Found, quality_problems, wire_problems
from iotcore.specs.model import (
    LEAST_SILENCE_S,
    SILENCE_INTERVALS,
    Command,
    DeviceSpec,
    ModbusLimits,
    MqttSource,
    Name,
    Point,
    Repeat,
    Revision,
)

MOST_POINTS = 50_000  # of one model, expanded; the largest panel so far has 22,000
NAME = re.compile(get_args(Name)[1].pattern)
WRITABLE = ("holding", "coil")
RESERVED_NAMES = frozenset({"quality", "test", "time", "expected", "completeness"})  # what a store keeps beside the points
RESERVED_SUFFIXES = ("_q", "_bad", "_n", "_min", "_max")


def checked(spec: DeviceSpec, file: str) -> DeviceSpec:
    """The spec written out: addresses 0-based, repeats among its points.

    Raises:
        SpecError: with every broken rule of the spec as it is written, in the order of its fields.
    """
    found = [*_whole(spec, file), *_names(spec), *_notation(spec)]
    for path, point in written_out.points(spec):
        found += [(f"{path}{below}", reason) for below, reason in point_problems(spec, point)]
    found += [*_mqtt(spec), *_references(spec), *_firmware(spec)]
    for name, command in spec.commands.items():
        found += [(f"commands.{name}{below}", reason) for below, reason in _command(spec, command)]
    limits = spec.modbus or ModbusLimits()
    repeats = [problem for i, each in enumerate(spec.repeats) for problem in _repeat(f"repeats[{i}]", each, limits)]
    found += repeats
    whole = spec
    if not repeats and not any(_notation(spec)):
        whole = written_out.expanded(written_out.normal(spec))
        found += _layouts(spec, whole)
    if found:
        raise SpecError([Problem(file, path, reason) for path, reason in dict.fromkeys(found)])
    return whole


def _whole(spec: DeviceSpec, file: str) -> Found:
    if file != f"{spec.model}.yaml":
        yield "model", f"is {spec.model!r}, so the file must be named {spec.model}.yaml"
    for key in ("vendor", "title", "source", "verified"):
        if not getattr(spec, key).strip():
            yield key, "is empty; " + ("name the document the map comes from" if key == "source" else "say it")
    if spec.protocol != "modbus" and spec.modbus is not None:
        yield "modbus", f"has no meaning for protocol {spec.protocol}"
    if spec.protocol != "canonical" and not spec.points and not spec.repeats:
        yield "points", "are missing"
    if spec.repeats and spec.protocol not in ("modbus", "bytes"):
        yield "repeats", f"have no meaning for protocol {spec.protocol}: there are no addresses to move"
    if spec.silence_s is not None:
        longest_s = max(LEAST_SILENCE_S, SILENCE_INTERVALS * spec.interval_s)
        if not spec.interval_s < spec.silence_s <= longest_s:
            yield (
                "silence_s",
                f"must be above interval_s ({spec.interval_s:g}) and at most {longest_s:g}: the limit only tightens",
            )
    for i, wire in enumerate(spec.quality):
        yield from ((f"quality[{i}]{below}", reason) for below, reason in quality_problems(spec, wire))


def _names(spec: DeviceSpec) -> Found:
    """Names that a store gives to something else."""
    for path, _ in written_out.points(spec):
        name = path.rpartition(".")[2]
        if name in RESERVED_NAMES or name.endswith(RESERVED_SUFFIXES):
            reserved = [*sorted(RESERVED_NAMES), *(f"…{suffix}" for suffix in RESERVED_SUFFIXES)]
            yield path, f"is a name that stores need ({', '.join(reserved)}): choose another"


def _notation(spec: DeviceSpec) -> Found:
    """Addresses that are not of the notation that the file declares."""
    modicon = spec.modbus is not None and spec.modbus.addresses == "modicon"
    for path, table, address in written_out.wires(spec):
        if table is None or address is None:
            continue
        if modicon and written_out.zero_based(table, address) is None:
            spans = " or ".join(f"{first} to {last}" for first, last in written_out.NOTATION[table])
            yield f"{path}.address", f"{address} is not in table {table}, which has {spans} (modbus.addresses is modicon)"
        elif not modicon and address > LAST_ADDRESS:
            yield f"{path}.address", "is above 65535; 40001 and the like need modbus.addresses: modicon"


def _mqtt(spec: DeviceSpec) -> Found:
    source = spec.mqtt
    if (source is not None) != (spec.protocol in ("json", "bytes")):
        yield "mqtt", f"has no meaning for protocol {spec.protocol}" if source else f"is missing: protocol is {spec.protocol}"
    if source is None:
        return
    if source.format == "thingsboard":
        yield from _thingsboard(spec, source)
        return
    levels = source.topic.split("/")
    if levels.count("{device}") != 1 or source.topic.count("{") != 1 or "#" in source.topic or not all(levels):
        yield "mqtt.topic", "needs one level that is {device}, no empty level and no #"
    if levels[0] in ("iot", "$SYS"):
        yield "mqtt.topic", f"must not begin with {levels[0]}, which is no vendor's"
    if spec.protocol == "json":
        for key, neutral in (("encoding", "raw"), ("path", ""), ("length", None), ("checksum", "none")):
            if getattr(source, key) != neutral:
                yield f"mqtt.{key}", "is for protocol bytes"
    elif source.timestamp:
        yield "mqtt.timestamp", "is for protocol json"


def _thingsboard(spec: DeviceSpec, source: MqttSource) -> Found:
    """Topics, names and times are the format's own."""
    if spec.protocol != "json":
        yield "mqtt.format", "thingsboard is JSON: protocol is json"
    neutral = MqttSource(format="thingsboard")
    for key in ("topic", "encoding", "path", "length", "checksum", "timestamp"):
        if getattr(source, key) != getattr(neutral, key):
            yield f"mqtt.{key}", "is the format's own: leave it out"


def _references(spec: DeviceSpec) -> Found:
    names = {*spec.points, *(name for each in spec.repeats for name in each.points)}
    if spec.life_check is not None:
        point = spec.points.get(spec.life_check)
        if point is None or point.stuck_after_s is None:
            yield "life_check", f"{spec.life_check!r} is no point with stuck_after_s: that says how soon it must move"
    if spec.test is not None:
        point = spec.points.get(spec.test.point)
        if point is None:
            yield "test.point", f"{spec.test.point!r} is no point"
        else:
            known = {True, False} if point.kind == "bool" else {*point.states.values(), *filter(None, [point.otherwise])}
            yield from (
                (f"test.values[{i}]", f"{value!r} is no value of {spec.test.point}")
                for i, value in enumerate(spec.test.values)
                if value not in known
            )
    for name, command in spec.commands.items():
        if command.reads_back is not None and command.reads_back not in names:
            yield f"commands.{name}.reads_back", f"{command.reads_back!r} is no point"


def _firmware(spec: DeviceSpec) -> Found:
    known = spec.firmware
    if known is None:
        return
    if not known.base:
        yield "firmware.base", "is empty: name the versions that the points describe"
    for wire in ("modbus", "json"):
        if getattr(known, wire) is not None and spec.protocol != wire:
            yield f"firmware.{wire}", f"has no meaning for protocol {spec.protocol}"
    if known.modbus is not None:
        found = wire_problems(known.modbus, spec.modbus or ModbusLimits())
        yield from ((f"firmware{below}", reason) for below, reason in found)
    seen = set(known.base)
    for i, revision in enumerate(known.revisions):
        yield from _revision(spec, revision, f"firmware.revisions[{i}]")
        for version in revision.versions:
            if version in seen:
                yield f"firmware.revisions[{i}].versions", f"{version!r} stands twice"
            seen.add(version)


def _revision(spec: DeviceSpec, revision: Revision, path: str) -> Found:
    if not revision.versions or not revision.differs.strip():
        yield path, "needs versions, and what differs in them"
    if not revision.points and not revision.without:
        yield path, "differs in nothing: put its versions into firmware.base"
    for name in revision.without:
        if name not in spec.points:
            yield f"{path}.without", f"{name!r} is no point"


def _command(spec: DeviceSpec, command: Command) -> Found:
    wire = command.modbus
    if (wire is not None) != (spec.protocol == "modbus"):
        yield ".modbus", f"has no meaning for protocol {spec.protocol}" if wire else "is missing: what is written, and where"
    if {"vi", "en"} - set(command.title):
        yield ".title", "needs vi and en"
    if command.range is not None and command.states:
        yield ".states", "a command writes a number of a range or one of states, not both"
    if command.range is not None and not command.range[0] <= command.range[1]:
        yield ".range", "the lower first"
    if wire is None:
        return
    yield from wire_problems(wire, spec.modbus or ModbusLimits())
    if wire.table not in WRITABLE:
        yield ".modbus.table", f"{wire.table} cannot be written"
    elif wire.table == "holding" and wire.type != "bit" and command.range is None and not command.states:
        yield ".range", "is missing: which values may be written"


def _repeat(path: str, each: Repeat, limits: ModbusLimits) -> Found:
    if not each.over or not each.points:
        yield path, "needs an index to go over, and points"
    if set(each.stride) != set(each.over):
        yield f"{path}.stride", f"needs exactly the indices of over: {', '.join(each.over)}"
    bad = {index: span for index, span in each.over.items() if not 0 <= span[0] <= span[1]}
    for index, (first, last) in bad.items():
        yield f"{path}.over.{index}", f"{first} to {last} is no range of numbers from 0 up"
    if bad:
        return
    if _count(each) > MOST_POINTS:
        yield path, f"makes {_count(each)} points; {MOST_POINTS} are the most"
        return
    lasts = {index: last for index, (_, last) in each.over.items()}
    reach = sum(each.stride.get(index, 0) * (last - first) for index, (first, last) in each.over.items())
    for name, point in each.points.items():
        if any("{" + index + "}" not in name for index in each.over):
            yield f"{path}.points.{name}", f"its name must hold {', '.join('{' + index + '}' for index in each.over)}"
        elif not NAME.match(repeat.filled(name, lasts)):
            yield f"{path}.points.{name}", f"{repeat.filled(name, lasts)!r} is no name of a point"
        if point.modbus is not None and _last(point, limits) + reach > LAST_ADDRESS:
            yield f"{path}.points.{name}.modbus.address", "leaves no room for all repeats"


def _count(each: Repeat) -> int:
    """How many points a repeat makes."""
    return prod(last - first + 1 for first, last in each.over.values()) * len(each.points)


def _last(point: Point, limits: ModbusLimits) -> int:
    """The last 0-based address of a point as it is written."""
    wire = point.modbus
    assert wire is not None
    address = written_out.zero_based(wire.table, wire.address) if limits.addresses == "modicon" else wire.address
    return (address or 0) + raw.width(wire) - 1


def _layouts(spec: DeviceSpec, whole: DeviceSpec) -> Found:
    """Overlaps in each layout of a spec that is written out: its own and those of its revisions."""
    twice = len(spec.points) + sum(map(_count, spec.repeats)) - len(whole.points)
    if twice:
        yield "repeats", f"make {twice} names that stand there already"
    if len(whole.points) > MOST_POINTS:
        yield "repeats", f"make {len(whole.points)} points; {MOST_POINTS} are the most"
        return
    yield from overlaps(whole.points, "points")
    for i, revision in enumerate(whole.firmware.revisions if whole.firmware else ()):
        known = set(overlaps(whole.points, f"firmware.revisions[{i}].points"))
        found = overlaps(firmware.revised(whole, revision).points, f"firmware.revisions[{i}].points")
        yield from (each for each in found if each not in known)

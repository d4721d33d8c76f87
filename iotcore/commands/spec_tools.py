"""What one does with specs at a desk: check them, see the plan of reading a unit, import another platform's file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from drivers.modbus import roster
from iotcore.errors import ConfigError, Problem, SpecError, StartError
from iotcore.specs import bus, load, plan, raw, repeat
from iotcore.specs.importers import edgex, telegraf, thingsboard
from iotcore.specs.importers.draft import Imported, Wanted
from iotcore.specs.model import DeviceSpec, ModbusLimits
from iotcore.specs.plan import Group, Request

READERS = {"telegraf": telegraf.read, "edgex": edgex.read, "thingsboard": thingsboard.read}
NO_LIMITS = ModbusLimits()
MAX_IMPORT_BYTES = 4 * 1024 * 1024
MBAP_BYTES = 4  # that a TCP frame is longer than an RTU one: a header of 7 instead of unit and checksum, 3


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a plan. `holes` are registers read for nothing; times in s, of a serial line."""

    lane: str
    poll_s: float
    table: str
    address: int
    count: int
    holes: int
    points: int
    question_bytes: int
    answer_bytes: int
    line_s: float | None
    takes_s: float


def specs(folder: Path | None) -> dict[str, DeviceSpec]:
    """The specs of a folder, or those that come with iotcore."""
    return load.load_folder(folder or load.shipped_folder())


def named(name: str, folder: Path | None) -> DeviceSpec:
    """The spec of a model, or the one in a file.

    Raises:
        StartError: there is none.
        SpecError: with all that is wrong with it.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return load.load_file(Path(name))
    home = folder or load.shipped_folder()
    known = sorted(path.stem for path in home.glob("*.yaml"))
    if name not in known:  # the others are not read: one of them may be broken, and a large one takes its time
        near = [model for model in known if name.lower() in model] or known
        raise StartError(f"There is no spec of {name!r} in {home}", f"There are: {', '.join(near) or 'none'}.")
    return load.load_file(home / f"{name}.yaml")


def modbus_spec(name: str, folder: Path | None) -> DeviceSpec:
    """The same, of a unit that speaks Modbus."""
    spec = named(name, folder)
    if spec.protocol != "modbus":
        raise StartError(f"{spec.model} does not speak Modbus", f"Its protocol is {spec.protocol}.")
    return spec


def check(paths: Sequence[Path], output: str) -> int:
    """Say everything that is wrong with files and folders of specs; 1 when there is anything."""
    problems: list[Problem] = []
    sound = 0
    for path in paths:
        try:
            sound += len(load.load_folder(path)) if path.is_dir() else len([load.load_file(path)])
        except SpecError as error:
            problems += error.problems
    if output == "json":
        _say(json.dumps({"sound": sound, "problems": [asdict(problem) for problem in problems]}, ensure_ascii=False, indent=2))
    else:
        for problem in problems:
            _say(str(problem))
        _say(_some(len(problems), "problem") if problems else f"{_some(sound, 'spec')} read, all sound")
    return 1 if problems else 0


def show_plan(spec: DeviceSpec, serial: bus.Serial | None, fitted: Mapping[str, tuple[int, int]], output: str) -> int:
    """Print how a unit is read, and what of a bus it takes; 1 when its fire budget cannot be met there.

    `serial` None: a network. `fitted` narrows the repeats.
    """
    try:
        spec = repeat.narrow(spec, fitted)
    except ValueError as error:
        raise StartError(str(error), "Give a range of an index that the spec repeats over.") from error
    asked = roster.asked(spec.model, spec, serial)
    groups = plan.groups(spec)
    rows = [_row(spec, group, request, asked) for group in groups for request in group.requests]
    refused = bus.refusals([asked]).get(spec.model, "")
    budget = refused or (bus.worst_case(asked, [asked]) if asked.fire else "")
    if output == "json":
        shown = {
            "model": spec.model,
            "line": str(serial) if serial else "network",
            "points": len(spec.points),
            "requests": [asdict(row) for row in rows],
            "share": sum(row.takes_s / row.poll_s for row in rows),
            "fire_budget": budget,
            "accepted": not refused,
        }
        _say(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        _say("\n".join(_page(spec, groups, rows, serial)))
        if budget:
            _say(f"fire budget {'BROKEN, refused at start' if refused else 'kept'}: {budget}")
    return 1 if refused else 0


def serial_of(spec: DeviceSpec, baud: int | None, parity: Literal["N", "E", "O"] | None) -> bus.Serial:
    """The unit's serial line, as it is delivered or as it is set."""
    own = bus.of_limits(spec.modbus or NO_LIMITS)
    return bus.Serial(baud or own.baud, parity or own.parity, own.stop_bits)


def import_file(kind: str, file: Path, wanted: Wanted) -> Imported:
    """The draft of a spec from another platform's file.

    Raises:
        ConfigError: with everything that keeps it from being one.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(str(file), "", f"cannot be read: {error.strerror}")]) from error
    if len(content) > MAX_IMPORT_BYTES:
        raise ConfigError([Problem(str(file), "", f"is larger than {MAX_IMPORT_BYTES} bytes")])
    return READERS[kind](content, file.name, wanted)


def show_import(found: Imported, out: Path | None) -> int:
    """The draft to a file (or standard output), the report beside it."""
    report = "\n".join(found.report.lines()) + "\n"
    if out is None:
        sys.stdout.write(found.text)
        sys.stderr.write(report)
        return 0
    if out.exists():
        raise StartError(f"{out} is there already", "Nothing is replaced: name another file, or move that one away.")
    try:
        out.write_text(found.text, encoding="utf-8")
    except OSError as error:
        raise StartError(f"{out} cannot be written: {error.strerror}", "Name another file.") from error
    sys.stdout.write(report)
    if out.name != f"{found.spec.model}.yaml":
        _say(f"name it {found.spec.model}.yaml before it is used: a spec's file is named as its model")
    return 0


def _row(spec: DeviceSpec, group: Group, request: Request, asked: bus.Asked) -> Row:
    question, answer = bus.frame_bytes(request)
    if asked.serial is None:
        question, answer = question + MBAP_BYTES, answer + MBAP_BYTES
    return Row(
        group.lane,
        group.poll_s,
        request.table,
        request.address,
        request.count,
        request.count - len(_needed(spec, request)),
        len(request.points),
        question,
        answer,
        bus.on_the_line_s(request, asked.serial) if asked.serial else None,
        asked.request_s(request),
    )


def _needed(spec: DeviceSpec, request: Request) -> set[int]:
    """Addresses of a request that some point or verdict stands in."""
    found: set[int] = set()
    for name in request.points:
        point = spec.points[name]
        if point.modbus is not None and point.modbus.table == request.table:
            found.update(range(point.modbus.address, point.modbus.address + raw.width(point.modbus)))
        for state in (*point.quality, *spec.quality):
            if state.table == request.table and state.address is not None:
                found.add(state.address)
    return found & set(range(request.address, request.address + request.count))


def _page(spec: DeviceSpec, groups: Sequence[Group], rows: Sequence[Row], serial: bus.Serial | None) -> list[str]:
    """The plan as a person reads it."""
    lines = [f"{spec.title}: {_some(len(spec.points), 'point')}, {_some(len(rows), 'request')}"]
    if serial:
        lines.append(
            f"at {serial}: a character takes {serial.char_s * 1e3:.3f} ms, the silence between frames {serial.gap_s * 1e3:.3f} ms"
        )
    for group in groups:
        own = [row for row in rows if (row.lane, row.poll_s) == (group.lane, group.poll_s)]
        lines += ["", f"{group.lane}, each {group.poll_s:g} s: {_some(len(group.points), 'point')}"]
        lines += [_line(row) for row in own]
        bytes_ = sum(row.question_bytes + row.answer_bytes for row in own)
        total_s = sum(row.takes_s for row in own)
        lines.append(f"  {'a round':<24}{'':>29}{bytes_:>7} bytes  {total_s:8.3f} s, {total_s / group.poll_s:.1%} of the bus")
    share = sum(row.takes_s / row.poll_s for row in rows)
    lines += ["", f"share of the bus: {share:.1%}; each request counted with {bus.ANSWER_S * 1e3:g} ms until the unit answers"]
    return lines


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _line(row: Row) -> str:
    where = f"{row.table} {row.address}" + (f"–{row.address + row.count - 1}" if row.count > 1 else "")
    what = "bits" if row.table in raw.BIT_TABLES else "registers"
    on_line = f"{row.line_s * 1e3:8.1f} ms on the line" if row.line_s is not None else ""
    bytes_ = row.question_bytes + row.answer_bytes
    return f"  {where:<24}{row.count:>5} {what:<10}{row.holes:>4} holes {bytes_:>9} bytes  {on_line}".rstrip()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

"""docs/devices.md, made from the shipped specs: `python -m iotcore.specs.page > docs/devices.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from iotcore.specs import plan, repeat
from iotcore.specs.load import load_folder, shipped_folder
from iotcore.specs.model import Command, DeviceSpec, Point

HEAD = """# Supported devices

Each model is one file in [firmware_specs/](../firmware_specs) and a folder of cases in [tests/cases/](../tests/cases); why the
format is as it is stands in [ADR 3](adr/0003-spec-format.md), how to write one in [specs.md](specs.md). To add a model, write
both; a device that follows one of our own profiles needs neither ([device-makers.md](device-makers.md)).

What "verified" says was checked is all that was checked: where it says "not tried on a unit", nobody has. Addresses are 0-based.

This page is made from the specs by `python -m iotcore.specs.page`; a test keeps it current.
"""
SPEAKS = {
    "canonical": "MQTT, the wire contract",
    "modbus": "Modbus",
    "json": "MQTT, the maker's JSON",
    "bytes": "MQTT, the maker's bytes",
}
OURS = "iotcore"
SAFETY = {"routine": "one person", "two_person": "two persons", "forbidden": "never sent"}
Row = tuple[str, Point]


def page(specs: Mapping[str, DeviceSpec]) -> str:
    """The whole page: a table of the models, then each model with its points."""
    rows = [
        f"| [{spec.title}](#{spec.model}) | {spec.vendor}{' (our own profile)' if spec.vendor == OURS else ''} "
        f"| {spec.device_class.replace('_', ' ')} | {SPEAKS[spec.protocol]} | {len(spec.points):,} |"
        for spec in specs.values()
    ]
    table = "\n".join(["| Device | Vendor | Class | Speaks | Points |", "|---|---|---|---|---|", *rows, ""])
    return "\n".join([HEAD, table, *(_model(spec) for spec in specs.values())])


def _model(spec: DeviceSpec) -> str:
    lines = [f"## {spec.model}", "", f"{spec.title}. A reading at least every {spec.interval_s:g} s.", "", *_facts(spec), ""]
    wire = {"modbus": ["Register"], "json": ["In the payload"], "bytes": ["Byte"]}.get(spec.protocol, [])
    lines += _table(["Point", "English", "Tiếng Việt", "Unit", "Range", *wire], (_point(spec, *row) for row in _rows(spec)))
    if spec.commands:
        head = ["Command", "English", "Tiếng Việt", "Takes", "Who"]
        lines += _table(head, (_command(name, command) for name, command in spec.commands.items()))
    return "\n".join(lines)


def _facts(spec: DeviceSpec) -> Iterator[str]:
    yield f"- **Source:** {' '.join(spec.source.split())}"
    yield f"- **Verified:** {' '.join(spec.verified.split())}"
    if spec.mqtt is not None:
        yield f"- **Topic:** `{spec.mqtt.topic}`"
    for each in spec.repeats:
        spans = ", ".join(f"`{{{index}}}` {first} to {last}" for index, (first, last) in each.over.items())
        yield f"- **Repeated:** {spans}"
    for revision, words in spec.hardware.items():
        yield f"- **Hardware {revision}:** {words}"
    if spec.firmware is not None:
        yield f"- **Firmware:** the points below are those of {', '.join(spec.firmware.base)}"
        for each_revision in spec.firmware.revisions:
            yield f"- **Firmware {', '.join(each_revision.versions)}:** {' '.join(each_revision.differs.split())}"
    if spec.protocol == "modbus":
        yield f"- **Requests for all points:** {len(plan.requests(spec)):,}"


def _rows(spec: DeviceSpec) -> Iterator[Row]:
    """The points as they are written: those of a repeat once, at the addresses of its first step."""
    repeated = {name for name, _ in repeat.expand(spec.repeats)}
    yield from ((name, point) for name, point in spec.points.items() if name not in repeated)
    for each in spec.repeats:
        yield from each.points.items()


def _point(spec: DeviceSpec, name: str, point: Point) -> list[str]:
    words = "; ".join(f"{word} ({key})" for key, word in point.states.items())
    unit = point.unit or {"bool": "yes or no", "text": "text"}.get(point.kind, words)
    span = f"{point.range[0]:,.10g} to {point.range[1]:,.10g}" if point.range else ""
    cells = [f"`{name}`", point.title.get("en", ""), point.title.get("vi", ""), unit, span]
    if point.modbus is not None:
        wire = point.modbus
        part = f", bit {wire.bit}" if wire.bit is not None else f", mask {wire.mask:#06x}" if wire.mask is not None else ""
        cells.append(f"{wire.table} {wire.address}, {wire.type}{part}")
    elif point.json is not None:
        cells.append(f"`{point.json.path}`")
    elif point.bytes is not None:
        part = f", mask {point.bytes.mask:#04x}" if point.bytes.mask is not None else ""
        cells.append(f"{point.bytes.offset}, {point.bytes.type}{part}")
    elif spec.protocol != "canonical":
        cells.append("")
    return cells


def _command(name: str, command: Command) -> list[str]:
    takes = ", ".join(command.states.values())
    if command.range is not None:
        takes = f"{command.range[0]:g} to {command.range[1]:g}"
    return [f"`{name}`", command.title.get("en", ""), command.title.get("vi", ""), takes, SAFETY[command.safety]]


def _table(head: list[str], rows: Iterator[list[str]]) -> list[str]:
    return [_cells(head), "|" + "---|" * len(head), *map(_cells, rows), ""]


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page(load_folder(shipped_folder())))

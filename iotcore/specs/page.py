"""docs/devices.md, made from the shipped specs: `python -m iotcore.specs.page > docs/devices.md`."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from iotcore.specs.load import load_folder, shipped_folder
from iotcore.specs.model import DeviceSpec, Point

HEAD = """# Supported devices

Each model is one file in [firmware_specs/](../firmware_specs) and a folder of cases in [tests/cases/](../tests/cases); why the
format is as it is stands in [ADR 3](adr/0003-spec-format.md). To add a model, write both; a device that follows one of our own
profiles needs neither ([device-makers.md](device-makers.md)).

What "verified" says was checked is all that was checked: where it says "not tried on a unit", nobody has.

This page is made from the specs by `python -m iotcore.specs.page`; a test keeps it current.
"""
SPEAKS = {"canonical": "MQTT, the wire contract", "modbus": "Modbus/TCP", "json": "MQTT, the maker's JSON"}


def page(specs: Mapping[str, DeviceSpec]) -> str:
    """The whole page: a table of the models, then each model with its points."""
    rows = [
        f"| [{spec.title}](#{spec.model}) | {spec.vendor} | {spec.device_class.replace('_', ' ')} | {SPEAKS[spec.protocol]} |"
        for spec in specs.values()
    ]
    table = "\n".join(["| Device | Vendor | Class | Speaks |", "|---|---|---|---|", *rows, ""])
    return "\n".join([HEAD, table, *(_model(spec) for spec in specs.values())])


def _model(spec: DeviceSpec) -> str:
    wire = spec.protocol == "modbus"
    head = ["Point", "English", "Tiếng Việt", "Unit", "Range", *(["Register"] if wire else [])]
    lines = [
        f"## {spec.model}",
        "",
        f"{spec.title}. A reading every {spec.interval_s:g} s.",
        "",
        f"- **Source:** {spec.source}",
        f"- **Verified:** {' '.join(spec.verified.split())}",
        "",
        _cells(head),
        "|" + "---|" * len(head),
        *(_cells(_point(name, point, wire=wire)) for name, point in spec.points.items()),
        "",
    ]
    return "\n".join(lines)


def _point(name: str, point: Point, *, wire: bool) -> list[str]:
    unit = point.unit or {"bool": "yes or no", "text": "text"}.get(point.kind, "")
    span = f"{point.range[0]:,.10g} to {point.range[1]:,.10g}" if point.range else ""
    cells = [f"`{name}`", point.title.get("en", ""), point.title.get("vi", ""), unit, span]
    if wire:
        cells.append(f"{point.modbus.table} {point.modbus.address}, {point.modbus.type}" if point.modbus else "")
    return cells


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page(load_folder(shipped_folder())))

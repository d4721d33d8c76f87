"""`iotcore import`, `iotcore export` and `iotcore labels`: a registry's many entries at once, and the labels for its devices."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from iotcore.settings import Settings

Nouns = argparse._SubParsersAction  # noqa: SLF001 argparse gives its type no public name
Command = Callable[..., argparse.ArgumentParser]
KINDS = ("areas", "premises", "contacts", "zones", "devices")  # of registry.kinds, which takes half a second to import
LAYOUTS = ("3x8-70x37", "3x8-63x34", "3x7-63x38", "2x7-99x38", "2x4-99x68", "5x13-38x21")  # of paper.labels, likewise


def add(nouns: Nouns[argparse.ArgumentParser], command: Command, settings: Callable[[argparse.Namespace], Settings]) -> None:
    """Add the commands."""
    text = "add and change areas, premises, contacts, zones and devices from a CSV, XLSX or JSON file"
    importing = command(nouns, "import", text, lambda options: _import(settings(options), options))
    importing.add_argument("file", type=Path, metavar="FILE.{csv,xlsx,json}")
    importing.add_argument("--kind", choices=KINDS, default="", help="what a CSV file holds, where its name does not say it")
    importing.add_argument("--dry-run", action="store_true", help="only say what would be added, changed, and what is wrong")
    skip = "store the good rows; the others go to FILE.rejected.csv with the reasons"
    importing.add_argument("--skip-bad", action="store_true", help=skip)
    importing.add_argument("--progress", action="store_true", help="JSON lines on standard error where it is no terminal")
    importing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    text = "write the registry's entries to a file that `iotcore import` reads"
    exporting = command(nouns, "export", text, lambda options: _export(settings(options), options))
    exporting.add_argument("--kind", choices=KINDS, action="append", default=[], help="only these (for CSV: one)")
    exporting.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.{csv,xlsx,json}")
    _labels_command(nouns, command, settings)


def _labels_command(
    nouns: Nouns[argparse.ArgumentParser], command: Command, settings: Callable[[argparse.Namespace], Settings]
) -> None:
    text = "a PDF of labels, each with a QR code that leads to its device's page"
    labels = command(nouns, "labels", text, lambda options: _labels(settings(options), options))
    labels.add_argument("device", nargs="*", help="device, or the serial number of one")
    labels.add_argument("--premises", action="append", default=[], help="all devices there; again for more")
    labels.add_argument("--group", action="append", default=[], help="the devices of a group; again for more")
    labels.add_argument("--file", type=Path, help="a device or serial number a line; serials need not be registered yet")
    labels.add_argument(
        "--sheet", choices=LAYOUTS, default=LAYOUTS[0], help="labels on an A4 page, and mm (default: %(default)s)"
    )
    labels.add_argument("--skip", type=int, default=0, metavar="N", help="labels of the first page that are used (default: 0)")
    labels.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.pdf")


def _import(settings: Settings, options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import importing
    from iotcore.commands.progress import Progress

    logging.getLogger().setLevel(logging.WARNING)
    wanted = importing.Wanted(options.file, options.kind, options.dry_run, options.skip_bad)
    progress = Progress(sys.stderr, SystemClock(), lines=options.progress)
    report = asyncio.run(importing.run(settings, wanted, SystemClock(), progress))
    if options.output == "json":
        _say(json.dumps(report.plain(), ensure_ascii=False, indent=2))
    else:
        _say("\n".join(report.lines()))
    return 1 if report.refused and not report.rejected else 0


def _export(settings: Settings, options: argparse.Namespace) -> int:
    from iotcore.commands import importing

    counts = asyncio.run(importing.export(settings, options.output, options.kind))
    _say(f"{options.output}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    return 0


def _labels(settings: Settings, options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import labels

    wanted = labels.Wanted(
        *(options.output, options.device, options.premises, options.group), options.file, options.sheet, options.skip
    )
    count = asyncio.run(labels.run(settings, wanted, SystemClock()))
    _say(f"{options.output}: {count} labels; print at 100 %, not fitted to the page")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

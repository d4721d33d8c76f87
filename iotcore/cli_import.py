"""`iotcore import`, `iotcore export` and `iotcore labels`: a registry's many entries at once, and the labels for its devices."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from iotcore.settings import Settings

Nouns = argparse._SubParsersAction  # noqa: SLF001 argparse gives its type no public name
Command = Callable[..., argparse.ArgumentParser]
KINDS = ("areas", "premises", "contacts", "zones", "devices")  # of registry.kinds, which takes half a second to import


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
    importing.add_argument(
        "--by", default=os.environ.get("USER", "operator"), help="who stands in the audit (default: %(default)s)"
    )
    importing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    text = "write the registry's entries to a file that `iotcore import` reads"
    exporting = command(nouns, "export", text, lambda options: _export(settings(options), options))
    exporting.add_argument("--kind", choices=KINDS, action="append", default=[], help="only these (for CSV: one)")
    exporting.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.{csv,xlsx,json}")


def _import(settings: Settings, options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import importing
    from iotcore.commands.progress import Progress

    logging.getLogger().setLevel(logging.WARNING)
    wanted = importing.Wanted(options.file, options.kind, options.dry_run, options.skip_bad, options.by)
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


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

"""`iotcore telemetry …`: what devices have measured: looked at, exported, imported. See docs/telemetry-cli.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from iotcore.commands.ago import AgoParser
from iotcore.specs.model import DeviceClass

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    telemetry = nouns.add_parser("telemetry", help="what devices have measured")
    verbs = telemetry.add_subparsers(required=True, metavar="COMMAND", parser_class=AgoParser)
    _looking(verbs, command)
    _moving(verbs, command)


def _looking(verbs: Nouns, command: Command) -> None:
    query = command(verbs, "query", "the values of a point, or their mean for each interval", _query)
    query.add_argument("device")
    query.add_argument("point")
    _span(query, start="-1h")
    query.add_argument("--every", metavar="1m|15m|1h|1d", help="the mean for each interval (default: every value)")
    query.add_argument("--limit", type=int, default=1_000, help="values without --every, the newest (default: %(default)s)")
    query.add_argument("-o", "--output", choices=("table", "json", "csv", "chart"), default="table")
    latest = command(verbs, "latest", "the last value of every point", _latest)
    latest.add_argument("device", nargs="?", help="of this device alone")
    latest.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _moving(verbs: Nouns, command: Command) -> None:
    export = command(verbs, "export", "readings out of the store into a file, with a manifest beside it", _export)
    _span(export, start=None)
    export.add_argument("--device", action="append", default=[], help="only of this device; may be given again")
    export.add_argument("--premises", default="", help="only of devices at these premises")
    export.add_argument("--class", dest="device_class", default="", choices=get_args(DeviceClass), help="only of this class")
    export.add_argument("--format", choices=("lp", "parquet"), default="lp", help="(default: %(default)s, line protocol)")
    export.add_argument("-O", "--out", type=Path, required=True, metavar="FILE|FOLDER", help=".lp, .lp.gz or .parquet")
    importing = command(verbs, "import", "exported readings into the store; again changes nothing", _import)
    importing.add_argument("files", type=Path, nargs="+", metavar="FILE")


def _span(parser: argparse.ArgumentParser, *, start: str | None) -> None:
    said = "ISO time (the city's clock unless it has a zone), now, today, -30m, -2h, -7d"
    default = f" (default: {start})" if start else ""
    parser.add_argument("--from", dest="start", default=start, required=start is None, metavar="TIME", help=said + default)
    parser.add_argument("--to", dest="end", default="now", metavar="TIME", help="not included (default: now)")


def _query(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import moments, telemetry_query

    clock = SystemClock()
    wanted = telemetry_query.Wanted(
        device=options.device,
        point=options.point,
        span_ms=moments.span_ms(options.start, options.end, clock.wall_ms()),
        every_ms=moments.every_ms(options.every) if options.every else None,
        limit=options.limit,
    )
    return asyncio.run(telemetry_query.query(_settings(options), clock, wanted, options.output))


def _latest(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import telemetry_query

    return asyncio.run(telemetry_query.latest(_settings(options), SystemClock(), options.device, options.output))


def _export(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import moments, telemetry_export

    clock = SystemClock()
    span_ms = moments.span_ms(options.start, options.end, clock.wall_ms())
    devices = tuple(options.device)
    wanted = telemetry_export.Wanted(span_ms, devices, options.premises, options.device_class, options.format)
    return asyncio.run(telemetry_export.run(_settings(options), clock, wanted, options.out))


def _import(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import telemetry_import

    return asyncio.run(telemetry_import.run(_settings(options), SystemClock(), options.files))


def _settings(options: argparse.Namespace) -> Any:
    from iotcore.process.credentials import environment
    from iotcore.settings import load

    logging.getLogger().setLevel(logging.ERROR)  # what the commands have to say they say themselves
    return load(options.config, environment(os.environ))

"""`iotcore incident …`, `disablement …`, `walk …`, `drill …`: what people do about fires. See docs/acts.md, docs/drills.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore import cli_drill_report
from iotcore.cli_response import ALONE, rows, say
from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Command) -> None:
    """Add the nouns; `command` makes a parser for one verb, as `cli` does."""
    _add_disablement(nouns, command)
    _add_walk(nouns, command)
    _add_incident(nouns, command)
    _add_drill(nouns, command)


def _add_disablement(nouns: Nouns, command: Command) -> None:
    home = nouns.add_parser("disablement", help="points, devices, zones and premises out of service for a time")
    verbs = home.add_subparsers(required=True, metavar="COMMAND")
    adding = command(verbs, "add", "disable something until a time; a whole premises takes a second person", _disable)
    adding.add_argument("what", metavar="WHAT", help="device:ID, point:DEVICE/POINT, zone:ID or premises:ID")
    adding.add_argument("--minutes", type=float, required=True, help="1 to 43200 (30 days)")
    adding.add_argument("--reason", required=True)
    adding.add_argument("--alone", default="", metavar="REASON", help=ALONE)
    listing = command(verbs, "list", "what is disabled, or waits for a second person", _disablements)
    listing.add_argument("--ended", action="store_true", help="also what is over")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for verb, text, function in (
        ("confirm", "say yes as the second person", _confirm),
        ("lift", "end a disablement before its time; what still burns fires then", _lift),
    ):
        command(verbs, verb, text, function).add_argument("id")


def _add_incident(nouns: Nouns, command: Command) -> None:
    home = nouns.add_parser("incident", help="one incident: what happened, and the acts on it")
    verbs = home.add_subparsers(required=True, metavar="COMMAND")
    command(verbs, "show", "everything about an incident, as JSON", _incident).add_argument("incident")
    reporting = command(verbs, "report", "the after-action report of an incident as a signed PDF (docs/reports.md)", _report)
    reporting.add_argument("incident")
    reporting.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    for verb, text in (
        ("acknowledge", "take an incident, or one alarm of it: escalation stops"),
        ("silence", "silence an incident; it stays open, and nothing of its delivery changes"),
        ("reset", "close an incident's episode: whoever was told is told"),
    ):
        act = command(verbs, verb, text, _act)
        act.add_argument("incident")
        if verb == "acknowledge":
            act.add_argument("--alarm", type=int, default=0, metavar="NUMBER", help="only this alarm of it")
        act.add_argument("--by", default=os.environ.get("USER", "operator"))
        act.set_defaults(kind=verb, alarm=0)


def _incident(options: argparse.Namespace) -> int:
    from iotcore.commands import cases

    say(json.dumps(cases.show(_settings(options), options.incident), ensure_ascii=False, indent=2))
    return 0


def _report(options: argparse.Namespace) -> int:
    from iotcore.commands import reporting

    size = asyncio.run(reporting.incident(_settings(options), options.incident, options.out))
    say(f"{options.out}: {size} bytes, signed")
    return 0


def _act(options: argparse.Namespace) -> int:
    from iotcore.commands import cases

    asyncio.run(cases.act(_settings(options), options.kind, options.incident, options.alarm, options.by))
    return 0


def _add_walk(nouns: Nouns, command: Command) -> None:
    home = nouns.add_parser("walk", help="walk tests: a zone or premises tested point by point by one technician")
    verbs = home.add_subparsers(required=True, metavar="COMMAND")
    starting = command(verbs, "start", "begin a walk test; call points and whatever is outside stay live", _start)
    starting.add_argument("premises")
    starting.add_argument("--zone", default="", help="only this zone (default: all of it)")
    starting.add_argument("--minutes", type=float, default=60.0, help="1 to 240 (default: %(default)s)")
    listing = command(verbs, "list", "the walk tests that last", _walks)
    listing.add_argument("--ended", action="store_true", help="also those that are over")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    command(verbs, "end", "end a walk test before its time", _end).add_argument("id")


def _add_drill(nouns: Nouns, command: Command) -> None:
    home = nouns.add_parser("drill", help="drills: the whole road tried, from a detector to each receiver by each path")
    verbs = home.add_subparsers(required=True, metavar="COMMAND")
    starting = command(verbs, "start", "drill a premises now; nobody is called, receivers are told a test", _drill)
    starting.add_argument("premises")
    starting.add_argument("--real", action="store_true", help="wait for a real detector's test button, for 10 minutes")
    listing = command(verbs, "list", "the newest drills and what they proved", _drills)
    listing.add_argument("premises", nargs="?", default="", help="only of this premises")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    cli_drill_report.add(verbs, command)


def _drill(options: argparse.Namespace) -> int:
    from iotcore.commands import drills

    id_ = asyncio.run(drills.start(_settings(options), options.premises, "real" if options.real else "simulated"))
    what = "press a detector's test button within 10 minutes" if options.real else "it takes up to two minutes"
    say(f"{id_}: {what}; see iotcore drill list {options.premises}")
    return 0


def _drills(options: argparse.Namespace) -> int:
    from iotcore.commands import drills

    found = drills.listed(_settings(options), options.premises)
    return rows(drills.documents(found) if options.output == "json" else drills.rows(found), options.output)


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _disable(options: argparse.Namespace) -> int:
    from iotcore.commands import office, outages

    made = asyncio.run(outages.disable(_settings(options), options.what, options.minutes, options.reason, options.alone))
    until = office.moment(made.until_ms)
    if made.started_ms is None:
        say(f"{made.id}: {made.target} waits for a second person (iotcore disablement confirm {made.id}), then until {until}")
    else:
        say(f"{made.id}: {made.target} is disabled until {until}; its fires go to nobody")
    return 0


def _confirm(options: argparse.Namespace) -> int:
    from iotcore.commands import office, outages

    made = asyncio.run(outages.confirm(_settings(options), options.id))
    say(f"{made.id}: {made.target} is disabled until {office.moment(made.until_ms)}; its fires go to nobody")
    return 0


def _lift(options: argparse.Namespace) -> int:
    from iotcore.commands import outages

    say(f"{options.id} is over" if asyncio.run(outages.lift(_settings(options), options.id)) else f"{options.id} was over before")
    return 0


def _disablements(options: argparse.Namespace) -> int:
    from iotcore.commands import outages

    return rows(asyncio.run(outages.disablements(_settings(options), ended=options.ended)), options.output)


def _start(options: argparse.Namespace) -> int:
    from iotcore.commands import office, outages

    made = asyncio.run(outages.start_walk(_settings(options), options.premises, options.zone, options.minutes))
    say(f"{made.id}: {made.zone or made.premises} is in walk test until {office.moment(made.until_ms)}")
    return 0


def _walks(options: argparse.Namespace) -> int:
    from iotcore.commands import outages

    return rows(asyncio.run(outages.walks(_settings(options), ended=options.ended)), options.output)


def _end(options: argparse.Namespace) -> int:
    from iotcore.commands import outages

    ended = asyncio.run(outages.end_walk(_settings(options), options.id))
    say(f"{options.id} is over" if ended else f"{options.id} was over before")
    return 0

"""`iotcore group …`: groups of devices that are found by a query. See docs/groups.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from iotcore.process.credentials import environment
from iotcore.registry.records import State
from iotcore.settings import Settings, load
from iotcore.specs.model import DeviceClass

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
SHOWN = 20  # devices named of a plan
MEMBER_COLUMNS = ("device", "title", "model", "state", "premises", "publisher", "firmware")


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("group", help="groups of devices, found by a query").add_subparsers(required=True, metavar="COMMAND")
    _add(verbs, command)
    listed = command(verbs, "list", "every group, and how many devices are in it", _list)
    listed.add_argument("-o", "--output", choices=("table", "json"), default="table")
    shown = command(
        verbs, "show", "a group as JSON: what `add --query` takes, its version, and what it names that is gone", _show
    )
    shown.add_argument("group")
    members = command(verbs, "members", "the devices that are in a group now", _members)
    members.add_argument("group")
    members.add_argument("-o", "--output", choices=("table", "json", "csv"), default="table")
    removing = command(verbs, "remove", "forget a group; its devices stay as they are", _remove)
    removing.add_argument("group")
    for verb, state, text in (
        ("suspend", "suspended", "put out every active device of a group: say what would happen, and do it with --apply"),
        ("resume", "active", "let every suspended device of a group in again: likewise"),
    ):
        moving = command(verbs, verb, text, _move)
        moving.add_argument("group")
        moving.add_argument("--apply", action="store_true", help="do it; it takes two admins (docs/people.md)")
        moving.add_argument("--alone", default="", metavar="REASON", help="without a second admin: the audit tells it aloud")
        moving.set_defaults(state=state)


def _add(verbs: Nouns, command: Command) -> None:
    text = "make a group, or change it; by a query in a file, or by conditions that must all hold"
    adding = command(verbs, "add", text, _save)
    adding.add_argument("group", help="a to z, 0 to 9 and -")
    adding.add_argument("--title", default="", help="for people (default: its name)")
    adding.add_argument("--query", type=Path, metavar="FILE", help='JSON: {"title": …, "query": {"kind": …}}')
    adding.add_argument("--class", dest="classes", action="append", default=[], choices=get_args(DeviceClass))
    adding.add_argument("--state", action="append", default=[], choices=get_args(State))
    adding.add_argument("--model", action="append", default=[])
    adding.add_argument("--area", action="append", default=[], help="with what lies in it")
    adding.add_argument("--premises", action="append", default=[])
    adding.add_argument("--parent", action="append", default=[], metavar="GATEWAY", help="behind this gateway")
    adding.add_argument("--label", action="append", default=[], metavar="NAME[=VALUE]")
    adding.add_argument("--firmware", default="", metavar="VERSION", help="exactly this one")
    adding.add_argument("--firmware-below", default="", metavar="VERSION")
    adding.add_argument("--firmware-at-least", default="", metavar="VERSION")
    adding.add_argument("--key-site", action=argparse.BooleanOptionalAction, help="at key sites only, or at others only")
    adding.add_argument("--version", type=int, metavar="N", help="refuse if its version is another by now; 0: if it is there")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _save(options: argparse.Namespace) -> int:
    from iotcore.commands import groups

    if options.query is not None:
        document = groups.document_of(options.query)
    else:
        conditions = {
            "class": options.classes,
            "state": options.state,
            "model": options.model,
            "area": options.area,
            "premises": options.premises,
            "parent": options.parent,
        }
        firmware = {"is": options.firmware, "below": options.firmware_below, "at_least": options.firmware_at_least}
        query = groups.query_of(conditions, options.label, firmware, key_site=options.key_site)
        document = {"title": options.title or options.group, "query": query}
    _say(asyncio.run(groups.save(_settings(options), options.group, document, options.version)))
    return 0


def _list(options: argparse.Namespace) -> int:
    from iotcore.commands import groups

    rows = asyncio.run(groups.listed(_settings(options)))
    if options.output == "json":
        _say(_json(rows))
    else:
        for row in rows:
            _say(f"{row['group']:<24} {row['devices']:>7} devices  {row['title']}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from iotcore.commands import groups

    _say(_json(asyncio.run(groups.shown(_settings(options), options.group))))
    return 0


def _members(options: argparse.Namespace) -> int:
    from iotcore.commands import groups
    from iotcore.registry.coverage_report import as_csv

    rows = asyncio.run(groups.members(_settings(options), options.group))
    if options.output == "csv":
        sys.stdout.write(as_csv(MEMBER_COLUMNS, rows))
    elif options.output == "json":
        _say(_json(rows))
    else:
        for row in rows:
            _say("  ".join(f"{key}={value}" for key, value in row.items() if value))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from iotcore.commands import groups

    asyncio.run(groups.remove(_settings(options), options.group))
    _say(f"there is no group {options.group} any more")
    return 0


def _move(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import groups

    settings = _settings(options)
    planned = asyncio.run(groups.plan(settings, SystemClock(), options.group, options.state))
    if not options.apply:
        _say(f"{len(planned.moves)} devices would be {options.state}{_named(planned.moves)}")
        if planned.stays:
            _say(f"{len(planned.stays)} would stay as they are{_named(planned.stays)}")
        if planned.unwatched:
            _say(f"{len(planned.unwatched)} key sites would no longer be watched{_named(planned.unwatched)}")
        _say("nothing was done; --apply does it")
        return 0
    done, failed = asyncio.run(groups.move(settings, options.group, options.state, options.alone))
    _say(f"{len(done)} devices are {options.state}{_named(done)}")
    for reason in failed:
        _say(f"not moved: {reason}")
    return 1 if failed else 0


def _named(devices: Any) -> str:
    more = f" and {len(devices) - SHOWN} more" if len(devices) > SHOWN else ""
    return f": {', '.join(devices[:SHOWN])}{more}" if devices else ""


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

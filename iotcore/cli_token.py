"""`iotcore token …` and `iotcore enrolment …`: who may enrol, and who waits for a person."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Command) -> None:
    """Add both nouns; `command` makes a parser for one verb, as `cli` does."""
    token = nouns.add_parser("token", help="who may enrol: tokens, and makers' units")
    _token_commands(token.add_subparsers(required=True, metavar="COMMAND"), command)
    enrolment = nouns.add_parser("enrolment", help="requests for certificates that wait for a person")
    verbs = enrolment.add_subparsers(required=True, metavar="COMMAND")
    _output(command(verbs, "list", "those that wait, and those decided in the last day", _requests))
    for verb, text in (("approve", "it gets its certificate when it asks again"), ("reject", "it is told no, with the reason")):
        deciding = command(verbs, verb, text, _decide)
        deciding.add_argument("id", type=int)
        deciding.add_argument("--reason", default="", required=verb == "reject", help="told to the device, and kept")
        deciding.set_defaults(approve=verb == "approve")


def _token_commands(verbs: Nouns, command: Command) -> None:
    create = command(verbs, "create", "a one-time token for each device named, one a line; shown here and never again", _create)
    create.add_argument("device", nargs="*")
    create.add_argument("--group", default="", help="for each device of a group that enrols itself: `DEVICE TOKEN` a line")
    create.add_argument("--alone", default="", metavar="REASON", help="with --group: without a second admin, told in the audit")
    create.add_argument("--batch", default="", help="instead: one token for units of this batch")
    create.add_argument("--uses", type=int, default=1, help="with --batch: for how many of them (default: %(default)s)")
    create.add_argument("--hours", type=float, default=24.0, help="how long it may be used (default: %(default)s)")
    create.add_argument("--approval", action="store_true", help="a person has to approve what comes with it")
    listing = command(verbs, "list", "tokens that could still be used", _list)
    listing.add_argument("--device", default="")
    listing.add_argument("--batch", default="")
    listing.add_argument("--all", action="store_true", help="also those that are used, revoked or too old")
    _output(listing)
    revoke = command(verbs, "revoke", "take a token back, or a unit that has not enrolled", _revoke)
    revoke.add_argument("id", nargs="?", default="", help="as `list` shows it")
    revoke.add_argument("--unit", default="", metavar="SERIAL")
    revoke.add_argument("--model", default="", help="where several models have a unit of that serial")
    batch = command(verbs, "batch", "a maker's list of units: CSV with model, serial, secret (its SHA-256 in hex)", _batch)
    batch.add_argument("file", type=Path)
    batch.add_argument("--batch", default="", help="its name (default: the file's)")
    batch.add_argument("--days", type=float, default=730.0, help="how long the units may enrol (default: %(default)s)")
    batch.add_argument("--dry-run", action="store_true", help="only say what would be done")
    listed = command(verbs, "units", "units that makers told us of, and where they are", _units)
    listed.add_argument("--batch", default="")
    _output(listed)
    bind = command(verbs, "bind", "give a unit its place: from then on it may enrol as that device", _bind)
    bind.add_argument("serial")
    bind.add_argument("device")
    release = command(verbs, "release", "take a unit from its place; its certificates are revoked", _release)
    release.add_argument("serial")
    release.add_argument("--model", default="", help="where several models have a unit of that serial")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _create(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling, groups

    if options.group and not options.batch:
        given, others = asyncio.run(groups.tokens(_settings(options), options.group, options.hours * 3600.0, options.alone))
        if others:
            sys.stderr.write(f"no token for those that do not enrol themselves now: {', '.join(others)}\n")
        _say(*(f"{device} {token}" for device, token in given))
        if not options.device:
            return 0
    made = enrolling.make_tokens(
        _settings(options), options.device, options.batch, options.uses, options.hours, approval=options.approval
    )
    return _say(*asyncio.run(made))


def _list(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    return _table(
        asyncio.run(enrolling.tokens(_settings(options), options.device, options.batch, all_=options.all)), options.output
    )


def _revoke(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    return _say(asyncio.run(enrolling.revoke(_settings(options), options.id, options.unit, options.model)))


def _batch(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    telling = enrolling.tell(_settings(options), options.file, options.batch, options.days, dry_run=options.dry_run)
    return _say(asyncio.run(telling))


def _units(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    return _table(asyncio.run(enrolling.list_units(_settings(options), options.batch)), options.output)


def _bind(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    return _say(asyncio.run(enrolling.bind(_settings(options), options.serial, options.device)))


def _release(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    return _say(asyncio.run(enrolling.release(_settings(options), options.serial, options.model)))


def _requests(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    return _table(asyncio.run(enrolling.requests(_settings(options))), options.output)


def _decide(options: argparse.Namespace) -> int:
    from iotcore.commands import enrolling

    deciding = enrolling.decide(_settings(options), options.id, options.reason, approve=options.approve)
    return _say(asyncio.run(deciding))


def _table(rows: list[dict[str, object]], output: str) -> int:
    if output == "json":
        return _say(json.dumps(rows, ensure_ascii=False, indent=2))
    return _say(*("  ".join(f"{key}={value}" for key, value in row.items() if value not in (None, "")) for row in rows))


def _say(*lines: str) -> int:
    for line in lines:
        print(line)  # noqa: T201 - what the command is for
    return 0

"""`iotcore commissioning …`: putting a device into service."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
TEST_MINUTES = 10.0


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    text = "putting a device into service: its checklist, test mode, signed record"
    verbs = nouns.add_parser("commissioning", help=text).add_subparsers(required=True, metavar="COMMAND")
    status = command(verbs, "status", "each step: done, or what to do; exit 1 when one is open", _status)
    test = command(verbs, "test", "test mode of one fire device: marked alarms are timed and go to nobody", _test)
    test.add_argument("--minutes", type=float, default=TEST_MINUTES, help="at most 30 (default: %(default)s)")
    test.add_argument("--end", action="store_true", help="end it")
    check = command(verbs, "check", "read a Modbus unit: is it the one of its spec, and is every register plausible?", _check)
    check.add_argument("--nameplate-seen", action="store_true", help="the nameplate was compared with the spec by a person")
    check.add_argument("--timeout", type=float, metavar="S", help="seconds to wait for an answer (default: as its spec says)")
    check.add_argument("--certs", type=Path, metavar="FOLDER", help="for tls://: NAME.pem, NAME.key and NAME-ca.pem")
    record = command(verbs, "record", "the newest signed acceptance record (PDF)", _record)
    record.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    for parser in (status, test, check, record):
        parser.add_argument("device")
    for parser in (status, check):
        parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for parser in (test, check):
        parser.add_argument("--by", default=os.environ.get("USER", "operator"), help="who stands in the audit")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _status(options: argparse.Namespace) -> int:
    from iotcore.commands import commissioning

    found = asyncio.run(commissioning.status(_settings(options), options.device))
    _say(json.dumps(found, ensure_ascii=False, indent=2) if options.output == "json" else "\n".join(commissioning.lines(found)))
    return 0 if all(step["condition"] == "done" for step in found["steps"]) else 1


def _test(options: argparse.Namespace) -> int:
    from iotcore.commands import commissioning

    minutes = 0.0 if options.end else options.minutes
    _say(asyncio.run(commissioning.test_mode(_settings(options), options.device, minutes, options.by)))
    return 0


def _check(options: argparse.Namespace) -> int:
    from iotcore.commands import commissioning
    from iotcore.commands.modbus_asking import How

    how = How(options.timeout, options.certs)
    seen = options.nameplate_seen
    steps = asyncio.run(commissioning.check(_settings(options), options.device, how, options.by, nameplate_seen=seen))
    if options.output == "json":
        _say(json.dumps(steps, ensure_ascii=False, indent=2))
    else:
        _say("\n".join(commissioning.step_lines(steps)))
    return 0 if all(step["condition"] == "done" for step in steps) else 1


def _record(options: argparse.Namespace) -> int:
    from iotcore.commands import commissioning

    _say(asyncio.run(commissioning.record(_settings(options), options.device, options.output)))
    return 0


def _say(text: str) -> None:
    print(text)  # noqa: T201 - what the command is for

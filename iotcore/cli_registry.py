"""`iotcore registry …`: the database of who is where."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("registry", help="its database").add_subparsers(required=True, metavar="COMMAND")
    status = command(verbs, "status", "at which step its tables are; exit code 1 when a newer iotcore made them", _status)
    status.add_argument("-o", "--output", choices=("table", "json"), default="table")
    text = "bring its tables to the newest step, as every start does, or to another; stop the platform before you go back"
    migrate = command(verbs, "migrate", text, _migrate)
    migrate.add_argument("--to", type=int, metavar="N", help="the step to go to (default: the newest)")
    migrate.add_argument("--dry-run", action="store_true", help="only say what would be done")
    migrate.add_argument("--lose-data", action="store_true", help="go back also where rows have no place in the earlier tables")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _status(options: argparse.Namespace) -> int:
    from iotcore.commands import registry

    steps = asyncio.run(registry.status(_settings(options)))
    if options.output == "json":
        _say(json.dumps([step._asdict() for step in steps], ensure_ascii=False, indent=2))
    else:
        _say("\n".join(registry.status_line(step) for step in steps))
    return 0 if all(step.known for step in steps) else 1


def _migrate(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import registry

    work = registry.migrate(_settings(options), SystemClock(), options.to, dry_run=options.dry_run, lose_data=options.lose_data)
    moves = asyncio.run(work)
    _say("\n".join(registry.move_line(move, dry_run=options.dry_run) for move in moves) or "nothing to do")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

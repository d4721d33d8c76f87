"""`iotcore audit …`: who did what, and whether that record was touched."""

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

Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("audit", help="who did what").add_subparsers(required=True, metavar="COMMAND")
    verify = command(verbs, "verify", "whether an entry was edited, removed, moved or cut off; exit code 1 when one was", _verify)
    verify.add_argument("--head", type=Path, metavar="FILE", help="heads that the keeper exported (heads.jsonl)")
    verify.add_argument("--key", type=Path, metavar="FILE", help="the key that signed them (default: audit/head.pub of the data)")
    verify.add_argument("-o", "--output", choices=("table", "json"), default="table")
    show = command(verbs, "show", "the entries, oldest first", _show)
    show.add_argument("--by", default="", help="who did it")
    show.add_argument("--action", default="", help="what was done; with a dot at its end, all that begin so: device.")
    show.add_argument("--subject", default="", help="to what it was done")
    show.add_argument("--from", dest="start", default="", metavar="TIME", help="an ISO time, today, -2h …")
    show.add_argument("--to", dest="end", default="", metavar="TIME", help="likewise, not included")
    show.add_argument("--last", type=int, default=100, help="so many of the newest; 0: all (default: %(default)s)")
    show.add_argument("-o", "--output", choices=("table", "json", "csv"), default="table", help="json: one object a line")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _verify(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import audit

    verdict = asyncio.run(audit.verify(_settings(options), SystemClock(), options.head, options.key))
    text = json.dumps(verdict.plain(), indent=2) if options.output == "json" else "\n".join(verdict.lines())
    print(text)  # noqa: T201 - what the command is for
    return 0 if verdict.whole else 1


def _show(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import audit, moments
    from iotcore.errors import StartError
    from iotcore.registry.trail import Wanted

    if options.last < 0:
        raise StartError(f"--last {options.last} is no number of entries", "Give how many, or 0 for all.")
    clock = SystemClock()
    start = moments.moment_ms(options.start, clock.wall_ms(), "--from") if options.start else None
    end = moments.moment_ms(options.end, clock.wall_ms(), "--to") if options.end else None
    wanted = Wanted(options.by, options.action, options.subject, start, end)
    asked = audit.Asked(wanted, options.last, options.output)
    asyncio.run(audit.show(_settings(options), clock, asked, sys.stdout))
    return 0

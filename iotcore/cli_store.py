"""`iotcore store …`: what an administrator does with the telemetry store."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import load

Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("store", help="the telemetry store").add_subparsers(required=True, metavar="COMMAND")
    text = "create the databases or buckets that the settings ask for, and say what differs"
    init = command(verbs, "init", text, _init)
    init.add_argument("--dry-run", action="store_true", help="only say what would be done")
    init.add_argument("--change", action="store_true", help="also change the retention of what is there: a shorter one deletes")
    init.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _init(options: argparse.Namespace) -> int:
    from iotcore.commands.store_init import steps

    logging.getLogger().setLevel(logging.CRITICAL)
    settings = load(options.config, environment(os.environ))
    done = asyncio.run(steps(settings, dry_run=options.dry_run, change=options.change))
    if options.output == "json":
        sys.stdout.write(json.dumps([step.plain() for step in done], ensure_ascii=False, indent=2) + "\n")
    else:
        width = max(len(step.name) for step in done)
        for step in done:
            sys.stdout.write(f"{step.state:<8} {step.what:<8} {step.name:<{width}}  {step.said}".rstrip() + "\n")
    return 1 if any(step.state == "failed" for step in done) else 0

"""`iotcore coverage`: which key sites are covered by a fire device, and what the others lack. See docs/coverage.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import load

Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; `command` makes a parser, as `cli` does."""
    shown = command(nouns, "coverage", "the share of key sites that are covered by a fire device, by area", _show)
    shown.add_argument("--area", default="", help="of this area and what lies in it (default: everywhere)")
    what = shown.add_mutually_exclusive_group()
    what.add_argument("--missing", action="store_true", help="the key sites that are not covered, and what they lack")
    what.add_argument("--history", action="store_true", help="a row for each day")
    shown.add_argument("--from", dest="start", default="-90d", metavar="DAY", help="of the history (default: 90 days ago)")
    shown.add_argument("--to", dest="end", default="now", metavar="DAY", help="its last day (default: today)")
    shown.add_argument("-o", "--output", choices=("table", "json", "csv"), default="table")


def _show(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import coverage

    asked = coverage.Asked(options.area, options.missing, options.history, options.start, options.end, options.output)
    settings = load(options.config, environment(os.environ))
    sys.stdout.write(asyncio.run(coverage.run(settings, SystemClock(), asked)))
    return 0

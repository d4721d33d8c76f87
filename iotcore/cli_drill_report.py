"""`iotcore drill report`: the drills of a month as a signed PDF. See docs/reports.md."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore.cli_response import say
from iotcore.process.credentials import environment
from iotcore.settings import load

Command = Callable[..., argparse.ArgumentParser]
Verbs = Any  # argparse names the type of a sub-command's home privately


def add(verbs: Verbs, command: Command) -> None:
    """Add the verb to those of `drill`."""
    reporting = command(verbs, "report", "the drills of a month as a signed PDF (docs/reports.md)", _report)
    reporting.add_argument("--month", default="", metavar="2026-11", help="of Vietnam's time (default: the last one)")
    reporting.add_argument("--area", default="", help="only this area and what lies in it")
    reporting.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")


def _report(options: argparse.Namespace) -> int:
    from iotcore.commands import reporting

    settings = load(options.config, environment(os.environ))
    size = asyncio.run(reporting.drills(settings, options.month, options.area, options.out))
    say(f"{options.out}: {size} bytes, signed")
    return 0

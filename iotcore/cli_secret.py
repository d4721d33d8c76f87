"""`iotcore secret …`: secrets of receivers, kept sealed and named in the settings as `secret:NAME`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
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
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("secret", help="secrets of receivers, kept sealed").add_subparsers(required=True, metavar="COMMAND")
    setting = command(verbs, "set", "keep one, or put another in its place; it is asked for, or read from standard input", _set)
    setting.add_argument("name", help="the settings then say: secret:NAME")
    setting.add_argument("--file", type=Path, help="read it from this file; a line feed at its end does not count")
    listing = command(verbs, "list", "their names, and which receivers use them", _list)
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    removing = command(verbs, "remove", "forget one that no receiver uses", _remove)
    removing.add_argument("name")
    for parser in (setting, removing):
        parser.add_argument("--by", default=os.environ.get("USER", "operator"), help="who stands in the audit")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _set(options: argparse.Namespace) -> int:
    from iotcore.commands import sealing

    if options.file is not None:
        secret = sealing.read(options.file)
    elif sys.stdin.isatty():
        secret = getpass.getpass("Secret: ")
    else:
        secret = sys.stdin.read().removesuffix("\n")
    asyncio.run(sealing.put(_settings(options), options.name, secret, options.by))
    sys.stdout.write(f"secret:{options.name}\n")
    return 0


def _list(options: argparse.Namespace) -> int:
    from iotcore.commands import sealing

    rows = sealing.listed(_settings(options))
    lines = [f"{row['name']}  {', '.join(row['used_by']) or 'not used'}" for row in rows]
    sys.stdout.write((json.dumps(rows, indent=2) if options.output == "json" else "\n".join(lines) or "there are none") + "\n")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from iotcore.commands import sealing

    asyncio.run(sealing.remove(_settings(options), options.name, options.by))
    return 0

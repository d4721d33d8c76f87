"""`iotcore response …`: how a fire in a premises is verified, delayed, told and escalated. See docs/responses.md."""

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
ALONE = "without a second admin: the audit tells it aloud"


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    home = nouns.add_parser("response", help="response plans of premises: profile, delay, receivers, numbers, ladder")
    verbs = home.add_subparsers(required=True, metavar="COMMAND")
    shown = command(verbs, "show", "the plan of a premises, as it counts now", _show)
    shown.add_argument("premises")
    saving = command(verbs, "save", "check a plan and keep it as the newest version", _save)
    saving.add_argument("premises")
    saving.add_argument("file", type=Path, metavar="FILE.yaml")
    saving.add_argument("--dry-run", action="store_true", help="only say what is wrong, and what of it protects less")
    removing = command(verbs, "remove", "forget a plan: the premises is immediate and tells every receiver", _remove)
    removing.add_argument("premises")
    for parser in (saving, removing):
        parser.add_argument("--expect", type=int, metavar="VERSION", help="refuse if its version is another by now; 0: none yet")
        parser.add_argument("--alone", default="", metavar="REASON", help=ALONE)
    listing = command(verbs, "list", "every plan", _list)
    versions = command(verbs, "history", "the versions of a plan, the newest first", _history)
    versions.add_argument("premises")
    for parser in (listing, versions):
        parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _show(options: argparse.Namespace) -> int:
    from iotcore.commands import response

    say(_json(asyncio.run(response.show(_settings(options), options.premises))))
    return 0


def _save(options: argparse.Namespace) -> int:
    from iotcore.commands import response

    saving = response.save(
        *(_settings(options), options.premises, options.file),
        expected=options.expect,
        dry_run=options.dry_run,
        alone=options.alone,
    )
    say(asyncio.run(saving))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from iotcore.commands import response

    removing = response.remove(_settings(options), options.premises, expected=options.expect, alone=options.alone)
    said = "forgotten: immediate, every receiver" if asyncio.run(removing) else "there is none"
    say(f"the plan of {options.premises}: {said}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from iotcore.commands import response

    return rows(asyncio.run(response.listed(_settings(options))), options.output)


def _history(options: argparse.Namespace) -> int:
    from iotcore.commands import response

    return rows(asyncio.run(response.history(_settings(options), options.premises)), options.output)


def rows(found: list[dict[str, Any]], output: str) -> int:
    """Print rows as a table or as JSON."""
    if output == "json":
        say(_json(found))
    else:
        for row in found:
            say("  ".join(f"{key}={value}" for key, value in row.items() if value not in (None, "", 0)))
    return 0


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


def say(text: str) -> None:
    """A line to whoever asked."""
    sys.stdout.write(f"{text}\n")

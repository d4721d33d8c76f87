"""`iotcore quarantine …`: what went wrong with what devices sent, and what becomes of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iotcore.clock import SystemClock
from iotcore.settings import Settings

if TYPE_CHECKING:
    from iotcore.commands.quarantine import Chosen
    from iotcore.journal.retry import Verb

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
Load = Callable[[argparse.Namespace], Settings]


def add(nouns: Nouns, command: Command, load: Load) -> None:
    """Add the noun; `command` makes a parser for one verb and `load` reads its settings, as `cli` does."""
    verbs = nouns.add_parser("quarantine", help="messages that were refused").add_subparsers(required=True, metavar="COMMAND")
    listing = command(verbs, "list", "the newest messages that were refused, and why", _list(load))
    _filters(listing)
    listing.add_argument("--limit", type=int, default=50, help="how many (default: %(default)s)")
    _output(listing)
    show = command(verbs, "show", "one message: what was wrong where, its payload as text and bytes", _show(load))
    show.add_argument("row", metavar="LANE:NUMBER")
    show.add_argument("--whole", action="store_true", help="all of its payload")
    for verb, text in (
        ("retry", "decode again with the specs and devices of now; what is good is stored as backlog of its true age"),
        ("drop", "remove for good; the counts by reason stay"),
    ):
        act = command(verbs, verb, text, _act(load, verb))  # type: ignore[arg-type]
        act.add_argument("row", nargs="*", metavar="LANE:NUMBER")
        _filters(act)
        act.add_argument("--all", action="store_true", dest="everything", help="every row")
        act.add_argument("--dry-run", action="store_true", help="say what would be done")
        act.add_argument("--by", default=os.environ.get("USER", "operator"), help="who stands in the audit")
        _output(act)


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="", help="only of this device")
    parser.add_argument("--reason", default="", help="only refused for this reason")
    parser.add_argument("--lane", default="", help="only of this lane: fire or telemetry")
    parser.add_argument("--since", default="", metavar="2h", help="only as old as this: 90s, 30m, 2h, 7d")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _list(load: Load) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from iotcore.commands import quarantine

        rows = quarantine.listed(load(options), _chosen(options), options.limit)
        _say(options, rows, [_line(row) for row in rows])
        return 0

    return run


def _show(load: Load) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from iotcore.commands import quarantine

        row = quarantine.number_of(options.row)
        sys.stdout.write("\n".join(quarantine.shown(load(options), row, whole=options.whole)) + "\n")
        return 0

    return run


def _act(load: Load, verb: Verb) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from iotcore.commands import quarantine

        settings, chosen = load(options), _chosen(options)
        if options.dry_run:
            rows = asyncio.run(quarantine.preview(settings, verb, chosen))
            _say(options, rows, [*(_line(row) for row in rows), quarantine.counted(rows)])
            return 0
        outcomes = asyncio.run(quarantine.ask(settings, verb, chosen, options.by))
        _say(options, [quarantine.plain(one) for one in outcomes], quarantine.told(verb, outcomes))
        return 1 if any(one.answer.left_count for one in outcomes) else 0

    return run


def _chosen(options: argparse.Namespace) -> Chosen:
    from iotcore.commands.quarantine import Chosen, number_of, since

    return Chosen(
        ids=tuple(number_of(text) for text in getattr(options, "row", ())),
        lane=options.lane,
        device=options.device,
        reason=options.reason,
        since_ms=since(options.since, SystemClock().wall_ms()) if options.since else 0.0,
        everything=getattr(options, "everything", False),
    )


def _line(row: dict[str, object]) -> str:
    return "  ".join(f"{key}={value}" for key, value in row.items() if value not in (None, ""))


def _say(options: argparse.Namespace, rows: object, lines: list[str]) -> None:
    if options.output == "json":
        sys.stdout.write(json.dumps(rows, ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))

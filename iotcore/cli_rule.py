"""`iotcore rule …`: the fire rules in use, and their documents in the registry. See docs/rule-documents.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from iotcore.commands.ago import AgoParser
from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("rule", help="fire rules, as documents with versions")
    verbs = verbs.add_subparsers(required=True, metavar="COMMAND", parser_class=AgoParser)
    _looking(verbs, command)
    _testing(verbs, command)
    checking = command(verbs, "check", "look at the rules of a file as `save` would: everything that is wrong at once", _check)
    checking.add_argument("file", type=Path, metavar="FILE.yaml")
    saving = command(verbs, "save", "keep the rules of a file, all or none; the fire processes follow within a second", _save)
    saving.add_argument("file", type=Path, metavar="FILE.yaml", help="a rule, a list of rules, or a rule file")
    removing = command(verbs, "remove", "forget a rule's document; the base's rule holds again, where there is one", _remove)
    removing.add_argument("rule")
    for parser in (saving, removing):
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, and do nothing")
        parser.add_argument(
            "--expect", type=int, metavar="VERSION", help="refuse if its version is another by now; 0: if it is there"
        )
        parser.add_argument("--alone", default="", metavar="REASON", help="without a second admin: the audit tells it aloud")


def _looking(verbs: Nouns, command: Command) -> None:
    listed = command(verbs, "list", "every rule in use, where it comes from, and what cannot be used", _list)
    _output(listed, "table", "json", "yaml")
    shown = command(verbs, "show", "a rule as it is in use: what `save` takes", _show)
    shown.add_argument("rule", help="its id, with its scope: smoke-rise, smoke-rise@premises:p1")
    shown.add_argument("--version", type=int, metavar="N", help="this version of its document")
    _output(shown, "yaml", "json")
    history = command(verbs, "history", "the versions of a rule's document, the newest first", _history)
    history.add_argument("rule")
    _output(history, "table", "json", "yaml")
    diff = command(verbs, "diff", "what is different between two versions, or between the rule in use and a file", _diff)
    diff.add_argument("rule")
    diff.add_argument("file", type=Path, nargs="?", metavar="FILE.yaml")
    diff.add_argument("--from", dest="start", type=int, metavar="N", help="0 is the base's rule (default: the one before)")
    diff.add_argument("--to", dest="end", type=int, metavar="N", help="(default: the one in use)")


def _testing(verbs: Nouns, command: Command) -> None:
    text = "when a rule would have fired, and how often: on recorded readings, or on those of a file"
    testing = command(verbs, "test", text, _test)
    testing.add_argument("rule", metavar="RULE|FILE.yaml", help="a rule in use, or the file of an edited version")
    testing.add_argument("--replay", type=Path, metavar="FILE", help="a measured fire (.csv), or JSON lines of readings")
    said = "ISO time (the city's clock unless it has a zone), now, today, -30m, -2h, -7d"
    testing.add_argument("--from", dest="start", default="-7d", metavar="TIME", help=f"{said} (default: %(default)s)")
    testing.add_argument("--to", dest="end", default="now", metavar="TIME", help="not included (default: now)")
    testing.add_argument("--device", action="append", default=[], help="of this device; may be given again")
    testing.add_argument("--premises", action="append", default=[], help="of the devices there; may be given again")
    testing.add_argument("--group", action="append", default=[], help="of its members; may be given again")
    testing.add_argument("--compare", action="store_true", help="side by side: the rule in use, and the file")
    testing.add_argument("--time", default="TIME", help="CSV: column of the time, s (default: %(default)s)")
    testing.add_argument("--smoke", default="SMA_1", help="CSV: column of the smoke (default: %(default)s)")
    testing.add_argument("--temperature", default="TCA_1", help="CSV: column of the temperature, °C (default: %(default)s)")
    testing.add_argument("--smoke-unit", default="1/m-od10", help="CSV: 1/m-od10, 1/m-ext, dB/m or %%/ft (default: %(default)s)")
    testing.add_argument("--baseline", type=float, default=0.0, help="CSV: seconds of quiet before the curve")
    _output(testing, "table", "json", "yaml")


def _output(parser: argparse.ArgumentParser, *forms: str) -> None:
    parser.add_argument("-o", "--output", choices=forms, default=forms[0])


def _list(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import rule

    rows = asyncio.run(rule.listed(_settings(options), SystemClock()))
    _told(rows, options.output)
    return 1 if any(row["trouble"] for row in rows) else 0


def _show(options: argparse.Namespace) -> int:
    from iotcore.alarms import rule_text
    from iotcore.clock import SystemClock
    from iotcore.commands import rule

    found = asyncio.run(rule.shown(_settings(options), SystemClock(), options.rule, options.version))
    if options.output == "json":
        _told(found, "json")
        return 0
    notes = [f"# {name}: {value}" for name, value in found.items() if name != "document" and value not in ("", None)]
    text = "# removed\n" if found["document"] is None else rule_text.as_yaml(found["document"])
    sys.stdout.write("\n".join([*notes, text]))
    return 0


def _history(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import rule

    rows = asyncio.run(rule.history(_settings(options), SystemClock(), options.rule))
    if options.output == "table":
        rows = [{name: value for name, value in row.items() if name != "document"} for row in rows]
    _told(rows, options.output)
    return 0


def _diff(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import rule

    versions = (options.start, options.end)
    text = asyncio.run(rule.diff(_settings(options), SystemClock(), options.rule, options.file, versions))
    _say(text or "no difference")
    return 0


def _check(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import rule

    keys = asyncio.run(rule.checked(_settings(options), SystemClock(), options.file))
    _say(f"well: {', '.join(keys)}")
    return 0


def _save(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import rule

    how = rule.Saving(options.expect, options.dry_run, options.alone)
    for line in asyncio.run(rule.save(_settings(options), SystemClock(), options.file, how)):
        _say(line)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import rule

    how = rule.Saving(options.expect, options.dry_run, options.alone)
    _say(asyncio.run(rule.remove(_settings(options), SystemClock(), options.rule, how)))
    return 0


def _test(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import rule_test
    from iotcore.commands.rule_file import Columns

    columns = Columns(options.time, options.smoke, options.temperature, options.smoke_unit, options.baseline)
    wanted = rule_test.Wanted(
        rule=options.rule,
        file=options.replay,
        start=options.start,
        end=options.end,
        devices=options.device,
        premises=options.premises,
        groups=options.group,
        compare=options.compare,
        columns=columns,
    )
    answer = asyncio.run(rule_test.run(_settings(options), SystemClock(), wanted))
    if options.output == "table":
        _say("\n".join(rule_test.table(answer)))
    else:
        _told(answer, options.output)
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _told(found: Any, form: str) -> None:
    if form == "json":
        _say(json.dumps(found, ensure_ascii=False, indent=2))
    elif form == "yaml":
        from iotcore.alarms import rule_text

        sys.stdout.write(rule_text.as_yaml(found))
    else:
        _table(found)


def _table(rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        _say("  ".join(f"{name}={value}" for name, value in row.items() if value not in (None, "", False)))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

"""`iotcore backup …`, `iotcore restore …` and `iotcore notice …`: what is left when a machine is not."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore.errors import StartError
from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the nouns; `command` makes a parser, as `cli` does."""
    backup = command(nouns, "backup", "one encrypted archive of the platform, while it runs (docs/backup.md)", _backup)
    backup.add_argument("file", type=Path, nargs="?", help="the archive to make; `verify FILE`, `key FILE`: see docs/backup.md")
    backup.add_argument("of", type=Path, nargs="?", metavar="FILE", help="after `verify` or `key`")
    backup.add_argument("--to", type=Path, metavar="FOLDER", help="make one here, named by the time")
    backup.add_argument("--keep", type=int, default=0, help="with --to: remove all but so many; 0: none (default: %(default)s)")
    backup.add_argument("--recipient", default="", metavar="KEY", help="the public key (age1…) for whose owner it is")
    backup.add_argument("--telemetry", action="store_true", help="telemetry.db too, which may be large")
    backup.add_argument("--staging", type=Path, metavar="FOLDER", help="where databases are copied to first (default: the data)")
    _opening(backup)
    restore = command(nouns, "restore", "make a platform of a backup, in an empty place", _restore, config=False)
    restore.add_argument("file", type=Path)
    restore.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the new data folder")
    restore.add_argument("--config", type=Path, help="settings to use instead of those in the backup")
    restore.add_argument("--over", action="store_true", help="move aside what is in FOLDER, and in the PostgreSQL schema")
    restore.add_argument(
        "--crl", type=Path, action="append", default=[], metavar="FILE", help="a newer revocation list; again for more"
    )
    restore.add_argument("--heads", type=Path, metavar="FILE", help="heads of the audit exported since (heads.jsonl)")
    _opening(restore)
    verbs = nouns.add_parser("notice", help="notices that a restore has parked").add_subparsers(required=True, metavar="COMMAND")
    listing = command(verbs, "list", "those that wait for a decision", _list)
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for verb, kind, text in (("send", "send", "deliver those of an incident after all"), ("drop", "withhold", "let them be")):
        act = command(verbs, verb, text, _decide)
        act.add_argument("incident")
        act.add_argument("--by", default=os.environ.get("USER", "operator"))
        act.set_defaults(kind=kind)


def _opening(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--identity", type=Path, metavar="FILE", help="the secret half of the key, to open an archive")
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="a passphrase instead of a key pair")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _backup(options: argparse.Namespace) -> int:
    from iotcore.backup import keys
    from iotcore.clock import SystemClock
    from iotcore.commands import backup

    verb = str(options.file) if options.of else ""
    if verb == "key":
        _say(keys.make_pair(options.of))
        return 0
    if verb == "verify":
        manifest = backup.verify(options.of, backup.Opener(options.identity, options.passphrase_file))
        _say(backup.as_json(manifest) if options.output == "json" else "\n".join(backup.told(manifest)))
        return 0
    if verb or bool(options.file) == bool(options.to) or options.keep < 0:
        raise StartError("It is not clear what to make", "Give FILE, or --to FOLDER; or: backup verify FILE, backup key FILE.")
    settings, clock = _settings(options), SystemClock()
    target = options.file or backup.dated(options.to, clock)
    key = backup.Key(options.recipient, options.passphrase_file)
    _say(backup.make(settings, options.config, target, key, clock, telemetry=options.telemetry, staging=options.staging))
    for gone in backup.rotate(options.to, options.keep) if options.to else ():
        _say(f"{gone} is older than is kept, and removed")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import backup, restore

    opener = backup.Opener(options.identity, options.passphrase_file)
    asked = restore.Asked(options.file, options.to, opener, options.config, options.over, tuple(options.crl), options.heads)
    report = restore.restore(asked, SystemClock())
    _say(json.dumps(report.plain(), ensure_ascii=False, indent=2) if options.output == "json" else "\n".join(report.lines()))
    return 0


def _list(options: argparse.Namespace) -> int:
    from iotcore.commands import restore

    rows = restore.parked_notices(_settings(options))
    text = (
        json.dumps(rows, indent=2)
        if options.output == "json"
        else "\n".join("  ".join(f"{key}={value}" for key, value in row.items() if value is not None) for row in rows)
    )
    _say(text or "none waits")
    return 0


def _decide(options: argparse.Namespace) -> int:
    from iotcore.commands import acting, restore

    settings = _settings(options)
    restore.check_parked(settings, options.incident)
    asyncio.run(acting.intend(settings, options.kind, options.incident, options.by))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

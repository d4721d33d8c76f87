"""`iotcore area …`, `iotcore premises …`, `iotcore file …`: what is known of places."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
TEXTS = ("name", "address", "area", "hydrants")  # of a building


def add(nouns: Nouns, command: Command) -> None:
    """Add the nouns; `command` makes a parser for one verb, as `cli` does."""
    _areas(nouns.add_parser("area", help="provinces, cities, wards").add_subparsers(required=True, metavar="COMMAND"), command)
    _premises(nouns.add_parser("premises", help="buildings").add_subparsers(required=True, metavar="COMMAND"), command)
    text = "floor plans, photos and records"
    _files(nouns.add_parser("file", help=text).add_subparsers(required=True, metavar="COMMAND"), command)


def _areas(verbs: Nouns, command: Command) -> None:
    adding = command(verbs, "add", "a province, a city in it, or a ward of that; or change one", _add_area)
    adding.add_argument("area")
    adding.add_argument("--kind", required=True, choices=("province", "city", "ward"))
    adding.add_argument("--name", required=True)
    adding.add_argument("--parent", default="", metavar="AREA", help="what it lies in")
    _output(command(verbs, "list", "all of them", _list)).set_defaults(kind="areas")
    removing = command(verbs, "remove", "one in which nothing lies any more", _remove)
    removing.add_argument("id", metavar="AREA")
    removing.set_defaults(kind="area")


def _premises(verbs: Nouns, command: Command) -> None:
    _output(command(verbs, "list", "all of them", _list)).set_defaults(kind="premises")
    shown = _output(command(verbs, "show", "its details, contacts, plans and notes", _show))
    shown.add_argument("premises")
    changing = command(verbs, "change", "details of a building; what is not named stays", _change)
    changing.add_argument("premises")
    for name in TEXTS:
        changing.add_argument(f"--{name}")
    for name in ("latitude", "longitude"):
        changing.add_argument(f"--{name}", type=float, help="degrees, WGS 84")
    changing.add_argument("--risk-class", dest="risk_class", choices=("", "low", "medium", "high", "very_high"))
    changing.add_argument("--key-site", dest="key_site", action=argparse.BooleanOptionalAction, default=None)
    contact = command(verbs, "contact", "whom a crew calls for a building: add one, or change it", _contact)
    contact.add_argument("premises")
    contact.add_argument("id", metavar="CONTACT")
    contact.add_argument("--name", required=True)
    for name in ("role", "phone", "email"):
        contact.add_argument(f"--{name}", default="")
    contact.add_argument("--key-holder", dest="key_holder", action="store_true", help="who can open the building")
    note = command(verbs, "note", "write something down about a building", _note)
    note.add_argument("premises")
    note.add_argument("text")
    for kind, name, text in (
        ("premises", "remove", "a building without zones, devices, contacts and files"),
        ("zone", "remove-zone", "a zone without devices"),
        ("contact", "remove-contact", "somebody who is not called any more"),
    ):
        removing = command(verbs, name, text, _remove)
        removing.add_argument("id", metavar=kind.upper())
        removing.set_defaults(kind=kind)


def _files(verbs: Nouns, command: Command) -> None:
    adding = _subject(command(verbs, "add", "keep a file of a building or a device: PNG, JPEG or PDF, at most 16 MiB", _attach))
    adding.add_argument("file", type=Path)
    adding.add_argument("--kind", required=True, choices=("floor_plan", "photo", "record"))
    adding.add_argument("--title", default="", help="what it shows (default: the name of the file)")
    _output(_subject(command(verbs, "list", "files of a building or a device, or all", _list_files), required=False))
    saving = command(verbs, "save", "write a file where you can look at it", _save)
    saving.add_argument("id", metavar="FILE")
    saving.add_argument("-o", "--output", type=Path, required=True, metavar="PATH")
    removing = command(verbs, "remove", "take a file away; a signed record stays", _detach)
    removing.add_argument("id", metavar="FILE")
    text = "delete contents that no file has any more, and look whether all others are whole; exit code 1 when one is not"
    command(verbs, "sweep", text, _sweep)


def _subject(parser: argparse.ArgumentParser, *, required: bool = True) -> argparse.ArgumentParser:
    one = parser.add_mutually_exclusive_group(required=required)
    one.add_argument("--premises")
    one.add_argument("--device")
    return parser


def _output(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _add_area(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    entry = {"id": options.area, "kind": options.kind, "name": options.name, "parent": options.parent}
    _say(f"{options.area}: {asyncio.run(places.add_area(_settings(options), entry))}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    _table(asyncio.run(places.listed(_settings(options), options.kind)), options.output)
    return 0


def _show(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from iotcore.commands import places
    from iotcore.registry.subjects import Subject

    settings = _settings(options)
    found = asyncio.run(places.known(settings, Subject("premises", options.premises)))
    contacts = [one for one in asyncio.run(places.listed(settings, "contacts")) if one["premises"] == options.premises]
    if options.output == "json":
        _say(json.dumps({**asdict(found), "contacts": contacts}, ensure_ascii=False, indent=2))
        return 0
    told = [f"{'contact':14} {one['name']}, {one['role']} {one['phone']} {one['email']}".rstrip(" ,") for one in contacts]
    keys = [f"{'key holder':14} {one['name']}" for one in contacts if one["key_holder"]]
    _say("\n".join([f"{'id':14} {options.premises}", *places.known_lines(found), *told, *keys]))
    return 0


def _change(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    names = (*TEXTS, "latitude", "longitude", "risk_class", "key_site")
    changes = {name: value for name in names if (value := getattr(options, name)) is not None}
    done = asyncio.run(places.change(_settings(options), "premises", options.premises, changes))
    _say(f"{options.premises}: {'changed' if done else 'as it was'}")
    return 0


def _contact(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    names = ("id", "premises", "name", "role", "phone", "email", "key_holder")
    new = asyncio.run(places.contact(_settings(options), {name: getattr(options, name) for name in names}))
    _say(f"{options.id}: {'added' if new else 'as you say'}")
    return 0


def _note(options: argparse.Namespace) -> int:
    from iotcore.commands import places
    from iotcore.registry.subjects import Subject

    asyncio.run(places.note(_settings(options), Subject("premises", options.premises), options.text))
    _say("noted")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    asyncio.run(places.remove(_settings(options), options.kind, options.id))
    _say(f"{options.kind} {options.id} is removed")
    return 0


def _attach(options: argparse.Namespace) -> int:
    from iotcore.commands import places
    from iotcore.registry.subjects import Subject

    subject = Subject("device", options.device) if options.device else Subject("premises", options.premises)
    _say(asyncio.run(places.attach(_settings(options), subject, options.kind, options.file, options.title)))
    return 0


def _list_files(options: argparse.Namespace) -> int:
    from iotcore.commands import places
    from iotcore.registry.subjects import Subject

    subject = Subject("device", options.device) if options.device else None
    subject = Subject("premises", options.premises) if options.premises else subject
    found = asyncio.run(places.files(_settings(options), subject))
    rows = [
        {"file": one.id, one.subject.kind: one.subject.id, "kind": one.kind, "title": one.title, "type": one.media_type,
         "bytes": one.size, "by": one.by, "at_ms": one.at_ms, "sha256": one.sha256}
        for one in found
    ]  # fmt: skip
    _table(rows, options.output)
    return 0


def _save(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    found = asyncio.run(places.save(_settings(options), options.id, options.output))
    _say(f"{options.output}: {found.title} ({found.media_type}, {found.size} bytes)")
    return 0


def _detach(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    asyncio.run(places.detach(_settings(options), options.id))
    _say(f"file {options.id} is removed")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    swept, damaged = asyncio.run(places.sweep(_settings(options)))
    _say("\n".join([f"{len(swept)} deleted", *(f"missing or damaged: {name}; restore it from a backup" for name in damaged)]))
    return 1 if damaged else 0


def _table(rows: Sequence[dict[str, Any]], output: str) -> None:
    if output == "json":
        _say(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        _say("  ".join(f"{key}={value}" for key, value in row.items() if value not in (None, "", False)))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

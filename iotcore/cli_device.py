"""`iotcore device …`: what is done with one registered device."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("device", help="one registered device").add_subparsers(required=True, metavar="COMMAND")
    text = "a new password for a vendor's MQTT device or gateway; it is printed once, and the one before is worth nothing"
    credential = command(verbs, "credential", text, _credential)
    credential.add_argument("device")
    credential.add_argument("--revoke", action="store_true", help="only take the password away")
    for verb, state, text in (
        ("suspend", "suspended", "it is put out and refused until it is resumed: session cut, certificates on hold"),
        ("resume", "active", "it may connect again, and its word counts again"),
    ):
        moving = command(verbs, verb, text, _move)
        moving.add_argument("device")
        moving.set_defaults(state=state)
    lost = "its key is lost or stolen: all its certificates are revoked for good, its session is cut; it needs a new token"
    revoking = command(verbs, "revoke", lost, _revoke)
    revoking.add_argument("device")
    text = "its values and faults, what it lost, its clock; where it stands, its units, files and notes"
    shown = command(verbs, "show", text, _show)
    shown.add_argument("device")
    shown.add_argument("-o", "--output", choices=("table", "json"), default="table")
    _life(verbs, command)
    _details(verbs, command)


def _life(verbs: Nouns, command: Command) -> None:
    text = "another unit stands where a device is: the old one is out for good, place and history stay; prints its token"
    replacing = command(verbs, "replace", text, _replace)
    replacing.add_argument("device")
    replacing.add_argument("--serial", required=True, help="as the maker printed it on the new unit")
    replacing.add_argument("--model", default="", help="of the new unit, of the same class (default: the same)")
    replacing.add_argument("--why", required=True, help="why the old unit goes")
    replacing.add_argument("--hours", type=float, default=24.0, help="how long the token may be used (default: %(default)s)")
    retiring = command(verbs, "retire", "a device goes for good: it is put out, and its place and its unit are free", _retire)
    retiring.add_argument("device")
    retiring.add_argument("--why", default="", help="why it goes")
    retiring.add_argument("--plan", action="store_true", help="only say what would be done")
    retiring.add_argument("--anyway", action="store_true", help="also the last working fire device of a zone or a building")


def _details(verbs: Nouns, command: Command) -> None:
    changing = command(verbs, "change", "details of a device; what is not named stays", _change)
    changing.add_argument("device")
    changing.add_argument("--title")
    changing.add_argument("--serial", help="of a device that has none yet")
    changing.add_argument("--location", help="where in the building, for whoever looks for it")
    for name in ("latitude", "longitude"):
        changing.add_argument(f"--{name}", type=float, help="degrees, WGS 84")
    changing.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="NAME= takes it away")
    note = command(verbs, "note", "write something down about a device", _note)
    note.add_argument("device")
    note.add_argument("text")
    text = "which configuration is wanted of a device, and which one it reports"
    configuring = command(verbs, "config", text, _config)
    configuring.add_argument("device")
    configuring.add_argument("--set", type=Path, metavar="FILE", help="want the JSON object in this file from now on")
    configuring.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _show(options: argparse.Namespace) -> int:
    from iotcore.commands import device, places
    from iotcore.registry.subjects import Subject

    found = asyncio.run(device.shown(_settings(options), options.device))
    known = asyncio.run(places.known(_settings(options), Subject("device", options.device)))
    if options.output == "json":
        _say(json.dumps({**found, "registered": asdict(known)}, ensure_ascii=False, indent=2))
    else:
        _say("\n".join([*device.lines(found), *places.known_lines(known)]))
    return 0


def _replace(options: argparse.Namespace) -> int:
    from iotcore.commands import places
    from iotcore.registry.units import Another

    another = Another(options.serial, options.model, options.why)
    done, token = asyncio.run(places.replace(_settings(options), options.device, another, options.hours * 3600.0))
    ended = f"; certificates that ended: {', '.join(done.revoked)}" if done.revoked else ""
    sys.stderr.write(f"{options.device}: unit {options.serial} after {done.before or 'one without a serial'}{ended}\n")
    _say(
        token or f"{options.device} needs no token: its gateway speaks for it, or `iotcore device credential` gives it a password"
    )
    return 0


def _retire(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    settings = _settings(options)
    if options.plan:
        _say("\n".join(places.plan_lines(asyncio.run(places.plan_retirement(settings, options.device)))))
        return 0
    done = asyncio.run(places.retire(settings, options.device, options.why, anyway=options.anyway))
    _say(f"{options.device} is retired" + ("" if done is not None else " already"))
    return 0


def _change(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    names = ("title", "serial", "location", "latitude", "longitude")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.label:
        changes["labels"] = {name: value for name, _, value in (label.partition("=") for label in options.label)}
    done = asyncio.run(places.change(_settings(options), "devices", options.device, changes))
    _say(f"{options.device}: {'changed' if done else 'as it was'}")
    return 0


def _note(options: argparse.Namespace) -> int:
    from iotcore.commands import places
    from iotcore.registry.subjects import Subject

    asyncio.run(places.note(_settings(options), Subject("device", options.device), options.text))
    _say("noted")
    return 0


def _config(options: argparse.Namespace) -> int:
    from iotcore.commands import places

    found = asyncio.run(places.configure(_settings(options), options.device, options.set)).config
    if options.output == "json":
        _say(json.dumps({**asdict(found), "standing": found.standing}, ensure_ascii=False, indent=2))
        return 0
    for side, one in (("wanted", found.desired), ("reported", found.reported)):
        said = f"version {one.version}: {json.dumps(one.body, ensure_ascii=False)}" if one is not None else "nothing"
        _say(f"{side:9} {said}")
    _say(f"{'standing':9} {found.standing}")
    return 0


def _credential(options: argparse.Namespace) -> int:
    from iotcore.commands import office

    if options.revoke:
        had = asyncio.run(office.revoke_credential(_settings(options), options.device))
        _say(f"{options.device} has no password" + (" any more" if had else ""))
        return 0
    _say(asyncio.run(office.give_credential(_settings(options), options.device)))
    return 0


def _move(options: argparse.Namespace) -> int:
    from iotcore.commands import office

    moved = asyncio.run(office.set_state(_settings(options), options.device, options.state))
    _say(f"{options.device} is {options.state}" + ("" if moved else " already"))
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from iotcore.commands import office

    serials = asyncio.run(office.revoke_certificates(_settings(options), options.device))
    text = f"{len(serials)} certificates of {options.device} are revoked: {', '.join(serials)}"
    _say(text if serials else f"{options.device} has no certificate that could be revoked")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

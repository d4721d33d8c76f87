"""`iotcore device …`: what is done with one registered device."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Callable
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
        ("retire", "retired", "a suspended device is gone for good: its certificates are revoked"),
    ):
        moving = command(verbs, verb, text, _move)
        moving.add_argument("device")
        moving.set_defaults(state=state)
    lost = "its key is lost or stolen: all its certificates are revoked for good, its session is cut; it needs a new token"
    revoking = command(verbs, "revoke", lost, _revoke)
    revoking.add_argument("device")
    shown = command(verbs, "show", "its values and faults, what it lost, its clock", _show)
    shown.add_argument("device")
    shown.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _show(options: argparse.Namespace) -> int:
    from iotcore.commands import device

    found = asyncio.run(device.shown(_settings(options), options.device))
    text = json.dumps(found, ensure_ascii=False, indent=2) if options.output == "json" else "\n".join(device.lines(found))
    print(text)  # noqa: T201 - what the command is for
    return 0


def _credential(options: argparse.Namespace) -> int:
    from iotcore.commands import office

    if options.revoke:
        had = asyncio.run(office.revoke_credential(_settings(options), options.device))
        print(f"{options.device} has no password" + (" any more" if had else ""))  # noqa: T201 - what the command is for
        return 0
    print(asyncio.run(office.give_credential(_settings(options), options.device)))  # noqa: T201 - what the command is for
    return 0


def _move(options: argparse.Namespace) -> int:
    from iotcore.commands import office

    moved = asyncio.run(office.set_state(_settings(options), options.device, options.state))
    print(f"{options.device} is {options.state}" + ("" if moved else " already"))  # noqa: T201 - what the command is for
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from iotcore.commands import office

    serials = asyncio.run(office.revoke_certificates(_settings(options), options.device))
    text = f"{len(serials)} certificates of {options.device} are revoked: {', '.join(serials)}"
    print(text if serials else f"{options.device} has no certificate that could be revoked")  # noqa: T201 - what it is for
    return 0

"""`iotcore ca …`: the certificate authority of this installation."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
ANCHORS = ("fire", "field", "service")


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("ca", help="the certificate authority").add_subparsers(required=True, metavar="COMMAND")
    init = command(verbs, "init", "make the authority; a first start does it by itself", _init)
    init.add_argument(
        "--root-keys", type=Path, metavar="FOLDER", help="move the keys of the roots there: nothing here needs them"
    )
    announced = "make the next issuing authority: trusted from now on, signing nothing yet"
    rotated = "the announced issuing authority (else a new one) signs from now on; the one before stays trusted meanwhile"
    for verb, text, function in (("issue-intermediate", announced, _announce), ("rotate", rotated, _rotate)):
        making = command(verbs, verb, text, function)
        making.add_argument("anchor", choices=ANCHORS)
        making.add_argument("--new-root", action="store_true", help="under a new root")
        making.add_argument("--root-key", type=Path, metavar="FILE", help="the key of the root, where it is kept elsewhere")
        if verb == "rotate":
            making.add_argument("--at-once", action="store_true", help="a new service root that devices do not know yet (theft)")
        making.add_argument("--alone", default="", metavar="REASON", help="without a second admin: the audit tells it aloud")
    for parser in (init, *(verbs.choices[verb] for verb in ("issue-intermediate", "rotate"))):
        parser.add_argument("--pkcs11", metavar="MODULE", help="make issuing keys in a security module: its PKCS#11 library")
        parser.add_argument("--token", metavar="LABEL", help="which token of the module; its PIN is $IOTCORE_CA_PIN")
    for parser in (init, *(verbs.choices[verb] for verb in ("issue-intermediate", "rotate"))):
        parser.add_argument("--by", default=os.environ.get("USER", "operator"), help="who stands in the audit")
    shown = command(verbs, "status", "each issuer, how long it lasts, its list; exit 1 when one needs attention", _status)
    shown.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _init(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import ca

    return _said(asyncio.run(ca.init(_settings(options), SystemClock(), options.root_keys, options.by, _module(options))))


def _module(options: argparse.Namespace) -> Any:
    """The security module that is named, if one is."""
    from iotcore.errors import StartError
    from iotcore.provision.issuers import Module

    if bool(options.pkcs11) != bool(options.token):
        raise StartError("A security module is named by --pkcs11 and --token together", "Give both, or neither.")
    return Module(options.pkcs11, options.token) if options.pkcs11 else None


def _announce(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import ca
    from iotcore.provision.ca import Anchor

    making = ca.announce(
        *(_settings(options), SystemClock(), Anchor(options.anchor), options.by),
        alone=options.alone,
        new_root=options.new_root,
        root_key=options.root_key,
        at=_module(options),
    )
    return _said(asyncio.run(making))


def _rotate(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import ca
    from iotcore.provision.ca import Anchor

    rotating = ca.rotate(
        *(_settings(options), SystemClock(), Anchor(options.anchor), options.by),
        alone=options.alone,
        new_root=options.new_root,
        root_key=options.root_key,
        at_once=options.at_once,
        at=_module(options),
    )
    return _said(asyncio.run(rotating))


def _status(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import ca

    found = ca.status(_settings(options), SystemClock())
    rows = [ca.plain(standing) for standing in found]
    if options.output == "json":
        _said([json.dumps(rows, ensure_ascii=False, indent=2)])
    else:
        _said(["  ".join(f"{key}={value}" for key, value in row.items() if value != "") for row in rows])
    return 1 if any(standing.attention for standing in found) else 0


def _said(lines: list[str]) -> int:
    print("\n".join(lines))  # noqa: T201 - what the command is for
    return 0

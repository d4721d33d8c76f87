"""`iotcore broker …`: the files of a Mosquitto that somebody else runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore.errors import StartError
from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
RELEASES = {"2.0": (2, 0), "2.1": (2, 1)}


def add(nouns: Nouns, command: Command) -> None:
    """Add the noun; `command` makes a parser for one verb, as `cli` does."""
    verbs = nouns.add_parser("broker", help="a Mosquitto that somebody else runs").add_subparsers(
        required=True, metavar="COMMAND"
    )
    config = command(verbs, "config", "print mosquitto.conf as it is generated; nothing is written", _config)
    text = "write the files that differ, have the broker read them, and put the old ones back when it is not well with them"
    apply = command(verbs, "apply", text, _apply)
    for parser in (config, apply):
        parser.add_argument("name", choices=("fire", "field"))
        parser.add_argument(
            "--for", dest="release", choices=tuple(RELEASES), help="its release (default: the one installed here)"
        )
        parser.add_argument("--plugins", type=Path, metavar="FOLDER", help="where its plugins are, on another machine")
        parser.add_argument("--at", type=Path, metavar="FOLDER", help="where its files will be when it runs (default: --to)")
    config.add_argument("--to", type=Path, metavar="FOLDER", help="where `apply` would write (default: broker/NAME in the data)")
    apply.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the broker's folder; its owner gets the files")
    apply.add_argument("--reload", default="", metavar="COMMAND", help='such as "systemctl reload mosquitto"')
    apply.add_argument("--restart", default="", metavar="COMMAND", help="the same for a changed mosquitto.conf")
    apply.add_argument("--untried", action="store_true", help="do not try it on this machine's Mosquitto first")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _config(options: argparse.Namespace) -> int:
    from iotcore.commands import broker
    from iotcore.provision.acl import BrokerName

    settings = _settings(options)
    folder = options.to or settings.folder / "broker" / options.name
    print(broker.config(settings, BrokerName(options.name), _target(options, folder)), end="")  # noqa: T201 - what it is for
    return 0


def _apply(options: argparse.Namespace) -> int:
    from iotcore.clock import SystemClock
    from iotcore.commands import broker
    from iotcore.provision.acl import BrokerName

    making = broker.apply(_settings(options), BrokerName(options.name), _target(options, options.to), SystemClock())
    print("\n".join(asyncio.run(making)))  # noqa: T201 - what it is for
    return 0


def _target(options: argparse.Namespace, folder: Path) -> Any:
    from iotcore.commands import broker

    given = RELEASES[options.release] if options.release else broker.installed()
    if options.plugins is None and given > broker.installed():
        raise StartError(f"Mosquitto {options.release} is not installed here", "Say where its plugins are: --plugins FOLDER.")
    return broker.Target(
        folder,
        (options.at or folder).absolute(),
        given,
        options.plugins,
        shlex.split(getattr(options, "reload", "")),
        shlex.split(getattr(options, "restart", "")),
        getattr(options, "untried", False),
    )

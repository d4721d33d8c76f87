"""What of a data folder goes into a backup: everything but what is made anew at the next start, and what lives for a moment.

databases   *.db, copied while they are written to
sealed      what only its owner may read (keys, the authority's passphrase), and the settings file
left out    run/ log/ broker/ (generated; what the brokers held, senders still have), locks, reserves; telemetry.db too
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from iotcore.backup.last import MARKER as LAST
from iotcore.backup.manifest import DATA, NAMED, SETTINGS, TABLES
from iotcore.errors import StartError
from iotcore.process.home import UNFINISHED
from iotcore.settings import Settings

TELEMETRY = frozenset({"telemetry.db", "telemetry-confidential.db"})  # may be large, and is no promise to anybody
STAGING = ".backup"  # copies of databases, one at a time, in the data folder: what they hold lies there anyway
REGISTRY = f"{DATA}registry.db"
OUTBOX = "outbox-"  # a gateway's: what it held then was receipted long ago, and an old fire must not be sent as a new one
DERIVED = frozenset({"run", "log", "broker", "claimed", STAGING, UNFINISHED, LAST, "backup.lock"})
NEVER = ("-wal", "-shm", "-journal", ".reserve", "lock")
OTHERS = 0o077
SECRETS = ("token", "password", "key")  # what the settings name so is a secret, whoever may read the file


class Contents(NamedTuple):
    """Name in the archive → file."""

    databases: dict[str, Path]
    plain: dict[str, Path]
    sealed: dict[str, Path]
    files: dict[str, str]  # of those that the settings name: where they were
    left_out: list[str]


def contents(settings: Settings, config: Path, *, telemetry: bool) -> Contents:
    """Look at the data folder and at what the settings name.

    Raises:
        StartError: the settings or the folder cannot be read.
    """
    found = Contents({}, {}, {SETTINGS: config}, {}, ["run/", "log/", "broker/", "outbox-*"])
    found.files[DATA] = settings.data
    if settings.journal.url:
        found.left_out.append("the journal: it is on PostgreSQL (pg_dump --schema=journal)")
    if settings.registry.url.startswith("sqlite://"):
        found.files[TABLES] = settings.registry.url
        found.databases[REGISTRY] = Path(settings.registry.url.removeprefix("sqlite://").partition("?")[0])
    if not config.is_file():
        raise StartError(f"{config} cannot be read", "Name the settings with --config.")
    for path in _files(settings.folder):
        name = path.relative_to(settings.folder).as_posix()
        if path.suffix == ".db":
            if name in TELEMETRY and not telemetry:
                found.left_out.append(name)
            else:
                found.databases[DATA + name] = path
        else:
            _place(found, DATA + name, path, secret=False)
    for key, value in _named(settings).items():
        path = Path(value)
        if not path.exists() or path.resolve().is_relative_to(settings.folder.resolve()):
            continue
        found.files[NAMED + key] = value
        for one in _files(path) if path.is_dir() else [path]:
            name = f"{NAMED}{key}/{one.relative_to(path).as_posix()}" if path.is_dir() else NAMED + key
            _place(found, name, one, secret=any(word in key for word in SECRETS))
    return found


def _place(found: Contents, name: str, path: Path, *, secret: bool) -> None:
    secret = secret or not stat.S_IMODE(path.stat().st_mode) & OTHERS
    (found.sealed if secret else found.plain)[name] = path


def _files(folder: Path) -> Iterator[Path]:
    try:
        for here, folders, names in os.walk(folder, onerror=_raise):
            top = Path(here) == folder
            folders[:] = sorted(name for name in folders if not (top and name in DERIVED))
            for name in sorted(names):
                path = Path(here, name)
                left = top and (name in DERIVED or name.startswith(OUTBOX))
                if not (left or name.startswith(".") or name.endswith(NEVER)) and path.is_file():
                    yield path
    except OSError as error:
        raise StartError(f"{error.filename} cannot be read: {error.strerror}", "Run as the platform's user.") from error


def _raise(error: OSError) -> None:
    raise error


def _named(settings: Settings) -> Mapping[str, str]:
    store = settings.store
    named = {
        "specs": settings.specs,
        "rules": settings.rules,
        "modbus_allow": settings.modbus_allow,
        "store.token_file": store.token_file,
        "store.password_file": store.password_file,
        "store.ca_file": store.ca_file,
        "store.cert_file": store.cert_file,
        "store.key_file": store.key_file,
    }
    return {key: value for key, value in named.items() if value}

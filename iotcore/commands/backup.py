"""`iotcore backup`: one encrypted archive of everything that cannot be made anew, while the platform runs.

journal and spools ─► registry ─► files: a lane's cursor into the registry is then never ahead of the registry in the archive
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import msgspec

from iotcore.backup import archive, keys, last
from iotcore.backup.contents import REGISTRY, STAGING, Contents, contents
from iotcore.backup.copies import copied
from iotcore.backup.manifest import DATA, FORMAT, SEALED, TABLES, Manifest, Marks
from iotcore.clock import Clock
from iotcore.commands.moments import utc
from iotcore.errors import StartError
from iotcore.process.credentials import environment
from iotcore.provision import restored
from iotcore.provision.files import locked, make_folder
from iotcore.registry import copying
from iotcore.registry.store import open_registry
from iotcore.settings import Settings

NAME = "iotcore-{at:%Y%m%dT%H%M%SZ}.age"
ROTATED = re.compile(r"iotcore-\d{8}T\d{6}Z\.age")
JOURNAL = f"{DATA}journal.db"
BY = "backup"
MAX_SEALED_BYTES = 64 << 20


class Key(NamedTuple):
    """For whom an archive is: a public key, or a passphrase."""

    recipient: str = ""
    passphrase: Path | None = None

    def lock(self) -> tuple[keys.Recipient, bytes]:
        """What encrypts, and what the archive begins with.

        Raises:
            StartError: neither or both were given, or it is none.
        """
        if bool(self.recipient) == bool(self.passphrase):
            raise StartError(
                "Nobody is named who may open the backup",
                "Give --recipient KEY (`iotcore backup key FILE` makes one), or --passphrase-file FILE.",
            )
        if self.passphrase:
            return keys.lock(keys.passphrase(self.passphrase))
        return keys.recipient(self.recipient), b""


class Opener(NamedTuple):
    """What opens an archive: the secret half of a key pair, or a passphrase."""

    identity: Path | None = None
    passphrase: Path | None = None

    def key_of(self, file: BinaryIO) -> keys.Identity:
        """The key of this archive; what follows in `file` is encrypted with it.

        Raises:
            StartError: what it needs was not given, or does not open it.
        """
        if keys.is_locked(file):
            if self.passphrase is None:
                raise StartError("The archive was made with a passphrase", "Give --passphrase-file FILE.")
            return keys.unlock(file, keys.passphrase(self.passphrase))
        if self.identity is None:
            raise StartError("The archive was made for a public key", "Give its secret half: --identity FILE.")
        return keys.identity(self.identity)


def make(settings: Settings, config: Path, target: Path, key: Key, clock: Clock, *, telemetry: bool, staging: Path | None) -> str:
    """Write an archive to `target`, which must not be there; what was done, for people.

    Raises:
        StartError: the name is taken, the settings or the key are wrong.
        StoreError: a database could not be copied, or the archive not written; nothing is under the name then.
    """
    recipient, lock = key.lock()
    found = contents(settings, config, telemetry=telemetry)
    room = make_folder(staging / STAGING if staging else settings.folder / STAGING)
    at_ms = clock.wall_ms()
    with locked(settings.folder / "backup.lock"):
        for stale in room.iterdir():
            stale.unlink()  # what a killed backup has left: this lock is ours
        with archive.writing(target, recipient, lock) as writer:
            channels = _databases(writer, found, room)
            marks = _registry(writer, settings, found, room)
            for name, path in found.plain.items():
                writer.add(name, path)
            writer.seal(found.sealed)
            numbers = restored.numbers(settings.folder / "ca")
            marks = msgspec.structs.replace(marks, channels=channels, crl_numbers=numbers)
            writer.finish(_manifest(settings, found, writer, marks, at_ms))
        size = target.stat().st_size
        last.note(settings.folder, last.Last(at_ms, target.name, size))
        asyncio.run(_noted(settings, clock, target.name, f"{len(writer.parts)} parts, {size} bytes"))
    return f"{target}: {size / 1e6:.1f} MB, {len(writer.parts)} parts, audit up to entry {marks.audit_seq}"


def rotate(folder: Path, keep: int) -> list[Path]:
    """Remove all but the `keep` newest of those that `--to` has made; what went."""
    made = sorted(path for path in folder.iterdir() if ROTATED.fullmatch(path.name))
    gone = made[:-keep] if keep else []
    for path in gone:
        path.unlink()
    return gone


def dated(folder: Path, clock: Clock) -> Path:
    """The name of a backup that is made now, in `folder`."""
    return make_folder(folder) / NAME.format(at=datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC))


def verify(file: Path, opener: Opener) -> Manifest:
    """Read an archive through and check every part; nothing is written anywhere.

    Raises:
        StartError: it is not whole, or does not open.
    """
    sealed = bytearray()
    opened: list[keys.Identity] = []

    def key(source: BinaryIO) -> keys.Identity:
        opened.append(opener.key_of(source))
        return opened[0]

    def take(name: str, content: IO[bytes]) -> None:
        if name == SEALED:
            sealed.extend(content.read(MAX_SEALED_BYTES))

    manifest = archive.reading(file, key, take)
    archive.unseal(bytes(sealed), opened[0], lambda _name, _content: None)
    return manifest


def as_json(manifest: Manifest) -> str:
    """A manifest for programs."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode()


def told(manifest: Manifest) -> list[str]:
    """A manifest for people."""
    size = sum(part.size for part in manifest.parts)
    lines = [
        f"made {utc(manifest.at_ms)} by iotcore {manifest.iotcore}; {len(manifest.parts)} parts, {size / 1e6:.1f} MB; all whole",
        f"registry: {manifest.registry}, step {manifest.marks.migration}, audit up to entry {manifest.marks.audit_seq}",
    ]
    lines += [f"left out: {', '.join(manifest.left_out)}"] if manifest.left_out else []
    named = ", ".join(manifest.from_environment)
    return [*lines, *([f"not in it, because they came as variables: {named}"] if named else [])]


def _databases(writer: archive.Writer, found: Contents, room: Path) -> dict[str, int]:
    """Every database but the registry; the DC-09 numbers that the journal's channels have come to."""
    channels: dict[str, int] = {}
    for name, path in found.databases.items():
        if name == REGISTRY:
            continue
        with copied(path, room) as copy:
            writer.add(name, copy)
            if name == JOURNAL:
                channels = _channels(copy)
    return channels


def _channels(journal: Path) -> dict[str, int]:
    with closing(sqlite3.connect(journal)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'channel_number'").fetchone():
            return {}  # the fire process is just making the file
        return dict(connection.execute("SELECT channel, number FROM channel_number").fetchall())


def _registry(writer: archive.Writer, settings: Settings, found: Contents, room: Path) -> Marks:
    """The registry, and where it stood."""
    if not copying.is_postgres(settings.registry_url):
        path = found.databases.get(REGISTRY)
        if path is None:
            raise StartError(f"There is no registry in {settings.folder}", "Name the right settings with --config.")
        with copied(path, room) as copy, closing(sqlite3.connect(copy)) as connection:
            writer.add(REGISTRY, copy)
            seq, hash_ = connection.execute("SELECT seq, hash FROM audit_head").fetchone()
            change = connection.execute("SELECT coalesce(max(id), 0) FROM change").fetchone()[0]
            intent = connection.execute("SELECT coalesce(max(id), 0) FROM intent").fetchone()[0]
            step = connection.execute("SELECT coalesce(max(number), 0) FROM migration").fetchone()[0]
        return Marks(seq, hash_, change, intent, migration=step)
    made = asyncio.run(copying.export(settings.registry_url, room))
    for table in made.tables:
        path = room / f"{table}{copying.SUFFIX}"
        writer.add(f"{TABLES}{path.name}", path)
        path.unlink()
    return Marks(made.head.seq, made.head.hash, made.numbers["change"], made.numbers["intent"], migration=made.step)


def _manifest(settings: Settings, found: Contents, writer: archive.Writer, marks: Marks, at_ms: float) -> Manifest:
    return Manifest(
        format=FORMAT,
        iotcore=version("iotcore"),
        at_ms=int(at_ms),
        registry="postgres" if copying.is_postgres(settings.registry_url) else "sqlite",
        marks=marks,
        parts=writer.parts,
        files=found.files,
        left_out=found.left_out,
        from_environment=secrets_of(environment(os.environ)),
    )


def secrets_of(variables: Mapping[str, str]) -> list[str]:
    """The names of our variables that hold secrets."""
    words = ("PASS", "TOKEN", "SECRET", "KEY", "URL")
    return sorted(name for name in variables if name.startswith("IOTCORE_") and any(word in name for word in words))


async def _noted(settings: Settings, clock: Clock, name: str, detail: str) -> None:
    async with await open_registry(settings.registry_url, clock) as registry:
        await registry.note(BY, "backup.make", name, detail)

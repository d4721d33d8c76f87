"""`iotcore restore`: a platform out of a backup, in which nothing that only counts up goes back (docs/backup.md).

    archive ─► .FOLDER.restoring ─► checked, moved ahead ─► FOLDER (with a marker) ─► schema, heads ─► marker gone

Until the last step nothing lives: a restore that was killed is made again, and what it has left is thrown away.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from iotcore.backup import unpack
from iotcore.backup.manifest import DATA, Manifest
from iotcore.clock import Clock
from iotcore.commands import restore_ahead as ahead
from iotcore.commands.backup import Opener
from iotcore.commands.moments import utc
from iotcore.errors import StartError
from iotcore.journal import parked
from iotcore.journal.database import connect_readonly, is_there
from iotcore.process import home
from iotcore.process.credentials import environment
from iotcore.process.home import UNFINISHED
from iotcore.process.serve import beats
from iotcore.provision import heads
from iotcore.provision.files import make_folder, write_whole
from iotcore.registry import copying, restored
from iotcore.settings import Settings, load

STAMP = "{at:%Y%m%dT%H%M%SZ}"


class Asked(NamedTuple):
    """What to restore, and what is known besides the archive. `config`: settings instead of those in it."""

    file: Path
    to: Path
    opener: Opener
    config: Path | None = None
    over: bool = False
    crls: tuple[Path, ...] = ()
    heads: Path | None = None


class Report(NamedTuple):
    """What was done, and what a person has to do now."""

    manifest: Manifest
    folder: Path
    aside: str
    moved: ahead.Moved

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "folder": str(self.folder),
            "moved_aside": self.aside,
            "backup_ms": self.manifest.at_ms,
            "parts": len(self.manifest.parts),
            **msgspec.to_builtins(self.moved),
            "from_environment": self.manifest.from_environment,
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{len(self.manifest.parts)} parts of {utc(self.manifest.at_ms)} are in {self.folder}"]
        lines += [f"what was there before is in {self.aside}"] if self.aside else []
        lines += self.moved.lines(utc(self.manifest.at_ms))
        named = ", ".join(self.manifest.from_environment)
        lines += [f"SECRETS that came as variables are not in it; give them again: {named}"] if named else []
        return [*lines, f"start: iotcore up --config {self.folder / unpack.SETTINGS_FILE}"]


def restore(asked: Asked, clock: Clock) -> Report:
    """Make the folder `asked.to` of a backup.

    Raises:
        StartError: the place is taken or in use, or the archive does not open or is not whole; nothing has changed then.
        StoreError: a database could not be filled; likewise.
    """
    target = asked.to.absolute()
    unfinished = _unfinished(target)
    _refuse_running(target, clock)
    occupied = target.exists() and any(target.iterdir()) and not unfinished
    if occupied and not asked.over:
        raise StartError(f"{target} is not empty", "Choose another folder, or move it aside with --over.")
    run = secrets.token_hex(4)
    staging = target.with_name(f".{target.name}.restoring")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        manifest = unpack.unpack(asked.file, asked.opener.key_of, make_folder(staging))
        settings = _settings(asked, manifest, staging)
        stamp = STAMP.format(at=datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC))
        aside = target.with_name(f"{target.name}.before-{stamp}") if occupied else None
        schema = asyncio.run(_filled(settings, staging, run, manifest, clock, over=asked.over, unfinished=unfinished))
        places = ahead.Places(settings, staging, schema, target if occupied else None, asked.crls, asked.heads)
        moved = ahead.move(asked.file.name, manifest, places, clock)
        _finish_files(asked, manifest, staging, target, run)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _put_in_place(staging, target, aside)
    if schema:
        before = "" if unfinished else f"{copying.schema_of(settings.registry_url)}_before_{stamp.lower()}"
        asyncio.run(copying.put_in_place(settings.registry_url, copying.schema_of(schema), before))
    if settings.audit.folder:
        heads.append(make_folder(settings.heads_folder) / heads.HEADS_FILE, moved.line)
    (target / UNFINISHED).unlink()
    return Report(manifest, target, str(aside or ""), moved)


def parked_notices(settings: Settings) -> list[dict[str, Any]]:
    """The notices that wait for a decision, a row each."""
    path = settings.journal_place
    if not is_there(path):
        return []
    with closing(connect_readonly(path)) as connection:
        return [
            {**one._asdict(), "created": utc(one.created_ms), "sent": utc(one.sent_ms) if one.sent_ms else None}
            for one in parked.listed(connection)
        ]


def check_parked(settings: Settings, incident: str) -> None:
    """Refuse a decision about an incident of which nothing waits; raises StartError."""
    if incident not in {row["incident"] for row in parked_notices(settings)}:
        raise StartError(f"No notice of {incident!r} waits", "See: iotcore notice list")


def _unfinished(target: Path) -> str:
    """The name of the restore that was killed when `target` was nearly ready; "" when there was none."""
    try:
        return str(msgspec.json.decode((target / UNFINISHED).read_bytes(), type=dict[str, str])["run"])
    except (OSError, msgspec.DecodeError, KeyError):
        return ""


def _refuse_running(target: Path, clock: Clock) -> None:
    if not target.exists():
        return
    if alive := beats(target, clock):
        raise StartError(f"A platform runs in {target}: {', '.join(alive)}", "Stop it first.")
    if (target / "claimed").exists() and not (target / UNFINISHED).exists():
        with home.claimed(target):
            pass


def _settings(asked: Asked, manifest: Manifest, staging: Path) -> Settings:
    """The settings as the new platform will have them, with the staged folder as its data."""
    file = staging / unpack.SETTINGS_FILE
    text = file.read_text(encoding="utf-8")
    variables = environment(os.environ)
    if asked.config is None:
        write_whole(file, unpack.fitted(text, manifest.files, staging).encode(), 0o600)
        settings = load(file, variables)
        write_whole(file, text.encode(), 0o600)
    else:
        settings = load(asked.config, variables)
    settings = msgspec.structs.replace(settings, data=str(staging))
    wanted = "postgres" if copying.is_postgres(settings.registry_url) else "sqlite"
    if wanted != manifest.registry:
        raise StartError(
            f"The backup is of a {manifest.registry} registry, and the settings name {wanted}",
            "Set registry.url (IOTCORE_REGISTRY__URL), or use --config.",
        )
    return settings


async def _filled(
    settings: Settings, staging: Path, run: str, manifest: Manifest, clock: Clock, *, over: bool, unfinished: str
) -> str:
    """Fill a schema of its own with the tables of a PostgreSQL registry; its URL, or "" for SQLite."""
    url = settings.registry_url
    if not copying.is_postgres(url):
        return ""
    used, comment = await copying.standing(url)
    ours = bool(unfinished) and comment == _label(unfinished)
    if used and not ours and not over:
        raise StartError(
            f"The schema {copying.schema_of(url)!r} of the database holds a registry",
            "Name another database, or move it aside with --over.",
        )
    staged = copying.in_schema(url, f"{copying.schema_of(url)}_restoring")
    await copying.recreate(staged, _label(run))
    await restored.made(staged, clock, manifest.marks.migration)
    await copying.load(staged, staging / unpack.TABLES_FOLDER)
    shutil.rmtree(staging / unpack.TABLES_FOLDER)
    return staged


def _label(run: str) -> str:
    return f"iotcore restore {run}"


def _finish_files(asked: Asked, manifest: Manifest, staging: Path, target: Path, run: str) -> None:
    """The settings file for the place where it will be, and the marker without which no process starts there."""
    file = staging / unpack.SETTINGS_FILE
    text = asked.config.read_text(encoding="utf-8") if asked.config else file.read_text(encoding="utf-8")
    files = {DATA: load(asked.config, environment(os.environ)).data} if asked.config else manifest.files
    fitted = unpack.fitted(text, files, target)
    write_whole(file, fitted.encode(), 0o600)
    write_whole(staging / UNFINISHED, msgspec.json.encode({"run": run}))


def _put_in_place(staging: Path, target: Path, aside: Path | None) -> None:
    try:
        if aside is not None:
            target.rename(aside)
        elif target.exists():
            shutil.rmtree(target)  # empty, or of a restore that was killed
        staging.rename(target)
    except OSError as error:
        raise StartError(f"{target} cannot be put in place: {error.strerror}", f"What was restored is in {staging}.") from error

"""When the last backup was made, and whether another is overdue. The command that makes one leaves a note in the data folder."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from iotcore.clock import Clock
from iotcore.provision.files import write_whole
from iotcore.settings import Settings

MARKER = "backup.json"
BEGAN = "ca/complete"  # a platform that has not lived that long needs no backup yet
MS_PER_DAY = 86_400_000.0
LOOK_S = 3_600.0
REMEDY = "Make one, and let a timer make them: iotcore backup --to FOLDER (docs/backup.md)."
log = logging.getLogger(__name__)


class Last(msgspec.Struct, frozen=True):
    """The last backup: when (ms UTC), its name, its size in bytes."""

    at_ms: float
    name: str
    size: int


class Due(NamedTuple):
    """How old the last backup is (of none: the platform itself), and whether that is too old."""

    age_s: float
    overdue: bool
    said: str


def note(folder: Path, last: Last) -> None:
    """Remember that a backup was made."""
    write_whole(folder / MARKER, msgspec.json.encode(last))


def due(settings: Settings, clock: Clock) -> Due:
    """How it stands now."""
    limit_days = settings.backup.max_age_days
    last = _last(settings.folder)
    since_ms = last.at_ms if last else _began_ms(settings.folder, clock)
    days = max(clock.wall_ms() - since_ms, 0.0) / MS_PER_DAY
    overdue = bool(limit_days) and days > limit_days
    said = f"the last, {last.name}, is {days:.1f} days old" if last else f"none was ever made, in {days:.1f} days"
    return Due(days * MS_PER_DAY / 1000.0, overdue, said)


async def watch(settings: Settings, clock: Clock) -> None:
    """Say every hour that a backup is overdue, until cancelled."""
    while True:
        found = await asyncio.to_thread(due, settings, clock)
        if found.overdue:
            log.error("A BACKUP IS OVERDUE: %s. %s", found.said, REMEDY)
        await asyncio.sleep(LOOK_S)


def _last(folder: Path) -> Last | None:
    try:
        return msgspec.json.decode((folder / MARKER).read_bytes(), type=Last)
    except (OSError, msgspec.DecodeError):
        return None


def _began_ms(folder: Path, clock: Clock) -> float:
    try:
        return (folder / BEGAN).stat().st_mtime * 1000.0
    except OSError:
        return clock.wall_ms()

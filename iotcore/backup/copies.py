"""A copy of a SQLite database as it is at one moment, while others write to it (SQLite's online backup, in one step).

In WAL mode a reader keeps its moment and holds nobody up: writers go on, their log grows until the copy is made.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from iotcore.errors import StoreError, StoreFull
from iotcore.journal.database import connect_readonly, perhaps_full
from iotcore.provision.files import make_folder

SPARE_BYTES = 64 << 20  # room that a copy leaves: a fire must never meet a disk that a backup has filled


@contextmanager
def copied(path: Path, staging: Path) -> Iterator[Path]:
    """A copy in the folder `staging`, checked; it is gone after the block.

    Raises:
        StoreFull: the disk has no room for a copy and some.
        StoreError: the database cannot be read, or is damaged.
    """
    make_folder(staging)
    size = sum(part.stat().st_size for part in (path, path.with_name(f"{path.name}-wal")) if part.exists())
    free = shutil.disk_usage(staging).free
    if free < size + SPARE_BYTES:
        raise StoreFull(
            f"A copy of {path} takes {size / 1e6:.0f} MB in {staging}, which has {free / 1e6:.0f} MB free;"
            " name another folder with --staging"
        )
    copy = staging / path.name
    try:
        _copy(path, copy)
        yield copy
    finally:
        for leftover in staging.glob(f"{copy.name}*"):
            leftover.unlink(missing_ok=True)


def _copy(path: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    copy.touch(mode=0o600)
    try:
        with closing(connect_readonly(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            said = target.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        if perhaps_full(error):
            raise StoreFull(f"{copy.parent} has no room for a copy of {path}: {error}") from error
        raise StoreError(f"{path} cannot be copied: {error}") from error
    if said != "ok":
        raise StoreError(f"{path} is damaged: {said}; restore it from an older backup")

"""Reserve: disk space put aside, because on a full disk SQLite cannot even delete.

A DELETE writes pages to the log before it frees any. Without a reserve, a spool that has filled the disk while the store was down
could never be drained again (seen on a full tmpfs). Only making room may spend the reserve; new lines wait until it is back.
"""

from __future__ import annotations

import os
from pathlib import Path

RESERVE_BYTES = 8 * 1024 * 1024  # twice the log that SQLite lets grow before a checkpoint (1000 pages of 4096 bytes)
CHUNK = bytes(1024 * 1024)


class Reserve:
    """A file of `size` bytes that really are on disk."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size
        self.held = False

    def take(self) -> bool:
        """Put the space aside; False when the disk has not got it."""
        if not self.held:
            try:
                self._fill()
            except OSError:
                self.spend()
            else:
                self.held = True
        return self.held

    def spend(self) -> None:
        """Give the space back to the disk."""
        self._path.unlink(missing_ok=True)
        self.held = False

    def _fill(self) -> None:
        if self._path.exists() and self._path.stat().st_size == self._size:
            return
        with self._path.open("wb") as file:
            for _ in range(self._size // len(CHUNK)):
                file.write(CHUNK)
            file.flush()
            os.fsync(file.fileno())

"""Where writes are kept: request ids in SQLite, each on disk before its write goes out, and the local audit file.

The audit file is for a technician's machine without a registry: one JSON line an entry, each line's hash over the one before
(`registry.audit`), appended and synced. A chain that does not hold is refused: nothing is written until somebody has looked.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from drivers.modbus.write import Attempt, Kept, Outcome
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry import audit

BUSY_TIMEOUT_S = 5.0
LONGEST_SUBJECT = 200  # characters
SCHEMA = """
CREATE TABLE IF NOT EXISTS asked (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, target TEXT NOT NULL, value TEXT NOT NULL, by TEXT NOT NULL, second TEXT NOT NULL,
    at_ms REAL NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS asked_target ON asked (device, target, at_ms);
"""
KNOWN = "SELECT device, target, value, state, reason, detail FROM asked WHERE id = ?"
LAST = "SELECT max(at_ms) FROM asked WHERE device = ? AND target = ?"
BEGIN = "INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', '', '')"
END = "UPDATE asked SET state = ?1, reason = ?2, detail = ?3 WHERE id = ?4 AND (state = 'pending' OR ?1 = 'verified')"


class WriteRecord:
    """A context manager over one SQLite file; several processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection

    def __enter__(self) -> Self:
        """Open or create the file. Raises StoreError."""
        with self._translated():
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()

    def known(self, id_: str) -> Kept | None:
        """What was kept under this id. Raises StoreError."""
        with self._translated():
            row = self._db.execute(KNOWN, (id_,)).fetchone()
        return None if row is None else Kept(*row)

    def last_ms(self, device: str, target: str) -> float | None:
        """When this target was last tried. Raises StoreError."""
        with self._translated():
            found: float | None = self._db.execute(LAST, (device, target)).fetchone()[0]
        return found

    def begin(self, attempt: Attempt, device: str, at_ms: float) -> Kept | None:
        """Claim the id: on disk when this returns None; what another process has kept under it, when that was faster."""
        row = (attempt.id, device, attempt.target, attempt.value, attempt.by, attempt.second, at_ms)
        with self._translated():
            if self._db.execute(BEGIN, row).rowcount == 1:
                return None
        return self.known(attempt.id)

    def end(self, id_: str, outcome: Outcome) -> None:
        """How it ended; of two processes that looked at once, the one that saw it taken is right. Raises StoreError."""
        with self._translated():
            self._db.execute(END, (outcome.state, outcome.reason, outcome.detail, id_))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}; nothing is written that cannot be kept") from error


class AuditFile:
    """`note` appends one entry; several processes may share the file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    async def note(self, by: str, action: str, subject: str, detail: str) -> None:
        """On disk when it returns. Raises StoreError: it cannot be written, or somebody has changed the file."""
        await asyncio.to_thread(self._append, by, action, subject, detail)

    def entries(self) -> list[audit.Entry]:
        """All of it, oldest first. Raises StoreError when the chain does not hold."""
        try:
            return _entries(self._path.read_bytes(), self._path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error

    def _append(self, by: str, action: str, subject: str, detail: str) -> None:
        try:
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                content = file.read()
                known = _entries(content, self._path)
                head = known[-1].hash if known else audit.GENESIS
                deed = audit.Deed(len(known) + 1, int(self._clock.wall_ms()), by, action, subject[:LONGEST_SUBJECT], detail)
                entry = audit.link(head, deed)
                torn = b"" if not content or content.endswith(b"\n") else b"\n"  # a line that a power cut left
                file.write(torn + json.dumps([*entry.deed, entry.hash], ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}; nothing is written that cannot be audited") from error


def _entries(content: bytes, path: Path) -> list[audit.Entry]:
    """The entries of a file, if they are a chain; a line that was cut short is none."""
    found = []
    for line in content.split(b"\n"):
        try:
            seq, at_ms, by, action, subject, detail, hash_ = json.loads(line)
        except (ValueError, TypeError):  # torn, or no list of seven
            continue
        found.append(audit.Entry(audit.Deed(seq, at_ms, by, action, subject, detail), hash_))
    head = found[-1] if found else None
    broken = audit.verify(found, head.deed.seq if head else 0, head.hash if head else audit.GENESIS)
    if broken:
        where = ", ".join(f"entry {each.seq} {each.reason}" for each in broken[:3])
        raise StoreError(f"{path}: the audit does not hold ({where}): keep the file, find out who changed it, begin another")
    return found

"""The outbox's SQLite file. Everything here blocks and belongs on one thread; `box` owns that thread.

One transaction takes receipts, stores rows, and gives up the oldest beyond the limits. How many rows and bytes there are, and how
many were ever given up, is kept in the same transaction, so that opening half a million rows takes no time.

On a full disk SQLite cannot even delete: a DELETE writes to the log before it frees a page. A receipt may therefore spend a
reserve of disk space (`iotcore.telemetry.reserve`), and new rows wait until it is back.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drivers.outbox.ages import LastWrite
from drivers.outbox.rows import Row
from iotcore.errors import StoreError, StoreFull
from iotcore.telemetry.reserve import Reserve

log = logging.getLogger(__name__)

ROW_BYTES = 104  # what a row takes beside its body: other columns, two entries of indexes, free space in pages (measured: 102.4)
PAGE_BYTES = 4096  # SQLite's default
SHRINK_PAGES = 512  # pages given back to the disk at a time: 2 MiB, well within the reserve
WAL_LIMIT_BYTES = 4 * 1024 * 1024  # the log shrinks back to this after a burst
INCREMENTAL = 2  # SQLite's auto_vacuum: free pages can be given back to the disk, when we say so
DAY_S = 86_400.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS held (
    id INTEGER PRIMARY KEY AUTOINCREMENT, domain TEXT NOT NULL, device TEXT NOT NULL, kind TEXT NOT NULL, boot TEXT NOT NULL,
    seq INTEGER NOT NULL, put_ms REAL NOT NULL, put_s REAL NOT NULL, machine TEXT NOT NULL DEFAULT '', body BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS held_identity ON held (device, boot, seq);
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value NOT NULL);
"""
COLUMNS = "id, domain, device, kind, boot, seq, put_ms, put_s, machine, body"
PAGE = f"SELECT {COLUMNS} FROM held WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - a constant
INSERT = "INSERT INTO held (domain, device, kind, boot, seq, put_ms, put_s, machine, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
FORGET = "DELETE FROM held WHERE device = ? AND boot = ? AND seq <= ? RETURNING length(body)"
REPLACED = "DELETE FROM held WHERE device = ? AND boot = ? AND seq = ? RETURNING length(body)"

Receipts = Mapping[tuple[str, str], int]  # device, boot → up_to


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a file may hold, and how old it may become; beyond either the oldest rows are given up, and counted."""

    max_bytes: int = 200_000_000  # about 900,000 readings of four values: 20 stations at one a minute for 31 days
    max_age_s: float = 30 * DAY_S


@dataclass(frozen=True, slots=True)
class Count:
    """What is in the file, and what was ever given up."""

    rows: int = 0
    size: int = 0
    evicted: int = 0


class OutboxFile:
    """One file, one owner (exclusive lock). Every method may raise StoreError (StoreFull: the disk); then no row was stored."""

    def __init__(self, path: Path, limits: Limits, age_s: Callable[[Row], float]) -> None:
        self.path = path
        self.count = Count()
        self.oldest: Row | None = None
        self.receipted = 0  # rows forgotten by receipt, in this run
        self._limits = limits
        self._age_s = age_s
        self._reserve = Reserve(path.with_suffix(".space"))
        self._db: sqlite3.Connection

    def open(self) -> LastWrite:
        """Open or create the file; what the clocks said when it was last written."""
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be opened: {error}") from error
        try:
            self._prepare()
            marks = dict(self._db.execute("SELECT name, value FROM mark").fetchall())
            if "rows" not in marks:  # new, or written by a version that did not count
                marks["rows"], marks["size"] = self._db.execute(
                    "SELECT count(*), coalesce(sum(length(body)), 0) + count(*) * ? FROM held", (ROW_BYTES,)
                ).fetchone()
            self.oldest = self._oldest(self._db)
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(f"{self.path} cannot be opened: {error}; is another process using it?") from error
        self.count = Count(int(marks["rows"]), int(marks["size"]), int(marks.get("evicted", 0)))
        self._reserve.take()
        return LastWrite(marks.get("written_ms", 0.0), marks.get("written_s", 0.0), str(marks.get("machine", "")))

    def close(self) -> None:
        """Close it; the lock is free then."""
        self._db.close()

    def page(self, after_id: int, limit: int) -> list[Row]:
        """Up to `limit` rows with an id above `after_id`, oldest first."""
        try:
            return [Row(*row) for row in self._db.execute(PAGE, (after_id, limit))]
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    def commit(self, rows: Sequence[Row], receipts: Receipts, now: LastWrite, *, known: Sequence[Row] = ()) -> list[Row]:
        """Take receipts and store `rows`, in one transaction; the rows come back with their ids.

        `known` are rows that the reserve log holds: they replace any of the same identity that a failed commit left behind.
        """
        try:
            return self._squeezed(rows, receipts, now, known)
        except StoreFull:
            if not receipts:
                raise
        self._reserve.spend()
        self._transact((), receipts, now, ())
        self._give_back()
        return self._squeezed(rows, {}, now, known) if rows or known else []

    def make_room(self, size: int, now: LastWrite) -> None:
        """Give up the oldest rows, `size` bytes of them, and give the space back to the disk: somebody else needs it more."""
        self._reserve.spend()
        self._transact((), {}, now, (), extra=size)
        self._give_back(size // PAGE_BYTES)

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        if self._db.execute("PRAGMA auto_vacuum").fetchone() != (INCREMENTAL,):
            self._db.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
            self._db.execute("VACUUM")  # the mode takes effect with the next VACUUM; a new file is empty
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        self._db.executescript(SCHEMA)
        if "machine" not in {name for _, name, *_ in self._db.execute("PRAGMA table_info(held)")}:
            self._db.execute("ALTER TABLE held ADD COLUMN machine TEXT NOT NULL DEFAULT ''")

    def _squeezed(self, rows: Sequence[Row], receipts: Receipts, now: LastWrite, known: Sequence[Row]) -> list[Row]:
        """The transaction; on a full disk once more after the log has moved into free pages of the file."""
        if (rows or known) and not self._reserve.take():
            raise StoreFull(f"{self.path}: the disk has no room left; free space and it goes on by itself")
        try:
            return self._transact(rows, receipts, now, known)
        except StoreFull:
            self._give_back()
            return self._transact(rows, receipts, now, known)

    def _transact(
        self, rows: Sequence[Row], receipts: Receipts, now: LastWrite, known: Sequence[Row], *, extra: int = 0
    ) -> list[Row]:
        try:
            with closing(self._db.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                gone = [n for (device, boot), up_to in receipts.items() for n in _sizes(cursor, FORGET, (device, boot, up_to))]
                replaced = [n for row in known for n in _sizes(cursor, REPLACED, row.key)]
                stored = [_insert(cursor, row) for row in (*known, *rows)]
                count = self._grown(gone + replaced, stored)
                count = self._evict(cursor, count, extra)
                self._mark(cursor, count, now)
                oldest = self._oldest(cursor)
                cursor.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            raise (StoreFull if full else StoreError)(f"{self.path}: {error}") from error
        self.count, self.oldest = count, oldest
        self.receipted += len(gone)
        return stored[len(known) :]

    def _grown(self, gone: Sequence[int], stored: Sequence[Row]) -> Count:
        size = self.count.size - sum(gone) - len(gone) * ROW_BYTES + sum(len(row.body) + ROW_BYTES for row in stored)
        return Count(self.count.rows - len(gone) + len(stored), size, self.count.evicted)

    def _evict(self, cursor: sqlite3.Cursor, count: Count, extra: int) -> Count:
        """Give up what is too old, and the oldest while there is too much; `extra` bytes more than that."""
        excess, freed, rows, last = max(0, count.size - self._limits.max_bytes) + extra, 0, 0, 0
        for row in map(Row._make, cursor.execute(f"SELECT {COLUMNS} FROM held ORDER BY id")):  # noqa: S608 - a constant
            if freed >= excess and self._age_s(row) <= self._limits.max_age_s:
                break
            freed, rows, last = freed + len(row.body) + ROW_BYTES, rows + 1, row.id
        if rows:
            cursor.execute("DELETE FROM held WHERE id <= ?", (last,))
        return Count(count.rows - rows, count.size - freed, count.evicted + rows)

    def _mark(self, cursor: sqlite3.Cursor, count: Count, now: LastWrite) -> None:
        marks = {"rows": count.rows, "size": count.size, "evicted": count.evicted}
        clocks = {"written_ms": now.wall_ms, "written_s": now.uptime_s, "machine": now.machine}
        cursor.executemany(
            "INSERT INTO mark VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", [*marks.items(), *clocks.items()]
        )

    def _oldest(self, db: sqlite3.Connection | sqlite3.Cursor) -> Row | None:
        found = db.execute(PAGE, (0, 1)).fetchone()
        return Row(*found) if found else None

    def _give_back(self, pages: int = SHRINK_PAGES) -> None:
        """Move what the log holds into the file, cut free pages off its end, and win the reserve back."""
        try:
            self._db.executescript(f"PRAGMA incremental_vacuum({pages})")  # `execute` would step once, which frees one page
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:  # still too full: the next receipt frees more
            log.info("%s: could not give space back yet: %s", self.path, error)
        self._reserve.take()


def _sizes(cursor: sqlite3.Cursor, statement: str, key: tuple[str, str, int]) -> list[int]:
    return [size for (size,) in cursor.execute(statement, key).fetchall()]


def _insert(cursor: sqlite3.Cursor, row: Row) -> Row:
    cursor.execute(INSERT, row[1:])
    assert cursor.lastrowid is not None
    return row._replace(id=cursor.lastrowid)

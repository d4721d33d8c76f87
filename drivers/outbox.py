"""Outbox: readings of a gateway's devices, on disk until the core says that it has stored them.

put ──► group commit (SQLite, WAL, synchronous=FULL, own thread) ──► `kept` ──► uplink ──► broker ──► core
                                                                                                       │
rows deleted ◄────────────────────────── cumulative receipt of (device, boot) ◄────────────────────────┘

A reading gets its number inside the commit, so a failed commit leaves no hole. One file has one owner (exclusive lock). When it
is full the oldest rows go first, and are counted; the core gives up the hole that they leave.

Age: within one run it comes from the monotonic clock. Over a restart that clock is gone, so the age at opening is the wall
clock's difference, taken against the latest wall time ever written here; from then on it is monotonic again. It errs old: a
wall clock set forward in between makes rows older, one set back cannot make them younger than they were at the last write.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import msgspec

from iotcore.clock import Clock
from iotcore.errors import StoreError, StoreFull
from iotcore.wire.messages import ReadingMessage, ReceiptMessage, Scalar, encode

LIMIT_ROWS = 500_000  # about 200 MB on disk; 20 stations at one reading a minute for 17 days
PENDING_LIMIT = 1_000  # puts waiting for a commit; more wait in their callers
T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS held (
    id INTEGER PRIMARY KEY AUTOINCREMENT, domain TEXT NOT NULL, device TEXT NOT NULL, kind TEXT NOT NULL, boot TEXT NOT NULL,
    seq INTEGER NOT NULL, put_ms REAL NOT NULL, put_s REAL NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS held_identity ON held (device, boot, seq);
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value REAL NOT NULL);
"""
PAGE = "SELECT id, domain, device, kind, boot, seq, put_ms, put_s, body FROM held WHERE id > ? ORDER BY id LIMIT ?"
INSERT = "INSERT INTO held (domain, device, kind, boot, seq, put_ms, put_s, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Row(NamedTuple):
    """A kept reading. `body` is its message as it goes out live; `put_s` is monotonic and means something in its own run only."""

    id: int
    domain: str
    device: str
    kind: str
    boot: str
    seq: int
    put_ms: float
    put_s: float
    body: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A reading that has no number yet."""

    domain: str
    device: str
    kind: str
    values: Mapping[str, Scalar | None]
    q: Mapping[str, str]
    ts: int | None
    fw: str
    test: bool
    put_ms: float
    put_s: float


class Outbox:
    """An async context manager over one SQLite file; `boot` is new at each opening, rows of older boots are kept."""

    def __init__(self, path: Path, clock: Clock, *, limit_rows: int = LIMIT_ROWS) -> None:
        self.boot = secrets.token_hex(4)
        self.kept: Callable[[Sequence[Row]], None] = _nobody  # told of each commit, on the event loop
        self.evicted = 0  # rows dropped for room, ever
        self.receipted = 0  # rows that the core took over, in this run
        self.failed = 0  # puts that could not be kept, in this run
        self.rows = 0
        self._path = path
        self._clock = clock
        self._limit_rows = limit_rows
        self._numbers: dict[str, int] = {}
        self._drafts: list[tuple[Draft, asyncio.Future[Row]]] = []
        self._receipts: dict[tuple[str, str], int] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(PENDING_LIMIT)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._flusher: asyncio.Task[None] | None = None
        self._opened_ms = 0.0
        self._opened_s = 0.0
        self._closing = False
        self._db: sqlite3.Connection

    async def __aenter__(self) -> Self:
        """Open or create the file.

        Raises:
            StoreError: it cannot be opened, or another process owns it.
        """
        try:
            await self._on_thread(self._open)
        except BaseException:
            self._thread.shutdown()
            raise
        self._flusher = asyncio.create_task(self._flush(), name=f"outbox {self._path.name}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._flusher is not None
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._flusher])  # what was put before is still committed
        await self._on_thread(self._close)
        self._thread.shutdown()

    async def put(
        self,
        domain: str,
        device: str,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        ts: int | None = None,
        *,
        kind: str = "reading",
        fw: str = "",
        test: bool = False,
    ) -> Row:
        """Keep a reading; when this returns it is on disk, numbered, and on its way.

        Raises:
            StoreError: it is not kept (StoreFull: the disk is full); its number was not used.
        """
        draft = Draft(domain, device, kind, values, q or {}, ts, fw, test, self._clock.wall_ms(), self._clock.monotonic_s())
        async with self._room:
            if self._closing:
                raise StoreError(f"{self._path} is closed")
            waiting: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
            self._drafts.append((draft, waiting))
            self._wake.set()
            return await waiting

    def receipt(self, device: str, message: ReceiptMessage) -> None:
        """The core has stored every reading of this boot up to `up_to`: forget them with the next commit."""
        key = (device, message.boot)
        self._receipts[key] = max(message.up_to, self._receipts.get(key, 0))
        self._wake.set()

    async def page(self, after_id: int, limit: int) -> list[Row]:
        """Up to `limit` kept rows with an id above `after_id`, oldest first."""
        return await self._on_thread(lambda: self._page(after_id, limit))

    def age_ms(self, row: Row) -> int:
        """How long this row has been kept, never rounded down (see the module's text for rows of an earlier run)."""
        now_s = self._clock.monotonic_s()
        if row.boot == self.boot:
            return max(0, math.ceil((now_s - row.put_s) * 1000.0))
        return max(0, math.ceil(self._opened_ms - row.put_ms + (now_s - self._opened_s) * 1000.0))

    async def _on_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _flush(self) -> None:
        while self._drafts or self._receipts or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            drafts, self._drafts = self._drafts, []
            receipts, self._receipts = self._receipts, {}
            try:
                rows = await self._on_thread(lambda d=drafts, r=receipts: self._commit([draft for draft, _ in d], r))  # type: ignore[misc]
            except StoreError as error:
                for _, waiting in drafts:
                    if not waiting.done():
                        waiting.set_exception(error)
                self.failed += len(drafts)
                continue  # receipts need no second try: the core repeats them for what is sent again
            for (_, waiting), row in zip(drafts, rows, strict=True):
                if not waiting.done():
                    waiting.set_result(row)
            if rows:
                self.kept(rows)

    # What follows runs on the outbox's own thread.

    def _open(self) -> None:
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be opened: {error}") from error
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
            marks = dict(self._db.execute("SELECT name, value FROM mark").fetchall())
            self.rows = self._db.execute("SELECT count(*) FROM held").fetchone()[0]
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(f"{self._path} cannot be opened: {error}; is another process using it?") from error
        self.evicted = int(marks.get("evicted", 0))
        self._opened_ms = max(self._clock.wall_ms(), marks.get("written_ms", 0.0))
        self._opened_s = self._clock.monotonic_s()

    def _close(self) -> None:
        self._db.close()

    def _page(self, after_id: int, limit: int) -> list[Row]:
        try:
            return [Row(*row) for row in self._db.execute(PAGE, (after_id, limit))]
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _commit(self, drafts: Sequence[Draft], receipts: Mapping[tuple[str, str], int]) -> list[Row]:
        numbers = dict(self._numbers)
        try:
            with closing(self._db.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                gone = sum(self._forget(cursor, device, boot, up_to) for (device, boot), up_to in receipts.items())
                rows = [self._insert(cursor, draft, numbers) for draft in drafts]
                excess = max(0, self.rows - gone + len(rows) - self._limit_rows)
                if excess:
                    cursor.execute("DELETE FROM held WHERE id IN (SELECT id FROM held ORDER BY id LIMIT ?)", (excess,))
                marks = [("written_ms", self._clock.wall_ms()), ("evicted", float(self.evicted + excess))]
                cursor.executemany("INSERT INTO mark VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", marks)
                cursor.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            raise (StoreFull if full else StoreError)(f"{self._path}: {error}") from error
        self._numbers = numbers
        self.rows += len(rows) - gone - excess
        self.receipted += gone
        self.evicted += excess
        return rows

    def _forget(self, cursor: sqlite3.Cursor, device: str, boot: str, up_to: int) -> int:
        return cursor.execute("DELETE FROM held WHERE device = ? AND boot = ? AND seq <= ?", (device, boot, up_to)).rowcount

    def _insert(self, cursor: sqlite3.Cursor, draft: Draft, numbers: dict[str, int]) -> Row:
        seq = numbers[draft.device] = numbers.get(draft.device, 0) + 1
        message = ReadingMessage(
            boot=self.boot,
            seq=seq,
            values=dict(draft.values),
            q=dict(draft.q),
            ts=draft.ts,
            fw=draft.fw,
            test=draft.test,
        )
        rest = (draft.domain, draft.device, draft.kind, self.boot, seq, draft.put_ms, draft.put_s, encode(message))
        cursor.execute(INSERT, rest)
        assert cursor.lastrowid is not None
        return Row(cursor.lastrowid, *rest)


def held_back(row: Row, age_ms: int) -> bytes:
    """The message of a row that was not sent at once: marked as backlog, with its age."""
    message = msgspec.json.decode(row.body, type=ReadingMessage)
    return encode(msgspec.structs.replace(message, backlog=True, age_ms=age_ms))


def _nobody(rows: Sequence[Row]) -> None:
    """Nobody listens: the rows are sent as backlog once there is a link."""

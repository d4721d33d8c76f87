"""Spool: the disk between acknowledgement and the telemetry store.

    lane ──commit──► spool-<worker>.db ──newest first──► store ──done──► gone

One row holds one batch of lines (bytes, one record a line). The same transaction stores what makes a batch count once: progress,
refused messages. A batch stays until the store has taken it, so a store that is down for days, or a kill -9 at any point, loses
nothing; writing a batch twice is harmless because its lines are idempotent.

Bounded by bytes and by age: the oldest batches go first, and a gap marker says how much went and from when. On a full disk
commits are refused, but the drain goes on (`reserve`) and gives space back to the disk. One thread owns the connection; the
methods are asynchronous and run there one after another.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreFull
from iotcore.journal import quarantine
from iotcore.journal.database import connect, transaction
from iotcore.journal.progress import MAX_BOOTS, Row
from iotcore.telemetry.reserve import Reserve
from iotcore.telemetry.store import CONFIDENTIAL
from iotcore.wire.arrival import Refusal

MS_PER_S = 1000.0
AGE_CHECK_EVERY_MS = 10_000.0
GAP_JOIN_MS = 3_600_000.0  # drops of one reason within the hour extend one marker: an outage of days makes few rows
SHRINK_PAGES = 512  # pages given back to the disk after each drained write while it is full: 2 MiB, well within the reserve
WAL_LIMIT_BYTES = 16 * 1024 * 1024  # the log file shrinks back to this after a burst

INCREMENTAL = 2  # SQLite's auto_vacuum: free pages can be given back to the disk, when we say so

SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used twice: a late `done` cannot hit another batch
    at_ms      REAL NOT NULL,
    format     TEXT NOT NULL,                   -- which kind of store the lines are for
    line_count INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    lines      BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS gap (
    id         INTEGER PRIMARY KEY,
    reason     TEXT NOT NULL,                   -- full | age
    from_ms    REAL NOT NULL,                   -- when the first and the last lost batch had been stored
    to_ms      REAL NOT NULL,
    at_ms      REAL NOT NULL,                   -- when the last of them was given up
    batches    INTEGER NOT NULL,
    line_count INTEGER NOT NULL,
    size       INTEGER NOT NULL
);
"""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """A committed batch: `lines` joined by line feeds."""

    id: int
    at_ms: float
    line_count: int
    lines: bytes


class Gap(NamedTuple):
    """Lines that were given up, why, and when they had been stored."""

    reason: str
    from_ms: float
    to_ms: float
    batches: int
    line_count: int
    size: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits: batches and bytes for this store (and how many are confidential), and what another kind of store left."""

    batches: int
    size: int
    oldest_ms: float | None
    foreign: int
    confidential: int = 0


class Spool:
    """`async with Spool(...) as spool`; every method may raise StoreFull or StoreError, and then nothing of it happened."""

    def __init__(self, path: Path, clock: Clock, *, store_format: str, max_bytes: int, max_age_s: float) -> None:
        self.lane = quarantine.lane_of(path)
        self._path = path
        self._clock = clock
        self._format = store_format
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_s * MS_PER_S
        self._rows = 0
        self._size = 0
        self._next_age_check_ms = 0.0
        self._reserve = reserve_of(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection is not None:
            await self._run(self._connection.close)
        self._thread.shutdown()

    async def progress(self) -> list[Row]:
        """What has been stored of each device and boot, to begin with after a start."""

        def load(connection: sqlite3.Connection) -> list[Row]:
            return [Row(*row) for row in quarantine.load_progress(connection, MAX_BOOTS)]

        return await self._in_transaction(load)

    async def commit(
        self,
        lines: Sequence[bytes],
        progress: Sequence[Row] = (),
        refusals: Sequence[Refusal] = (),
        confidential: Sequence[bytes] = (),
        *,
        settled: Sequence[int] = (),
        returned: Sequence[Refusal] = (),
    ) -> None:
        """Make a batch durable: when this returns, it is on disk and may be acknowledged. Confidential lines are a batch apart.

        `settled` are rows of the quarantine that a person's retry has used up, `returned` what of them is refused again.

        Raises:
            StoreFull: the disk is full; the same call succeeds once there is room.
            StoreError: the file cannot be written.
        """
        private = f"{self._format}{CONFIDENTIAL}"
        batches = [(name, len(some), b"\n".join(some)) for name, some in ((self._format, lines), (private, confidential)) if some]
        size = sum(len(body) for _, _, body in batches)
        now_ms = self._clock.wall_ms()

        def store(connection: sqlite3.Connection) -> list[Gap]:
            if not self._reserve.take():
                raise StoreFull(f"{self._path}: the disk has no room left; free space and it goes on by itself")
            gone = self._make_room(connection, size, now_ms)
            for name, line_count, body in batches:
                connection.execute(
                    "INSERT INTO batch (at_ms, format, line_count, size, lines) VALUES (?, ?, ?, ?, ?)",
                    (now_ms, name, line_count, len(body), body),
                )
            quarantine.save_progress(connection, progress)
            quarantine.drop(connection, settled)
            quarantine.keep(connection, refusals, now_ms)
            quarantine.keep(connection, returned, now_ms, limited=False)
            return gone

        gone = await self._run(lambda: self._squeezed(store))
        self._resized(len(batches), size)
        for gap in gone:
            self._resized(-gap.batches, -gap.size)
            metrics.spool_evicted.labels(gap.reason).inc(gap.line_count)

    async def take_over(self, rows: Sequence[Row]) -> None:
        """Keep progress that was made elsewhere. On a full disk at the cost of the reserve: nothing can be drained before it."""
        await self._run(lambda: self._making_room(lambda connection: quarantine.save_progress(connection, rows)))

    def age_s(self, batch: Batch) -> float:
        """How long ago a batch was committed."""
        return max(0.0, (self._clock.wall_ms() - batch.at_ms) / MS_PER_S)

    async def newest(self, max_lines: int, taken: Collection[int] = (), store_format: str = "") -> list[Batch]:
        """The newest batches that are not in `taken`, together at most `max_lines` unless the first alone has more."""
        return await self._some("DESC", max_lines, taken, store_format)

    async def oldest(self, max_lines: int, taken: Collection[int] = (), store_format: str = "") -> list[Batch]:
        """The oldest batches that are not in `taken`."""
        return await self._some("ASC", max_lines, taken, store_format)

    async def done(self, ids: Sequence[int], refusals: Sequence[Refusal] = ()) -> None:
        """Forget batches that the store has taken, and quarantine the lines of them that it refused, in one transaction."""
        now_ms = self._clock.wall_ms()

        def forget(connection: sqlite3.Connection) -> list[int]:
            rows = [connection.execute("DELETE FROM batch WHERE id = ? RETURNING size", (n,)).fetchone() for n in ids]
            quarantine.keep(connection, refusals, now_ms)
            return [row[0] for row in rows if row]  # one that was given up meanwhile is no longer there

        sizes = await self._run(lambda: self._making_room(forget))
        self._resized(-len(sizes), -sum(sizes))

    async def quarantined(self, wanted: quarantine.Wanted, limit: int, after: int) -> list[quarantine.Row]:
        """Refused messages that a person means."""
        return await self._in_transaction(lambda connection: quarantine.found(connection, wanted, limit, after=after))

    async def drop_quarantined(self, wanted: quarantine.Wanted) -> int:
        """Remove refused messages that a person means; how many there were."""
        return await self._run(lambda: self._making_room(lambda connection: quarantine.drop_wanted(connection, wanted)))

    async def answer(self, intent: int, text: str) -> None:
        """Tell whoever asked about the quarantine what became of it."""
        await self._in_transaction(lambda connection: quarantine.answer(connection, intent, text))

    async def answered(self) -> int:
        """The last request that was answered."""
        return await self._in_transaction(quarantine.answered)

    async def depth(self) -> Depth:
        """How much waits."""

        def count(connection: sqlite3.Connection) -> Depth:
            ours = (self._format, f"{self._format}{CONFIDENTIAL}")
            own = connection.execute(
                "SELECT count(*), coalesce(sum(size), 0), min(at_ms) FROM batch WHERE format IN (?, ?)", ours
            ).fetchone()
            (foreign,) = connection.execute("SELECT count(*) FROM batch WHERE format NOT IN (?, ?)", ours).fetchone()
            (private,) = connection.execute("SELECT count(*) FROM batch WHERE format = ?", ours[1:]).fetchone()
            return Depth(own[0], own[1], own[2], foreign, private)

        return await self._in_transaction(count)

    async def gaps(self) -> list[Gap]:
        """All gap markers, oldest first."""

        def read(connection: sqlite3.Connection) -> list[Gap]:
            rows = connection.execute("SELECT reason, from_ms, to_ms, batches, line_count, size FROM gap ORDER BY id")
            return [Gap(*row) for row in rows]

        return await self._in_transaction(read)

    async def _some(self, order: str, max_lines: int, taken: Collection[int], store_format: str) -> list[Batch]:
        excluded = frozenset(taken)
        wanted_format = store_format or self._format

        def read(connection: sqlite3.Connection) -> list[Batch]:
            chosen: list[int] = []
            total = 0
            for number, lines in connection.execute(
                f"SELECT id, line_count FROM batch WHERE format = ? ORDER BY id {order}",  # noqa: S608 - a constant
                (wanted_format,),
            ):
                if number in excluded:
                    continue
                if chosen and total + lines > max_lines:
                    break
                chosen.append(number)
                total += lines
                if total >= max_lines:
                    break
            wanted = "SELECT id, at_ms, line_count, lines FROM batch WHERE id = ?"
            return [Batch(*connection.execute(wanted, (number,)).fetchone()) for number in chosen]

        return await self._in_transaction(read)

    def _open(self) -> None:
        """On a full disk at the cost of the reserve: a spool that is open can be drained, and that gives space back."""
        try:
            self._connection = connect(self._path, _prepare)
        except StoreFull as error:
            self._reserve.spend()
            self._connection = connect(self._path, _prepare)
            log.warning("%s; opened by its reserve, to be drained", error)
        rows, size = self._connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM batch").fetchone()
        self._resized(rows, size)
        self._reserve.take()

    def _make_room(self, connection: sqlite3.Connection, wanted: int, now_ms: float) -> list[Gap]:
        """Give up what is too old, and the oldest while `wanted` bytes do not fit."""
        gone: list[Gap] = []
        if now_ms >= self._next_age_check_ms:
            self._next_age_check_ms = now_ms + AGE_CHECK_EVERY_MS
            gone += _give_up(connection, "age", now_ms, lambda _, at_ms: at_ms < now_ms - self._max_age_ms)
        excess = self._size - sum(gap.size for gap in gone) + wanted - self._max_bytes
        if wanted and excess > 0:
            gone += _give_up(connection, "full", now_ms, lambda given_up, _: given_up < excess)
        return gone

    def _resized(self, rows: int, size: int) -> None:
        self._rows += rows
        self._size += size
        metrics.spool_rows.set(self._rows)
        metrics.spool_bytes.set(self._size)

    async def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(lambda: self._transact(work))

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert self._connection is not None, "use `async with Spool(...)`"
        with transaction(self._connection):
            return work(self._connection)

    def _squeezed(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which adds; on a full disk once more after the log has moved into free pages of the file."""
        try:
            return self._transact(work)
        except StoreFull:
            self._give_back()
            return self._transact(work)

    def _making_room(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which frees more than it needs; on a full disk at the cost of the reserve, which is then won back."""
        try:
            result = self._transact(work)
        except StoreFull:
            self._reserve.spend()
            result = self._transact(work)
        if not self._reserve.held:
            self._give_back()
            self._reserve.take()
        return result

    def _give_back(self) -> None:
        """Move what the log holds into the file and cut free pages off its end."""
        assert self._connection is not None
        try:
            self._connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")  # `execute` would free one page only
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:  # still too full: the next write drained frees more
            log.info("%s: could not give space back yet: %s", self._path, error)

    async def _run(self, work: Callable[[], T]) -> T:
        """Run on the one thread, after everything that was asked for before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def reserve_of(path: Path) -> Reserve:
    """The space put aside for a spool, for who must open another file of the same process before it."""
    return Reserve(path.with_suffix(".reserve"))


def _prepare(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA auto_vacuum").fetchone() != (INCREMENTAL,):
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("VACUUM")  # the mode takes effect with the next VACUUM; a new file is empty
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    connection.executescript(SCHEMA)
    quarantine.prepare(connection)


def _give_up(connection: sqlite3.Connection, reason: str, now_ms: float, more: Callable[[int, float], bool]) -> list[Gap]:
    """Delete the oldest batches while `more(bytes so far, the batch's time)` says so, and mark the gap."""
    size, lines, batches, last_id, from_ms, to_ms = 0, 0, 0, 0, now_ms, 0.0
    for number, at_ms, line_count, length in connection.execute("SELECT id, at_ms, line_count, size FROM batch ORDER BY id"):
        if not more(size, at_ms):
            break
        last_id, from_ms, to_ms = number, min(from_ms, at_ms), max(to_ms, at_ms)
        size, lines, batches = size + length, lines + line_count, batches + 1
    if not batches:
        return []
    connection.execute("DELETE FROM batch WHERE id <= ?", (last_id,))
    joined = connection.execute(
        "UPDATE gap SET to_ms = max(to_ms, ?), at_ms = ?, batches = batches + ?, line_count = line_count + ?, size = size + ? "
        "WHERE id = (SELECT max(id) FROM gap) AND reason = ? AND at_ms > ?",
        (to_ms, now_ms, batches, lines, size, reason, now_ms - GAP_JOIN_MS),
    )
    if not joined.rowcount:
        connection.execute(
            "INSERT INTO gap (reason, from_ms, to_ms, at_ms, batches, line_count, size) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (reason, from_ms, to_ms, now_ms, batches, lines, size),
        )
    return [Gap(reason, from_ms, to_ms, batches, lines, size)]

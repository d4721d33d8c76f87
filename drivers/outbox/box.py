"""Outbox: readings of a gateway's devices, on disk until the core says that it has stored them.

put ──► group commit (SQLite, WAL, synchronous=FULL, own thread) ──► `kept` ──► uplink ──► broker ──► core
              │ fire, disk full: reserve log ──────────────────────►                                  │
rows deleted ◄────────────────────────── cumulative receipt of (device, boot) ◄───────────────────────┘

A gateway has two: fire and the rest, each with its own file, thread and commit. One file with two queues would be one writer: a
fire reading would wait for the bulk commit before it, and for its fsync. So neither a flood nor a backlog of bulk readings delays
a fire, and neither can push the other's rows out.

A reading gets its number inside the commit, so a failed commit leaves no hole. When the file is beyond its limits the oldest
rows go, and are counted; the core gives up the hole that they leave. When the disk is full a put fails; in an outbox with a
reserve the reading is kept there under the number that the file would have given it, and sent.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from drivers.outbox.ages import Ages, LastWrite
from drivers.outbox.file import Limits, OutboxFile, Receipts
from drivers.outbox.reserve_log import AREA_BYTES, ReserveLog
from drivers.outbox.rows import Draft, Row
from iotcore.clock import Clock, Uptime
from iotcore.errors import StoreError, StoreFull
from iotcore.wire.messages import ReceiptMessage, Scalar

PENDING_LIMIT = 1_000  # puts waiting for a commit; more wait in their callers
YIELD_BYTES = 4 * 1024 * 1024  # what a bulk outbox gives up when the fire outbox finds the disk full
T = TypeVar("T")


class _Kept(NamedTuple):
    """What became of one commit. `error` is of rows that only memory has: they are sent, but their put fails."""

    rows: Sequence[Row]
    error: StoreError | None = None
    full: bool = False


class Outbox:
    """An async context manager over one SQLite file; `boot` is new at each opening, rows of older boots are kept.

    `reserve` gives it a reserve log beside the file, for readings that must go out on a full disk too.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        limits: Limits | None = None,
        uptime: Uptime | None = None,
        reserve: bool = False,
        reserve_bytes: int = AREA_BYTES,
    ) -> None:
        self.boot = secrets.token_hex(4)
        self.kept: Callable[[Sequence[Row]], None] = _nobody  # told of each commit, on the event loop
        self.pressed: Callable[[], None] = _nothing  # the disk is full and a reserve is being used up
        self.failed = 0  # puts that could not be kept, in this run
        self._clock = clock
        self._uptime = uptime or Uptime("", clock.monotonic_s)
        self._path = path
        self._file = OutboxFile(path, limits or Limits(), lambda row: self.age_ms(row) / 1000.0)
        self._log = ReserveLog(path.with_suffix(".reserve"), area_bytes=reserve_bytes) if reserve else None
        self._ages = Ages(self.boot, LastWrite(), clock, self._uptime)
        self._numbers: dict[str, int] = {}
        self._drafts: list[tuple[Draft, asyncio.Future[Row]]] = []
        self._receipts: dict[tuple[str, str], int] = {}
        self._committing = False
        self._yielding = False
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(PENDING_LIMIT)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=path.stem)
        self._flusher: asyncio.Task[None] | None = None
        self._closing = False

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

    @property
    def rows(self) -> int:
        """How many readings are kept."""
        return self._file.count.rows + self.in_reserve

    @property
    def in_reserve(self) -> int:
        """How many of them are in the reserve only."""
        return len(self._log) if self._log is not None else 0

    @property
    def evicted(self) -> int:
        """Readings given up for room or age, ever."""
        return self._file.count.evicted + (self._log.dropped if self._log is not None else 0)

    @property
    def receipted(self) -> int:
        """Readings that the core took over, in this run."""
        return self._file.receipted + (self._log.receipted if self._log is not None else 0)

    @property
    def reserve_held(self) -> bool:
        """Whether the space of the reserve is put aside; true where there is none."""
        return self._log is None or self._log.held

    @property
    def pending(self) -> bool:
        """Whether a reading waits for its commit."""
        return self._committing or bool(self._drafts)

    def oldest_s(self) -> float:
        """The age of the oldest reading in the file, s; 0 when there is none."""
        oldest = self._file.oldest
        return self.age_ms(oldest) / 1000.0 if oldest else 0.0

    def now_s(self) -> float:
        """Now on the clock of `Row.put_s`."""
        return self._uptime.seconds()

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
            StoreError: it is not kept (StoreFull: the disk is full). Without a reserve its number was not used; with one it is
                sent all the same, and only a restart can lose it.
        """
        draft = Draft(domain, device, kind, values, q or {}, ts, fw, test, self._clock.wall_ms(), self.now_s())
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

    def make_room(self) -> None:
        """The disk is full and somebody's readings matter more: give up the oldest rows here with the next commit."""
        self._yielding = True
        self._wake.set()

    async def page(self, after_id: int, limit: int) -> list[Row]:
        """Up to `limit` kept rows with an id above `after_id`, oldest first, those of the reserve before all others."""
        return await self._on_thread(lambda: self._page(after_id, limit))

    def age_ms(self, row: Row) -> int:
        """How long this row has been kept, never rounded down (see `ages` for rows of an earlier run)."""
        return self._ages.age_ms(row)

    async def _on_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _flush(self) -> None:
        while self._drafts or self._receipts or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            drafts, self._drafts = self._drafts, []
            receipts, self._receipts = self._receipts, {}
            if self._yielding:
                self._yielding = False
                await self._on_thread(self._give_way)
            if not drafts and not receipts:
                continue
            self._committing = bool(drafts)
            try:
                done = await self._on_thread(lambda d=drafts, r=receipts: self._commit([draft for draft, _ in d], r))  # type: ignore[misc]
            except StoreError as error:  # receipts need no second try: the core repeats them for what is sent again
                self._answer(drafts, [], error)
                continue
            finally:
                self._committing = False
            self._answer(drafts, done.rows, done.error)
            if done.rows:
                self.kept(done.rows)
            if done.full:
                self.pressed()

    def _answer(self, drafts: Sequence[tuple[Draft, asyncio.Future[Row]]], rows: Sequence[Row], error: StoreError | None) -> None:
        self.failed += len(drafts) if error else 0
        for number, (_, waiting) in enumerate(drafts):
            if waiting.done():
                continue
            if error:
                waiting.set_exception(error)
            else:
                waiting.set_result(rows[number])

    # What follows runs on the outbox's own thread.

    def _open(self) -> None:
        last = self._file.open()
        self._ages = Ages(self.boot, last, self._clock, self._uptime)
        if self._log is not None:
            self._log.open()

    def _close(self) -> None:
        self._file.close()
        if self._log is not None:
            self._log.close()

    def _now(self) -> LastWrite:
        return LastWrite(self._clock.wall_ms(), self.now_s(), self._uptime.machine)

    def _page(self, after_id: int, limit: int) -> list[Row]:
        found = self._log.page(after_id, limit) if self._log is not None and after_id < 0 else []
        if len(found) < limit:
            rows = self._file.page(max(after_id, 0), limit - len(found))
            found += [row for row in rows if self._log is None or not self._log.has(row.key)]
        return found

    def _give_way(self) -> None:
        try:
            self._file.make_room(YIELD_BYTES, self._now())
        except StoreError:
            return  # the disk refuses even that; the next full disk asks again

    def _commit(self, drafts: Sequence[Draft], receipts: Receipts) -> _Kept:
        numbers = dict(self._numbers)
        rows = []
        for draft in drafts:
            numbers[draft.device] = numbers.get(draft.device, 0) + 1
            rows.append(draft.numbered(self.boot, numbers[draft.device], self._uptime.machine))
        if self._log is None:
            stored = self._file.commit(rows, receipts, self._now())
            self._numbers = numbers
            return _Kept(stored)
        self._numbers = numbers  # from here on they are used, whatever becomes of the disk
        return self._commit_with_reserve(self._log, rows, receipts)

    def _commit_with_reserve(self, log: ReserveLog, rows: Sequence[Row], receipts: Receipts) -> _Kept:
        for (device, boot), up_to in receipts.items():
            log.forget(device, boot, up_to)
        known = log.rows
        try:
            stored = self._file.commit(rows, receipts, self._now(), known=known)
        except StoreError as error:
            kept = log.keep(rows)
            full = isinstance(error, StoreFull)
            return _Kept(kept, None if all(map(log.on_disk, kept)) else error, full)
        if known:
            log.clear()
        return _Kept(stored)


def _nobody(rows: Sequence[Row]) -> None:
    """Nobody listens: the rows are sent as backlog once there is a link."""


def _nothing() -> None:
    """Nobody can make room."""

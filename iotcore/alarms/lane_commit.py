"""From a turn to the disk: commits in their order, off the event loop, and what happens while the journal does not take them.

    put ─► commit ─┬─ durable within 250 ms ──────────────────────► told: acknowledge, dispatch, receipts
                   └─ refused or late: stalled ─► `rescued`: its live fires go out by the emergency log, at once
                        └─ the same commit again each 250 ms ─► durable ─► told

Turns go on meanwhile: what they gathered waits here in its order, at most `HELD_ARRIVALS` messages; beyond it the lane is
`crowded` and takes nothing but live fires. In a storm the commits that open incidents go `ahead` of others that wait. No commit
is ever given up, so that a reading that is counted as handled becomes durable, or the process ends and the broker brings it
again. A late commit that has succeeded after all, and the emergency's notices, are one: by the incident's id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.emergency import Emergency
from iotcore.journal.emergency_log import EmergencyLog
from iotcore.journal.records import Batch, Committed, Raise, incident_id
from iotcore.off_loop import OffLoop, in_a_thread

log = logging.getLogger(__name__)

COMMIT_LIMIT_S = 0.25  # then its fires go out without the journal (architecture, The alarm contract, 4)
RETRY_COMMIT_S = 0.25
LOG_LIMIT_S = 0.1  # what the emergency log may take of a fire's time; then it is sent before it is on disk
HELD_ARRIVALS = 500  # half of what the broker lets a consumer hold unacknowledged: beyond that it would bring nothing more
HELD_RAISES = 20_000  # decisions that wait: twice a storm of ten thousand points
HUNG_S = 60.0  # a commit that has not come back by then is the watchdog's: the process is started anew unless it is the disk
LOOK_S = 0.25
SAY_EVERY_S = 10.0  # a disk that is slow now and then fills no log


@dataclass(slots=True, eq=False)
class Pending:
    """A batch on its way. `first` is how it began: True durable, False refused; `done` is its end."""

    batch: Batch
    told: Callable[[Committed], None]
    arrivals: int = 0
    ahead: bool = False
    first: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    done: asyncio.Future[Committed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class Safety:
    """What a lane has besides its journal. `off_loop` carries commits, `beside` what must not wait behind them.

    `rescued` is called when fires have gone to the emergency, `stalled` when the journal falls silent, `seconded` when another
    replica had opened what this one decided too: its notices are that one's, while it lives.
    """

    emergency: Emergency
    rescued: Callable[[], None] = lambda: None
    stalled: Callable[[], None] = lambda: None
    seconded: Callable[[], None] = lambda: None
    off_loop: OffLoop = in_a_thread
    beside: OffLoop = in_a_thread


def unlogged(clock: Clock) -> Safety:
    """Without an emergency log, and without a way out but the journal's."""
    return Safety(Emergency(EmergencyLog(Path()), (), clock, incident_id))


class Commits:
    """Of one lane; `working` tells the watchdog that we live."""

    def __init__(self, commit: Callable[[Batch], Committed], safety: Safety, clock: Clock, working: Callable[[], None]) -> None:
        self._commit = commit
        self._emergency = safety.emergency
        self._clock = clock
        self._off_loop = safety.off_loop
        self._beside = safety.beside
        self._rescued = safety.rescued
        self._stalled = safety.stalled
        self._working = working
        self._queue: deque[Pending] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._began_s = 0.0  # of the attempt that runs; 0: none does
        self._said_s = -SAY_EVERY_S
        self.stalled_since_ms: float | None = None
        self.trouble = ""

    @property
    def crowded(self) -> bool:
        """Whether as much waits as may: nothing but live fires is taken now."""
        return self.stalled_since_ms is not None and sum(one.arrivals for one in self._queue) >= HELD_ARRIVALS

    @property
    def waiting(self) -> int:
        """Batches that are not durable yet."""
        return len(self._queue)

    @property
    def behind(self) -> bool:
        """Whether a batch would wait for others, although the journal answers."""
        return self.stalled_since_ms is None and bool(self._queue)

    def put(self, batch: Batch, told: Callable[[Committed], None], arrivals: int = 0, *, ahead: bool = False) -> Pending:
        """Begin to make a batch durable, after those before it.

        `ahead`: only after the commit that runs, and others that are ahead. Such a batch says of no device how far it counts as
        handled, for what waits here may be of that device.
        """
        pending = Pending(batch, told, arrivals, ahead)
        waiting = len(self._queue)
        first = next((n for n, one in enumerate(self._queue) if n and not one.ahead), waiting)
        self._queue.insert(first if ahead else waiting, pending)
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="commits")
        return pending

    async def durable(self, pending: Pending, fires: Sequence[Raise]) -> bool:
        """Wait for the commit, each one before it as long as a fire may wait; then its `fires` go out without it.

        Whether it is durable.
        """
        while self.stalled_since_ms is None and not pending.first.done():
            await self._next(pending)
        if pending.first.done() and pending.first.result():
            return True
        await self.rescue(fires)
        return False

    async def room(self) -> None:
        """Wait until less waits than may, or the journal stalls."""
        while self.stalled_since_ms is None and (
            sum(one.arrivals for one in self._queue) >= HELD_ARRIVALS
            or sum(len(one.batch.raises) for one in self._queue) >= HELD_RAISES
        ):
            await self._next(self._queue[0])

    async def _next(self, pending: Pending) -> None:
        """Wait for the commit that runs, of those before `pending` or itself; one that takes too long stalls."""
        running = self._queue[0] if self._queue else pending
        await asyncio.wait({running.first}, timeout=COMMIT_LIMIT_S)
        if not running.first.done():
            self._stall(f"a commit has not returned within {COMMIT_LIMIT_S:g} s")

    async def rescue(self, fires: Sequence[Raise]) -> None:
        """Send these live fires by the emergency: on its disk first, if that is quick."""
        opened = self._emergency.take(fires)
        if not opened:
            return
        keeping = asyncio.ensure_future(self._beside(lambda: self._emergency.keep(opened)))
        if not (await asyncio.wait({keeping}, timeout=LOG_LIMIT_S))[0]:
            log.critical("the emergency log is slow: %d fires are sent before it has them", len(opened))
        metrics.emergency_fires.inc(len(opened))
        log.critical("%s sent without the journal (%s)", ", ".join(one.incident for one in opened), self.trouble)
        self._rescued()

    async def run(self) -> None:
        """Bring to the journal what went out without it, and keep the watchdog from a commit that waits; until cancelled."""
        try:
            while True:
                if self._began_s and self._clock.monotonic_s() - self._began_s < HUNG_S:
                    self._working()
                if not self._queue and self._emergency.fires:
                    self.put(Batch(), lambda _: None)
                await asyncio.sleep(LOOK_S)
        finally:
            if self._draining is not None:
                self._draining.cancel()
                await asyncio.wait({self._draining})

    async def _drain(self) -> None:
        while self._queue:
            pending = self._queue[0]
            carried = self._emergency.carried() if self._emergency.fires else ()
            causes = dict.fromkeys(one.cause for one in carried if one.cause is not None)
            batch = replace(pending.batch, raises=(*causes, *pending.batch.raises), carried=carried) if carried else pending.batch
            committed = await self._attempt(batch)
            if committed is None:
                if not pending.first.done():
                    pending.first.set_result(False)
                await asyncio.sleep(RETRY_COMMIT_S)
                continue
            self._queue.popleft()
            if not carried and not self._queue and self._emergency.fires:
                self._queue.append(Pending(Batch(), lambda _: None))  # it was late, not refused: what went out meanwhile follows
            if carried:
                await self._beside(lambda carried=carried: self._emergency.freed(carried))  # type: ignore[misc]
            self._resume()
            self._tell(pending, committed)

    async def _attempt(self, batch: Batch) -> Committed | None:
        self._working()
        self._began_s = self._clock.monotonic_s()
        try:
            return await self._off_loop(lambda: self._commit(batch))
        except StoreError as error:
            metrics.commit_failures.labels("fire").inc()
            self._stall(str(error))
        except Exception as error:
            metrics.commit_failures.labels("fire").inc()
            log.exception("a commit of the fire lane failed in our own code; its fires go out without it")
            self._stall(f"our own code failed: {error!r}")
        finally:
            self._began_s = 0.0
        return None

    def _tell(self, pending: Pending, committed: Committed) -> None:
        if not pending.first.done():
            pending.first.set_result(True)
        try:
            pending.told(committed)
        except Exception:
            log.exception("what a commit has made could not be told")
        pending.done.set_result(committed)

    def _stall(self, trouble: str) -> None:
        """The journal does not answer: turns no longer wait for it."""
        self.trouble = trouble
        self._emergency.stalled = True
        if self.stalled_since_ms is None:
            self.stalled_since_ms = self._clock.wall_ms()
            if self._clock.monotonic_s() - self._said_s >= SAY_EVERY_S:
                self._said_s = self._clock.monotonic_s()
                log.critical("JOURNAL STALLED: fires go out by the emergency log until it answers: %s", trouble)
            self._stalled()

    def _resume(self) -> None:
        if self.stalled_since_ms is None:
            return
        if self._queue:
            return  # the journal answers; turns go on waiting for it when it has all of this
        log.warning("the journal answers again after %.1f s", (self._clock.wall_ms() - self.stalled_since_ms) / 1000.0)
        self.stalled_since_ms, self.trouble = None, ""
        self._emergency.stalled = False

"""From the outbox to the receivers, at least once, until the receiver itself acknowledges.

    send_now(rows) ──────────┐             ┌─► channel.send ──► acknowledged
    wake() or 200 ms ──► lease ──► free ───┼─► channel.send        DeliveryError, crash: reason recorded, tried again for ever,
                           ▲       slot    └─► …                   after 0.5 s doubling to 10 s, with jitter
                           └───────────────────────────────────────┘
    200 ms ──► hedge: what a fire's receiver has not acknowledged in 3 s is posted to its alternate, too

Each channel has a few slots: so many notices are under way at once, of different incidents, because the outbox keeps the order
within one. A channel's failure, even a programming error, holds back neither the other channels nor other incidents.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.dispatch.attempt import RANDOM, RENEW_S, Channel, Courier, OffLoop, OutboxPort, crashed, stop
from iotcore.journal.records import LEASE_MS, OutboxRow

__all__ = ["Channel", "Dispatcher", "OutboxPort", "Way"]

log = logging.getLogger(__name__)

POLL_S = 0.2  # safety net; send_now() and wake() are the hot path
RESTART_S = 0.5
MAX_GIVEN = 10_000  # notices handed over that wait for a slot; the others are found in the outbox when their lease ends
HEDGE_S = 3.0  # the alarm contract: a fire goes to the alternate path as well after this


@dataclass(frozen=True, slots=True)
class Way:
    """How a channel is used: how many sends at once, and which channel is told too after `hedge_s` without acknowledgement."""

    parallel: int = 1
    alternate: str = ""
    hedge_s: float = HEDGE_S


@dataclass(slots=True)
class _Lane:
    """What happens on one channel."""

    name: str
    channel: Channel
    way: Way
    free: list[int]  # slots, each with its own name as a holder of leases
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    given: deque[tuple[OutboxRow, float]] = field(default_factory=deque)  # row, monotonic seconds
    sending: set[asyncio.Task[None]] = field(default_factory=set)


class Dispatcher:
    """Carries notices from the outbox to the channels until it is cancelled; only that ends it.

    `down` says whether the path of a channel is known to be dead: then its alternate is told at once. `heard` is told the channel
    of each acknowledgement. `jitter` and `off_loop` are what a simulation drives.
    """

    def __init__(
        self,
        outbox: OutboxPort,
        channels: Mapping[str, Channel],
        clock: Clock,
        owner: str,
        *,
        ways: Mapping[str, Way] | None = None,
        down: Callable[[str], bool] = lambda _: False,
        heard: Callable[[str], None] = lambda _: None,
        jitter: Callable[[], float] = RANDOM.random,
        off_loop: OffLoop = asyncio.to_thread,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._owner = owner
        self._down = down
        self._courier = Courier(outbox, clock, jitter=jitter, off_loop=off_loop, heard=heard)
        ways = ways or {}
        self._lanes = {
            name: _Lane(name, channel, way, list(range(way.parallel)))
            for name, channel in channels.items()
            for way in (ways.get(name, Way()),)
        }

    def wake(self) -> None:
        """There is something to send: at once."""
        for lane in self._lanes.values():
            lane.woken.set()

    def send_now(self, leased: Iterable[OutboxRow]) -> None:
        """New notices that are on disk and leased to us already: sent as soon as their channel has a slot.

        Only the first word of an incident is taken so; what follows one comes out of the outbox, which knows what must go before.
        """
        now_s = self._clock.monotonic_s()
        for row in leased:
            lane = self._lanes.get(row.channel)
            if lane is None or row.notice.event != "alarm":
                continue
            if len(lane.given) < MAX_GIVEN:
                lane.given.append((row, now_s))
            else:
                metrics.dispatch_given_dropped.inc()
        self.wake()

    async def run(self) -> None:
        """Serve every channel. A task that ends is a programming error: logged, counted, started again."""
        tasks = {self._start(name, 0.0): name for name in [*self._lanes, _HEDGE]}
        try:
            while tasks:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    name = tasks.pop(task)
                    crashed(f"channel {name}: its task ended; starting it again", task)
                    tasks[self._start(name, RESTART_S)] = name
        finally:
            await stop(*tasks, *(task for lane in self._lanes.values() for task in lane.sending))
            for lane in self._lanes.values():
                await lane.channel.close()

    def _start(self, name: str, after_s: float) -> asyncio.Task[None]:
        lane = self._lanes.get(name)
        return asyncio.create_task(self._serve(lane, after_s) if lane else self._hedge(after_s), name=f"channel {name}")

    async def _serve(self, lane: _Lane, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while True:
            while not lane.free:
                lane.freed.clear()
                await lane.freed.wait()
            slot = lane.free.pop()
            try:
                row, owner = await self._next(lane, f"{self._owner}/{slot}")
            except BaseException:
                lane.free.append(slot)
                raise
            task = asyncio.create_task(self._courier.deliver(lane.channel, row, owner), name=f"deliver {lane.name} {row.number}")
            lane.sending.add(task)
            task.add_done_callback(lambda done, slot=slot: self._delivered(lane, slot, done))  # type: ignore[misc] # mypy#15459

    def _delivered(self, lane: _Lane, slot: int, task: asyncio.Task[Any]) -> None:
        lane.sending.discard(task)
        lane.free.append(slot)
        lane.freed.set()
        if not task.cancelled() and task.exception() is not None:
            crashed(f"channel {lane.name}: an attempt could not be recorded", task)

    async def _next(self, lane: _Lane, slot: str) -> tuple[OutboxRow, str]:
        """The next notice to send, and who holds its lease; waits until there is one."""
        while True:
            lane.woken.clear()
            while lane.given:
                row, given_s = lane.given.popleft()
                fresh = self._clock.monotonic_s() - given_s < RENEW_S
                held = (
                    not row.leased_ms or abs(self._courier.now_ms() - row.leased_ms) < RENEW_S * 1000.0
                )  # a commit may come back late
                if (fresh and held) or await self._courier.ours(row, self._owner):
                    return row, self._owner
            leased = await self._courier.durably(
                lambda: self._outbox.lease(lane.name, slot, self._courier.now_ms(), LEASE_MS),
            )
            if leased is not None:
                return leased, slot
            if lane.given:
                continue
            poll = asyncio.get_running_loop().call_later(POLL_S, lane.woken.set)
            try:
                await lane.woken.wait()
            finally:
                poll.cancel()

    async def _hedge(self, after_s: float) -> None:
        """Tell alternates what their primaries have not acknowledged in time; by the age on disk, so that a restart counts."""
        await asyncio.sleep(after_s)
        hedged = [lane for lane in self._lanes.values() if lane.way.alternate in self._lanes]
        if not hedged:
            await asyncio.Event().wait()
        while True:
            for lane in hedged:
                after_ms = 0.0 if self._down(lane.name) else lane.way.hedge_s * 1000.0
                count = await self._courier.durably(
                    lambda lane=lane, after_ms=after_ms: self._outbox.hedge(  # type: ignore[misc] # mypy#15459
                        lane.name, lane.way.alternate, self._courier.now_ms(), after_ms
                    )
                )
                if count:
                    metrics.dispatch_hedged.labels(lane.name).inc(count)
                    log.warning("%s has not acknowledged %d notices: %s is told too", lane.name, count, lane.way.alternate)
                    self._lanes[lane.way.alternate].woken.set()
            await asyncio.sleep(POLL_S)


_HEDGE = "(hedging)"  # no receiver is named so: a name of a receiver has no brackets

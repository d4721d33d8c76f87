"""From the outbox to the receivers: one task for each channel, sending at least once until the receiver itself acknowledges.

    send_now(rows) ──────────┐
    wake() or 200 ms ──► lease ──► channel.send ──► acknowledged
                           ▲           │ DeliveryError, crash: reason recorded, tried again for ever
                           └───────────┘ 0.5 s doubling to 10 s, with jitter

A channel's failure, even a programming error, holds back neither the other channels nor other incidents.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import DeliveryError, StoreError
from iotcore.journal.records import LEASE_MS, OutboxRow

log = logging.getLogger(__name__)

T = TypeVar("T")

RENEW_S = 0.4
POLL_S = 0.2  # safety net; send_now() and wake() are the hot path
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 10.0
REJECTED_RETRY_S = 60.0  # a receiver that understood and said no is asked again this often, until somebody mends the cause
RESTART_S = 0.5

_RANDOM = secrets.SystemRandom()


class OutboxPort(Protocol):
    """The durable outbox. Calls are short and synchronous; they run off the event loop. All may raise StoreError."""

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None:
        """The oldest notice of a channel that is due and free; ours until `now_ms + lease_ms`."""

    def renew(self, row_id: int, owner: str, now_ms: float, lease_ms: float) -> bool:
        """Keep a leased notice; False when it is no longer ours."""

    def sent(self, row_id: int, at_ms: float) -> None:
        """A frame of this notice has left; the first time counts."""

    def acknowledged(self, row_id: int, at_ms: float, reply: str) -> None:
        """The receiver's own valid acknowledgement is here: the delivery is over."""

    def retry(self, row_id: int, at_ms: float, reason: str, next_at_ms: float) -> None:
        """An attempt failed at `at_ms`; the next one is due at `next_at_ms`."""


class Channel(Protocol):
    """One receiver."""

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Deliver a notice; returns what the receiver acknowledged it with. `sent` is told ms UTC when a frame has left.

        Raises:
            DeliveryError: the receiver did not take it, and why.
        """

    async def close(self) -> None:
        """Let go of connections."""


class Dispatcher:
    """Carries notices from the outbox to the channels until it is cancelled; only that ends it."""

    def __init__(
        self,
        outbox: OutboxPort,
        channels: Mapping[str, Channel],
        clock: Clock,
        owner: str,
        *,
        jitter: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._outbox = outbox
        self._channels = channels
        self._clock = clock
        self._owner = owner
        self._jitter = jitter
        self._woken = {name: asyncio.Event() for name in channels}
        self._idle: set[str] = set()  # channels that wait for something to send
        self._given: dict[str, OutboxRow] = {}
        self._started = clock.wall_ms(), clock.monotonic_s()

    def wake(self) -> None:
        """There is something to send: at once."""
        for woken in self._woken.values():
            woken.set()

    def send_now(self, leased: Iterable[OutboxRow]) -> None:
        """New notices that are on disk and leased to us already: an idle channel sends at once, a busy one leases in its turn."""
        for row in leased:
            if row.channel in self._idle:
                self._idle.remove(row.channel)
                self._given[row.channel] = row
        self.wake()

    async def run(self) -> None:
        """Serve every channel. A channel's task that ends is a programming error: logged, counted, started again."""
        tasks = {self._start(name, 0.0): name for name in self._channels}
        try:
            while tasks:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    name = tasks.pop(task)
                    self._crashed(f"channel {name}: its task ended; starting it again", task)
                    tasks[self._start(name, RESTART_S)] = name
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for channel in self._channels.values():
                await channel.close()

    def _start(self, name: str, after_s: float) -> asyncio.Task[None]:
        return asyncio.create_task(self._serve(name, after_s), name=f"channel {name}")

    async def _serve(self, name: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while True:
            self._woken[name].clear()
            row = self._given.pop(name, None)
            if row is None:
                row = await self._durably(lambda: self._outbox.lease(name, self._owner, self._now_ms(), LEASE_MS))
            if row is not None:
                await self._deliver(self._channels[name], row)
                continue
            self._idle.add(name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._woken[name].wait()
            self._idle.discard(name)

    async def _deliver(self, channel: Channel, row: OutboxRow) -> None:
        """One attempt, recorded whatever becomes of it."""
        notes: list[asyncio.Task[None]] = []

        def sent(at_ms: float) -> None:  # on disk beside the wait for the reply, not before it
            notes.append(asyncio.create_task(self._durably(lambda: self._outbox.sent(row.id, at_ms))))

        sending = asyncio.create_task(channel.send(row, sent), name=f"send {row.channel} {row.number}")
        try:
            await self._hold(row, sending)
            at_ms = self._clock.wall_ms()
            await asyncio.gather(*notes, return_exceptions=True)
        finally:
            await _stop(sending, *notes)
        for note in filter(_error, notes):
            self._crashed(f"channel {row.channel}: the moment of sending {row.incident} could not be kept", note)
        error = _error(sending)
        if error is None:
            await self._durably(lambda: self._outbox.acknowledged(row.id, at_ms, sending.result()))
            metrics.dispatch_attempts.labels("acknowledged").inc()
        elif isinstance(error, DeliveryError):
            await self._failed(row, at_ms, error)
        else:
            self._crashed(f"channel {row.channel}: sending {row.incident} failed in our own code", sending)
            await self._retry(row, at_ms, f"crashed: {error!r}", self._backoff_s(row.attempts))

    async def _hold(self, row: OutboxRow, sending: asyncio.Task[str]) -> None:
        """Wait for a send to end, and keep its notice leased meanwhile."""
        while not (await asyncio.wait({sending}, timeout=RENEW_S))[0]:
            try:
                ours = await asyncio.to_thread(self._outbox.renew, row.id, self._owner, self._now_ms(), LEASE_MS)
            except StoreError as error:
                log.warning("%s: the lease of %s cannot be renewed: %s", row.channel, row.incident, error)
                continue
            if not ours:
                log.warning("%s: %s was taken over by another process; its receiver may see a repeat", row.channel, row.incident)

    async def _failed(self, row: OutboxRow, at_ms: float, error: DeliveryError) -> None:
        if error.recoverable:
            metrics.dispatch_attempts.labels("failed").inc()
            log.warning("%s: %s not delivered (attempt %d): %s", row.channel, row.incident, row.attempts + 1, error)
            await self._retry(row, at_ms, str(error), self._backoff_s(row.attempts))
        else:
            metrics.dispatch_attempts.labels("rejected").inc()
            log.error("%s REJECTED %s: %s; somebody must see to it", row.channel, row.incident, error)
            await self._retry(row, at_ms, str(error), REJECTED_RETRY_S)

    async def _retry(self, row: OutboxRow, at_ms: float, reason: str, wait_s: float) -> None:
        next_at_ms = self._now_ms() + wait_s * 1000.0
        await self._durably(lambda: self._outbox.retry(row.id, at_ms, reason, next_at_ms))

    def _backoff_s(self, attempts: int) -> float:
        """0.5 s doubling to 10 s, less up to half of it, so that many channels do not knock together."""
        return float(min(FIRST_RETRY_S * 2 ** min(attempts, 10), MAX_RETRY_S) * (1.0 - 0.5 * self._jitter()))

    async def _durably(self, call: Callable[[], T]) -> T:
        """Make an outbox call off the event loop; while the disk refuses, again."""
        while True:
            try:
                return await asyncio.to_thread(call)
            except StoreError:
                metrics.commit_failures.labels("dispatch").inc()
                log.exception("the outbox cannot be used; trying again")
                await asyncio.sleep(FIRST_RETRY_S)

    def _now_ms(self) -> float:
        """Wall time at our start plus what a monotonic clock has counted since: a stepped clock moves no deadline."""
        wall_ms, monotonic_s = self._started
        return wall_ms + (self._clock.monotonic_s() - monotonic_s) * 1000.0

    @staticmethod
    def _crashed(what: str, task: asyncio.Task[Any]) -> None:
        metrics.dispatch_attempts.labels("crashed").inc()
        log.error("%s", what, exc_info=_error(task))


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)

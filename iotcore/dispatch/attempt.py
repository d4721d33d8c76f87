"""One attempt to deliver one notice, recorded whatever becomes of it, its lease held meanwhile."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import DeliveryError, StoreError
from iotcore.journal.records import LEASE_MS, OutboxRow

log = logging.getLogger(__name__)

T = TypeVar("T")

RENEW_S = 0.4
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 10.0
REJECTED_RETRY_S = 60.0  # a receiver that understood and said no is asked again this often, until somebody mends the cause

RANDOM = secrets.SystemRandom()


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

    def hedge(self, channel: str, alternate: str, now_ms: float, after_ms: float) -> int:
        """Post what `channel` has not had acknowledged for `after_ms` to `alternate` too, each once; how many that were."""


class Channel(Protocol):
    """One receiver. Several sends may be under way at once."""

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Deliver a notice; returns what the receiver acknowledged it with. `sent` is told ms UTC when a frame has left.

        Raises:
            DeliveryError: the receiver did not take it, and why.
        """

    async def close(self) -> None:
        """Let go of connections."""


class OffLoop(Protocol):
    """Runs a short blocking call where it does not hold up the event loop."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


class Courier:
    """Makes attempts. `heard` is told the channel of each acknowledgement: its path works."""

    def __init__(
        self,
        outbox: OutboxPort,
        clock: Clock,
        *,
        jitter: Callable[[], float],
        off_loop: OffLoop,
        heard: Callable[[str], None],
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._jitter = jitter
        self._off_loop = off_loop
        self._heard = heard
        self._started = clock.wall_ms(), clock.monotonic_s()

    async def deliver(self, channel: Channel, row: OutboxRow, owner: str) -> None:
        """One attempt, recorded whatever becomes of it."""
        notes: list[asyncio.Task[None]] = []

        def sent(at_ms: float) -> None:  # on disk beside the wait for the reply, not before it
            notes.append(asyncio.create_task(self.durably(lambda: self._outbox.sent(row.id, at_ms))))

        sending = asyncio.create_task(channel.send(row, sent), name=f"send {row.channel} {row.number}")
        try:
            await self._hold(row, owner, sending)
            at_ms = self._clock.wall_ms()
            await asyncio.gather(*notes, return_exceptions=True)
        finally:
            await stop(sending, *notes)
        for note in filter(error_of, notes):
            crashed(f"channel {row.channel}: the moment of sending {row.incident} could not be kept", note)
        error = error_of(sending)
        if error is None:
            self._heard(row.channel)
            await self.durably(lambda: self._outbox.acknowledged(row.id, at_ms, sending.result()))
            metrics.dispatch_attempts.labels("acknowledged").inc()
        elif isinstance(error, DeliveryError):
            await self._failed(row, at_ms, error)
        else:
            crashed(f"channel {row.channel}: sending {row.incident} failed in our own code", sending)
            await self._retry(row, at_ms, f"crashed: {error!r}", self.backoff_s(row.attempts))

    async def ours(self, row: OutboxRow, owner: str) -> bool:
        """Whether a notice that was leased a while ago is still ours, and now is for another while."""
        return await self.durably(lambda: self._outbox.renew(row.id, owner, self.now_ms(), LEASE_MS))

    async def _hold(self, row: OutboxRow, owner: str, sending: asyncio.Task[str]) -> None:
        """Wait for a send to end, and keep its notice leased meanwhile."""
        while not (await asyncio.wait({sending}, timeout=RENEW_S))[0]:
            try:
                ours = await self._off_loop(lambda: self._outbox.renew(row.id, owner, self.now_ms(), LEASE_MS))
            except StoreError as error:
                log.warning("%s: the lease of %s cannot be renewed: %s", row.channel, row.incident, error)
                continue
            if not ours:
                log.warning("%s: %s was taken over by another process; its receiver may see a repeat", row.channel, row.incident)

    async def _failed(self, row: OutboxRow, at_ms: float, error: DeliveryError) -> None:
        if error.recoverable:
            metrics.dispatch_attempts.labels("failed").inc()
            log.warning("%s: %s not delivered (attempt %d): %s", row.channel, row.incident, row.attempts + 1, error)
            await self._retry(row, at_ms, str(error), self.backoff_s(row.attempts))
        else:
            metrics.dispatch_attempts.labels("rejected").inc()
            log.error("%s REJECTED %s: %s; somebody must see to it", row.channel, row.incident, error)
            await self._retry(row, at_ms, str(error), REJECTED_RETRY_S)

    async def _retry(self, row: OutboxRow, at_ms: float, reason: str, wait_s: float) -> None:
        next_at_ms = self.now_ms() + wait_s * 1000.0
        await self.durably(lambda: self._outbox.retry(row.id, at_ms, reason, next_at_ms))

    def backoff_s(self, attempts: int) -> float:
        """0.5 s doubling to 10 s, less up to half of it, so that many channels do not knock together."""
        return float(min(FIRST_RETRY_S * 2 ** min(attempts, 10), MAX_RETRY_S) * (1.0 - 0.5 * self._jitter()))

    async def durably(self, call: Callable[[], T]) -> T:
        """Make an outbox call off the event loop; while the disk refuses, again."""
        while True:
            try:
                return await self._off_loop(call)
            except StoreError:
                metrics.commit_failures.labels("dispatch").inc()
                log.exception("the outbox cannot be used; trying again")
                await asyncio.sleep(FIRST_RETRY_S)

    def now_ms(self) -> float:
        """Wall time at our start plus what a monotonic clock has counted since: a stepped clock moves no deadline."""
        wall_ms, monotonic_s = self._started
        return wall_ms + (self._clock.monotonic_s() - monotonic_s) * 1000.0


def crashed(what: str, task: asyncio.Task[Any]) -> None:
    """Say that a task of ours failed for a reason that nobody foresaw."""
    metrics.dispatch_attempts.labels("crashed").inc()
    log.error("%s", what, exc_info=error_of(task))


def error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Why a task that has ended failed."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait for its end."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)

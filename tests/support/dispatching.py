"""A dispatcher that runs, and channels that do what a test tells them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from iotcore.clock import SystemClock
from iotcore.dispatch.outbox import Channel, Dispatcher, Way
from iotcore.errors import DeliveryError
from iotcore.journal.records import OutboxRow
from tests.support.outbox import MemoryOutbox

Deed = Callable[[OutboxRow], object]  # what a scripted channel does; its result is awaited if it can be


class ScriptedChannel:
    """Does one deed for each send, in order, and acknowledges when they are used up."""

    def __init__(self, *deeds: Deed) -> None:
        self.deeds = list(deeds)
        self.rows: list[OutboxRow] = []
        self.begun_s: list[float] = []
        self.closed = False

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        self.begun_s.append(time.perf_counter())
        self.rows.append(row)
        sent(1000.0 + len(self.rows))
        if self.deeds:
            deed = self.deeds.pop(0)(row)
            if asyncio.iscoroutine(deed):
                await deed
        return f"ACK {row.number:04d}"

    async def close(self) -> None:
        self.closed = True


def fails(reason: str, *, recoverable: bool = True) -> Deed:
    def deed(_: OutboxRow) -> None:
        raise DeliveryError(reason, recoverable=recoverable)

    return deed


def crashes(_: OutboxRow) -> None:
    raise TypeError("a programming error")


def waits(seconds: float) -> Deed:
    return lambda _: asyncio.sleep(seconds)


@asynccontextmanager
async def running(
    outbox: MemoryOutbox, jitter: float = 1.0, ways: dict[str, Way] | None = None, **channels: Channel
) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(outbox, channels, SystemClock(), "fire-1", ways=ways, jitter=lambda: jitter)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def done(outbox: MemoryOutbox, incidents: Sequence[str]) -> Callable[[], bool]:
    return lambda: all(told.acknowledged_ms is not None for name in incidents for told in outbox.deliveries(name))

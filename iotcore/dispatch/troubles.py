"""Tells receivers that asked for it of troubles and supervisory signals: when one begins, and when it is over.

Beside the fires, never before them: one at a time for each receiver, and a receiver that wants one frame at a time is left alone
while an alarm is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.dispatch.attempt import OffLoop
from iotcore.errors import DeliveryError, StoreError
from iotcore.journal.records import Notice, OutboxRow
from iotcore.journal.told import Work

log = logging.getLogger(__name__)

LOOK_S = 2.0
AGAIN_S = 10.0  # after an attempt that failed


class Aside(Protocol):
    """A channel that can carry something less than a fire."""

    async def aside(self, row: OutboxRow) -> bool:
        """Deliver a notice that waits for everything else; False when it was left alone.

        Raises:
            DeliveryError: the receiver did not take it, and why.
        """


class ToldStore(Protocol):
    """What receivers know (`iotcore.journal.telling.SqlTold`). All may raise StoreError."""

    def next(self, channel: str, kinds: Collection[str], now_ms: float) -> Work | None: ...

    def done(self, work: Work) -> None: ...

    def later(self, work: Work, until_ms: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Listener:
    """A receiver, and what it wants to be told of."""

    channel: Aside
    kinds: frozenset[str]


class Troubles:
    """Tells until cancelled. `notice` makes what is sent of what stands; None: nobody knows that device any more."""

    def __init__(
        self,
        store: ToldStore,
        listeners: Mapping[str, Listener],
        notice: Callable[[Work], Notice | None],
        clock: Clock,
        *,
        look_s: float = LOOK_S,
        off_loop: OffLoop = asyncio.to_thread,
    ) -> None:
        self._store = store
        self.listeners = listeners
        self._notice = notice
        self._clock = clock
        self._look_s = look_s
        self._off_loop = off_loop

    async def run(self) -> None:
        """Tell every listener; what fails is tried again, and one that fails holds back no other."""
        async with asyncio.TaskGroup() as group:
            for name in self.listeners:
                group.create_task(self._tell_for_ever(name), name=f"troubles for {name}")

    async def _tell_for_ever(self, name: str) -> None:
        while True:
            try:
                while await self.tell(name):
                    pass
            except StoreError as error:
                log.warning("%s: what it was told of troubles cannot be kept: %s", name, error)
            except Exception:  # a programming error must end neither the telling of others nor the fire process
                log.exception("%s: telling troubles failed in our own code", name)
            await asyncio.sleep(self._look_s)

    async def tell(self, name: str) -> bool:
        """Tell one thing; False when there is nothing to tell, or it could not be told now."""
        listener = self.listeners[name]
        work = await self._off_loop(lambda: self._store.next(name, listener.kinds, self._clock.wall_ms()))
        if work is None:
            return False
        notice = self._notice(work)
        if notice is None:
            await self._off_loop(lambda: self._store.done(work))
            return True
        reason = "left alone while an alarm is under way"
        try:
            if await listener.channel.aside(OutboxRow(0, "", name, work.number, 0, notice)):
                metrics.dispatch_troubles.labels(name, "acknowledged").inc()
                await self._off_loop(lambda: self._store.done(work))
                return True
        except DeliveryError as error:
            metrics.dispatch_troubles.labels(name, "failed").inc()
            reason = str(error)
        log.warning("%s was not told of %s %s: %s", name, work.device, work.reason, reason)
        await self._off_loop(lambda: self._store.later(work, self._clock.wall_ms() + AGAIN_S * 1000.0))
        return False

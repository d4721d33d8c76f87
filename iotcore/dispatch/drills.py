"""Carries drills to the receivers, each by each of its paths, beside the fires and never before them.

    heard ─► posted: a delivery a path ─► leased ─► sent ─► acknowledged, refused for good, or again after 10 s
                                                        └─► the store ends the drill when all are over, or its limit is

One at a time for each path, by the same channel that carries fires; what is left alone while a fire is under way is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.dispatch.attempt import OffLoop
from iotcore.errors import DeliveryError, StoreError
from iotcore.journal.drill_store import Way, Work
from iotcore.journal.drills import Drill
from iotcore.journal.records import OutboxRow

log = logging.getLogger(__name__)

LOOK_S = 1.0
PATH_LOOK_S = 5.0  # at what a path owes; what is new wakes it
AGAIN_S = 10.0  # after an attempt that failed

# Delivers a notice, and is told ms UTC when a frame has left; False: it was left alone. Raises DeliveryError: it was not taken.
Carry = Callable[[OutboxRow, Callable[[float], None]], Awaitable[object]]


class DrillStore(Protocol):
    """What is kept of drills (`iotcore.journal.drill_store.SqlDrills`). All may raise StoreError."""

    def heard(self) -> list[Drill]: ...

    def post(self, id_: str, ways: Sequence[Way]) -> bool: ...

    def next(self, path: str) -> Work | None: ...

    def sent(self, work: Work, at_ms: float) -> None: ...

    def acknowledged(self, work: Work, at_ms: float) -> None: ...

    def refused(self, work: Work, reason: str, again_ms: float | None) -> None: ...

    def finish(self) -> list[Drill]: ...


class DrillCourier:
    """Carries until cancelled. `ways` says by which paths the drill of a premises goes."""

    def __init__(
        self,
        store: DrillStore,
        carriers: Mapping[str, Carry],
        ways: Callable[[str], Sequence[Way]],
        clock: Clock,
        *,
        look_s: float = LOOK_S,
        off_loop: OffLoop = asyncio.to_thread,
    ) -> None:
        self._store = store
        self._carriers = carriers
        self._ways = ways
        self._clock = clock
        self._look_s = look_s
        self._off_loop = off_loop
        self._posted = {name: asyncio.Event() for name in carriers}
        self._news = asyncio.Event()

    def wake(self) -> None:
        """A drill was heard."""
        self._news.set()

    async def run(self) -> None:
        """Post, carry and end; what fails is tried again, and one path holds back no other."""
        async with asyncio.TaskGroup() as group:
            for name in self._carriers:
                carrying = lambda name=name: self._carry_all(name)  # noqa: E731 - one for each path
                group.create_task(self._for_ever(carrying, self._posted[name], name, PATH_LOOK_S))
            group.create_task(self._for_ever(self.turn, self._news, "drills", self._look_s))

    async def turn(self) -> None:
        """Give what was heard to the paths, and end what is over."""
        for one in await self._off_loop(self._store.heard):
            ways = self._ways(one.premises)
            if await self._off_loop(lambda one=one, ways=ways: self._store.post(one.id, ways)):  # type: ignore[misc]
                for way in ways:
                    self._posted[way.path].set()
        for one in await self._off_loop(self._store.finish):
            metrics.drills.labels(one.state).inc()
            for delivery in one.deliveries:
                if (took_ms := one.delivered_ms(delivery)) is not None:
                    metrics.drill_latency.observe(took_ms / 1000.0)
            level = logging.INFO if one.state == "passed" else logging.WARNING
            log.log(level, "drill %s of %s: %s %s", one.id, one.premises, one.state, one.reason)

    async def carry(self, path: str) -> bool:
        """One delivery; False when there is none to make by this path now."""
        work = await self._off_loop(lambda: self._store.next(path))
        if work is None:
            return False
        notes: list[float] = []
        reason, for_good = "left alone while an alarm is under way", False
        try:
            if await self._carriers[path](work.row, notes.append):
                at_ms = self._clock.wall_ms()
                await self._kept_sent(work, notes)
                await self._off_loop(lambda: self._store.acknowledged(work, at_ms))
                self._news.set()
                return True
        except DeliveryError as error:
            reason, for_good = str(error), not error.recoverable
        await self._kept_sent(work, notes)
        log.warning("drill %s was not taken by %s by %s: %s", work.drill, work.receiver, path, reason)
        again_ms = None if for_good else self._clock.wall_ms() + AGAIN_S * 1000.0
        await self._off_loop(lambda: self._store.refused(work, reason, again_ms))
        self._news.set()
        return True

    async def _kept_sent(self, work: Work, notes: Sequence[float]) -> None:
        if notes:
            await self._off_loop(lambda: self._store.sent(work, notes[0]))

    async def _carry_all(self, path: str) -> None:
        while await self.carry(path):
            pass

    async def _for_ever(self, once: Callable[[], Awaitable[None]], woken: asyncio.Event, what: str, look_s: float) -> None:
        while True:
            woken.clear()
            try:
                await once()
            except StoreError as error:
                log.warning("%s: drills cannot be kept: %s", what, error)
            except Exception:  # a programming error must end neither the other paths nor the fire process
                log.exception("%s: a drill failed in our own code", what)
            try:
                async with asyncio.timeout(look_s):
                    await woken.wait()
            except TimeoutError:
                continue

"""The paths to the receivers, each tested on its own: a link test so often, a trouble when nothing was acknowledged for too long.

    link test or alarm acknowledged ──► heard: the limit begins anew, a trouble is over
    limit over ──────────────────────► trouble path_down, loud; a fire goes to the alternate at once
    a notice 100 s without any acknowledgement ──► trouble undelivered

What the store says holds, not what this process has seen: a restart and another replica change nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.dispatch.attempt import OffLoop
from iotcore.errors import DeliveryError, StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_S = 1.0
AGAIN_S = 10.0  # after a failed link test: one lost packet must not cost a whole interval
NOTE_S = 5.0  # acknowledgements of a storm are noted so often, not each
UNDELIVERED_MS = 100_000.0  # an alarm without the receiving centre's acknowledgement is a fault of its own (EN 54-21, type 1)


class Supervised(Protocol):
    """A channel whose path can be tested."""

    async def supervise(self) -> bool:
        """Test the path; False when that was left alone because a message is under way.

        Raises:
            DeliveryError: there is no valid acknowledgement, and why.
        """


class PathStore(Protocol):
    """What is kept of the paths (`iotcore.journal.path_watch.SqlPaths`). All may raise StoreError."""

    def begin(self, limits_s: Mapping[str, float]) -> None: ...

    def heard(self, name: str, limit_s: float) -> None: ...

    def failed(self, name: str, reason: str) -> None: ...

    def expired(self) -> list[str]: ...

    def down(self) -> frozenset[str]: ...

    def undelivered(self, alternates: Mapping[str, str], before_ms: float) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Watched:
    """A path, how often it is tested, and how long it may be silent."""

    channel: Supervised
    every_s: float
    limit_s: float


class Paths:
    """Tests the paths until cancelled."""

    def __init__(
        self,
        store: PathStore,
        watched: Mapping[str, Watched],
        alternates: Mapping[str, str],
        clock: Clock,
        *,
        undelivered_ms: float = UNDELIVERED_MS,
        look_s: float = LOOK_S,
        off_loop: OffLoop = asyncio.to_thread,
    ) -> None:
        self._undelivered_ms = undelivered_ms
        self._look_s = look_s
        self._store = store
        self._watched = watched
        self._alternates = alternates
        self._clock = clock
        self._off_loop = off_loop
        self._begun = False
        self._down: frozenset[str] = frozenset()
        self._late: frozenset[str] = frozenset()
        self._noted_s: dict[str, float] = {}
        self._heard: asyncio.Queue[str] = asyncio.Queue(maxsize=max(1, len(watched)))

    def down(self, name: str) -> bool:
        """Whether a path is known to be dead."""
        return name in self._down

    def heard(self, name: str) -> None:
        """An alarm was acknowledged by this path, which is as good as a link test."""
        if name in self._watched and (name in self._down or self._since_s(name) >= NOTE_S) and not self._heard.full():
            self._noted_s[name] = self._clock.monotonic_s()
            self._heard.put_nowait(name)

    def state(self) -> dict[str, Any]:
        """For the process's beat."""
        return {"paths_down": sorted(self._down), "undelivered": sorted(self._late)}

    async def run(self) -> None:
        """Test every path at its turn, and look at the limits every second."""
        async with asyncio.TaskGroup() as group:
            for name in self._watched:
                group.create_task(self._test_for_ever(name), name=f"path {name}")
            group.create_task(self._note_for_ever())
            while True:
                try:
                    await self.look()
                except Exception:  # the watch goes on, and the fire lane beside it
                    log.exception("the limits of the paths cannot be looked at")
                await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """See whose limit is over, and what is late; what the store refuses is tried at the next look."""
        if not self._begun:
            self._begun = await self._kept(self._begin) is not None
        for name in await self._kept(self._store.expired) or ():
            log.critical("NO PATH to %s: nothing was acknowledged for %g s", name, self._limit_s(name))
        down, before_ms = await self._kept(self._store.down), self._clock.wall_ms() - self._undelivered_ms
        if down is not None:
            for name in self._down - down:
                log.warning("the path to %s works again", name)
            self._down = down
        late = await self._kept(lambda: self._store.undelivered(self._alternates, before_ms))
        if late is not None:
            for name in late - self._late:
                log.critical("NOT DELIVERED to %s for %.0f s; see the incidents", name, self._undelivered_ms / 1000.0)
            self._late = late
        for name in self._watched:
            metrics.dispatch_path_up.labels(name).set(float(name not in self._down))

    async def test(self, name: str) -> bool:
        """One link test; whether the path answered."""
        try:
            if not await self._watched[name].channel.supervise():
                return True
        except DeliveryError as error:
            metrics.dispatch_link_tests.labels(name, "failed").inc()
            reason = str(error)
            log.warning("link test of %s: %s", name, reason)
            await self._kept(lambda: self._store.failed(name, reason))
            return False
        metrics.dispatch_link_tests.labels(name, "acknowledged").inc()
        self._noted_s[name] = self._clock.monotonic_s()
        await self._note(name)
        return True

    async def _test_for_ever(self, name: str) -> None:
        every_s = self._watched[name].every_s
        while True:
            try:
                answered = await self.test(name)
            except Exception:  # a programming error in one channel must not end the watch over the others
                log.exception("link test of %s failed in our own code", name)
                answered = False
            await asyncio.sleep(every_s if answered else min(every_s, AGAIN_S))

    async def _note_for_ever(self) -> None:
        while True:
            name = await self._heard.get()
            try:
                await self._note(name)
            except Exception:
                log.exception("an acknowledgement by %s cannot be noted", name)

    def _begin(self) -> bool:
        self._store.begin({name: one.limit_s for name, one in self._watched.items()})
        return True

    async def _note(self, name: str) -> None:
        await self._kept(lambda: self._store.heard(name, self._watched[name].limit_s))
        if name in self._down:
            log.warning("the path to %s works again", name)
            self._down -= {name}

    async def _kept(self, call: Callable[[], T]) -> T | None:
        """What the store answers; None when it cannot now."""
        try:
            return await self._off_loop(call)
        except StoreError as error:
            metrics.commit_failures.labels("paths").inc()
            log.warning("the state of the paths cannot be kept: %s", error)
            return None

    def _since_s(self, name: str) -> float:
        return self._clock.monotonic_s() - self._noted_s.get(name, float("-inf"))

    def _limit_s(self, name: str) -> float:
        return self._watched[name].limit_s if name in self._watched else 0.0

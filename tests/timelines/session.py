"""What the fire broker keeps for one process, on virtual time: QoS 1, in order, handed out again when its consumer died."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from iotcore.clock import Clock
from iotcore.wire.arrival import Arrival


class Session:
    """Implements `iotcore.wire.arrival.Broker` and the link that supervision asks."""

    def __init__(self, clock: Clock, receipt: Callable[[str, bytes], None]) -> None:
        self.connected = True
        self.oldest_s = 0.0
        self._clock = clock
        self._receipt = receipt
        self._queue: deque[tuple[str, bytes, bool]] = deque()
        self._out: dict[int, tuple[str, bytes, bool]] = {}
        self._next = 0
        self._news = asyncio.Event()

    def bring(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        self._queue.append((topic, payload, retained))
        self._news.set()

    def consumer_died(self) -> None:
        self._queue.extendleft(reversed(self._out.values()))
        self._out.clear()
        self._news = asyncio.Event()
        if self._queue:
            self._news.set()

    async def take(self, limit: int) -> list[Arrival]:
        while True:
            await self._news.wait()
            arrivals: list[Arrival] = []
            while self._queue and len(arrivals) < limit:
                self._next += 1
                topic, payload, retained = self._out[self._next] = self._queue.popleft()
                arrivals.append(Arrival(topic, payload, retained, received_ms=self._clock.wall_ms(), token=self._next))
            if not self._queue:
                self._news.clear()
            if arrivals:
                return arrivals

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._out.pop(arrival.token, None)

    def working(self) -> None:
        """Nobody watches this lane."""

    async def publish(self, topic: str, payload: bytes) -> None:
        self._receipt(topic, payload)

"""What has arrived and waits for its lane: bounded by messages and by bytes. It never drops; a full one makes the reader wait."""

from __future__ import annotations

import asyncio
from collections import deque

from iotcore.wire.arrival import Arrival


class Inbox:
    """One writer waits for `space()` and then puts; one reader takes."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self._arrivals: deque[Arrival] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._space = asyncio.Event()

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def full(self) -> bool:
        """Whether the next message has to wait; a single message over `limit_bytes` still passes through an empty inbox."""
        return len(self._arrivals) >= self.limit or self._bytes >= self.limit_bytes

    async def space(self) -> None:
        """Wait until there is room."""
        while self.full:
            self._space.clear()
            await self._space.wait()

    @property
    def oldest_ms(self) -> float | None:
        """When the oldest arrival was received, ms UTC; None when there is none."""
        return self._arrivals[0].received_ms if self._arrivals else None

    def put(self, arrival: Arrival) -> None:
        """Add one; call `space` first when `full`."""
        self._arrivals.append(arrival)
        self._bytes += len(arrival.payload)
        self._some.set()

    def wake(self) -> None:
        """Make a waiting `wait` return, so that the reader sees that its connection has ended for good."""
        self._some.set()

    async def wait(self) -> None:
        """Wait until something is there, or until `wake`."""
        if not self._arrivals:
            self._some.clear()
            await self._some.wait()

    def take(self, limit: int) -> list[Arrival]:
        """Up to `limit` arrivals, oldest first; none when it is empty."""
        arrivals = self._arrivals
        if len(arrivals) <= limit:
            taken = list(arrivals)
            arrivals.clear()
            self._bytes = 0
        else:
            taken = [arrivals.popleft() for _ in range(limit)]
            self._bytes -= sum(len(arrival.payload) for arrival in taken)
        self._space.set()
        return taken

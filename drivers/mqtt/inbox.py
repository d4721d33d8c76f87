"""What has arrived and waits for its lane: bounded by messages and by bytes. It never drops; a full one makes the reader wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from iotcore.wire.arrival import Arrival


class Inbox:
    """One writer puts up to `room` and asks `when_half` to be told; one reader takes."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.beats = 0  # heartbeats of our own among what waits
        self._arrivals: list[Arrival] = []
        self._portions: deque[list[int]] = deque()  # of what waits: arrivals and bytes of each put, oldest first
        self._bytes = 0
        self._some = asyncio.Event()
        self._resume: Callable[[], None] | None = None

    def __len__(self) -> int:
        """Our own heartbeats do not count."""
        return len(self._arrivals) - self.beats

    @property
    def room(self) -> int:
        """How many more arrivals may come; a single one over `limit_bytes` still passes through an empty inbox."""
        return 0 if self._bytes >= self.limit_bytes else self.limit - len(self)

    @property
    def oldest_ms(self) -> float | None:
        """When the oldest arrival was received, ms UTC; None when there is none."""
        return self._arrivals[0].received_ms if self._arrivals else None

    def put(self, arrivals: list[Arrival], size: int) -> None:
        """Add what has come off one buffer, `size` bytes of it; look at `room` first."""
        self._arrivals += arrivals
        self._portions.append([len(arrivals), size])
        self._bytes += size
        self._some.set()

    def when_half(self, resume: Callable[[], None]) -> None:
        """Call `resume`, once, when half of it is free again."""
        self._resume = resume

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
            taken, self._arrivals = arrivals, []
            self._portions.clear()
            self._bytes = 0
        else:
            taken = arrivals[:limit]
            del arrivals[:limit]
            self._free(limit)
        if self._resume is not None and 2 * len(self) <= self.limit and 2 * self._bytes <= self.limit_bytes:
            resume, self._resume = self._resume, None
            resume()
        return taken

    def _free(self, count: int) -> None:
        """Bytes are freed a whole put at a time: cheap, and never too early."""
        while count:
            portion = self._portions[0]
            if portion[0] > count:
                portion[0] -= count
                return
            count -= portion[0]
            self._bytes -= portion[1]
            self._portions.popleft()

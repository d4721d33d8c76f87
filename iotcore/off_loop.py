"""Work off the event loop: what blocks (a commit, an fdatasync) is handed to a thread through one seam.

Who takes an `OffLoop` never asks a thread, the time or chance for anything itself, so that a simulation may put its own in place.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from iotcore.errors import StoreError

T = TypeVar("T")


class OffLoop(Protocol):
    """Carries one piece of blocking work out and gives back what it returns, or raises what it raises."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """Carry it out."""


async def in_a_thread(work: Callable[[], T], /) -> T:
    """On one of the event loop's own threads, which everybody shares."""
    return await asyncio.to_thread(work)


class Threads:
    """Threads of its own: work that hangs here, or elsewhere, takes no thread away from the other.

    `most` pieces of work at once, under way or waiting; None: whoever calls bounds it. One more raises StoreError.
    """

    def __init__(self, name: str, count: int = 1, most: int | None = None) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._name, self._most, self._given = name, most, 0

    async def __call__(self, work: Callable[[], T], /) -> T:
        """Carry it out on one of them."""
        if self._most is not None and self._given >= self._most:
            raise StoreError(f"{self._given} wait for {self._name} already; try again")
        context = contextvars.copy_context()
        self._given += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(work))
        finally:
            self._given -= 1

    def close(self) -> None:
        """Take no more; what hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)

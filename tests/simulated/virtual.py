"""Virtual time: an event loop whose clock jumps to the next thing that happens, and threads that run in their turn.

Everything on it is deterministic: the same seed gives the same history, to the last digit. What asks for a thread
(`asyncio.to_thread`) is run at once by the process that asks; that process decides how long it takes, and whether it dies of it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, TypeVarTuple

EPOCH_MS = 1_795_312_800_000.0  # 2026-11-22T02:00:00Z


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Process(Protocol):
    """Whoever asks for a thread."""

    def off_loop(self, work: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        """Do the work and settle the future, now or later."""


RUNNING: ContextVar[Process] = ContextVar("RUNNING")


class Standstill(Exception):
    """Nothing is left that could ever happen: everybody waits for somebody else."""


class _Nothing(selectors.BaseSelector):
    """No file ever becomes ready; waiting moves the clock."""

    def __init__(self, wait: Callable[[float], None]) -> None:
        self._wait = wait
        self._files: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._files[number] = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill
        self._wait(timeout)
        return []

    def get_map(self) -> Any:
        return self._files


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; `now_s` counts from 0."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Nothing(self._wait))

    def _wait(self, seconds: float) -> None:
        self.now_s += max(0.0, seconds)

    def time(self) -> float:
        return self.now_s

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:  # noqa: ARG002
        done: asyncio.Future[T] = self.create_future()
        RUNNING.get().off_loop(lambda: func(*args), done)
        return done


class VirtualClock:
    """The clocks of one process; `steps` are what somebody did to its wall clock: from when on (s), and by how much (s)."""

    def __init__(self, loop: VirtualLoop, steps: list[tuple[float, float]]) -> None:
        self._loop = loop
        self._steps = steps

    def wall_ms(self) -> float:
        now_s = self._loop.now_s
        return EPOCH_MS + (now_s + sum(by_s for at_s, by_s in self._steps if at_s <= now_s)) * 1000.0

    def monotonic_s(self) -> float:
        return self._loop.now_s

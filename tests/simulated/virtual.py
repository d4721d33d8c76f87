"""Virtual time: an event loop whose clock jumps to the next thing that happens, and threads that run in their turn.

Everything on it is deterministic: the same seed gives the same history, to the last digit. What asks for a thread
(`asyncio.to_thread`) is run at once by the process that asks; that process decides how long it takes, and whether it dies of it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from functools import partial
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


class _Handle(asyncio.TimerHandle):
    """A call that is due; asyncio's own, without what finds out where it was made."""

    __slots__ = ()

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None, when_s: float) -> None:
        self._callback = callback
        self._args = args
        self._context = context if context is not None else copy_context()
        self._when = when_s
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._args = ()  # what it would have been called with may go


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on virtual time and nothing else: no files, no threads. `now_s` counts from 0.

    What a callback raises ends the run: here it is nobody's but the simulation's, or a defect in a process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._ready: deque[_Handle] = deque()
        self._later: list[tuple[float, int, _Handle]] = []  # a heap; the number keeps the order of what is due at once
        self._numbers = itertools.count()

    def run_until_complete(self, future: Any) -> Any:
        """Run until it is done.

        Raises:
            Standstill: everybody waits for somebody else.
        """
        main = asyncio.ensure_future(future, loop=self)
        asyncio._set_running_loop(self)
        try:
            ready, later = self._ready, self._later
            while not main.done():
                if ready:
                    handle = ready.popleft()
                elif later:
                    when_s, _, handle = heapq.heappop(later)
                    if not handle._cancelled and when_s > self.now_s:
                        self.now_s = when_s
                else:
                    raise Standstill
                if not handle._cancelled:
                    handle._context.run(handle._callback, *handle._args)
        finally:
            asyncio._set_running_loop(None)
        return main.result()

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        handle = _Handle(callback, args, context, self.now_s)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Handle(callback, args, context, when)
        heapq.heappush(self._later, (when, next(self._numbers), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:  # noqa: ARG002
        done: asyncio.Future[T] = asyncio.Future(loop=self)
        RUNNING.get().off_loop(partial(func, *args) if args else func, done)
        return done

    def close(self) -> None:
        self._later.clear()
        super().close()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a dead process's tasks ended with is nobody's business."""


class VirtualClock:
    """The clocks of one process; `steps` are what somebody did to its wall clock: from when on (s), and by how much (s)."""

    def __init__(self, loop: VirtualLoop, steps: list[tuple[float, float]]) -> None:
        self._loop = loop
        self._steps = steps

    def wall_ms(self) -> float:
        return self.wall_at_ms(self._loop.now_s)

    def wall_at_ms(self, now_s: float) -> float:
        """What it shows then; steps that are to come do not count yet."""
        return EPOCH_MS + (now_s + sum(by_s for at_s, by_s in self._steps if at_s <= now_s)) * 1000.0

    def monotonic_s(self) -> float:
        return self._loop.now_s

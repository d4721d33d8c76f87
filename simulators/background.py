"""An event loop on a thread of its own, so that simulators live on while a test, or any program without a loop, does its work.

with Background() as background:
    device = background.enter(MqttDevice(…))          # entered there; left, last first, at the end
    background.call(device.report({"smoke": 0.6}))    # waits for the result here
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
CALL_LIMIT_S = 60.0


class Background:
    """A context manager; `call`, `enter` and `run` are for other threads than its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="simulators", daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._loop is not None
        try:
            self.call(self._stack.aclose())
        finally:
            if self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CALL_LIMIT_S)

    def call(self, work: Coroutine[Any, Any, T], limit_s: float = CALL_LIMIT_S) -> T:
        """Do it there and wait for its result.

        Raises:
            TimeoutError: it took longer than `limit_s`; and whatever it raises itself.
        """
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(limit_s)
        except TimeoutError:
            future.cancel()
            raise

    def run(self, function: Callable[[], T]) -> T:
        """Call a plain function there: what belongs to the loop is not touched from two threads."""

        async def on_the_loop() -> T:
            return function()

        return self.call(on_the_loop())

    def enter(self, context: AbstractAsyncContextManager[T], stack: AsyncExitStack | None = None) -> T:
        """Enter `context` there; it is left at the end, or with the `stack` that `close` closes before."""
        return self.call((stack or self._stack).enter_async_context(context))

    def close(self, stack: AsyncExitStack) -> None:
        """Leave what was entered with `stack`, last first."""
        self.call(stack.aclose())

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._stop.wait()

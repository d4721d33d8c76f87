"""Starting on a full disk: a process whose files cannot be opened for want of room waits in place until they can.

    open ──StoreFull──► give up what was put aside ──► beat "waits_for", try again each `RETRY_S` ──► open

Ending instead would cost more than it saves: each new start reads everything anew, the pauses of the supervisor grow, and nobody
could say what is missing. Whatever else keeps a file from being opened still ends the start with its own words.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeVar

from iotcore.clock import Clock
from iotcore.errors import StoreFull
from iotcore.process.alive import alive
from iotcore.settings import Settings

RETRY_S = 0.25  # a fire process is back so long after there is room; a try costs some milliseconds
log = logging.getLogger(__name__)
T = TypeVar("T")


class Room:
    """Enters what a process `name` stands on. `give` frees what the process has put aside for this."""

    def __init__(self, settings: Settings, name: str, clock: Clock, *, give: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._name = name
        self._clock = clock
        self._give = give

    async def enter(self, stack: AsyncExitStack, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Enter what `make` makes (anew for each try), as soon as the disk has room for it; alive and waiting till then."""
        try:
            return await stack.enter_async_context(make())
        except StoreFull as error:
            trouble = str(error)
        await asyncio.to_thread(self._give)
        try:
            entered = await stack.enter_async_context(make())
        except StoreFull as error:
            trouble = str(error)
        else:
            log.warning("%s; opened by what was put aside", trouble)
            return entered
        log.error("%s; free some space and the start goes on by itself", trouble)
        beating = asyncio.create_task(self._beat(trouble), name=f"{self._name} waits")
        try:
            entered = await self._tried(stack, make)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        log.info("there is room on the disk again; the start goes on")
        return entered

    async def _tried(self, stack: AsyncExitStack, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                return await stack.enter_async_context(make())
            except StoreFull:
                continue

    async def _beat(self, trouble: str) -> None:
        await alive(self._settings, self._name, self._clock, lambda: {"connected": False, "waits_for": trouble})

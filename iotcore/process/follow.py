"""Following the registry: a directory in memory that is at most a poll behind, and intents applied in order.

When the registry cannot be read, the last directory stays in use: a fire needs no database of buildings to be heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from iotcore.errors import IotError
from iotcore.registry.directory import Directory
from iotcore.registry.records import Intent
from iotcore.registry.store import POLL_LIMIT, Registry
from iotcore.specs.model import DeviceSpec

log = logging.getLogger(__name__)

POLL_S = 0.2  # wire contract, Changes
REGISTRY_RETRY_S = 2.0


class Follower:
    """Keeps `directory` as the registry says."""

    def __init__(self, registry: Registry, specs: Mapping[str, DeviceSpec]) -> None:
        self._registry = registry
        self._specs = specs
        self._seen = -1
        self.directory = Directory()

    async def refresh(self) -> bool:
        """Read what changed, or at first everything; whether anything changed."""
        if self._seen >= 0:
            changes = await self._registry.changes_after(self._seen)
            if not changes:
                return False
            if len(changes) < POLL_LIMIT:
                self.directory = await self._registry.directory_after(self.directory, changes, self._specs)
                self._seen = changes[-1].id
                return True
        last = await self._registry.last_change()
        self.directory = await self._registry.directory(self._specs)
        self._seen = last
        return True

    async def run(self, changed: Callable[[], None] = lambda: None) -> None:
        """Refresh until cancelled; call `changed` after each difference."""
        await forever(self._once(changed), "the registry cannot be read; the last directory stays in use")

    def _once(self, changed: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        async def once() -> None:
            if await self.refresh():
                changed()

        return once


async def follow_intents(registry: Registry, cursor: int, apply: Callable[[Intent], Awaitable[None]]) -> None:
    """Hand over intents after `cursor`, oldest first, until cancelled; `apply` remembers how far it came."""
    last = cursor

    async def once() -> None:
        nonlocal last
        for intent in await registry.intents_after(last):
            await apply(intent)
            last = intent.id

    await forever(once, "intents cannot be read; acknowledgements wait")


async def forever(once: Callable[[], Awaitable[None]], trouble: str) -> None:
    """Do something each poll; when the registry fails, say so once and go on trying."""
    failing = False
    while True:
        try:
            await once()
        except IotError as error:
            if not failing:
                log.error("%s: %s", trouble, error)  # noqa: TRY400 - an expected outage needs no stack
            failing = True
            await asyncio.sleep(REGISTRY_RETRY_S)
        else:
            failing = False
        await asyncio.sleep(POLL_S)

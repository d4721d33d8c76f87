"""Checking passwords without stopping the page: in threads, two at a time, and few that wait."""

from __future__ import annotations

import asyncio

from iotcore.errors import IotError
from iotcore.registry import passwords

AT_ONCE = 2  # each takes 64 MiB and four cores for tens of ms
WAITING = 16


class Busy(IotError):
    """More people sign in at this moment than can be checked."""


class Passwords:
    """argon2id for one web process."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(AT_ONCE)
        self._inside = 0

    async def verify(self, stored: str, password: str) -> bool:
        """Whether it is the one; as much work when `stored` is "". Raises Busy."""
        return bool(await self._run(passwords.verify, stored, password))

    async def hashed(self, password: str) -> str:
        """What is stored of a new one; raises Busy."""
        return str(await self._run(passwords.hashed, password))

    async def _run(self, work: object, *arguments: str) -> object:
        if self._inside >= AT_ONCE + WAITING:
            raise Busy
        self._inside += 1
        try:
            async with self._room:
                return await asyncio.to_thread(work, *arguments)  # type: ignore[arg-type]
        finally:
            self._inside -= 1

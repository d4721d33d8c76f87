"""Waiting for what real servers do: polled, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STEP_S = 0.002


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Return as soon as `condition` holds.

    Raises:
        TimeoutError: it did not, in `within_s` seconds.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the condition is another program's doing
            await asyncio.sleep(STEP_S)

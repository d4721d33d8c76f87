"""Playing a row in its world: each deed at its moment, then nothing until it is judged."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from tests.timelines.notation import Row, moments


async def act(row: Row, world: Any) -> None:
    """Do everything that a row does; `world` has `until(at_s)`."""
    for moment in moments(row.steps):
        await world.until(moment.at_s)
        done = moment.deed.do(world)
        if isinstance(done, Awaitable):
            await done
    await world.until(row.until_s)

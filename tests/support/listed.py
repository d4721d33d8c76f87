"""Where the connection to the fire broker stands, for lanes that are driven by `turn`: remembers what the lane did with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from iotcore.wire.arrival import Arrival


class ListBroker:
    """Gives nothing by itself; lists what was acknowledged and published."""

    def __init__(self) -> None:
        self.acknowledged: list[Arrival] = []
        self.published: list[tuple[str, dict[str, Any]]] = []

    async def take(self, limit: int) -> list[Arrival]:  # noqa: ARG002 - the lane is driven by `turn`
        return await asyncio.Future()

    def working(self) -> None:
        """Nobody watches this lane."""

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        self.acknowledged += arrivals

    async def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, json.loads(payload)))

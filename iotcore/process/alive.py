"""Signs of life of a process: its beat (for doctor and page) and its metrics (for Prometheus)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.process.metrics_http import TRY_AGAIN_S, MetricsListener
from iotcore.process.serve import beat
from iotcore.settings import Settings


class Observed(Protocol):
    """What a connection to a broker tells of itself (`drivers.mqtt.ingest.Ingest`)."""

    connections: int  # how many were made

    @property
    def connected(self) -> bool:
        """Whether its subscriptions stand."""

    @property
    def waiting(self) -> int:
        """Arrivals that no lane has taken yet."""

    @property
    def oldest_s(self) -> float:
        """How long the oldest of them has waited; 0 when there is none."""


async def alive(
    settings: Settings, name: str, clock: Clock, state: Callable[[], dict[str, Any]], *, try_again_s: float = TRY_AGAIN_S
) -> None:
    """Beat and serve metrics until cancelled; `state` is what the process says of itself."""
    listener = MetricsListener(settings.metrics, name, try_again_s=try_again_s)
    async with asyncio.TaskGroup() as group:
        group.create_task(listener.run())
        group.create_task(beat(settings.folder, name, clock, lambda: {**state(), **listener.state()}))


def watch(ingest: Observed, lane: str, broker: str) -> None:
    """Let Prometheus ask a lane's connection to a broker how it is."""
    metrics.connected.ask(lambda: float(ingest.connected), lane, broker)
    metrics.connections.ask(lambda: float(ingest.connections), lane, broker)
    metrics.inbox_waiting.ask(lambda: float(ingest.waiting), lane, broker)
    metrics.inbox_oldest.ask(lambda: ingest.oldest_s, lane, broker)

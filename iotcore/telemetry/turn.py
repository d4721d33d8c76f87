"""One turn of the telemetry lane: what it gathers from a batch of arrivals, to be made durable in one commit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from iotcore import metrics
from iotcore.journal.progress import Stage
from iotcore.reading import Reading
from iotcore.registry.directory import Binding
from iotcore.wire.arrival import Arrival, Refusal


@dataclass(slots=True)
class Turn:
    """What one turn gathers before its commit."""

    stage: Stage
    now_s: float
    lines: list[bytes] = field(default_factory=list)
    confidential: list[bytes] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: int = 0
    throttled: int = 0
    settled: tuple[int, ...] = ()  # rows of the quarantine that are tried again
    returned: list[Refusal] = field(default_factory=list)
    durable: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, counts: dict[str, int], now_s: float) -> None:
        """Add what is durable now to the metrics and to `counts`."""
        metrics.take_to_commit.labels("telemetry").observe(now_s - self.now_s)
        metrics.stored.labels("telemetry").inc(len(self.readings))
        metrics.late.labels("telemetry").inc(sum(reading.backlog for reading in self.readings))
        metrics.duplicates.labels("telemetry").inc(self.duplicates)
        for refusal in self.refusals:
            metrics.refused.labels("telemetry", refusal.reason.partition(":")[0]).inc()
        counts["stored"] += len(self.readings)
        counts["duplicates"] += self.duplicates
        counts["refused"] += len(self.refusals)
        counts["throttled"] += self.throttled


def misplaced(arrival: Arrival, binding: Binding) -> Refusal:
    """Why the readings of an arrival are not for us to store."""
    if arrival.retained:
        return Refusal("retained", "a retained reading is history", arrival.topic, binding.device, arrival.payload)
    detail = f"{binding.device} belongs on the fire broker"  # stored and receipted here, no rule would ever see it
    return Refusal("wrong_broker", detail, arrival.topic, binding.device, arrival.payload)

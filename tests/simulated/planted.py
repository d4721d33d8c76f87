"""Lanes with a bug in them, to see that the simulation would find it."""

from __future__ import annotations

from collections.abc import Sequence

from iotcore.alarms.lane import FireLane
from iotcore.journal.journal import Journal
from iotcore.wire.arrival import Arrival
from tests.simulated.play import Variant


class AcknowledgesFirst(FireLane):
    """Acknowledges to the broker before the commit: what a crash in between takes is gone."""

    async def turn(self, arrivals: Sequence[Arrival]) -> None:
        self._broker.acknowledge(arrivals)
        await super().turn(arrivals)


def _forget_uniqueness(journal: Journal) -> None:
    """Two replicas, or two points of a building, each open an incident of their own."""
    journal.connection.execute("DROP INDEX IF EXISTS one_open_incident")


ACKNOWLEDGES_FIRST = Variant(lane=AcknowledgesFirst)
NOT_UNIQUE = Variant(prepare=_forget_uniqueness)

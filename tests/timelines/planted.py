"""Fire processes with a bug in them, to see that their rows would fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iotcore.alarms.lane import FireLane
from iotcore.app.outgoing import Outgoing
from iotcore.journal.records import Committed
from iotcore.wire.arrival import Arrival
from tests.timelines.parts import Variant


def _twice(outgoing: Outgoing) -> Callable[[Committed], None]:
    def opened(committed: Committed) -> None:
        outgoing.opened(committed)
        outgoing.opened(committed)

    return opened


class _Deaf(FireLane):
    """Takes each message for read, and judges none of a call point."""

    async def turn(self, arrivals: Sequence[Arrival]) -> None:
        await super().turn([one for one in arrivals if "cp-" not in one.topic])


def _to_nobody(outgoing: Outgoing) -> Callable[[Committed], None]:
    """Looks into its outbox so seldom that no alarm is sent in time."""
    for lane in outgoing.dispatcher._lanes.values():
        lane.free.clear()
    return outgoing.opened


def _no_alternate(outgoing: Outgoing) -> Callable[[Committed], None]:
    for lane in outgoing.dispatcher._lanes.values():
        lane.way = type(lane.way)(parallel=lane.way.parallel)
    return outgoing.opened


DISPATCHES_TWICE = Variant(opened=_twice)
FORGETS_THE_ALARM = Variant(opened=_to_nobody)
MISSES_A_FIRE = Variant(lane=_Deaf)
DEAF_TO_THE_ALTERNATE = Variant(opened=_no_alternate)

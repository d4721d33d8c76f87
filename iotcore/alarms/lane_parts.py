"""A turn as several commits, where one would be too long or would wait behind others: what opens an incident goes first. Pure.

    opening   of each premises that does not burn yet: what the device says that says it first; the fewest decisions first
    rest      further decisions in their order; the last part holds everything else, and how far each device counts as handled

A process that dies between two parts has acknowledged nothing, and has not kept that any reading was handled: the broker brings
all of them again, and a cause that is known changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from iotcore.alarms.lane_notice import is_live_fire
from iotcore.journal.records import Batch, Raise
from iotcore.reading import Reading

MOST_RAISES = 64  # decisions in one commit, 0.25 ms of CPU each: 16 ms, a fifteenth of what a fire waits for the journal


def parted(batch: Batch, burns: Callable[[str], bool], *, behind: bool) -> tuple[list[Batch], list[Batch]]:
    """The commits that open incidents, and the rest, which is never empty; a short batch that waits for none is one of the rest.

    `behind`: others wait already. `burns` says of a premises that its incident is open and held back by nothing: a further fire
    there only joins it.
    """
    if len(batch.raises) <= MOST_RAISES and not behind:
        return [], [batch]
    first: dict[str, list[Raise]] = {}
    later: list[Raise] = []
    for one in batch.raises:
        premises = one.notice.premises
        if is_live_fire(one) and (_goes_with(one, first[premises]) if premises in first else not burns(premises)):
            first.setdefault(premises, []).append(one)
        else:
            later.append(one)
    readings = {reading.identity: reading for reading in batch.readings}
    opening = [_part(raises, readings) for raises in _packed(sorted(first.values(), key=len))]
    *more, last = [later[n : n + MOST_RAISES] for n in range(0, len(later), MOST_RAISES)] or [[]]
    rest = [_part(raises, readings) for raises in more]
    return opening, [*rest, replace(batch, raises=tuple(last), readings=tuple(readings.values()))]


def _goes_with(one: Raise, before: Sequence[Raise]) -> bool:
    """Whether the alarm that is told will hold this too: another point of its device, or what ends a hold of it."""
    return one.notice.device == before[0].notice.device or before[0].hold is not None


def _packed(groups: Iterable[Sequence[Raise]]) -> list[list[Raise]]:
    """Groups together as long as they fit; one that is too long by itself stays whole, as its alarm is."""
    packed: list[list[Raise]] = []
    for group in groups:
        if not packed or len(packed[-1]) + len(group) > MOST_RAISES:
            packed.append([])
        packed[-1] += group
    return packed


def _part(raises: Sequence[Raise], readings: dict[tuple[str, str, int], Reading]) -> Batch:
    """Decisions with the readings that made them, which no later part needs."""
    made = [readings.pop(key, None) for key in dict.fromkeys((one.notice.device, one.boot, one.seq) for one in raises)]
    return Batch(readings=tuple(reading for reading in made if reading is not None), raises=tuple(raises))

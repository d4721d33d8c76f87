"""Which incidents response plans hold back, as a lane knows it, so that the end of a hold needs no journal.

    journal ─► look, each few seconds ─► held, until when ─► over, and the journal has not ended it ─► the emergency, at once

Nobody was told of them yet: without the journal, whatever else burns at their premises goes out under the incident's own name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from iotcore.alarms.lane_commit import Commits, Safety
from iotcore.clock import Clock
from iotcore.journal import holds
from iotcore.journal.journal import Journal
from iotcore.journal.records import Raise

LOOK_S = 0.25  # holds last from 15 s
GRACE_S = 3.0  # after its end a hold that still stands, by a later look of the lane's (2 s), is one that the journal does not end


class HeldBack:
    """Of one lane."""

    def __init__(self, journal: Journal, safety: Safety, clock: Clock) -> None:
        self._journal = journal
        self._emergency = safety.emergency
        self._off_loop = safety.off_loop
        self._clock = clock
        self._until: dict[str, tuple[float, Raise]] = {}  # by incident: its end, monotonic s; what is held back

    def __contains__(self, incident: object) -> bool:
        return incident in self._until

    def recall(self) -> None:
        """Which premises burn, and of which of them nobody was told, before the lane begins."""
        self._note(*self._asked())

    async def look(self) -> None:
        """The same meanwhile, whoever opened, released or closed it; raises StoreError."""
        self._note(*await self._off_loop(self._asked))

    def closed(self, premises: str) -> None:
        """The episode of a premises was reset."""
        self._until = {incident: one for incident, one in self._until.items() if one[1].notice.premises != premises}

    async def run(self, commits: Commits) -> None:
        """End those that nobody else ends, until cancelled: nobody could acknowledge, and a fire waits for no disk."""
        while True:
            await asyncio.sleep(LOOK_S)
            by_s = self._clock.monotonic_s() - (GRACE_S if commits.stalled_since_ms is None else 0.0)
            if over := [incident for incident, (until_s, _) in self._until.items() if until_s <= by_s]:
                await commits.rescue([self._until.pop(incident)[1] for incident in over])

    def _asked(self) -> tuple[dict[str, str], list[holds.Standing]]:
        return dict(self._journal.open_incidents()), holds.standing(self._journal, self._journal.now())

    def _note(self, found: Mapping[str, str], standing: Sequence[holds.Standing]) -> None:
        now_s = self._clock.monotonic_s()
        self._until = {one.incident: (now_s + one.after_s, one.cause) for one in standing}
        self._emergency.note_all_open(found, self._until)

"""Lanes with a bug in them, to see that the simulation would find it, and worlds in which it matters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from iotcore.alarms.lane import FireLane
from iotcore.journal.journal import Journal
from iotcore.journal.raising import Raising
from iotcore.wire.arrival import Arrival
from tests.simulated.replica import Variant
from tests.simulated.script import ANY, Crash, Script, write

SHORT_S = 0.3  # a fire that is told once: whoever loses that message has lost it


class AcknowledgesFirst(FireLane):
    """Acknowledges to the broker before the commit: what a crash in between takes is gone."""

    async def turn(self, arrivals: Sequence[Arrival]) -> None:
        self._broker.acknowledge(arrivals)
        await super().turn(arrivals)


def _forget_uniqueness(journal: Journal) -> None:
    journal.connection.execute("DROP INDEX IF EXISTS one_open_incident")


ACKNOWLEDGES_FIRST = Variant(lane=AcknowledgesFirst)
NOT_UNIQUE = Variant(prepare=_forget_uniqueness)


def looks_for_none_that_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each decision opens an incident of its own, and the database lets it."""
    monkeypatch.setattr(Raising, "_joined", lambda *_: "")


def told_once(seed: int) -> Script:
    """One replica, fires that are told once, and a crash at one of the calls that the first of them causes."""
    script, rng = write(seed), random.Random(seed)
    script.replicas, script.spans, script.resets, script.clock_steps = 1, [], [], [[]]
    script.outages, script.delayed, script.taken = [], set(), []
    script.burns = [replace(burn, until_s=burn.at_s + SHORT_S) for burn in script.burns[:1]]
    call, nth = "Commits._attempt", rng.choice((1, 1, 2))  # before the commit of what has just been told, or a later one
    script.crashes = [Crash(ANY, burn.at_s, nth, after=False, down_s=0.2, call=call) for burn in script.burns]
    return script

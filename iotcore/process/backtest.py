"""Back-test: a rule over the recorded readings of devices, one place after the other, off the event loop.

    devices of a place ─► pages of their readings (`telemetry.recorded`) ─► replays (`alarms.replay`), on a thread ─► outcomes

What rules know of several devices is bounded by their premises, so each place is judged by an engine of its own, and memory holds
one page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from iotcore.alarms import replay
from iotcore.alarms.replay import Evidence, Groups, Profiles, Replay
from iotcore.alarms.rules import Rule
from iotcore.clock import Clock
from iotcore.registry.directory import Binding
from iotcore.telemetry.query import Query
from iotcore.telemetry.recorded import PAGE_ROWS, pages

NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of it at most: readings, devices, and seconds of the caller's patience."""

    readings: int = NO_LIMIT
    devices: int = NO_LIMIT
    seconds: float = float("inf")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: the rules of one id as they are in each of the sets, over these devices and times (ms UTC)."""

    of: str
    sets: Sequence[Sequence[Rule]]
    devices: Sequence[Binding]
    span_ms: tuple[float, float]
    groups: Groups = field(default=lambda _: frozenset())
    profiles: Profiles | None = None  # of premises; None: all are immediate


async def run(
    query: Query, trial: Trial, clock: Clock, limits: Limits | None = None, page_rows: int = PAGE_ROWS
) -> tuple[list[Replay], Evidence]:
    """Try it; a replay for each set of rules, and what they were judged by.

    Raises:
        QueryError: the store does not answer.
    """
    most = limits or Limits()
    replays = [Replay(rules, trial.of, trial.groups, trial.profiles) for rules in trial.sets]
    evidence = Evidence(devices=len(trial.devices))
    devices = trial.devices
    if len(devices) > most.devices:
        devices, evidence.cut = devices[: most.devices], "devices"
    until_s = clock.monotonic_s() + most.seconds
    for place in _places(devices).values():
        for one in replays:
            one.begin(place[0].premises)
        rules = [rule for one in replays for rule in one.rules]
        async for page in pages(query, [(d, replay.points_of(rules, d.spec)) for d in place], trial.span_ms, page_rows):
            await asyncio.to_thread(replay.feed, replays, page, evidence)
            if evidence.readings > most.readings or clock.monotonic_s() > until_s:
                evidence.cut = "rows" if evidence.readings > most.readings else "time"
                return replays, evidence
        await asyncio.to_thread(replay.finish, replays, trial.span_ms[1])
    return replays, evidence


def _places(devices: Sequence[Binding]) -> Mapping[str, list[Binding]]:
    """The devices by where they stand; one without premises is a place of its own."""
    found: dict[str, list[Binding]] = {}
    for one in sorted(devices, key=lambda one: (one.premises, one.device)):
        found.setdefault(one.premises or f"~{one.device}", []).append(one)
    return found

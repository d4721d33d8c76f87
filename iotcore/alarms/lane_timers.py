"""Time in the lane: what rules have under way is kept with the commit that begins it, and decides when its time has come.

turn ─► armed? ─► began, over ─► the same commit ─┐
restart ◄── standing ◄── journal ◄────────────────┘
due ─► engine.tick ─► decisions, whose cause is the reading that armed them ─► a turn of their own
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping

import msgspec

from iotcore.alarms.decisions import Armed
from iotcore.alarms.engine import Engine
from iotcore.clock import Clock
from iotcore.journal.records import Timing
from iotcore.registry.directory import Binding

log = logging.getLogger(__name__)

LONGEST_S = 1.0  # between looks: what was armed meanwhile by whom nobody told


class LaneTimers:
    """Of one lane's engine. Its moments are those of the caller's monotonic clock."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._kept: dict[str, Armed] = {}
        self._armed = asyncio.Event()

    def restore(self, standing: Iterable[tuple[float, str]], bindings: Mapping[str, Binding]) -> None:
        """Give the engine back what was under way, after the recent readings."""
        found = []
        for due_in_s, body in standing:
            try:
                found.append(replace_due(msgspec.json.decode(body, type=Armed), due_in_s))
            except msgspec.DecodeError as error:  # of another version: what it was for begins anew with the next reading
                log.error("a timer of a rule cannot be read and is left out: %s", error)  # noqa: TRY400 - said, not a defect
        self._engine.restore(found, bindings, self._clock.monotonic_s())
        self._kept = {one.key: one for one in found}

    def changed(self) -> Timing:
        """What began and what is over since the last call; part of the commit that is made now."""
        if self._engine.next_due_s() is None and not self._kept:
            return Timing()  # nearly always
        armed = {one.key: one for one in self._engine.armed(self._clock.monotonic_s())}
        began = [one for key, one in armed.items() if not _same(self._kept.get(key), one)]
        over = [key for key in self._kept if key not in armed]
        self._kept = armed
        self._armed.set()
        return Timing(tuple((one.key, one.due_in_s, msgspec.json.encode(one).decode()) for one in began), tuple(over))

    @property
    def due(self) -> bool:
        """Whether something is to be decided now."""
        due_s = self._engine.next_due_s()
        return due_s is not None and due_s <= self._clock.monotonic_s()

    async def wait(self) -> None:
        """Until something is due, or for a second."""
        due_s = self._engine.next_due_s()
        wait_s = LONGEST_S if due_s is None else min(LONGEST_S, due_s - self._clock.monotonic_s())
        self._armed.clear()
        if wait_s > 0.0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._armed.wait()


def replace_due(armed: Armed, due_in_s: float) -> Armed:
    """The same timer, due so much later than now."""
    return msgspec.structs.replace(armed, due_in_s=due_in_s)


def _same(before: Armed | None, now: Armed) -> bool:
    """Whether it is the timer that is kept: armed by the same reading."""
    return before is not None and before.reading.identity == now.reading.identity

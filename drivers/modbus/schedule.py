"""Who is asked next on one line, and whose silence costs what. Pure: times are seconds on the caller's monotonic clock.

due ─► fire ─► bulk ─► probes of silent units
 └──► told bad at once: a silent unit's other reads, everything while the line is down and was just tried

A job is one group of a unit's points; its requests are asked one a turn, the jobs of a queue taking turns, so that a long read
of one unit delays a fire point by one request at most. Each job keeps its own grid (phase by the unit's name, spread over the
interval), so a slow answer shifts nothing; grid points that have passed are skipped and counted, never caught up in a burst.

Breaker: a unit that does not answer is asked one request an interval of its most frequent job, when no living unit is due; only
if the living leave room for no probe at all, one goes before a bulk request each interval. The first answer closes the breaker,
and what was told bad without asking is read at once.
"""

from __future__ import annotations

import heapq
import itertools
import math
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

START_SPREAD_S = 5.0  # every unit is read once within this after the start, then on its own grid
LINE_RETRY = 0.75  # of the line's shortest interval, between attempts to connect
NAMES = 2**32  # of zlib.crc32


class Job(NamedTuple):
    """One group of a unit's points: `steps` requests each `poll_s`. Without steps it is only ever told bad."""

    unit: str
    group: int
    fire: bool
    poll_s: float
    steps: int


class Turn(NamedTuple):
    """What to do next: ask the job's request number `step`; or, when not `ask`, tell its points bad without asking."""

    job: Job
    step: int
    ask: bool


@dataclass(slots=True, eq=False)
class _Slot:
    job: Job
    phase_s: float
    due_s: float
    grid_s: float  # the last point of the grid that was planned
    step: int = 0
    waiting: bool = True  # in the heap, not in a queue
    owed: bool = False  # told bad without having been asked
    gone: bool = False


class Schedule:
    """Jobs by unit. Each turn that `next` gives is answered by `answered`, `stay`, `dead`, `ended` or `line_down`."""

    def __init__(self) -> None:
        self.skipped = 0  # grid points that passed while others took too long
        self._slots: dict[str, list[_Slot]] = {}
        self._heap: list[tuple[float, int, _Slot]] = []
        self._count = itertools.count()
        self._fire: deque[_Slot] = deque()
        self._bulk: deque[_Slot] = deque()
        self._probes: deque[_Slot] = deque()
        self._told: deque[_Slot] = deque()  # to be told bad
        self._silent: set[str] = set()
        self._free_s: dict[str, float] = {}  # unit → it bears no question before
        self._down = False
        self._retry_s = 0.0
        self._probed_s = -math.inf  # when a unit was last found silent

    @property
    def silent(self) -> frozenset[str]:
        """Units whose breaker is open."""
        return frozenset(self._silent)

    def keep(self, jobs: Mapping[str, tuple[Job, ...]], now_s: float) -> None:
        """Exactly these from now on; what stays as it is keeps its grid and its place."""
        for unit in [unit for unit in self._slots if unit not in jobs]:
            self._drop(unit)
        for unit, wanted in jobs.items():
            if tuple(slot.job for slot in self._slots.get(unit, ())) != wanted:
                self.replace(unit, wanted, now_s)

    def replace(self, unit: str, jobs: tuple[Job, ...], now_s: float) -> None:
        """Other jobs for a unit, all due at once within the start's spread."""
        known = unit in self._slots
        self._drop(unit)
        share = zlib.crc32(unit.encode()) / NAMES
        slots = self._slots[unit] = []
        for job in jobs:
            first_s = now_s if known else now_s + share * min(job.poll_s, START_SPREAD_S)
            slot = _Slot(job, share * job.poll_s, first_s, first_s)
            slots.append(slot)
            self._push(slot, first_s)

    def next(self, now_s: float) -> Turn | None:
        """The next turn; None when there is nothing to do before `wake_s`."""
        self._admit(now_s)
        if self._told:
            slot = self._told.popleft()
            self._plan(slot, now_s)
            return Turn(slot.job, 0, ask=False)
        slot_or_none = self._first(self._fire, now_s)
        if slot_or_none is None and self._starves(now_s):
            slot_or_none = self._first(self._probes, now_s)
        slot_or_none = slot_or_none or self._first(self._bulk, now_s) or self._first(self._probes, now_s)
        return None if slot_or_none is None else Turn(slot_or_none.job, slot_or_none.step, ask=True)

    def wake_s(self) -> float | None:
        """When `next` may have a turn again; None without jobs."""
        times = [self._heap[0][0]] if self._heap else []
        times += [self._free_s.get(slot.job.unit, 0.0) for queue in (self._fire, self._bulk, self._probes) for slot in queue]
        return min(times, default=None)

    def rest(self, unit: str, until_s: float) -> None:
        """The unit bears no question before `until_s`; others do."""
        self._free_s[unit] = until_s

    def answered(self, turn: Turn, now_s: float) -> bool:
        """The unit lives, and this request is done with; True when it was the last of its job."""
        slot = self._slot(turn)
        if slot is None:
            return True
        self._revive(slot, now_s)
        slot.step += 1
        if slot.step < slot.job.steps:
            self._rotate(slot)
            return False
        self._leave(slot)
        self._plan(slot, now_s)
        return True

    def stay(self, turn: Turn, now_s: float) -> None:
        """The unit lives, but was asked something else: the same request is still to come."""
        if (slot := self._slot(turn)) is not None:
            self._revive(slot, now_s)
            self._rotate(slot)

    def ended(self, turn: Turn, now_s: float) -> None:
        """The unit lives, and the rest of the job is not worth asking."""
        if (slot := self._slot(turn)) is not None:
            self._revive(slot, now_s)
            self._leave(slot)
            self._plan(slot, now_s)

    def dead(self, turn: Turn, now_s: float) -> list[Job]:
        """The unit does not answer: its breaker opens. Its jobs that had begun or were due end now, this one first."""
        slot = self._slot(turn)
        if slot is None:
            return []
        unit = turn.job.unit
        self._silent.add(unit)
        self._probed_s = now_s
        mine = [slot, *(other for other in self._slots[unit] if other is not slot and not other.waiting)]
        for other in mine:
            other.owed = other is not slot
            self._leave(other)
            self._plan(other, now_s)
        return [other.job for other in mine]

    def line_down(self, turn: Turn, now_s: float) -> list[Job]:
        """There is no connection: everything that is due ends now, and the next attempt waits a little."""
        shortest_s = min((slot.job.poll_s for slots in self._slots.values() for slot in slots), default=0.0)
        self._down, self._retry_s = True, now_s + LINE_RETRY * shortest_s
        slot = self._slot(turn)
        due = [other for queue in (self._fire, self._bulk, self._probes) for other in queue if other is not slot]
        every = due if slot is None else [slot, *due]
        for other in every:
            other.owed = True
            self._leave(other)
            self._plan(other, now_s)
        return [other.job for other in every]

    def line_up(self, now_s: float) -> bool:
        """There is a connection; True when there was none before. What was told bad meanwhile is read at once."""
        was_down, self._down = self._down, False
        if was_down:
            for unit, slots in self._slots.items():
                if unit not in self._silent:
                    self._recover(slots, now_s)
        return was_down

    def _admit(self, now_s: float) -> None:
        while self._heap and self._heap[0][0] <= now_s:
            due_s, _, slot = heapq.heappop(self._heap)
            if slot.gone or not slot.waiting or due_s != slot.due_s:
                continue  # planned anew since
            slot.waiting, slot.step = False, 0
            self._queue_of(slot, now_s).append(slot)

    def _queue_of(self, slot: _Slot, now_s: float) -> deque[_Slot]:
        unit = slot.job.unit
        if slot.job.steps == 0:
            return self._told
        if self._down and now_s < self._retry_s:
            slot.owed = True
            return self._told
        if unit not in self._silent:
            return self._fire if slot.job.fire else self._bulk
        if slot is min(self._slots[unit], key=lambda other: (other.job.poll_s, other.job.group)):
            return self._probes
        slot.owed = True
        return self._told

    def _starves(self, now_s: float) -> bool:
        """Whether living units left no room for any probe for a whole interval."""
        first = self._probes[0] if self._probes else None
        return first is not None and now_s - max(first.due_s, self._probed_s) >= first.job.poll_s

    def _first(self, queue: deque[_Slot], now_s: float) -> _Slot | None:
        if not queue or not self._free_s:
            return queue[0] if queue else None
        return next((slot for slot in queue if self._free_s.get(slot.job.unit, 0.0) <= now_s), None)

    def _slot(self, turn: Turn) -> _Slot | None:
        """The turn's slot, unless its unit was taken away or given other jobs while it was asked."""
        for slot in self._slots.get(turn.job.unit, ()):
            if slot.job is turn.job and not slot.waiting:
                return slot
        return None

    def _revive(self, slot: _Slot, now_s: float) -> None:
        unit = slot.job.unit
        if unit not in self._silent:
            return
        self._silent.discard(unit)
        self._leave(slot)
        (self._fire if slot.job.fire else self._bulk).append(slot)
        self._recover([other for other in self._slots[unit] if other is not slot], now_s)

    def _recover(self, slots: Iterable[_Slot], now_s: float) -> None:
        for slot in slots:
            if slot.owed and slot.waiting:
                slot.due_s = now_s
                self._push(slot, now_s)
            slot.owed = False

    def _rotate(self, slot: _Slot) -> None:
        self._leave(slot)
        (self._fire if slot.job.fire else self._bulk).append(slot)

    def _leave(self, slot: _Slot) -> None:
        for queue in (self._fire, self._bulk, self._probes, self._told):
            if slot in queue:
                queue.remove(slot)

    def _plan(self, slot: _Slot, now_s: float) -> None:
        """Wait for the next point of the grid that is still to come."""
        poll_s = slot.job.poll_s
        due_s = slot.phase_s + (math.floor((now_s - slot.phase_s) / poll_s) + 1) * poll_s
        if due_s <= now_s:  # rounding
            due_s += poll_s
        self.skipped += max(0, round((due_s - slot.grid_s) / poll_s) - 1)
        slot.waiting, slot.due_s, slot.grid_s = True, due_s, due_s
        self._push(slot, due_s)

    def _push(self, slot: _Slot, due_s: float) -> None:
        heapq.heappush(self._heap, (due_s, next(self._count), slot))

    def _drop(self, unit: str) -> None:
        for slot in self._slots.pop(unit, ()):
            slot.gone = True
            self._leave(slot)
        self._silent.discard(unit)
        self._free_s.pop(unit, None)

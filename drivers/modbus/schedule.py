"""Who is polled next on one connection. Pure: times are seconds on the caller's monotonic clock.

Each unit keeps its own grid (first poll plus n intervals), so a slow answer shifts nothing; grid points that have passed are
skipped and counted, never caught up in a burst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class _Slot:
    due_s: float
    interval_s: float


class Schedule:
    """Units by name, each with its interval."""

    def __init__(self) -> None:
        self.skipped = 0
        self._slots: dict[str, _Slot] = {}

    def keep(self, intervals: dict[str, float], now_s: float) -> None:
        """Poll exactly these from now on; a new unit, or one with a new interval, is due at once."""
        self._slots = {
            name: slot
            if (slot := self._slots.get(name)) is not None and slot.interval_s == interval_s
            else _Slot(now_s, interval_s)
            for name, interval_s in intervals.items()
        }

    def first(self) -> tuple[str, float] | None:
        """The unit that is due first, and when; None without units. Of units due together, the one longest in the list."""
        if not self._slots:
            return None
        name = min(self._slots, key=lambda name: self._slots[name].due_s)
        return name, self._slots[name].due_s

    def polled(self, name: str, now_s: float) -> None:
        """`name` has just been polled: it is due again at the next point of its grid that is still to come."""
        slot = self._slots[name]
        steps = max(1, math.floor((now_s - slot.due_s) / slot.interval_s) + 1)
        self.skipped += steps - 1
        slot.due_s += steps * slot.interval_s

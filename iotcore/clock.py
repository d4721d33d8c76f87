"""Time, injected: nothing below the composition root reads a clock of its own.

Wall time is UTC; monotonic time is for durations and deadlines and never jumps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """What the platform asks of a clock."""

    def wall_ms(self) -> float:
        """Milliseconds since 1970-01-01 UTC, with fractions."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> float:
        return time.time_ns() / 1e6

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass(slots=True)
class ManualClock:
    """A clock that tests move by hand; both times advance together."""

    now_ms: float = 1_795_312_800_000.0  # 2026-11-22T02:00:00Z
    elapsed_s: float = 0.0

    def wall_ms(self) -> float:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        """Move both times forward by `seconds`."""
        self.now_ms += seconds * 1000.0
        self.elapsed_s += seconds

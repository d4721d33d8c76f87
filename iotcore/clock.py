"""Time, injected: nothing below the composition root reads a clock of its own.

Wall time is UTC; monotonic time is for durations and deadlines and never jumps. Uptime is monotonic too, and goes on over the
end of a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4): drawn anew at each start of the machine


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


@dataclass(frozen=True, slots=True)
class Uptime:
    """Time since the machine started, its sleep included. Two times compare only under the same `machine`.

    `machine` names this start of the machine; "" where it cannot be told: then only times of one process compare.
    """

    machine: str
    seconds: Callable[[], float]


def machine_uptime(boot_id: Path = BOOT_ID) -> Uptime:
    """The uptime of this machine: CLOCK_BOOTTIME where there is one (Linux), else the monotonic clock of this process."""
    clock_id = getattr(time, "CLOCK_BOOTTIME", None)
    try:
        machine = boot_id.read_text(encoding="ascii").strip()[:8]  # 32 bits of it tell two starts apart
    except OSError:
        machine = ""
    if clock_id is None or not machine:
        return Uptime("", time.monotonic)
    return Uptime(machine, lambda: time.clock_gettime(clock_id))

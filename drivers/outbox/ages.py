"""How old a kept reading is, over restarts of the process and of the machine. Pure but for the clocks that it is given.

Same run, or same start of the machine: the difference of uptimes, which no clock setting touches. Over a reboot that is gone, and
the wall clock has to do, erring old: never less than the wall clock's difference at opening (taken against the latest wall time
ever written here) plus the uptime since, and never less than the wall clock says now. A clock set forward makes such rows older;
one set back cannot make them younger than they were at the last write.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from drivers.outbox.rows import Row
from iotcore.clock import Clock, Uptime


class LastWrite(NamedTuple):
    """The clocks at the last commit, as the file remembers them."""

    wall_ms: float = 0.0
    uptime_s: float = 0.0
    machine: str = ""


class Ages:
    """Ages as seen by the run with boot id `boot`, which opened the file after `last`."""

    def __init__(self, boot: str, last: LastWrite, clock: Clock, uptime: Uptime) -> None:
        self._boot = boot
        self._clock = clock
        self._uptime = uptime
        self._opened_s = uptime.seconds()
        self._opened_ms = max(clock.wall_ms(), last.wall_ms)
        # An uptime that went back is not the same start, whatever its name: a machine restored from a snapshot.
        self._continued = bool(uptime.machine) and not (last.machine == uptime.machine and last.uptime_s > self._opened_s)

    def age_ms(self, row: Row) -> int:
        """How long this row has been kept, never rounded down and never negative."""
        now_s = self._uptime.seconds()
        if row.boot == self._boot or (self._continued and row.machine == self._uptime.machine):
            return max(0, math.ceil((now_s - row.put_s) * 1000.0))
        reached_ms = max(self._opened_ms + (now_s - self._opened_s) * 1000.0, self._clock.wall_ms())
        return max(0, math.ceil(reached_ms - row.put_ms))

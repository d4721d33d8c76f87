"""Reading: what a device said, once it is understood.

A reading carries its identity (device, boot, seq), its source time, and for each point a value with a quality. Times are
milliseconds UTC. A value that could not be read is None with quality BAD and a reason: never absent, never the last one again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

Scalar = float | bool | str


class Quality(str, Enum):
    """How far a value can be trusted; the words are those of the wire."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One point's value. `why` explains a quality that is not GOOD ("timeout", "not_finite", "out_of_range")."""

    point: str
    value: Scalar | None
    quality: Quality = Quality.GOOD
    why: str = ""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One message of one device. A struct: it is made in a fifth of the time that a frozen dataclass takes.

    `observed_ms` is when the device saw it: its own clock if plausible, else the receive time, with what the clock said kept in
    `claimed_ms` and the trouble named in `clock_fault`. Lateness comes only from `backlog` and `age_ms`, never from a timestamp.

    `told` are its values as they were told. Where each of them is a GOOD finite number, `clean` may hold them instead, by point:
    the common case, whose values most stages need not look at one by one.
    """

    device: str
    boot: str
    seq: int
    kind: str
    observed_ms: float
    received_ms: float
    told: tuple[Value, ...] = msgspec.field(name="values")
    test: bool = False
    backlog: bool = False
    age_ms: int = 0
    retained: bool = False
    claimed_ms: int | None = None
    clock_fault: str = ""
    firmware: str = ""
    clean: Mapping[str, float] | None = None
    proven: bool = True  # False: its sender has shown a password, not a certificate

    @property
    def identity(self) -> tuple[str, str, int]:
        """(device, boot, seq): two messages with the same identity are one reading."""
        return (self.device, self.boot, self.seq)

    @property
    def values(self) -> tuple[Value, ...]:
        """Every value, in the order they were told."""
        return self.told if self.clean is None else tuple([Value(point, value) for point, value in self.clean.items()])

    def good(self, point: str) -> Scalar | None:
        """The GOOD value of `point`, or None."""
        if self.clean is not None:
            return self.clean.get(point)
        for value in self.told:
            if value.point == point and value.quality is Quality.GOOD:
                return value.value
        return None

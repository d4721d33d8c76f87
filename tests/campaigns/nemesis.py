"""What goes wrong during a campaign, and when: a schedule made from a seed, so that any run can be played again. Pure.

Moments are counted in readings made, not in seconds: the same faults meet the same readings on a slow machine and on a fast one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

BEGIN, END = 0.04, 0.94  # of the readings: faults begin when all is flowing, and the last finds readings still to come
SHORTEST_S = 0.2
FILLING_S = 1.0  # longer than the rest: first the disk must be filled


class Fault(StrEnum):
    """Each is ended by the campaign after a while: the process started again, the disk freed, the link mended."""

    KILL_TELEMETRY = "kill -9 telemetry"
    KILL_BROKER = "kill -9 mosquitto"
    KILL_STORE = "kill -9 influxd"
    FILL_DISK = "fill the disk"
    CUT_LINK = "cut the link (RST)"
    HALT_LINK = "halt the link (silence)"
    PAUSE_TELEMETRY = "SIGSTOP telemetry"
    PAUSE_BROKER = "SIGSTOP mosquitto"
    PAUSE_STORE = "SIGSTOP influxd"

    @property
    def victim(self) -> str:
        """What it strikes: one fault at a time for each."""
        return VICTIMS[self]


VICTIMS = {
    Fault.KILL_TELEMETRY: "telemetry",
    Fault.PAUSE_TELEMETRY: "telemetry",
    Fault.KILL_BROKER: "broker",
    Fault.PAUSE_BROKER: "broker",
    Fault.KILL_STORE: "store",
    Fault.PAUSE_STORE: "store",
    Fault.FILL_DISK: "disk",
    Fault.CUT_LINK: "link",
    Fault.HALT_LINK: "link",
}


@dataclass(frozen=True, slots=True)
class Step:
    """After so many readings made: this, for so long."""

    after: int
    fault: Fault
    lasts_s: float


def schedule(seed: str, messages: int, rounds: int, faults: Sequence[Fault], longest_s: float) -> list[Step]:
    """`rounds` times each fault in a random order, spread over the readings with jitter; some meet others that still last."""
    chance = random.Random(seed)
    order = [fault for _ in range(rounds) for fault in chance.sample(faults, len(faults))]
    width = (END - BEGIN) * messages / max(1, len(order))
    starts = [BEGIN * messages + (place + chance.random()) * width for place in range(len(order))]
    lasts_s = [chance.uniform(SHORTEST_S, longest_s) + FILLING_S * (fault is Fault.FILL_DISK) for fault in order]
    return [Step(int(at), fault, last_s) for at, fault, last_s in zip(starts, order, lasts_s, strict=True)]

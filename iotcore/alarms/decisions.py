"""Decisions: what a rule concludes, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import msgspec

from iotcore.journal.records import Severity
from iotcore.reading import Reading, Scalar

Change = Literal["raise", "clear"]
FIRST = "/first"  # behind a rule's name: its first alarm, not yet confirmed


class Reason(str, Enum):
    """Why a decision was made; operators and tests rely on these names."""

    ABOVE = "above_threshold"
    BELOW = "below_threshold"
    RISING = "rising"
    ACTIVE = "active"
    SILENT = "silent"  # no good value for too long
    COINCIDENCE = "coincidence"  # several signs of one device
    SUSTAINED = "sustained"
    FIRST_ALARM = "first_alarm"  # seen, and not yet confirmed
    LASTED = "lasted"
    SEEN_AGAIN = "seen_again"
    SECOND_CRITERION = "second_criterion"
    SECOND_POINT = "second_point"
    NOT_VERIFIED = "not_verified"  # the hard maximum has passed, and it is not known to be over
    ACTIVE_AGAIN = "active_again"  # of a latched rule, after it had returned to normal
    RETURNED = "returned"
    CONFIRMED = "confirmed"  # the end of a first alarm: it became a fire
    NOT_CONFIRMED = "not_confirmed"
    ALONE = "alone"  # no second point in time
    RULE_CHANGED = "rule_changed"


ENDS = frozenset({Reason.RETURNED, Reason.CONFIRMED, Reason.NOT_CONFIRMED, Reason.ALONE, Reason.RULE_CHANGED})


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule started to hold, or ended. `value` is the newest value of `point`, in `unit`."""

    rule: str
    reason: Reason
    severity: Severity
    hazard: str
    point: str
    value: Scalar | None
    unit: str
    immediate: bool = False
    change: Change = "raise"
    points: tuple[str, ...] = ()  # what bears it out, "device/point"

    @property
    def opens(self) -> bool:
        """Whether it is a new alarm: neither an end, nor a latched one that is active again."""
        return self.change == "raise" and self.reason is not Reason.ACTIVE_AGAIN


@dataclass(frozen=True, slots=True)
class Timed:
    """A decision that time made. `reading` is what armed it, without its values: whose it is, and its place in the stream."""

    decision: Decision
    reading: Reading
    old: bool  # of the track of old backlog


class Armed(msgspec.Struct, frozen=True):
    """A timer to be kept over a restart: of which rule, what armed it, and in how many seconds it is due.

    `rule` is the name that its decision would have. `due_in_s` counts from the moment that it was asked for.
    """

    rule: str
    due_in_s: float
    reading: Reading
    old: bool = False

    @property
    def key(self) -> str:
        """One timer of a device's rule and stream; unique in its process."""
        said = self.reading
        return f"{said.device} {self.rule} {said.backlog + self.old}{said.test:d}{said.retained:d}"


def bare(reading: Reading) -> Reading:
    """A reading without its values: what a timer has to know of it."""
    return reading if not reading.told and reading.clean is None else msgspec.structs.replace(reading, told=(), clean=None)


_SEVERITIES: tuple[Severity, ...] = ("alarm", "pre-alarm", "supervisory", "trouble", "advisory")


def urgency(decision: Decision) -> tuple[bool, int, bool]:
    """What bypasses every delay before the rest, fire before trouble, and what begins before what ends."""
    return (not decision.immediate, _SEVERITIES.index(decision.severity), decision.change == "clear")

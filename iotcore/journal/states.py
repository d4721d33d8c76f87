"""The state of an alarm as operators name it, derived from what is kept. Pure.

After the states that ISA-18.2 is quoted for; no claim of conformity. A fire is never shelved, whatever the shelf says.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from iotcore.journal.records import FIRE_SEVERITY


class State(str, Enum):
    """What an operator sees; the names are part of REST and pages."""

    NORMAL = "normal"
    UNACKNOWLEDGED = "unacknowledged-active"
    ACKNOWLEDGED = "acknowledged-active"
    RETURNED = "returned-unacknowledged"
    LATCHED = "latched"  # back to normal and acknowledged: waits for its reset
    SHELVED = "shelved"
    DISABLED = "disabled"


class Kept(NamedTuple):
    """Of a row of `alarm`; `cleared`: its condition has returned to normal."""

    state: str
    severity: str
    cleared: bool
    acknowledged: bool


def state_of(alarm: Kept, *, shelved: bool = False) -> State:
    """The state to show; tests and records of the past are normal: nothing stands."""
    if alarm.state == "disabled":
        return State.DISABLED
    if alarm.state != "active":
        return State.NORMAL
    if shelved and alarm.severity != FIRE_SEVERITY:
        return State.SHELVED
    if not alarm.cleared:
        return State.ACKNOWLEDGED if alarm.acknowledged else State.UNACKNOWLEDGED
    return State.LATCHED if alarm.acknowledged else State.RETURNED

"""Decisions: what a rule concludes, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from iotcore.journal.records import Severity
from iotcore.reading import Scalar

Change = Literal["raise", "clear"]


class Reason(str, Enum):
    """Why a decision was made; operators and tests rely on these names."""

    ABOVE = "above_threshold"
    BELOW = "below_threshold"
    RISING = "rising"
    ACTIVE = "active"
    COINCIDENCE = "coincidence"
    SILENT = "silent"


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


_SEVERITIES: tuple[Severity, ...] = ("alarm", "pre-alarm", "supervisory", "trouble", "advisory")


def urgency(decision: Decision) -> tuple[bool, int]:
    """Fire before trouble, and what bypasses every delay before the rest."""
    return (not decision.immediate, _SEVERITIES.index(decision.severity))

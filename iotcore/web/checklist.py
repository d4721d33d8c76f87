"""What a technician wants to see before leaving: enrolled, connected, first reading, and of a fire device a test alarm.

Pure: times are ms UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from iotcore.registry.city import FIRE_CLASSES
from iotcore.registry.records import Certificate
from iotcore.web.view import Shown

StepName = Literal["enrolled", "connected", "reading", "alarm"]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the list; `latency_ms` is from the detector's moment to the decision."""

    name: StepName
    done: bool
    latency_ms: float | None = None


def current(certificates: Sequence[Certificate], now_ms: float) -> Certificate | None:
    """The newest certificate that is neither revoked nor expired."""
    return next((one for one in certificates if one.revoked_ms is None and one.not_after_ms > now_ms), None)


def steps(device: Shown, certificates: Sequence[Certificate], now_ms: float) -> list[Step]:
    """The list for a device; `certificates` are those of its publisher, newest first: itself or its gateway."""
    alarm = device["alarm"]
    found = [
        Step("enrolled", current(certificates, now_ms) is not None),
        Step("connected", device["online"] is not False and (device["online"] is True or device["last_seen_ms"] is not None)),
        Step("reading", bool(device["values"])),
    ]
    if device["class"] in FIRE_CLASSES:
        found.append(Step("alarm", alarm is not None, alarm["raised_ms"] - alarm["detector_ms"] if alarm else None))
    return found

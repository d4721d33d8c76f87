"""What of a device concerns whoever installs it: which points it has and how it speaks; what it told while it was tested."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from iotcore.journal.records import TestAlarm
from iotcore.registry.directory import Binding
from iotcore.specs import repeat
from iotcore.wire.modbus_address import parse

Shown = dict[str, Any]


def fitted(binding: Binding) -> Shown:
    """The points that this unit has, by unit; those that every reading of it tells; how it speaks, and whether it marks tests."""
    spec = binding.spec
    if spec.protocol == "modbus" and spec.repeats:
        with suppress(ValueError):  # a wrong connection is told where it is polled
            spec = repeat.narrow(spec, dict(parse(binding.connection).ranges))
    measured = [name for name, point in spec.points.items() if spec.protocol == "modbus" or point.kind == "number"]
    return {
        "points": {name: point.unit for name, point in spec.points.items()},
        "expected": measured if spec.protocol in {"canonical", "modbus"} else [],
        "protocol": spec.protocol,
        "marks_tests": spec.marks_tests,
    }


def tests_told(rows: Iterable[Any]) -> list[Shown]:
    """Alarms of a device in test mode, as the journal has them (`journal.tests.COLUMNS`), each with its moments."""
    return [
        {
            "mode_ms": one.mode_ms,
            "incident": one.incident,
            "proves": bool(one.proves),
            "point": one.point,
            "latency_ms": one.latency_ms,
            "moments": spaced(one.moments()),
        }
        for one in (TestAlarm(*row) for row in rows)
    ]


def spaced(steps: Iterable[tuple[str, float | None]]) -> list[Shown]:
    """Moments in their order: when, and how many ms after the one before; None where it has not happened."""
    moments: list[Shown] = []
    before: float | None = None
    for name, at_ms in steps:
        moments.append({"name": name, "at_ms": at_ms, "after_ms": None if at_ms is None or before is None else at_ms - before})
        before = at_ms if at_ms is not None else before
    return moments

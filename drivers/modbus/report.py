"""What of a poll is told: everything at least each interval, a change at once. Pure: times are seconds on the caller's clock.

A change is another quality, another state of anything but a number, and a number that moved by more than its deadband since
it was last told. A number without a deadband is told at the interval only, unless it is a fire point: then every change counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from iotcore.reading import Quality, Value
from iotcore.specs.model import DeviceSpec, Point

SLACK = 0.75  # of a poll: a poll that comes a little early is still the one of its interval


class Report:
    """What one unit's points were last told as."""

    def __init__(self, spec: DeviceSpec) -> None:
        self._points = spec.points
        self._interval_s = spec.interval_s
        self._told: dict[str, Value] = {}
        self._full_s: dict[int, float] = {}  # by group: when all its points were told last

    def is_due(self, group: int, poll_s: float, now_s: float) -> bool:
        """Whether a poll of this group tells all its points."""
        last_s = self._full_s.get(group)
        return last_s is None or now_s + SLACK * poll_s >= last_s + self._interval_s

    def changes(self, values: Iterable[Value], *, fire: bool) -> tuple[Value, ...]:
        """Those that have changed since they were told; a point that was never told has not."""
        known = self._told
        return tuple(
            [
                value
                for value in values
                if (told := known.get(value.point)) is not None and told is not value and self._moved(told, value, fire=fire)
            ]
        )

    def told(self, values: Iterable[Value]) -> None:
        """These are on their way."""
        for value in values:
            self._told[value.point] = value

    def all_told(self, group: int, now_s: float) -> None:
        """All points of a group are on their way."""
        self._full_s[group] = now_s

    def forget(self) -> None:
        """What was told is lost: the next poll tells all of it again."""
        self._full_s.clear()

    def _moved(self, told: Value, value: Value, *, fire: bool) -> bool:
        if told.quality is not value.quality or told.why != value.why:
            return True
        if told.value == value.value:
            return False
        if isinstance(told.value, float) and isinstance(value.value, float):
            band = _band(self._points[value.point], fire=fire)
            return band is not None and value.quality is not Quality.BAD and abs(value.value - told.value) > band
        return True


def _band(point: Point, *, fire: bool) -> float | None:
    return 0.0 if point.deadband is None and fire else point.deadband

"""Quality control of the bulk lane: a value that should move and does not, from devices that speak MQTT themselves.

A spec says it with `stuck_after_s`; Modbus units are judged by their driver, which sees raw registers. A value that stands still
for longer is bad:stuck and keeps its number for the person who looks. Only live, good numbers are judged, by the time they were
observed; what comes out of a backlog or a test neither moves nor stops that time.

Pure: no clock. Bounded by the points that specs ask to watch.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec.structs import replace

from iotcore.reading import Quality, Reading, Value
from iotcore.specs.model import DeviceSpec
from iotcore.specs.stuck import STUCK

WATCHED_SPECS = 4096  # models; a city has a few dozen
MS_PER_S = 1000.0
Watched = tuple[tuple[str, float], ...]  # points, and how long each may stand still (ms)


class _Device:
    """What each watched point of a device said last, and since when (ms UTC)."""

    __slots__ = ("said", "since_ms", "watched")

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.said: list[float | None] = [None] * len(watched)
        self.since_ms = [0.0] * len(watched)


class Standing:
    """The devices that have watched points."""

    def __init__(self) -> None:
        self._devices: dict[str, _Device] = {}

    def judge(self, reading: Reading, spec: DeviceSpec) -> Reading:
        """The reading, with what has stood still for too long marked as bad."""
        watched = _watched(spec)
        if not watched or reading.backlog or reading.test:
            return reading
        device = self._devices.get(reading.device)
        if device is None or device.watched is not watched:
            device = self._devices[reading.device] = _Device(watched)
        good = reading.good if reading.clean is None else reading.clean.get
        said, since_ms, at_ms = device.said, device.since_ms, reading.observed_ms
        stuck: set[str] = set()
        for i, (point, limit_ms) in enumerate(watched):
            value = good(point)
            if value == said[i] and value is not None:
                stood_ms = at_ms - since_ms[i]
                if stood_ms > limit_ms:
                    stuck.add(point)
                elif stood_ms < 0.0:  # a clock set back starts anew
                    since_ms[i] = at_ms
            elif value is not None and not isinstance(value, bool | str):
                said[i] = value
                since_ms[i] = at_ms
        return reading if not stuck else replace(reading, told=_marked(reading.values, stuck), clean=None)


def _marked(values: tuple[Value, ...], stuck: set[str]) -> tuple[Value, ...]:
    return tuple(replace(one, quality=Quality.BAD, why=STUCK) if one.point in stuck else one for one in values)


@lru_cache(maxsize=WATCHED_SPECS)
def _watched(spec: DeviceSpec) -> Watched:
    if spec.protocol == "modbus":
        return ()
    return tuple((name, one.stuck_after_s * MS_PER_S) for name, one in spec.points.items() if one.stuck_after_s is not None)

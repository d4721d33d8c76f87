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


class Standing:
    """What each watched point said last, and since when."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, float]] = {}  # device, point → value, since (ms UTC)

    def judge(self, reading: Reading, spec: DeviceSpec) -> Reading:
        """The reading, with what has stood still for too long marked as bad."""
        watched = _watched(spec)
        if not watched or reading.backlog or reading.test:
            return reading
        clean = reading.clean
        stuck: set[str] = set()
        for point, limit_ms in watched:
            value = clean.get(point) if clean is not None else reading.good(point)
            if value is None or isinstance(value, bool | str):
                continue
            key = (reading.device, point)
            seen = self._seen.get(key)
            if seen is None or seen[0] != value or reading.observed_ms < seen[1]:  # a clock set back starts anew
                self._seen[key] = (value, reading.observed_ms)
            elif reading.observed_ms - seen[1] > limit_ms:
                stuck.add(point)
        return reading if not stuck else replace(reading, values=_marked(reading.values, stuck), clean=None)


def _marked(values: tuple[Value, ...], stuck: set[str]) -> tuple[Value, ...]:
    return tuple(replace(one, quality=Quality.BAD, why=STUCK) if one.point in stuck else one for one in values)


@lru_cache(maxsize=WATCHED_SPECS)
def _watched(spec: DeviceSpec) -> tuple[tuple[str, float], ...]:
    if spec.protocol == "modbus":
        return ()
    return tuple((name, one.stuck_after_s * MS_PER_S) for name, one in spec.points.items() if one.stuck_after_s is not None)

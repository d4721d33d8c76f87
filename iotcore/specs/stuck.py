"""Values that should move and do not: a frozen sensor, a gateway that repeats its last answer, a dead life-check word.

Times are seconds on the caller's monotonic clock; raw registers are compared, so that noise below a scale's last digit counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from iotcore.reading import Quality, Value
from iotcore.specs import raw
from iotcore.specs.decode import Registers
from iotcore.specs.model import DeviceSpec

STUCK, LIFE_CHECK = "stuck", "life_check"


@dataclass(slots=True)
class _Seen:
    words: tuple[int | None, ...]
    since_s: float


class Stuck:
    """What one unit's points that should move said last, and since when."""

    def __init__(self, spec: DeviceSpec) -> None:
        self._life_check = spec.life_check
        self._watched = {
            name: (point.modbus, point.stuck_after_s)
            for name, point in spec.points.items()
            if point.modbus is not None and point.stuck_after_s is not None
        }
        self._seen: dict[str, _Seen] = {}
        self._dead = False

    def judge(self, values: tuple[Value, ...], words: Registers, now_s: float) -> tuple[Value, ...]:
        """The values of one poll; what has stood still for too long is bad, keeping its number for the person who looks.

        A poll that could not read a point neither moves nor stops its time.
        """
        if not self._watched:
            return values
        stuck = {name for name in self._watched if self._stands(name, words, now_s)}
        if self._life_check is not None and self._was_read(self._life_check, words):
            self._dead = self._life_check in stuck
        if not stuck and not self._dead:
            return values
        return tuple(self._judged(value, stuck) for value in values)

    def _judged(self, value: Value, stuck: set[str]) -> Value:
        if value.quality is Quality.BAD:
            return value
        if value.point in stuck:
            return replace(value, quality=Quality.BAD, why=STUCK)
        return replace(value, quality=Quality.BAD, why=LIFE_CHECK) if self._dead else value

    def _was_read(self, name: str, words: Registers) -> bool:
        wire, _ = self._watched[name]
        return (wire.table, wire.address) in words

    def _stands(self, name: str, words: Registers, now_s: float) -> bool:
        wire, limit_s = self._watched[name]
        now = tuple(words.get((wire.table, wire.address + i)) for i in range(raw.width(wire)))
        seen = self._seen.get(name)
        if None in now:
            return False
        if seen is None or seen.words != now:
            self._seen[name] = _Seen(now, now_s)
            return False
        return now_s - seen.since_s > limit_s

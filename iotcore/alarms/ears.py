"""Ears: one for each fire device that is waited for, one for each gateway of theirs, and a wheel of when to look again. Pure.

The wheel turns in steps of `STEP_S`; each ear stands in one bucket, and is looked at once a limit, whatever it says meanwhile:
so a hundred thousand devices cost a step no more than those of its bucket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from iotcore.specs.model import SILENCE_INTERVALS

STEP_S = 0.25


@dataclass(slots=True, eq=False)
class Gateway:
    """Who speaks for several fire devices. `at_s` is when it last brought anything, were it only that a unit does not answer."""

    name: str
    at_s: float
    children: dict[str, Ear] = field(default_factory=dict)

    def newest(self) -> Ear:
        """The child that was heard last."""
        return max(self.children.values(), key=lambda ear: ear.at_s)

    def is_quiet(self, now_s: float) -> bool:
        """Whether it brings nothing of any child any more. Of an only child it cannot be told which of both is silent."""
        if len(self.children) < 2:  # noqa: PLR2004 - two are several
            return False
        quiet_s = now_s - max(self.at_s, self.newest().at_s)
        return quiet_s >= SILENCE_INTERVALS * min(ear.interval_s for ear in self.children.values())


@dataclass(slots=True, eq=False)
class Ear:
    """One device. `at_s` is when it was heard last, or since when it is waited for (monotonic)."""

    device: str
    at_s: float
    limit_s: float
    interval_s: float
    gateway: Gateway | None = None
    slow_s: float = 0.0  # from then on a reading of it needs a second look: to be written down, or because a fault stands
    boot: str = ""  # and
    seq: int = 0  # of the reading that was heard last
    active: bool = True
    bucket: int = -1

    @property
    def due_s(self) -> float:
        """When its limit is over."""
        return self.at_s + self.limit_s


class Wheel:
    """Which ears to look at when."""

    def __init__(self, now_s: float) -> None:
        self._buckets: dict[int, list[Ear]] = {}
        self._turned = _bucket(now_s)
        self._come: deque[tuple[int, Ear]] = deque()

    def spread(self, ear: Ear) -> None:
        """Look at it some time before it is due: those that begin together are not all due in one step for ever."""
        early_s = ear.limit_s * (hash(ear.device) % 1000) / 1000.0
        ear.bucket = max(_bucket(ear.due_s - early_s) + 1, self._turned + 1)
        self._buckets.setdefault(ear.bucket, []).append(ear)

    def put(self, ear: Ear) -> None:
        """Look at it when it is due, and not before."""
        ear.bucket = max(_bucket(ear.due_s) + 1, self._turned + 1)
        self._buckets.setdefault(ear.bucket, []).append(ear)

    def turn(self, now_s: float, most: int) -> Iterator[Ear]:
        """Those whose bucket has come, each once, `most` in one turn; who is not put again is looked at no more."""
        last = _bucket(now_s)
        steps = range(self._turned + 1, last + 1)
        self._turned = max(self._turned, last)
        come = steps if len(steps) < len(self._buckets) else sorted(key for key in self._buckets if key <= last)
        for key in come:
            self._come.extend((key, ear) for ear in self._buckets.pop(key, ()))
        while self._come and most:
            key, ear = self._come.popleft()
            if ear.bucket == key:
                most -= 1
                yield ear


def _bucket(at_s: float) -> int:
    return int(at_s // STEP_S)

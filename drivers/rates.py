"""How often each name may come: a bucket of tokens for each, filled by time. Pure but for the clock that it is given."""

from __future__ import annotations

from collections import OrderedDict

from iotcore.clock import Clock

MAX_NAMES = 10_000  # remembered; who came longest ago is forgotten first, and may come in full again


class Rates:
    """`per_s` times a second over time, `burst` times at once."""

    def __init__(self, clock: Clock, per_s: float, burst: int) -> None:
        self._clock = clock
        self._per_s, self._burst = per_s, float(burst)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when, s

    def must_wait(self, name: str) -> float:
        """How long `name` has to wait, s; 0: it may come, and that is counted."""
        now_s = self._clock.monotonic_s()
        left, at_s = self._left.pop(name, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at_s) * self._per_s)
        may = left >= 1.0
        self._left[name] = (left - 1.0 if may else left, now_s)
        if len(self._left) > MAX_NAMES:
            self._left.popitem(last=False)
        return 0.0 if may else (1.0 - left) / self._per_s

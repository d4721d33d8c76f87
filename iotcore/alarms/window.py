"""Windows: the last good values of one point of one device, on that device's own timeline.

Pure: no clock. Times are seconds on the timeline and never go back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from iotcore.alarms.conditions import Rise
from iotcore.reading import Reading

TOLERANCE_S = 0.001  # the wire's time resolution: a reading exactly mean_s old still counts
STILL_UP = 0.5  # of a rise, in the newest reading itself: a mean that only older readings hold up is no news
MAX_SAMPLES = 512  # five minutes at 1.7 readings a second; a faster device has a shorter window
CLOCK_DISAGREEMENT_S = 60.0  # a stall longer than this is marked backlog by its sender (wire contract), so it is a clock step


@dataclass(slots=True)
class Timeline:
    """How much time passed between the readings of one device, as well as two clocks can tell.

    The device's clock says when it measured, so a network stall does not squeeze or stretch a slope; the monotonic clock of who
    receives it stands in where the device's clock is frozen, steps or runs backwards, so that no wall clock that steps changes a
    duration. Backlog arrives in a burst: there only the device's clock tells.
    """

    at_s: float = 0.0
    _observed_ms: float | None = None
    _came_s: float = 0.0
    received_ms: float = 0.0  # of the newest reading, ms UTC

    def later_than(self, observed_ms: float) -> bool:
        """Whether what came last was observed after this time."""
        return self._observed_ms is not None and self._observed_ms > observed_ms

    def advance(self, reading: Reading, now_s: float) -> float:
        """Move to `reading`, which came at `now_s`, and return its time, seconds since the first one; it never goes back."""
        last = self._observed_ms
        if last is not None:
            observed_s = (reading.observed_ms - last) / 1000.0
            if reading.backlog:
                step_s = observed_s
            else:
                received_s = now_s - self._came_s
                agree = observed_s > 0.0 and -CLOCK_DISAGREEMENT_S <= observed_s - received_s <= CLOCK_DISAGREEMENT_S
                step_s = observed_s if agree else received_s
            if step_s > 0.0:
                self.at_s += step_s
        self._observed_ms = reading.observed_ms
        self._came_s = now_s
        self.received_ms = reading.received_ms
        return self.at_s


@dataclass(slots=True)
class Window:
    """The good numbers of one point, newest last, none older than `span_s` except the newest few that a mean may need."""

    span_s: float
    keep: int  # newest samples kept whatever their age: a device that reports rarely still has consecutive readings
    samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    _floor: float = inf  # no sample is lower; may be lower than all of them until it is measured again
    _until_measured: int = MAX_SAMPLES
    _asked: tuple[float, float, int] = (-1.0, 0.0, 0)
    _answer: tuple[float, int] | None = None

    def add(self, at_s: float, value: float) -> None:
        """Take a good value in; forget what no condition can ask for any more."""
        samples = self.samples
        samples.append((at_s, value))
        self._asked = (-1.0, 0.0, 0)
        oldest = at_s - self.span_s - TOLERANCE_S
        while samples[0][0] < oldest and len(samples) > self.keep:
            samples.popleft()
        self._until_measured -= 1
        if self._until_measured == 0:
            self._until_measured = len(samples)
            self._floor = min(sample for _, sample in samples)
        elif value < self._floor:
            self._floor = value

    def lengthen(self, span_s: float, keep: int) -> None:
        """Remember so much from now on; never less than before, for what is there may still be asked for."""
        self.span_s, self.keep = max(self.span_s, span_s), max(self.keep, keep)

    def newest_mean(self, at_s: float, mean_s: float, readings: int) -> tuple[float, int] | None:
        """Mean of the samples of the last `mean_s`, at least `readings` of them, and their count; None if there are too few."""
        asked = (at_s, mean_s, readings)
        if asked == self._asked:  # several rules ask the same of one reading
            return self._answer
        oldest = at_s - mean_s - TOLERANCE_S
        samples = self.samples
        total, count = samples[-1][1], 1
        if readings > 1 or (len(samples) > 1 and samples[-2][0] >= oldest):
            for sampled_s, value in islice(reversed(samples), 1, None):
                if sampled_s < oldest and count >= readings:
                    break
                total += value
                count += 1
        self._asked = asked
        self._answer = (total / count, count) if count >= readings else None
        return self._answer

    def risen(self, at_s: float, rise: Rise) -> bool | None:
        """Whether the newest mean is `rise.by` above the mean of the window's oldest samples.

        None while there are too few readings, or the two means would share one.
        """
        newest = self.newest_mean(at_s, rise.mean_s, rise.readings)
        if newest is None:
            return None
        if newest[0] - self._floor < rise.by:  # the quiet case, without a look at the window
            return False
        base = self._base_mean(at_s - rise.within_s - TOLERANCE_S, rise, len(self.samples) - newest[1])
        if base is None:
            return None
        return newest[0] - base >= rise.by and self.samples[-1][1] - base >= rise.by * STILL_UP

    def _base_mean(self, oldest: float, rise: Rise, room: int) -> float | None:
        """Mean of the first `base_s` of the samples from `oldest` on, at least `readings` of them, all among the first `room`."""
        end = inf
        total, count = 0.0, 0
        for sampled_s, value in islice(self.samples, room):
            if sampled_s < oldest:
                continue
            if count == 0:
                end = sampled_s + rise.base_s + TOLERANCE_S
            elif sampled_s > end and count >= rise.readings:
                break
            total += value
            count += 1
        return total / count if count >= rise.readings else None

"""Nodes: conditions bound to the points of a model, each with its judgement. Pure.

`judge` says the leaf that makes a node hold, False if it does not hold, or None: unknown, neither satisfies nor clears.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, cast

from iotcore.alarms.conditions import Bit, Leaf, Mean, Rise, Stale, State, Sum, Threshold, Word
from iotcore.alarms.decisions import Reason, bare
from iotcore.alarms.engine_memory import Look, Memory
from iotcore.alarms.window import TOLERANCE_S
from iotcore.reading import Scalar
from iotcore.schedule import Schedule

STALE_S = 60.0  # at least so long is a value fresh: a part that nothing was heard of for longer gives no verdict
STALE_INTERVALS = 2.5  # of what the spec promises, as for supervision
STALE_MAX_S = 900.0  # no condition looks further back


@dataclass(frozen=True, slots=True)
class LeafNode:
    """A leaf over the points that it looks at. `number` is what its hysteresis is kept under."""

    number: int
    leaf: Leaf
    points: tuple[str, ...]
    fresh_s: float

    @property
    def point(self) -> str:
        """The point that a decision names."""
        return self.points[0]

    @property
    def unit(self) -> str:
        """What its value is measured in; "" for none."""
        return self.leaf.unit if isinstance(self.leaf, Threshold | Rise | Sum | Mean) else ""

    @property
    def is_plain(self) -> bool:
        """Whether it asks for the newest number alone."""
        return isinstance(self.leaf, Threshold) and not self.leaf.mean_s and self.leaf.readings <= 1

    @property
    def reason(self) -> Reason:
        """Why it holds when it does."""
        leaf = self.leaf
        if isinstance(leaf, Rise):
            return Reason.RISING
        if isinstance(leaf, Stale):
            return Reason.SILENT
        if isinstance(leaf, Threshold | Sum | Mean):
            return Reason.ABOVE if leaf.above is not None else Reason.BELOW
        return Reason.ACTIVE

    def value(self, memory: Memory) -> Scalar | None:
        """What a decision tells: the newest value, or that of all points together."""
        told = [memory.newest[point][1] for point in self.points if point in memory.newest]
        if not isinstance(self.leaf, Sum | Mean):
            return told[0] if told else None
        total = sum(value for value in told if not isinstance(value, str))
        return total if isinstance(self.leaf, Sum) else total / max(len(told), 1)

    def judge(self, look: Look) -> Verdict:
        """As the module says."""
        holds = self._holds(look)
        if holds is None:
            look.unknown = True
            return None
        return self if holds else False

    def _holds(self, look: Look) -> bool | None:  # noqa: PLR0911 - one answer for each kind
        memory, leaf = look.memory, self.leaf
        kind = type(leaf)  # asked for with each reading: an isinstance of a union costs more than all the rest
        if kind is Stale or kind is Sum or kind is Mean:
            return self._silent(look, leaf) if isinstance(leaf, Stale) else self._over(look, cast("Sum | Mean", leaf))
        point = self.points[0]
        newest = memory.newest.get(point)
        if newest is None or look.at_s - newest[0] > self.fresh_s or (memory.doubtful and point in memory.doubtful):
            return None
        value = newest[1]
        if kind is State:
            return value is cast("State", leaf).is_
        if kind is Threshold:
            threshold = cast("Threshold", leaf)
            if not threshold.mean_s and threshold.readings <= 1:
                return _crossed(threshold, cast("float", value), self.number, memory.holding)
            mean = memory.windows[point].newest_mean(memory.timeline.at_s, threshold.mean_s, threshold.readings)
            if mean is None:
                return None
            if _on_that_side(threshold, cast("float", value)):
                return _crossed(threshold, mean[0], self.number, memory.holding)
            # a mean that only older readings hold up does not begin anything, and does not end it yet
            ends = self.number not in memory.holding or not _crossed(threshold, mean[0], self.number, memory.holding)
            return False if ends else None
        if kind is Rise:
            return memory.windows[point].risen(memory.timeline.at_s, cast("Rise", leaf))
        return _says(cast("Bit | Word", leaf), value)

    def _silent(self, look: Look, leaf: Stale) -> bool | None:
        newest = look.memory.newest.get(leaf.point)
        if newest is None:
            return None
        due_s = newest[0] + leaf.for_s
        if look.at_s >= due_s - TOLERANCE_S:
            return True
        look.again(due_s)
        return False

    def _over(self, look: Look, leaf: Sum | Mean) -> bool | None:
        memory, total = look.memory, 0.0
        for point in self.points:
            newest = memory.newest.get(point)
            if newest is None or look.at_s - newest[0] > self.fresh_s or point in memory.doubtful:
                return None
            assert not isinstance(newest[1], str), "only numbers are added up"
            total += newest[1]
        return _crossed(leaf, total if isinstance(leaf, Sum) else total / len(self.points), self.number, memory.holding)


Verdict = LeafNode | Literal[False] | None


class Node(Protocol):
    """What a condition is bound to."""

    def judge(self, look: Look) -> Verdict:
        """As the module says."""


@dataclass(frozen=True, slots=True)
class Joined:
    """An `all` or `any`."""

    every: bool
    parts: tuple[Node, ...]

    def judge(self, look: Look) -> Verdict:
        """The first part that holds gives the reason."""
        found: LeafNode | None = None
        unknown = refuted = False
        why = look.reason
        for part in self.parts:  # every part, also after the outcome is clear: each keeps its own hysteresis
            look.reason = None
            verdict = part.judge(look)
            if verdict is None:
                unknown = True
            elif verdict is False:
                refuted = True
            elif found is None:
                found, why = verdict, look.reason
        look.reason = why
        if not self.every:
            return found or (None if unknown else False)
        if refuted or unknown or found is None:
            return False if refuted else None
        if len(self.parts) > 1:
            look.reason = Reason.COINCIDENCE
        return found


@dataclass(frozen=True, slots=True)
class Inverse:
    """A `not`."""

    part: Node
    leaf: LeafNode

    def judge(self, look: Look) -> Verdict:
        """Of what is unknown, unknown."""
        verdict = self.part.judge(look)
        return None if verdict is None else self.leaf if verdict is False else False


@dataclass(frozen=True, slots=True)
class Lasting:
    """A `sustained`: on the device's timeline by its readings, and by time alone while the last value is fresh."""

    number: int
    part: Node
    for_s: float

    def judge(self, look: Look) -> Verdict:
        """Unknown neither ends nor satisfies it."""
        verdict = self.part.judge(look)
        since = look.memory.since
        if verdict is False:
            since.pop(self.number, None)
            return False
        if verdict is None:
            return None
        found = since.get(self.number)
        if found is None:
            found = since[self.number] = (look.at_s, bare(look.reading))
        due_s, look.armed = found[0] + self.for_s, found[1]
        if look.at_s >= due_s - TOLERANCE_S:
            look.reason = Reason.SUSTAINED
            return verdict
        look.again(due_s)
        return False


@dataclass(frozen=True, slots=True)
class Timetabled:
    """A `during`, or the schedule of a whole rule."""

    part: Node
    schedule: Schedule

    def judge(self, look: Look) -> Verdict:
        """Outside the schedule it does not hold; where the part holds, time changes that at its next edge."""
        verdict = self.part.judge(look)
        if not verdict:
            return verdict
        change_ms = self.schedule.next_change_ms(look.wall_ms)
        if change_ms is not None:
            look.again(look.at_s + (change_ms - look.wall_ms) / 1000.0)
        return verdict if self.schedule.active(look.wall_ms) else False


def _says(leaf: Bit | Word, value: float | bool | str) -> bool | None:  # noqa: FBT001 - a value of any kind
    if isinstance(leaf, Word):
        words = str(value).split()
        return bool(words) if not leaf.is_ else any(word in leaf.is_ for word in words)
    assert not isinstance(value, str), "a bit is of a number"
    whole = int(value)
    if whole != value or whole < 0:
        return None  # no status word
    return bool(whole >> leaf.bit & 1) is leaf.is_


def _on_that_side(threshold: Threshold, newest: float) -> bool:
    """Whether the newest reading itself is not back past `clear`."""
    if threshold.above is not None:
        return newest >= (threshold.above if threshold.clear is None else threshold.clear)
    assert threshold.below is not None, "a checked threshold has above or below"
    return newest <= (threshold.below if threshold.clear is None else threshold.clear)


def _crossed(threshold: Threshold | Sum | Mean, mean: float, number: int, holding: set[int]) -> bool:
    """Whether the mean is beyond the threshold, or not yet back past `clear` since it was."""
    if threshold.above is not None:
        limit = threshold.above if number not in holding or threshold.clear is None else threshold.clear
        holds = mean >= limit
    else:
        assert threshold.below is not None, "a checked threshold has above or below"
        limit = threshold.below if number not in holding or threshold.clear is None else threshold.clear
        holds = mean <= limit
    if holds:
        holding.add(number)
    else:
        holding.discard(number)
    return holds

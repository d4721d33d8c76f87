"""Engine: rules over the stream of readings, in memory, one decision when a rule starts to hold.

```
reading ─► track (device × live | backlog | old | test | retained) ─► timeline ─► windows ─► rules of its model ─► decisions
```

Pure: no clock, no I/O. Backlog, test and retained readings have tracks of their own: what a drill or a late delivery latches must
never hide a live fire. A value that is not GOOD, not finite or of the wrong kind neither satisfies nor clears anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from math import inf, isfinite
from typing import Literal

from iotcore.alarms.rules import All, AnyOf, Condition, Each, Leaf, Rise, Rule, State, Threshold, leaves, misfit
from iotcore.alarms.window import Timeline, Window
from iotcore.journal.records import Severity
from iotcore.reading import Quality, Reading, Scalar
from iotcore.specs.model import DeviceSpec

_LEAVES_MAX = 1000  # of one rule: leaves are numbered rule by rule, so that a changed spec renumbers nothing
_EACH_MAX = 100_000  # points that one rule decides about apart; no spec has as many
STALE_S = 60.0  # a part of an `all` whose newest good value is older than this gives no verdict


class Reason(str, Enum):
    """Why a decision was made; operators and tests rely on these names."""

    ABOVE = "above_threshold"
    BELOW = "below_threshold"
    RISING = "rising"
    ACTIVE = "active"
    COINCIDENCE = "coincidence"


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule started to hold. `value` is the newest value of `point`, in `unit`."""

    rule: str
    reason: Reason
    severity: Severity
    hazard: str
    point: str
    value: Scalar | None
    unit: str
    immediate: bool = False


@dataclass(slots=True)
class _Track:
    """What is remembered of one device's live, backlog, old, test or retained stream."""

    timeline: Timeline = field(default_factory=Timeline)
    windows: dict[str, Window] = field(default_factory=dict)
    states: dict[str, tuple[float, bool]] = field(default_factory=dict)
    holding: set[int] = field(default_factory=set)  # numbers of the thresholds that hold: their hysteresis
    raised: set[int] = field(default_factory=set)  # numbers of the rules that decided and were not reset
    latches: bool = True  # a test stream does not: every press of a test button is seen


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A leaf with the number that its hysteresis is kept under."""

    number: int
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class _Joined:
    """An `all` or `any` over numbered parts."""

    every: bool
    parts: tuple[_Numbered | _Joined, ...]


_Node = _Numbered | _Joined


@dataclass(frozen=True, slots=True)
class _Bound:
    """A rule bound to a model, over the points that the model has in the right unit."""

    number: int
    rule: Rule
    node: _Node


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one model's readings need: which points feed windows, and which rules each point touches.

    `quiet`: between which values (both excluded) a point satisfies no rule, whatever else is said; only for points whose rules
    are all plain thresholds on the newest value.
    """

    spec: DeviceSpec
    spans: dict[str, tuple[float, int]]
    rules: dict[str, tuple[_Bound, ...]]
    quiet: dict[str, tuple[float, float]]


class Engine:
    """Evaluates readings against rules. One per process; state is bounded by the registry's devices."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._plans: dict[str, _Plan] = {}
        self._tracks: dict[tuple[str, int, bool, bool], _Track] = {}

    def evaluate(self, reading: Reading, spec: DeviceSpec, *, old: bool = False) -> list[Decision]:
        """The decisions that this reading causes, usually none: a rule decides when it starts to hold, then stays latched.

        Test, backlog and retained readings are judged too, apart from the live ones; the lane decides what becomes of it.
        `old` backlog has a track of its own too: what it latches is a record, and must not hide what is still worth a crew.
        """
        plan = self._plans.get(spec.model)
        if plan is None or plan.spec is not spec:
            plan = self._plans[spec.model] = _plan(self._rules, spec)
        key = (reading.device, reading.backlog + old, reading.test, reading.retained)
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = _Track(latches=not reading.test)
        at_s = track.timeline.advance(reading)
        touched = _take_in(reading, plan, track, at_s)
        decisions = [d for bound in touched if (d := _decide(bound, track, at_s)) is not None]
        return sorted(decisions, key=_urgency) if len(decisions) > 1 else decisions

    def cleared(self, decision: Decision, reading: Reading, spec: DeviceSpec) -> bool:
        """Whether the device has told since, live or late, that what this reading decided is over; nothing told is not over."""
        plan = self._plans[spec.model]
        for late in range(3):
            track = self._tracks.get((reading.device, late, reading.test, reading.retained))
            if track is None or not track.timeline.later_than(reading.observed_ms):
                continue
            for bound in plan.rules.get(decision.point, ()):
                if _name(bound, decision.point) == decision.rule and _judge(bound.node, track, track.timeline.at_s) is False:
                    return True
        return False

    def reset(self, devices: Iterable[str]) -> None:
        """Unlatch every rule of these devices; a point that is still active raises anew with its next reading."""
        wanted = set(devices)
        for (device, *_), track in self._tracks.items():
            if device in wanted:
                track.raised.clear()


def _take_in(reading: Reading, plan: _Plan, track: _Track, at_s: float) -> Iterable[_Bound]:
    """Put the good values into the windows; return the rules that they touch, each once, in the order of the rule file."""
    touched: dict[int, _Bound] = {}
    calm = not track.raised and not track.holding  # else what is quiet may end something
    for said in reading.values:
        point, value = said.point, said.value
        rules = plan.rules.get(point)
        if rules is None or said.quality is not Quality.GOOD or value is None:
            continue
        span = plan.spans.get(point)
        if span is None:
            if not isinstance(value, bool):
                continue
            track.states[point] = (at_s, value)
        else:
            if isinstance(value, bool | str) or not isfinite(value):
                continue
            window = track.windows.get(point)
            if window is None:
                window = track.windows[point] = Window(*span)
            window.add(at_s, value)
            if calm and (band := plan.quiet.get(point)) is not None and band[0] < value < band[1]:
                continue
        for bound in rules:
            touched[bound.number] = bound
    return touched.values()


def _decide(bound: _Bound, track: _Track, at_s: float) -> Decision | None:
    node = bound.node
    verdict: Leaf | Literal[False] | None
    if type(node) is _Numbered:
        holds = _judge_leaf(node, track, at_s)
        if holds is False and bound.number not in track.raised:  # nearly always
            return None
        verdict = None if holds is None else holds and node.leaf
    else:
        verdict = _judge(node, track, at_s)
    if verdict is None:
        return None
    if verdict is False:
        if not (bound.rule.latched and track.latches):
            track.raised.discard(bound.number)
        return None
    if bound.number in track.raised:
        return None
    track.raised.add(bound.number)
    rule, leaf = bound.rule, verdict
    value = track.states[leaf.point][1] if isinstance(leaf, State) else track.windows[leaf.point].samples[-1][1]
    unit = "" if isinstance(leaf, State) else leaf.unit
    return Decision(
        _name(bound, leaf.point), _reason(rule.when, leaf), rule.severity, rule.hazard, leaf.point, value, unit, rule.immediate
    )


def _name(bound: _Bound, point: str) -> str:
    """Two points of one reading, of a rule that decides about each, are two causes."""
    return f"{bound.rule.id}:{point}" if isinstance(bound.rule.when, Each) else bound.rule.id


def _judge(node: _Node, track: _Track, at_s: float) -> Leaf | Literal[False] | None:
    """The leaf that makes the node hold; False if it does not hold; None for no new verdict."""
    if isinstance(node, _Numbered):
        holds = _judge_leaf(node, track, at_s)
        if holds is None:
            return None
        return node.leaf if holds else False
    found: Leaf | None = None
    unknown = refuted = False
    for part in node.parts:  # every part, also after the outcome is clear: each keeps its own hysteresis
        verdict = _judge(part, track, at_s)
        if verdict is None:
            unknown = True
        elif verdict is False:
            refuted = True
        elif found is None:
            found = verdict
    if node.every:
        return False if refuted else None if unknown else found
    return found or (None if unknown else False)


def _judge_leaf(numbered: _Numbered, track: _Track, at_s: float) -> bool | None:
    leaf = numbered.leaf
    if isinstance(leaf, State):
        state = track.states.get(leaf.point)
        return None if state is None or at_s - state[0] > STALE_S else state[1] is leaf.is_
    window = track.windows.get(leaf.point)
    if window is None or at_s - window.samples[-1][0] > STALE_S:
        return None
    if isinstance(leaf, Rise):
        return window.risen(at_s, leaf)
    newest = window.newest_mean(at_s, leaf.mean_s, leaf.readings)
    return None if newest is None else _crossed(leaf, newest[0], numbered.number, track.holding)


def _crossed(threshold: Threshold, mean: float, number: int, holding: set[int]) -> bool:
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


def _reason(when: Condition | Each, leaf: Leaf) -> Reason:
    if isinstance(when, All):
        return Reason.COINCIDENCE
    if isinstance(when, AnyOf):
        return next(_reason(part, leaf) for part in when.of if any(leaf is inner for inner in leaves(part)))
    if isinstance(leaf, State):
        return Reason.ACTIVE
    if isinstance(leaf, Rise):
        return Reason.RISING
    return Reason.ABOVE if leaf.above is not None else Reason.BELOW


_SEVERITIES: tuple[Severity, ...] = ("alarm", "pre-alarm", "supervisory", "trouble", "advisory")


def _urgency(decision: Decision) -> tuple[bool, int]:
    """Fire before trouble, and what bypasses every delay before the rest."""
    return (not decision.immediate, _SEVERITIES.index(decision.severity))


def _plan(rules: Sequence[Rule], spec: DeviceSpec) -> _Plan:
    """Bind the rules to one model; a rule that has nothing left to judge there is left out of it."""
    spans: dict[str, tuple[float, int]] = {}
    by_point: dict[str, list[_Bound]] = {}
    for bound in _bounds(rules, spec):
        for leaf in _bound_leaves(bound.node):
            touching = by_point.setdefault(leaf.point, [])
            if not any(bound is other for other in touching):
                touching.append(bound)
            if not isinstance(leaf, State):
                span_s = leaf.within_s if isinstance(leaf, Rise) else leaf.mean_s
                known_s, keep = spans.get(leaf.point, (0.0, 1))
                spans[leaf.point] = (max(known_s, span_s), max(keep, leaf.readings))
    quiet = {point: band for point, bounds in by_point.items() if (band := _quiet(bounds)) is not None}
    return _Plan(spec, spans, {point: tuple(bounds) for point, bounds in by_point.items()}, quiet)


def _quiet(bounds: Sequence[_Bound]) -> tuple[float, float] | None:
    low, high = -inf, inf
    for bound in bounds:
        leaf = bound.node.leaf if isinstance(bound.node, _Numbered) else None
        if not isinstance(leaf, Threshold) or leaf.mean_s or leaf.readings > 1:
            return None
        if leaf.above is not None:
            high = min(high, leaf.above)
        elif leaf.below is not None:
            low = max(low, leaf.below)
    return low, high


def _bounds(rules: Sequence[Rule], spec: DeviceSpec) -> Iterator[_Bound]:
    for i, rule in enumerate(rules):
        if not rule.covers(spec):
            continue
        number = i * _EACH_MAX
        if isinstance(rule.when, Each):
            for nth, state in enumerate(rule.when.of(spec)):
                yield _Bound(number + nth, rule, _Numbered(number + nth, state))
        elif (node := _bind(rule.when, spec, count(i * _LEAVES_MAX))) is not None:
            yield _Bound(number, rule, node)


def _bind(condition: Condition, spec: DeviceSpec, numbers: Iterator[int]) -> _Node | None:
    """The condition over points that this model has: an `all` needs every part, an `any` makes do with those it has."""
    if not isinstance(condition, All | AnyOf):
        numbered = _Numbered(next(numbers), condition)
        return None if misfit(condition, spec) else numbered
    parts = [_bind(part, spec, numbers) for part in condition.of]
    kept = tuple(part for part in parts if part is not None)
    if not kept or (isinstance(condition, All) and len(kept) < len(parts)):
        return None
    return _Joined(isinstance(condition, All), kept)


def _bound_leaves(node: _Node) -> Iterator[Leaf]:
    if isinstance(node, _Numbered):
        yield node.leaf
    else:
        for part in node.parts:
            yield from _bound_leaves(part)

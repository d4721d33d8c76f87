"""Engine: rules over the stream of readings, in memory, one decision when a rule starts to hold.

```
reading ─► track (device × live | backlog | old | test | retained) ─► timeline ─► newest, windows ─► rules ─► decisions
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
from typing import Literal, NamedTuple, TypeGuard

from iotcore.alarms.rules import All, AnyOf, Condition, Each, Leaf, Rise, Rule, State, Threshold, leaves, misfit
from iotcore.alarms.window import Timeline, Window
from iotcore.journal.records import Severity
from iotcore.reading import Quality, Reading, Scalar, Value
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
    SILENT = "silent"


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
    windows: dict[str, Window] = field(default_factory=dict)  # of points whose rules look further back than the newest value
    newest: dict[str, tuple[float, float | bool]] = field(default_factory=dict)  # when, what
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


class _Point(NamedTuple):
    """What one point of a model needs: a window or none, and the rules that it touches.

    Between `low` and `high` (both excluded) it satisfies no rule, whatever else is said; only where all of its rules are plain
    thresholds on the newest value.
    """

    is_state: bool
    span: tuple[float, int] | None
    rules: tuple[_Bound, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one model's readings need, for each point that a rule speaks of."""

    spec: DeviceSpec
    points: dict[str, _Point]


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
        key = (reading.device, reading.backlog + old, reading.test, reading.retained)  # as `_key`
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = _Track(latches=not reading.test)
        at_s = track.timeline.advance(reading)
        touched = _take_in(reading, plan, track, at_s)
        if not touched:  # nearly always
            return []
        decisions = [d for bound in touched.values() if (d := _decide(bound, track, at_s)) is not None]
        return sorted(decisions, key=_urgency) if len(decisions) > 1 else decisions

    def alarming(self, reading: Reading, spec: DeviceSpec, *, old: bool = False) -> bool:
        """Whether an alarm rule holds, by this reading or since an earlier one; asked right after `evaluate` of it."""
        track = self._tracks[_key(reading, old)]
        bounds = {bound.number: bound for point in self._plans[spec.model].points.values() for bound in point.rules}
        standing = [bounds[number] for number in track.raised if number in bounds]
        return any(bound.rule.severity == "alarm" and _judge(bound.node, track, track.timeline.at_s) for bound in standing)

    def take_back(self, decisions: Iterable[Decision], reading: Reading, spec: DeviceSpec, *, old: bool = False) -> None:
        """Forget that this reading decided so, for it is not taken: the next one that says the same decides anew."""
        track, points = self._tracks[_key(reading, old)], self._plans[spec.model].points
        for decision in decisions:
            for bound in points[decision.point].rules:
                if _name(bound, decision.point) == decision.rule:
                    track.raised.discard(bound.number)

    def cleared(self, decision: Decision, reading: Reading, spec: DeviceSpec) -> bool:
        """Whether the device has told since, live or late, that what this reading decided is over; nothing told is not over."""
        plan = self._plans[spec.model]
        for late in range(3):
            track = self._tracks.get((reading.device, late, reading.test, reading.retained))
            if track is None or not track.timeline.later_than(reading.observed_ms):
                continue
            point = plan.points.get(decision.point)
            for bound in point.rules if point else ():
                if _name(bound, decision.point) == decision.rule and _judge(bound.node, track, track.timeline.at_s) is False:
                    return True
        return False

    def reset(self, devices: Iterable[str]) -> None:
        """Unlatch every rule of these devices; a point that is still active raises anew with its next reading."""
        wanted = set(devices)
        for (device, *_), track in self._tracks.items():
            if device in wanted:
                track.raised.clear()


def _key(reading: Reading, old: bool) -> tuple[str, int, bool, bool]:  # noqa: FBT001 - part of the key
    return (reading.device, reading.backlog + old, reading.test, reading.retained)


def _take_in(reading: Reading, plan: _Plan, track: _Track, at_s: float) -> dict[int, _Bound]:
    """Remember the good values; return the rules that they touch, each once, in the order of the rule file."""
    touched: dict[int, _Bound] = {}
    calm = not track.raised and not track.holding  # else what is quiet may end something
    points, newest = plan.points, track.newest
    for name, value in _good(reading.values) if reading.clean is None else reading.clean.items():
        point = points.get(name)
        if point is None or point.is_state is not (type(value) is bool):
            continue
        newest[name] = (at_s, value)
        if point.span is not None:
            window = track.windows.get(name)
            if window is None:
                window = track.windows[name] = Window(*point.span)
            window.add(at_s, value)
        if calm and point.low < value < point.high:
            continue
        for bound in point.rules:
            touched[bound.number] = bound
    return touched


def _good(values: Iterable[Value]) -> Iterator[tuple[str, float | bool]]:
    """States and finite numbers that can be trusted."""
    for said in values:
        value = said.value
        if said.quality is Quality.GOOD and value is not None and not isinstance(value, str) and isfinite(value):
            yield said.point, value


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
    value = track.newest[leaf.point][1]
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
    newest = track.newest.get(leaf.point)
    if newest is None or at_s - newest[0] > STALE_S:
        return None
    if isinstance(leaf, State):
        return newest[1] is leaf.is_
    if _is_plain(leaf):
        return _crossed(leaf, newest[1], numbered.number, track.holding)
    window = track.windows[leaf.point]
    if isinstance(leaf, Rise):
        return window.risen(at_s, leaf)
    mean = window.newest_mean(at_s, leaf.mean_s, leaf.readings)
    return None if mean is None else _crossed(leaf, mean[0], numbered.number, track.holding)


def _is_plain(leaf: Leaf) -> TypeGuard[Threshold]:
    """Whether it asks for the newest value alone."""
    return isinstance(leaf, Threshold) and not leaf.mean_s and leaf.readings <= 1


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
    by_point: dict[str, list[tuple[Leaf, _Bound]]] = {}
    for bound in _bounds(rules, spec):
        for leaf in _bound_leaves(bound.node):
            by_point.setdefault(leaf.point, []).append((leaf, bound))
    return _Plan(spec, {name: _point(asking) for name, asking in by_point.items()})


def _point(asking: Sequence[tuple[Leaf, _Bound]]) -> _Point:
    bounds = tuple({bound.number: bound for _, bound in asking}.values())
    back = [leaf for leaf, _ in asking if not isinstance(leaf, State) and not _is_plain(leaf)]
    span: tuple[float, int] | None = None
    if back:
        longest_s = max(leaf.within_s if isinstance(leaf, Rise) else leaf.mean_s for leaf in back)
        span = (longest_s, max(leaf.readings for leaf in back))
    return _Point(isinstance(asking[0][0], State), span, bounds, *_quiet(bounds))


def _quiet(bounds: Sequence[_Bound]) -> tuple[float, float]:
    low, high = -inf, inf
    for bound in bounds:
        leaf = bound.node.leaf if isinstance(bound.node, _Numbered) else None
        if leaf is None or not _is_plain(leaf):
            return inf, -inf
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

"""Judging: what the rules of a plan conclude from what is remembered of a device. Pure.

True, False and unknown: a value that is not GOOD, not finite or of the wrong kind neither satisfies nor clears anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from iotcore.alarms.conditions import All, AnyOf, Condition, Each, Leaf, Rise, State, Threshold, leaves
from iotcore.alarms.decisions import Decision, Reason
from iotcore.alarms.engine_plan import Bound, Node, Numbered, Plan, is_plain
from iotcore.alarms.window import Timeline, Window
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding

STALE_S = 60.0  # a part of an `all` whose newest good value is older than this gives no verdict


@dataclass(slots=True)
class Track:
    """What is remembered of one device's live, backlog, old, test or retained stream, and the plan that it is judged by."""

    plan: Plan
    binding: Binding
    planner: object
    groups: frozenset[str]
    latches: bool  # a test stream does not: every press of a test button is seen
    timeline: Timeline = field(default_factory=Timeline)
    windows: dict[str, Window] = field(default_factory=dict)  # of points whose rules look further back than the newest value
    newest: dict[str, tuple[float, float | bool]] = field(default_factory=dict)  # when, what
    holding: set[int] = field(default_factory=set)  # numbers of the thresholds that hold: their hysteresis
    raised: set[int] = field(default_factory=set)  # numbers of the rules that decided and were not reset


def take_in(reading: Reading, track: Track, at_s: float) -> dict[int, Bound]:
    """Remember the good values; return the rules that they touch, each once, in the order of the rule file."""
    touched: dict[int, Bound] = {}
    calm = not track.raised and not track.holding  # else what is quiet may end something
    points, newest = track.plan.points, track.newest
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


def decide(bound: Bound, track: Track, at_s: float) -> Decision | None:
    """What a rule concludes now, if it is anything new."""
    node = bound.node
    verdict: Leaf | Literal[False] | None
    if type(node) is Numbered:
        holds = judge_leaf(node, track, at_s)
        if holds is False and bound.number not in track.raised:  # nearly always
            return None
        verdict = None if holds is None else holds and node.leaf
    else:
        verdict = judge(node, track, at_s)
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
        name_of(bound, leaf.point), _reason(rule.when, leaf), rule.severity, rule.hazard, leaf.point, value, unit, rule.immediate
    )


def name_of(bound: Bound, point: str) -> str:
    """Two points of one reading, of a rule that decides about each, are two causes."""
    return f"{bound.rule.id}:{point}" if isinstance(bound.rule.when, Each) else bound.rule.id


def judge(node: Node, track: Track, at_s: float) -> Leaf | Literal[False] | None:
    """The leaf that makes the node hold; False if it does not hold; None for no new verdict."""
    if isinstance(node, Numbered):
        holds = judge_leaf(node, track, at_s)
        if holds is None:
            return None
        return node.leaf if holds else False
    found: Leaf | None = None
    unknown = refuted = False
    for part in node.parts:  # every part, also after the outcome is clear: each keeps its own hysteresis
        verdict = judge(part, track, at_s)
        if verdict is None:
            unknown = True
        elif verdict is False:
            refuted = True
        elif found is None:
            found = verdict
    if node.every:
        return False if refuted else None if unknown else found
    return found or (None if unknown else False)


def judge_leaf(numbered: Numbered, track: Track, at_s: float) -> bool | None:
    """Whether a leaf holds by the newest good values; None where they are too few or too old."""
    leaf = numbered.leaf
    newest = track.newest.get(leaf.point)
    if newest is None or at_s - newest[0] > STALE_S:
        return None
    if isinstance(leaf, State):
        return newest[1] is leaf.is_
    if is_plain(leaf):
        return _crossed(leaf, newest[1], numbered.number, track.holding)
    window = track.windows[leaf.point]
    if isinstance(leaf, Rise):
        return window.risen(at_s, leaf)
    mean = window.newest_mean(at_s, leaf.mean_s, leaf.readings)
    return None if mean is None else _crossed(leaf, mean[0], numbered.number, track.holding)


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

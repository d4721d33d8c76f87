"""Judging: a reading's good values are taken in, and each rule that they touch says what is new. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from iotcore.alarms.decisions import ENDS, FIRST, Change, Decision, Reason, bare
from iotcore.alarms.engine_memory import Look, Memory, Raised
from iotcore.alarms.engine_nodes import LeafNode
from iotcore.alarms.engine_plan import Bound, Plan
from iotcore.alarms.window import Window
from iotcore.reading import Quality, Reading, Value


def take_in(reading: Reading, plan: Plan, memory: Memory, at_s: float) -> dict[int, Bound]:
    """Remember the good values; return the rules that they touch, each once, in the order of the rule file."""
    touched: dict[int, Bound] = {}
    calm = not (memory.raised or memory.holding or memory.pending)  # else what is quiet may end something
    points, newest = plan.points, memory.newest
    clean = reading.clean
    if clean is not None and memory.doubtful:
        memory.doubtful.difference_update(clean)
    for name, value in _good(reading.told, memory.doubtful) if clean is None else clean.items():
        point = points.get(name)
        if point is None or type(value) not in point.types:
            continue
        newest[name] = (at_s, value)
        if not isinstance(value, str):
            if point.span is not None:
                window = memory.windows.get(name)
                if window is None:
                    window = memory.windows[name] = Window(*point.span)
                window.add(at_s, value)
            if calm and point.low < value < point.high:
                continue
        for bound in point.rules:
            touched[bound.number] = bound
    return touched


def _good(told: Iterable[Value], doubtful: set[str]) -> list[tuple[str, float | bool | str]]:
    """What can be trusted: GOOD states, words, finite numbers; the points of the rest are in doubt until they tell such again."""
    good: list[tuple[str, float | bool | str]] = []
    for said in told:
        value = said.value
        if said.quality is Quality.GOOD and value is not None and (isinstance(value, str) or isfinite(value)):
            good.append((said.point, value))
            doubtful.discard(said.point)
        else:
            doubtful.add(said.point)
    return good


def decide(bound: Bound, look: Look, decisions: list[Decision]) -> None:
    """Add what a rule concludes now, if it is anything new."""
    memory, number = look.memory, bound.number
    look.begin(number, immediate=bound.rule.immediate)
    verdict = bound.node.judge(look)
    if verdict is False and number not in memory.raised and not look.notes:  # nearly always
        return
    raised = memory.raised.get(number)
    if verdict is False and raised is not None:
        if bound.rule.latched and memory.latches:
            if number not in memory.returned:
                memory.returned.add(number)
                decisions.append(made(bound, raised.leaf, Reason.RETURNED, memory))
        else:
            del memory.raised[number]
            decisions.append(made(bound, raised.leaf, Reason.RETURNED, memory))
    elif verdict and raised is None:
        memory.raised[number] = Raised(verdict, bare(look.reading))
        decisions.append(made(bound, verdict, look.reason or verdict.reason, memory, look.points))
    elif verdict and number in memory.returned:
        memory.returned.discard(number)
        decisions.append(made(bound, verdict, Reason.ACTIVE_AGAIN, memory))
    if bound.announced and raised is None:
        decisions += [first_alarm(bound, leaf, reason, memory) for reason, leaf in look.notes]


def made(bound: Bound, leaf: LeafNode, reason: Reason, memory: Memory, points: tuple[str, ...] = ()) -> Decision:
    """A decision of a rule about the point of a leaf."""
    rule = bound.rule
    change: Change = "clear" if reason in ENDS else "raise"
    name, value = bound.name(leaf.point), leaf.value(memory)
    return Decision(name, reason, rule.severity, rule.hazard, leaf.point, value, leaf.unit, rule.immediate, change, points)


def first_alarm(bound: Bound, leaf: LeafNode, reason: Reason, memory: Memory) -> Decision:
    """A first alarm that is not confirmed yet, or its end."""
    change: Change = "clear" if reason in ENDS else "raise"
    name = bound.name(leaf.point) + FIRST
    return Decision(name, reason, "pre-alarm", bound.rule.hazard, leaf.point, leaf.value(memory), leaf.unit, change=change)

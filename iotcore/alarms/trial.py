"""Trial: what the rules would say of a device's reading, apart from everything that is remembered of that device. Pure.

    binding ─► points that can alarm, each with a value that does ─► a drill's reading ─► judged ─► the alarm, or none

No latch and no window of the device is read or changed, and nothing is left: no vote, no timer, no first alarm. Asked is what
the device itself says (`Bound.plain`), whatever schedules, verification and other devices make of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from iotcore.alarms.conditions import Bit, State, Threshold, Word
from iotcore.alarms.decisions import Decision, urgency
from iotcore.alarms.engine_bind import leaf_nodes
from iotcore.alarms.engine_judge import made, take_in
from iotcore.alarms.engine_memory import Look, Memory, Places
from iotcore.alarms.engine_nodes import LeafNode
from iotcore.alarms.engine_plan import Plan
from iotcore.journal.records import FIRE_SEVERITY
from iotcore.reading import Quality, Reading, Scalar, Value
from iotcore.registry.directory import Binding

STEP_S = 1.0  # between the readings of one trial; means are over some seconds


class AlarmPoint(NamedTuple):
    """A point, the value by which it alarms, and how many readings in a row have to say so."""

    point: str
    value: Scalar
    readings: int


def alarm_points(plan: Plan, binding: Binding, after: str = "") -> Iterator[AlarmPoint]:
    """The points of a device that can alarm by themselves, from the one behind `after` on, around to it.

    Lazy: a panel has thousands, and one is wanted.
    """
    names = [name for name, point in plan.points.items() if any(one.rule.severity == FIRE_SEVERITY for one in point.rules)]
    first = names.index(after) + 1 if after in names else 0
    for name in names[first:] + names[:first]:
        for one in _candidates(plan, name):
            readings = [_reading(binding.device, one, number) for number in range(1, one.readings + 1)]
            if any(decision.point == name for decision in judged(plan, binding, readings)):
                yield one
                break


def judged(plan: Plan, binding: Binding, readings: Sequence[Reading]) -> list[Decision]:
    """What the rules call a fire in these readings, as if the device had never said anything before; the most urgent first."""
    memory = Memory(latches=False, criteria=plan.criteria)
    found: dict[int, Decision] = {}
    for place, reading in enumerate(readings):
        at_s = memory.timeline.advance(reading, place * STEP_S)
        key = (reading.device, 0, True, False)
        for bound in take_in(reading, plan, memory, at_s).values():
            if bound.rule.severity != FIRE_SEVERITY:
                continue
            look = Look(memory, binding, key, reading, at_s, at_s, reading.received_ms, Places())
            look.begin(bound.number)
            verdict = bound.plain.judge(look)
            if isinstance(verdict, LeafNode):
                found.setdefault(bound.number, made(bound, verdict, look.reason or verdict.reason, memory))
    return sorted(found.values(), key=urgency)


def _candidates(plan: Plan, name: str) -> Iterator[AlarmPoint]:
    for bound in plan.points[name].rules:
        if bound.rule.severity == FIRE_SEVERITY:
            for node in leaf_nodes(bound.plain):
                if name in node.points and (one := _candidate(plan, name, node)) is not None:
                    yield one


def _candidate(plan: Plan, name: str, node: LeafNode) -> AlarmPoint | None:
    """What a point would have to say; None where one point alone cannot say it: a rise, a sum."""
    leaf, point = node.leaf, plan.spec.points[name]
    match leaf:
        case State():
            return AlarmPoint(name, leaf.is_, 1)
        case Bit():
            return AlarmPoint(name, float(1 << leaf.bit) if leaf.is_ else 0.0, 1)
        case Word():
            words = leaf.is_ or tuple(point.states.values())
            return AlarmPoint(name, words[0], 1) if words else None
        case Threshold():
            value = leaf.above if leaf.above is not None else leaf.below
            if value is None or (point.range is not None and not point.range[0] <= value <= point.range[1]):
                return None
            return AlarmPoint(name, value, leaf.readings)
        case _:
            return None


def _reading(device: str, one: AlarmPoint, seq: int) -> Reading:
    value = Value(one.point, one.value, Quality.GOOD, "")
    return Reading(device, "trial", seq, "event", 0.0, 0.0, (value,), test=True)

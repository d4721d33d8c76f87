"""Plans: which rules judge a device, bound to the points that its model has. Pure.

    rules ─► by scope (class, models, group, premises, device) ─► bound to the model ─► families: the most specific wins ─► Plan

Plans are shared by all devices that the same rules concern; a rule that does not concern a device costs its readings nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from iotcore.alarms.conditions import Rise, Threshold
from iotcore.alarms.engine_bind import Binder, Numbers, leaf_nodes
from iotcore.alarms.engine_nodes import LeafNode, Node
from iotcore.alarms.rules import Rule
from iotcore.registry.directory import Binding
from iotcore.registry.siting import PLACE
from iotcore.specs.model import DeviceSpec

NO_GROUPS: frozenset[str] = frozenset()
NUMBER: tuple[type, ...] = (float, int)
TYPES: dict[str, tuple[type, ...]] = {"bool": (bool,), "number": NUMBER}
TEXT: tuple[type, ...] = (str,)


@dataclass(frozen=True, slots=True)
class Bound:
    """A rule bound to a model, over the points that the model has in the right unit. `number` is its latch's."""

    number: int
    rule: Rule
    node: Node
    plain: Node  # without time, schedules and other devices: what the device itself says
    timed: bool  # time alone may change it
    announced: bool  # its first alarm is told

    def name(self, point: str) -> str:
        """What its decisions are called: two points of one reading, of a rule that decides about each, are two causes."""
        return f"{self.rule.id}:{point}" if self.rule.apart is not None else self.rule.id


class PointPlan(NamedTuple):
    """What one point of a model needs: a window or none, and the rules that it touches.

    Between `low` and `high` (both excluded) it satisfies no rule, whatever else is said; only where all of its rules are plain
    thresholds on the newest value.
    """

    types: tuple[type, ...]
    span: tuple[float, int] | None
    rules: tuple[Bound, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What the readings of a device need, for each point that a rule speaks of; and its rules by number."""

    spec: DeviceSpec
    points: dict[str, PointPlan]
    bounds: dict[int, Bound]
    timed: tuple[int, ...]  # those that time alone may change
    criteria: frozenset[int]  # rules of other hazards than smoke, which bear it out
    verified: bool


class Planner:
    """The rules of one version, indexed by what they cover; makes the plan of a device once for all that are alike."""

    def __init__(self, rules: Sequence[Rule], numbers: Numbers) -> None:
        self._numbers = numbers
        self._covering: dict[tuple[str, str], list[tuple[int, Rule]]] = {}  # by (what names its scope, the name)
        self._plans: dict[tuple[int, frozenset[str], str, str, str, bool], Plan] = {}
        for n, rule in enumerate(rules):
            for place in _places(rule):
                self._covering.setdefault(place, []).append((n, rule))
        self.by_group = frozenset(rule.group for rule in rules if rule.group)

    def plan(self, binding: Binding, groups: frozenset[str], *, verified: bool) -> Plan:
        """The plan of a device that is in these groups; with `verified` smoke is verified first."""
        concerned = groups & self.by_group
        premises = binding.premises if ("premises", binding.premises) in self._covering else ""
        device = binding.device if ("device", binding.device) in self._covering else ""
        place = binding.labels.get(PLACE, "")
        place = place if ("place", place) in self._covering else ""
        key = (id(binding.spec), concerned, premises, device, place, verified)
        plan = self._plans.get(key)
        if plan is None or plan.spec is not binding.spec:
            plan = self._plans[key] = self._made(binding.spec, concerned, premises, device, place, verified=verified)
        return plan

    def _made(self, spec: DeviceSpec, groups: frozenset[str], premises: str, device: str, place: str, *, verified: bool) -> Plan:
        places = [
            ("class", spec.device_class),
            ("model", spec.model),
            ("premises", premises),
            ("device", device),
            ("place", place),
        ]
        places += [("group", group) for group in groups]
        found = {n: rule for place in places for n, rule in self._covering.get(place, ())}
        families: dict[str, list[tuple[Rule, list[tuple[str, Node]]]]] = {}
        for n in sorted(found):
            rule = found[n]
            if rule.profile == ("immediate" if verified else "verified"):
                continue
            if rule.covers(spec) and (nodes := list(Binder(self._numbers, spec, rule).nodes(verified=verified))):
                families.setdefault(rule.id, []).append((rule, nodes))
        bounds = [bound for family in families.values() for bound in self._bounds(family)]
        return _plan(bounds, spec, verified=verified)

    def _bounds(self, family: Sequence[tuple[Rule, list[tuple[str, Node]]]]) -> Iterator[Bound]:
        """The most specific of a family; of two that are equally so both, each with its own latch: nothing silences a fire.

        A rule that has a schedule takes no other one's place: outside its hours nobody would judge.
        """
        rank = max((rule.rank for rule, _ in family if rule.schedule is None), default=-1)
        kept = [(rule, nodes) for rule, nodes in family if rule.rank == rank or (rule.schedule is not None and rule.rank > rank)]
        for nth, (rule, nodes) in enumerate(kept):
            for point, node in nodes:
                number = self._numbers.of("latch", rule.id, point, nth)
                yield Bound(number, rule, node, Binder.plain(node), Binder.is_timed(node), Binder.is_announced(node))


def _places(rule: Rule) -> list[tuple[str, str]]:
    """Where a rule is looked up: by its narrowest scope alone."""
    if rule.device:
        return [("device", rule.device)]
    if rule.premises:
        return [("premises", rule.premises)]
    if rule.group:
        return [("group", rule.group)]
    if rule.places:
        return [("place", place) for place in dict.fromkeys(rule.places)]
    if rule.models:
        return [("model", model) for model in dict.fromkeys(rule.models)]
    return [("class", kind) for kind in dict.fromkeys(rule.device_classes)]


def _plan(bounds: Sequence[Bound], spec: DeviceSpec, *, verified: bool) -> Plan:
    by_point: dict[str, list[tuple[LeafNode, Bound]]] = {}
    for bound in bounds:
        for leaf in leaf_nodes(bound.node):
            for point in leaf.points:
                by_point.setdefault(point, []).append((leaf, bound))
    points = {name: _point(asking, spec.points[name].kind) for name, asking in by_point.items()}
    others = [bound for bound in bounds if bound.rule.hazard not in {"smoke", "fault"}]
    criteria = frozenset(bound.number for bound in others if bound.rule.severity in {"alarm", "pre-alarm"})
    timed = tuple(bound.number for bound in bounds if bound.timed)
    return Plan(spec, points, {bound.number: bound for bound in bounds}, timed, criteria, verified)


def _point(asking: Sequence[tuple[LeafNode, Bound]], kind: str) -> PointPlan:
    bounds = tuple({bound.number: bound for _, bound in asking}.values())
    back = [leaf.leaf for leaf, _ in asking if isinstance(leaf.leaf, Rise | Threshold) and not leaf.is_plain]
    span: tuple[float, int] | None = None
    if back:
        longest_s = max(leaf.within_s if isinstance(leaf, Rise) else leaf.mean_s for leaf in back)
        span = (longest_s, max(leaf.readings for leaf in back))
    return PointPlan(TYPES.get(kind, TEXT), span, bounds, *_quiet(bounds))


def _quiet(bounds: Sequence[Bound]) -> tuple[float, float]:
    low, high = -inf, inf
    for bound in bounds:
        leaf = bound.node.leaf if isinstance(bound.node, LeafNode) and bound.node.is_plain else None
        if not isinstance(leaf, Threshold):
            return inf, -inf
        if leaf.above is not None:
            high = min(high, leaf.above)
        elif leaf.below is not None:
            low = max(low, leaf.below)
    return low, high

"""Plans: which rules judge a device, bound to the points that its model has. Pure.

    rules ─► by scope (class, models, group, premises, device) ─► bound to the model ─► families: the most specific wins ─► Plan

Plans are shared by all devices that the same rules concern; a rule that does not concern a device costs its readings nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, TypeGuard

from iotcore.alarms.conditions import All, AnyOf, Condition, Each, Leaf, Rise, State, Threshold, misfit
from iotcore.alarms.rules import Rule
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceSpec

NO_GROUPS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Numbered:
    """A leaf with the number that its hysteresis is kept under."""

    number: int
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class Joined:
    """An `all` or `any` over numbered parts."""

    every: bool
    parts: tuple[Node, ...]


Node = Numbered | Joined


@dataclass(frozen=True, slots=True)
class Bound:
    """A rule bound to a model, over the points that the model has in the right unit. `number` is its latch's."""

    number: int
    rule: Rule
    node: Node


class PointPlan(NamedTuple):
    """What one point of a model needs: a window or none, and the rules that it touches.

    Between `low` and `high` (both excluded) it satisfies no rule, whatever else is said; only where all of its rules are plain
    thresholds on the newest value.
    """

    is_state: bool
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


class Numbers:
    """A number for each latch and hysteresis, the same for as long as the engine lives: rules are swapped, what holds stays."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], int] = {}

    def of(self, *key: object) -> int:
        """The number of a rule's point or of a rule's leaf."""
        return self._known.setdefault(key, len(self._known))


class Planner:
    """The rules of one version, indexed by what they cover; makes the plan of a device once for all that are alike."""

    def __init__(self, rules: Sequence[Rule], numbers: Numbers) -> None:
        self._numbers = numbers
        self._covering: dict[tuple[str, str], list[tuple[int, Rule]]] = {}  # by (what names its scope, the name)
        self._plans: dict[tuple[int, frozenset[str], str, str], Plan] = {}
        for n, rule in enumerate(rules):
            for place in _places(rule):
                self._covering.setdefault(place, []).append((n, rule))
        self.by_group = frozenset(rule.group for rule in rules if rule.group)

    def plan(self, binding: Binding, groups: frozenset[str]) -> Plan:
        """The plan of a device that is in these groups."""
        concerned = groups & self.by_group
        premises = binding.premises if ("premises", binding.premises) in self._covering else ""
        device = binding.device if ("device", binding.device) in self._covering else ""
        key = (id(binding.spec), concerned, premises, device)
        plan = self._plans.get(key)
        if plan is None or plan.spec is not binding.spec:
            plan = self._plans[key] = self._made(binding.spec, concerned, premises, device)
        return plan

    def _made(self, spec: DeviceSpec, groups: frozenset[str], premises: str, device: str) -> Plan:
        places = [("class", spec.device_class), ("model", spec.model), ("premises", premises), ("device", device)]
        places += [("group", group) for group in groups]
        found = {n: rule for place in places for n, rule in self._covering.get(place, ())}
        families: dict[str, list[tuple[Rule, list[tuple[str, Node]]]]] = {}
        for n in sorted(found):
            rule = found[n]
            if rule.covers(spec) and (nodes := list(self._nodes(rule, spec))):
                families.setdefault(rule.id, []).append((rule, nodes))
        return _plan([bound for family in families.values() for bound in self._bounds(family)], spec)

    def _bounds(self, family: Sequence[tuple[Rule, list[tuple[str, Node]]]]) -> Iterator[Bound]:
        """The most specific of a family; of two that are equally so both, each with its own latch: nothing silences a fire."""
        rank = max(rule.rank for rule, _ in family)
        for nth, (rule, nodes) in enumerate((rule, nodes) for rule, nodes in family if rule.rank == rank):
            for point, node in nodes:
                yield Bound(self._numbers.of("latch", rule.id, point, nth), rule, node)

    def _nodes(self, rule: Rule, spec: DeviceSpec) -> Iterator[tuple[str, Node]]:
        """What of a rule this model can be judged by, each with the point that it decides about apart ("" for the whole)."""
        if isinstance(rule.when, Each):
            for state in rule.when.of(spec):
                yield state.point, Numbered(self._numbers.of("leaf", rule.id, state), state)
        elif (node := self._bind(rule.when, spec, rule.id)) is not None:
            yield "", node

    def _bind(self, condition: Condition, spec: DeviceSpec, rule: str) -> Node | None:
        """The condition over points that this model has: an `all` needs every part, an `any` makes do with those it has."""
        if not isinstance(condition, All | AnyOf):
            return None if misfit(condition, spec) else Numbered(self._numbers.of("leaf", rule, condition), condition)
        parts = [self._bind(part, spec, rule) for part in condition.of]
        kept = tuple(part for part in parts if part is not None)
        if not kept or (isinstance(condition, All) and len(kept) < len(parts)):
            return None
        return Joined(isinstance(condition, All), kept)


def _places(rule: Rule) -> list[tuple[str, str]]:
    """Where a rule is looked up: by its narrowest scope alone."""
    if rule.device:
        return [("device", rule.device)]
    if rule.premises:
        return [("premises", rule.premises)]
    if rule.group:
        return [("group", rule.group)]
    if rule.models:
        return [("model", model) for model in dict.fromkeys(rule.models)]
    return [("class", kind) for kind in dict.fromkeys(rule.device_classes)]


def _plan(bounds: Sequence[Bound], spec: DeviceSpec) -> Plan:
    by_point: dict[str, list[tuple[Leaf, Bound]]] = {}
    for bound in bounds:
        for leaf in bound_leaves(bound.node):
            by_point.setdefault(leaf.point, []).append((leaf, bound))
    points = {name: _point(asking) for name, asking in by_point.items()}
    return Plan(spec, points, {bound.number: bound for bound in bounds})


def _point(asking: Sequence[tuple[Leaf, Bound]]) -> PointPlan:
    bounds = tuple({bound.number: bound for _, bound in asking}.values())
    back = [leaf for leaf, _ in asking if not isinstance(leaf, State) and not is_plain(leaf)]
    span: tuple[float, int] | None = None
    if back:
        longest_s = max(leaf.within_s if isinstance(leaf, Rise) else leaf.mean_s for leaf in back)
        span = (longest_s, max(leaf.readings for leaf in back))
    return PointPlan(isinstance(asking[0][0], State), span, bounds, *_quiet(bounds))


def _quiet(bounds: Sequence[Bound]) -> tuple[float, float]:
    low, high = -inf, inf
    for bound in bounds:
        leaf = bound.node.leaf if isinstance(bound.node, Numbered) else None
        if leaf is None or not is_plain(leaf):
            return inf, -inf
        if leaf.above is not None:
            high = min(high, leaf.above)
        elif leaf.below is not None:
            low = max(low, leaf.below)
    return low, high


def is_plain(leaf: Leaf) -> TypeGuard[Threshold]:
    """Whether it asks for the newest value alone."""
    return isinstance(leaf, Threshold) and not leaf.mean_s and leaf.readings <= 1


def bound_leaves(node: Node) -> Iterator[Leaf]:
    """The leaves of a bound condition, in the order they are written."""
    if isinstance(node, Numbered):
        yield node.leaf
    else:
        for part in node.parts:
            yield from bound_leaves(part)

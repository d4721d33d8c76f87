"""Binding: a rule's condition over the points that a model has, as nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import cast

from iotcore.alarms.conditions import (
    All,
    Coincidence,
    Condition,
    During,
    Each,
    Joint,
    Leaf,
    Mean,
    Not,
    Stale,
    State,
    Sum,
    Sustained,
    Verification,
    misfit,
)
from iotcore.alarms.engine_memory import Look
from iotcore.alarms.engine_nodes import (
    STALE_INTERVALS,
    STALE_MAX_S,
    STALE_S,
    Inverse,
    Joined,
    Lasting,
    LeafNode,
    Node,
    Timetabled,
)
from iotcore.alarms.engine_stages import Verified, Voted
from iotcore.alarms.rules import Rule
from iotcore.specs.model import DeviceSpec

# profile `verified`: chosen by measured fires and simulated nuisances (docs/fire-curves.md)
LASTS_S = 30.0
AGAIN_WITHIN_S = 60.0  # fire-protection practice: seen, cleared, seen again within a minute


class Numbers:
    """A number for each latch and hysteresis, the same for as long as the engine lives: rules are swapped, what holds stays."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], int] = {}
        self._one_at_a_time = Lock()  # plans of new rules are made beside those of a new device

    def of(self, *key: object) -> int:
        """The number of a rule's point, of its leaf, or of a place in its condition."""
        found = self._known.get(key)
        if found is None:
            with self._one_at_a_time:
                found = self._known.setdefault(key, len(self._known))
        return found


@dataclass(frozen=True, slots=True)
class Binder:
    """Binds one rule to one model."""

    numbers: Numbers
    spec: DeviceSpec
    rule: Rule

    def nodes(self, *, verified: bool) -> Iterator[tuple[str, Node]]:
        """What of the rule this model can be judged by, each with the point that it decides about apart ("" for the whole)."""
        when, apart = self.rule.when, self.rule.apart
        if apart is None:
            assert not isinstance(when, Each), "a rule that is each decides apart"
            parts: list[tuple[str, Condition]] = [("", when)]
        else:
            states = list(apart.of(self.spec))
            parts = [(state.point, _for_one(when, state)) for state in states]
        for point, condition in parts:
            node = self._bind(condition, f"{point}.")
            if node is None:
                continue
            if verified and self._is_verified(node):
                node = Verified(self._number("verify", point), node, LASTS_S, AGAIN_WITHIN_S, joined=True)
            if self.rule.schedule is not None:
                node = Timetabled(node, self.rule.schedule)
            yield point, node

    def _is_verified(self, node: Node) -> bool:
        """Smoke that nothing else of the rule bears out yet; what delays already is not delayed twice."""
        rule = self.rule
        if rule.hazard != "smoke" or rule.severity != "alarm" or rule.immediate or any(stages(node)):
            return False
        if isinstance(node, Lasting) and node.for_s >= LASTS_S:
            return False
        return not (isinstance(node, Joined) and node.every and len({leaf.point for leaf in leaf_nodes(node)}) > 1)

    def _bind(self, condition: Condition, path: str) -> Node | None:  # noqa: PLR0911 - one answer for each kind
        """The condition over points that this model has: an `all` needs every part, an `any` makes do with those it has."""
        if isinstance(condition, Joint):
            return self._joined(condition, path)
        if isinstance(condition, Sustained | Not | Verification | During | Coincidence):
            assert not isinstance(condition.of, Each), "each was taken apart before"
            part = self._bind(condition.of, f"{path}of.")
            if part is None:
                return None
            number = self._number(type(condition).__name__, path)
            if isinstance(condition, Not):
                return Inverse(part, next(leaf_nodes(part)))
            if isinstance(condition, Sustained):
                return Lasting(number, part, condition.for_s)
            if isinstance(condition, During):
                return Timetabled(part, condition.schedule)
            if isinstance(condition, Verification):
                return Verified(number, part, condition.lasts_s, condition.again_within_s, joined=False)
            ballot = self.numbers.of("ballot", self.rule.id, path.partition(".")[2])
            return Voted(number, ballot, part, condition.place, condition.count, condition.within_s)
        return self._leaf(condition)

    def _joined(self, condition: Joint, path: str) -> Node | None:
        parts = [self._bind(part, f"{path}{i}.") for i, part in enumerate(condition.of)]
        kept = tuple(part for part in parts if part is not None)
        if not kept or (isinstance(condition, All) and len(kept) < len(parts)):
            return None
        return Joined(isinstance(condition, All), kept)

    def _leaf(self, leaf: Leaf) -> LeafNode | None:
        if misfit(leaf, self.spec):
            return None
        names = leaf.of(self.spec) if isinstance(leaf, Sum | Mean) else [leaf.point]
        expected_s = max(self.spec.points[name].poll_s or self.spec.interval_s for name in names)
        fresh_s = min(STALE_MAX_S, max(STALE_S, STALE_INTERVALS * expected_s))
        return LeafNode(self.numbers.of("leaf", self.rule.id, leaf), leaf, tuple(names), fresh_s)

    def _number(self, what: str, path: str) -> int:
        """Of a place in the rule, whatever its figures: what is under way stays when they are edited."""
        return self.numbers.of(what, self.rule.id, path)

    @staticmethod
    def plain(node: Node) -> Node:
        """What the device itself says, without what time, schedules and other devices make of it."""
        if isinstance(node, LeafNode):
            return node
        if isinstance(node, Joined):
            return Joined(node.every, tuple(Binder.plain(part) for part in node.parts))
        part = Binder.plain(part_of(node))
        return Inverse(part, node.leaf) if isinstance(node, Inverse) else part

    @staticmethod
    def is_timed(node: Node) -> bool:
        """Whether time alone can change what it says."""
        if isinstance(node, LeafNode):
            return isinstance(node.leaf, Stale)
        if isinstance(node, Joined):
            return any(Binder.is_timed(part) for part in node.parts)
        return not isinstance(node, Inverse) or Binder.is_timed(node.part)

    @staticmethod
    def is_announced(node: Node) -> bool:
        """Whether the first alarm of the whole is told: inside other conditions it says nothing of the whole."""
        return isinstance(node.part if isinstance(node, Timetabled) else node, Verified | Voted)


def _for_one(when: Condition | Each, state: State) -> Condition:
    """The condition of one point of an `each`."""
    if isinstance(when, Coincidence):
        return Coincidence(of=state, place=when.place, count=when.count, within_s=when.within_s)
    return state


def part_of(node: Node) -> Node:
    """What a node wraps."""
    return cast("Inverse | Lasting | Timetabled | Verified | Voted", node).part


def leaf_nodes(node: Node) -> Iterator[LeafNode]:
    """The leaves of a node, in the order they are written."""
    if isinstance(node, LeafNode):
        yield node
    elif isinstance(node, Joined):
        for part in node.parts:
            yield from leaf_nodes(part)
    else:
        yield from leaf_nodes(part_of(node))


def stages(node: Node) -> Iterator[Verified | Voted]:
    """The verifications and coincidences in a node."""
    if isinstance(node, Joined):
        for part in node.parts:
            yield from stages(part)
    elif not isinstance(node, LeafNode):
        if isinstance(node, Verified | Voted):
            yield node
        yield from stages(part_of(node))


def resume(node: Node, look: Look) -> None:
    """What was under way before a restart is so again, its deadline at the moment of this look; whether it goes on is unknown."""
    if isinstance(node, Joined):
        for part in node.parts:
            resume(part, look)
    elif isinstance(node, Lasting):
        look.memory.since[node.number] = (look.at_s - node.for_s, look.reading)
    elif isinstance(node, Verified | Voted):
        node.resume(look, next(leaf_nodes(node)))
    elif not isinstance(node, LeafNode):
        resume(part_of(node), look)

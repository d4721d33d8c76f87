"""Latches over a restart: a rule that decided, and whose alarm the journal still has, stays decided; others may decide anew.

The recent readings tell most of it (`warm`), but not what is older than they are, nor what of it was committed. So the journal
has the last word, for each rule and point: what it has is latched, returned or not, and what it does not have is not.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from iotcore.alarms.conditions import Mean, Sum, Threshold
from iotcore.alarms.engine_bind import leaf_nodes, part_of
from iotcore.alarms.engine_memory import Look, Memory, Pending, Raised
from iotcore.alarms.engine_nodes import Joined, Lasting, LeafNode, Node
from iotcore.alarms.engine_plan import Bound, Plan
from iotcore.alarms.engine_stages import Verified, Voted
from iotcore.journal.latches import Latch


def by_device(found: Iterable[Latch]) -> dict[str, dict[str, Latch]]:
    """By device and rule; of two alarms of one rule the one that has not returned to normal counts."""
    latches: dict[str, dict[str, Latch]] = {}
    for one in sorted(found, key=lambda latch: not latch.returned):
        latches.setdefault(one.device, {})[one.rule] = one
    return latches


def keep_only(memory: Memory, plan: Plan, rules: Container[str]) -> None:
    """Unlatch what is not among these rules, as decisions name them."""
    for number in list(memory.raised):
        bound = plan.bounds.get(number)
        if bound is None or bound.name(memory.raised[number].leaf.point) not in rules:
            del memory.raised[number]
            memory.returned.discard(number)


def give_back(bound: Bound, latches: Mapping[str, Latch], look: Look) -> None:
    """Latch a rule whose alarm stands, as it was: its hysteresis, what had lasted and was confirmed; or returned to normal."""
    found = [(leaf, latches[name]) for leaf in leaf_nodes(bound.node) if (name := bound.name(leaf.point)) in latches]
    if not found:
        return
    leaf, latch = next(((leaf, latch) for leaf, latch in found if leaf.point == latch.point), found[0])
    memory, number = look.memory, bound.number
    if number not in memory.raised:
        memory.raised[number] = Raised(leaf, look.reading)
    if latch.returned:
        memory.returned.add(number)
    else:
        memory.returned.discard(number)
        _hold(bound.node, leaf, look)


def _hold(node: Node, leaf: LeafNode, look: Look) -> None:
    """It held by this leaf: what it had to wait for is over."""
    memory = look.memory
    if isinstance(node, LeafNode):
        if isinstance(node.leaf, Threshold | Sum | Mean):
            memory.holding.add(node.number)
        return
    if isinstance(node, Joined):
        for part in node.parts:
            if node.every or leaf in tuple(leaf_nodes(part)):
                _hold(part, leaf, look)
        return
    if isinstance(node, Lasting):
        began = (look.at_s - node.for_s, look.reading)
        memory.since[node.number] = min(memory.since.get(node.number, began), began, key=lambda since: since[0])
    elif isinstance(node, Verified | Voted):
        pending = memory.pending.setdefault(node.number, Pending(look.at_s, leaf, look.reading, look.moment_s))
        pending.confirmed = True
    _hold(part_of(node), leaf, look)

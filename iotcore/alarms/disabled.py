"""What is out of service or in walk test, as the lane asks: may this decision send a crew, or is it only recorded? Pure.

A disablement and a walk test end by the wall clock of the registry's row. Where that clock was set back since, the journal's
durable timer has them over earlier (`over`): never later than they were given for, on any clock.

    decision ─► trouble, test, late ─────────────► as it is
             ─► point, device, zone or premises disabled ─► recorded as disabled
             ─► its zone in walk test, and no call point or waterflow ─► recorded as tested
             ─► else ─────────────────────────────► live
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from iotcore.journal.records import Raise
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory, Disablement, InTest, Target, Walk


@dataclass(slots=True)
class Exempt:
    """Asked for each decision, which are few. `over` are the ids that have ended whatever their rows still say."""

    over: frozenset[str] = frozenset()
    _rows: Mapping[str, Disablement] = field(default_factory=dict)
    _by_target: dict[Target, list[Disablement]] = field(default_factory=dict)

    def judged(self, one: Raise, reading: Reading, binding: Binding, directory: Directory, *, immediate: bool) -> Raise:
        """The decision, marked when it is of something disabled or under walk test at the moment it was received."""
        if one.notice.severity == "trouble" or one.test or one.historical:
            return one
        found = self.disablement(directory, binding, one.notice.point, reading.received_ms)
        if found is not None:
            return replace(one, disabled=found.id)
        walk = None if immediate or reading.backlog or reading.retained else self.walk(directory, binding, reading.received_ms)
        if walk is None:
            return one
        return replace(one, test=True, walk=walk.id, in_test=InTest(walk.started_ms, walk.until_ms, walk.by))

    def excused(
        self,
        directory: Directory,
        device: str,
        point: str,
        at_ms: float,
        immediate: bool,  # noqa: FBT001
    ) -> bool:
        """Whether what a point says must not make anybody believe another: it is disabled, or in walk test."""
        binding = directory.devices.get(device)
        if binding is None or not (directory.disablements or directory.walks):
            return False
        out = self.disablement(directory, binding, point, at_ms)
        return out is not None or (not immediate and self.walk(directory, binding, at_ms) is not None)

    def disablement(self, directory: Directory, binding: Binding, point: str, at_ms: float) -> Disablement | None:
        """What disables a point of a device at this moment."""
        if directory.disablements is not self._rows:
            self._rows, self._by_target = directory.disablements, _by_target(directory.disablements.values())
        for target in targets(binding, point) if self._by_target else ():
            for one in self._by_target.get(target, ()):
                if one.covers(at_ms) and one.id not in self.over:
                    return one
        return None

    def walk(self, directory: Directory, binding: Binding, at_ms: float) -> Walk | None:
        """The walk test that a device is in at this moment."""
        if not directory.walks:
            return None
        walk = directory.walked(binding, at_ms)
        return None if walk is None or walk.id in self.over else walk


def targets(binding: Binding, point: str) -> tuple[Target, ...]:
    """All that may be disabled so that this point is."""
    return (
        Target("point", binding.device, point),
        Target("device", binding.device),
        *((Target("zone", binding.zone),) if binding.zone else ()),
        *((Target("premises", binding.premises),) if binding.premises else ()),
    )


def _by_target(rows: Iterable[Disablement]) -> dict[Target, list[Disablement]]:
    found: dict[Target, list[Disablement]] = {}
    for one in rows:
        found.setdefault(one.target, []).append(one)
    return found

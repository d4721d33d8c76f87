"""What is disabled or in walk test now, as a banner on every page that it concerns. Pure but for the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from iotcore.clock import Clock
from iotcore.registry.directory import Directory, Disablement, Walk
from iotcore.registry.rights import Right, Visitor

Shown = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Out:
    """Asked by pages. What still waits for a second person is told too, and says so."""

    directory: Callable[[], Directory]
    clock: Clock

    def seen(self, visitor: Visitor) -> list[Shown]:
        """Everything that a visitor may see."""
        directory = self.directory()
        return [
            self.told(one)
            for one in self._standing(directory)
            if visitor.may(Right.SEE) or visitor.may(Right.SEE, directory.areas_of(one.premises))
        ]

    def of_premises(self, premises: str) -> list[Shown]:
        """What concerns a premises, or anything in it."""
        return [self.told(one) for one in self._standing(self.directory()) if premises and one.premises == premises]

    def of_device(self, device: str) -> list[Shown]:
        """What concerns one device, or a point of it."""
        directory = self.directory()
        binding = directory.devices.get(device)
        if binding is None:
            return []
        found = []
        for one in self._standing(directory):
            if isinstance(one, Walk):
                concerns = one.holds(binding)
            else:
                where = {"zone": binding.zone, "premises": binding.premises}
                concerns = one.target.subject == where.get(one.target.kind, device)
            found += [self.told(one)] if concerns else []
        return found

    def told(self, one: Disablement | Walk) -> Shown:
        """One, for a template and for JSON."""
        directory = self.directory()
        premises = directory.premises.get(one.premises)
        shared = {
            "id": one.id,
            "premises": one.premises,
            "premises_name": premises.name if premises is not None else one.premises,
            "by": one.by,
            "until_ms": one.until_ms,
        }
        if isinstance(one, Walk):
            return {**shared, "kind": "walk", "what": _zone(directory, one.zone), "started_ms": one.started_ms}
        kind, subject, point = one.target
        what = {"device": subject, "point": f"{subject}/{point}", "zone": _zone(directory, subject), "premises": ""}[kind]
        return {
            **shared,
            "kind": kind,
            "what": what,
            "reason": one.reason,
            "started_ms": one.started_ms,
            "confirmed_by": one.confirmed_by,
        }

    def _standing(self, directory: Directory) -> Iterable[Disablement | Walk]:
        now_ms = self.clock.wall_ms()
        for walk in directory.walks.values():
            if walk.covers(now_ms):
                yield walk
        for one in directory.disablements.values():
            if one.ended_ms is None and now_ms < one.until_ms:
                yield one


def _zone(directory: Directory, zone: str) -> str:
    found = directory.zones.get(zone)
    return f"{found.floor} {found.name}".strip() if found is not None else zone

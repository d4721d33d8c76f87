"""The drills of a month summed up: what each premises has proved, how each path answered, and what did not pass. Read-only.

Read a day at a time: a city whose schools drill daily has a hundred thousand runs in a month, and only their sums are kept.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from iotcore.journal.database import Connection
from iotcore.journal.drills import Drill, drills_between

DAY_MS = 86_400_000.0
WRONG = 200  # runs that did not pass, told one by one: the first ones
LONGEST = 120  # characters of one reason


@dataclass(slots=True)
class PathSum:
    """One path of a receiver. `took_ms`: from the detector's moment to each acknowledgement."""

    receiver: str
    path: str
    acknowledged: int = 0
    failed: int = 0
    waiting: int = 0
    took_ms: list[float] = field(default_factory=list)

    @property
    def p50_ms(self) -> float | None:
        """The median; None without an acknowledgement."""
        return median(self.took_ms) if self.took_ms else None

    @property
    def worst_ms(self) -> float | None:
        """The longest; None without an acknowledgement."""
        return max(self.took_ms, default=None)


@dataclass(slots=True)
class PremisesSum:
    """One premises: runs by source and by what became of them; a missed one is a due that no run has passed."""

    simulated: int = 0
    real: int = 0
    passed: int = 0
    failed: int = 0
    put_off: int = 0
    missed: int = 0
    waiting: int = 0
    last_passed_ms: float | None = None
    worst_ms: float | None = None  # of the acknowledgements of its receivers

    @property
    def troubled(self) -> bool:
        """Whether something did not pass."""
        return bool(self.failed or self.missed)


class Wrong(NamedTuple):
    """A run that failed, or a due that was missed, with its reasons: its own, and those of each path."""

    id: str
    premises: str
    at_ms: float
    source: str
    state: str
    reasons: tuple[tuple[str, str], ...]  # receiver or path ("" of the run itself), reason


@dataclass(slots=True)
class Month:
    """All of it."""

    premises: dict[str, PremisesSum] = field(default_factory=dict)
    paths: dict[tuple[str, str], PathSum] = field(default_factory=dict)
    wrong: list[Wrong] = field(default_factory=list)
    wrong_in_all: int = 0

    def count(self, state: str) -> int:
        """How many of all are in a state, or of a source."""
        return sum(getattr(one, state) for one in self.premises.values())


def read(connection: Connection, start_ms: float, end_ms: float, premises: Collection[str]) -> Month:
    """The drills asked for from `start_ms` (UTC) to before `end_ms`, of these premises."""
    month, at_ms = Month(), start_ms
    while at_ms < end_ms:
        until_ms = min(at_ms + DAY_MS, end_ms)
        for one in drills_between(connection, at_ms, until_ms, premises):
            _take(month, one)
        at_ms = until_ms
    return month


def _take(month: Month, one: Drill) -> None:
    summed = month.premises.setdefault(one.premises, PremisesSum())
    setattr(summed, one.state, getattr(summed, one.state) + 1)
    if one.state in {"passed", "failed"}:
        setattr(summed, one.source, getattr(summed, one.source) + 1)
    if one.state == "passed":
        summed.last_passed_ms = one.ended_ms if one.ended_ms is not None else one.asked_ms
    for told in one.deliveries:
        path = month.paths.setdefault((told.receiver, told.path), PathSum(told.receiver, told.path))
        setattr(path, told.state, getattr(path, told.state) + 1)
        took_ms = one.delivered_ms(told)
        if took_ms is not None:
            path.took_ms.append(took_ms)
            summed.worst_ms = max(took_ms, summed.worst_ms or 0.0)
    if one.state in {"failed", "missed"}:
        month.wrong_in_all += 1
        if len(month.wrong) < WRONG:
            month.wrong.append(_wrong(one))


def _wrong(one: Drill) -> Wrong:
    paths = [(told.path, told.reason[:LONGEST]) for told in one.deliveries if told.state == "failed"]
    itself = [("", one.reason[:LONGEST])] if one.reason and not paths else []
    return Wrong(one.id, one.premises, one.asked_ms, one.source, one.state, tuple(itself + paths))

"""Replay: what rules would have decided over readings of the past, by the very engine that judges live ones.

The rules of one id are tried, each with its scope, and none of them latches: a rule that holds again after it was over counts
again. In life a latched alarm would stand until somebody resets it. Pure: readings and the times within them go in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from iotcore.alarms.decisions import FIRST, Decision
from iotcore.alarms.engine import Engine, Profile
from iotcore.alarms.rules import Rule
from iotcore.journal.records import Severity
from iotcore.reading import Quality, Reading, Scalar
from iotcore.registry.directory import Binding
from iotcore.registry.siting import PLACE
from iotcore.specs.model import DeviceSpec

KEPT = 1_000  # firings that are told one by one; all of them are counted
GAP_INTERVALS = 3  # as long as this many intervals of a device without a reading is a gap
GAP_LEAST_S = 60.0
PAIR_S = 600.0  # two versions that fire for the same within this saw the same
MS_PER_S = 1000.0

Cut = Literal["", "time", "rows", "devices"]
Note = Literal[
    "time", "rows", "devices", "latched", "coalesced", "gaps", "no_data", "starts_late", "bad", "tests", "groups_now", "refused"
]  # fmt: skip
Groups = Callable[[str], frozenset[str]]
Profiles = Callable[[str], Profile]


def _no_groups(_: str) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule started to hold: when by the time of the reading, ms UTC, and by what."""

    at_ms: float
    device: str
    premises: str
    rule: str
    severity: Severity
    reason: str
    point: str
    value: Scalar | None
    unit: str


@dataclass(slots=True)
class Outcome:
    """How often rules would have fired, where, and the first of those times; first alarms that nothing confirmed yet apart."""

    count: int = 0
    first_alarms: int = 0
    by_premises: Counter[str] = field(default_factory=Counter)
    firings: list[Firing] = field(default_factory=list)

    def add(self, firing: Firing) -> None:
        """Count it, and keep it while there is room."""
        if firing.rule.endswith(FIRST):
            self.first_alarms += 1
        else:
            self.count += 1
            self.by_premises[firing.premises] += 1
        if len(self.firings) < KEPT:
            self.firings.append(firing)


@dataclass(slots=True)
class Evidence:
    """What was judged, and what cannot be known of it. `cut` says why not all of it was."""

    devices: int = 0
    with_data: int = 0
    readings: int = 0
    tests: int = 0
    bad: int = 0
    gaps: int = 0
    gaps_s: float = 0.0
    refused: int = 0
    first_ms: float | None = None
    last_ms: float | None = None
    cut: Cut = ""
    _last: dict[str, float] = field(default_factory=dict)

    def note(self, reading: Reading, binding: Binding) -> None:
        """Take a reading into account; those of one device in order."""
        self.readings += 1
        self.tests += reading.test
        self.bad += sum(value.quality is not Quality.GOOD for value in reading.told)
        at_ms = reading.observed_ms
        before = self._last.get(reading.device)
        if before is None:
            self.with_data += 1
        else:
            gap_s = (at_ms - before) / MS_PER_S
            if gap_s > max(GAP_LEAST_S, GAP_INTERVALS * binding.spec.interval_s):
                self.gaps += 1
                self.gaps_s += gap_s
        self._last[reading.device] = at_ms
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)


class Replay:
    """One set of rules over readings that come in the order of their times; `of` is the id that is tried.

    At premises of the verified profile the other rules are judged too, for they may bear out what is tried; only its own
    decisions count.
    """

    def __init__(self, rules: Iterable[Rule], of: str, groups: Groups = _no_groups, profiles: Profiles | None = None) -> None:
        self._all = tuple(msgspec.structs.replace(rule, latched=False) for rule in rules)
        self._of = of
        self._groups = groups
        self._profiles = profiles
        self._bindings: dict[str, Binding] = {}
        self.outcome = Outcome()
        self.rules: tuple[Rule, ...] = ()
        self.begin("")

    def begin(self, premises: str) -> None:
        """Forget what was seen, keep what was counted: the next readings are of this place."""
        verified = self._profiles is not None and self._profiles(premises) == "verified"
        self.rules = self._all if verified else tuple(rule for rule in self._all if rule.id == self._of)
        self._engine = Engine(self.rules, self._groups, self._profiles)
        self._bindings.clear()

    def feed(self, reading: Reading, binding: Binding) -> None:
        """The next reading, after what time has decided until then."""
        now_s = reading.observed_ms / MS_PER_S
        self.pass_time(now_s)
        self._bindings[reading.device] = binding
        for decision in self._engine.evaluate(reading, binding, now_s=now_s):
            self._take(decision, reading, now_s)

    def pass_time(self, until_s: float) -> None:
        """Let time decide until this moment."""
        while (due_s := self._engine.next_due_s()) is not None and due_s <= until_s:
            for timed in self._engine.tick(due_s):
                self._take(timed.decision, timed.reading, due_s)

    def _take(self, decision: Decision, reading: Reading, at_s: float) -> None:
        if not decision.opens or reading.test or decision.rule.removesuffix(FIRST).partition(":")[0] != self._of:
            return
        self.outcome.add(
            Firing(
                at_s * MS_PER_S,
                *(reading.device, self._bindings[reading.device].premises, decision.rule, decision.severity),
                *(decision.reason.value, decision.point, decision.value, decision.unit),
            )
        )


def feed(replays: Sequence[Replay], page: Iterable[tuple[Reading, Binding]], evidence: Evidence) -> None:
    """A page of readings for each of the replays."""
    for reading, binding in page:
        evidence.note(reading, binding)
        for replay in replays:
            replay.feed(reading, binding)


def finish(replays: Sequence[Replay], until_ms: float) -> None:
    """Nothing more is known of this place: let time decide until the end."""
    for replay in replays:
        replay.pass_time(until_ms / MS_PER_S)


def covered(rules: Iterable[Rule], bindings: Iterable[Binding], groups: Groups) -> list[Binding]:
    """The devices that any of these rules is for."""
    wanted = tuple(rules)
    return [one for one in bindings if any(_is_for(rule, one, groups) for rule in wanted)]


def _is_for(rule: Rule, one: Binding, groups: Groups) -> bool:
    if not rule.covers(one.spec) or (rule.device and rule.device != one.device):
        return False
    if rule.places and one.labels.get(PLACE) not in rule.places:
        return False
    return (not rule.premises or rule.premises == one.premises) and (not rule.group or rule.group in groups(one.device))


def points_of(rules: Iterable[Rule], spec: DeviceSpec) -> list[str]:
    """The points of a model that rules look at."""
    named: set[str] = set()
    for rule in rules:
        if rule.covers(spec):
            named |= set(_named(rule.when))
    plain = {name for name in named if "*" not in name}
    patterns = named - plain
    return [name for name in spec.points if name in plain or any(fnmatchcase(name, one) for one in patterns)]


def _named(condition: Any) -> Iterator[str]:
    """What every kind of condition says of points: in its fields `point` and `points`, and in the conditions within it."""
    if isinstance(condition, tuple | list):
        for part in condition:
            yield from _named(part)
    elif isinstance(condition, msgspec.Struct):
        for name in condition.__struct_fields__:
            value = getattr(condition, name)
            if name == "point":
                yield value
            elif name == "points":
                yield from [value] if isinstance(value, str) else value
            else:
                yield from _named(value)


def paired(before: Sequence[Firing], after: Sequence[Firing]) -> list[tuple[Firing | None, Firing | None]]:
    """Two versions side by side, by time: what both saw within `PAIR_S` in one line, the nearest first come."""
    waiting: dict[tuple[str, str], list[Firing]] = {}
    for one in after:
        waiting.setdefault((one.device, one.rule), []).append(one)
    found: list[tuple[Firing | None, Firing | None]] = []
    for one in before:
        there = waiting.get((one.device, one.rule), [])
        near = min(there, key=lambda other: abs(other.at_ms - one.at_ms), default=None)
        if near is not None and abs(near.at_ms - one.at_ms) <= PAIR_S * MS_PER_S:
            there.remove(near)
            found.append((one, near))
        else:
            found.append((one, None))
    found += [(None, one) for there in waiting.values() for one in there]
    return sorted(found, key=lambda pair: min(one.at_ms for one in pair if one is not None))


def notes(evidence: Evidence, rules: Sequence[Rule], start_ms: float, *, stored: bool) -> list[Note]:
    """What the answer cannot know, by name; `stored` where the readings come out of a telemetry store."""
    found: list[tuple[bool, Note]] = [
        (any(rule.latched for rule in rules), "latched"),
        (stored, "coalesced"),
        (evidence.gaps > 0, "gaps"),
        (evidence.with_data < evidence.devices, "no_data"),
        (evidence.first_ms is not None and evidence.first_ms - start_ms > GAP_LEAST_S * MS_PER_S, "starts_late"),
        (evidence.bad > 0, "bad"),
        (evidence.tests > 0, "tests"),
        (any(rule.group for rule in rules), "groups_now"),
        (evidence.refused > 0, "refused"),
    ]
    return [*([evidence.cut] if evidence.cut else []), *(name for holds, name in found if holds)]


def per_premises(outcome: Outcome, names: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Premises, their names and counts, most first."""
    return [(one, names.get(one, ""), count) for one, count in outcome.by_premises.most_common()]

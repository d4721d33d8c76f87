"""Engine: rules over the stream of readings, in memory, one decision when a rule starts to hold, one when it ends.

```
reading ─► track (device × live | backlog | old | test | retained) ─► timeline ─► newest, windows ─► rules ─► decisions
  time ─► deadlines ──────────────────────────────────────────────────────────────────────────────────┘
```

Pure: no clock, no I/O. Backlog, test and retained readings have tracks of their own: what a drill or a late delivery latches must
never hide a live fire. A value that is not GOOD, not finite or of the wrong kind neither satisfies nor clears anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from iotcore.alarms import engine_latch
from iotcore.alarms.decisions import FIRST, Armed, Decision, Reason, Timed, bare, urgency
from iotcore.alarms.engine_bind import Numbers, leaf_nodes, resume, stages
from iotcore.alarms.engine_judge import decide, first_alarm, made, take_in
from iotcore.alarms.engine_memory import Excused, Look, Memory, Places, Raised, TrackKey
from iotcore.alarms.engine_plan import NO_GROUPS, Bound, Plan, Planner
from iotcore.alarms.engine_timers import Deadline, Deadlines
from iotcore.alarms.rules import Rule
from iotcore.alarms.window import Window
from iotcore.journal.latches import Latch
from iotcore.reading import Reading
from iotcore.registry.directory import Binding

Profile = Literal["immediate", "verified"]
RETRY_S = 0.05  # a deadline whose moment the timeline has not quite reached


@dataclass(slots=True)
class _Track:
    """A stream of a device: what is remembered of it, and the plan that it is judged by."""

    memory: Memory
    plan: Plan
    binding: Binding
    planner: Planner
    groups: frozenset[str]
    profile: Profile


class Engine:
    """Evaluates readings against rules. One per process; state is bounded by the registry's devices.

    `groups` tells the dynamic groups that a device is in, an answer that is the same object being the same answer; `profiles` the
    profile of a premises.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        groups: Callable[[str], frozenset[str]] = lambda _: NO_GROUPS,
        profiles: Callable[[str], Profile] | None = None,
    ) -> None:
        self._numbers = Numbers()
        self.rules = tuple(rules)
        self._planner = Planner(rules, self._numbers)
        self._groups = groups
        self._profiles = profiles
        self._tracks: dict[TrackKey, _Track] = {}
        self._deadlines = Deadlines()
        self.places = Places()

    def excuse(self, excused: Excused) -> None:
        """Let nothing be borne out by what this says is out of service or in walk test."""
        self.places.excused = excused

    def use(self, rules: Sequence[Rule], bindings: Iterable[Binding] = ()) -> None:
        """Go on with these rules; what is remembered, under way or latched by a rule's id and point stays.

        The plans of `bindings` are made before: a panel of 20,000 points takes half a second, which no fire has to wait for. This
        may run on another thread than `evaluate`.
        """
        planner = Planner(rules, self._numbers)
        for binding in bindings:
            planner.plan(binding, self._groups(binding.device), verified=self._profile(binding) == "verified")
        self._planner = planner
        self.rules = tuple(rules)

    def _profile(self, binding: Binding) -> Profile:
        return "immediate" if self._profiles is None else self._profiles(binding.premises)

    def evaluate(self, reading: Reading, binding: Binding, *, old: bool = False, now_s: float) -> list[Decision]:
        """The decisions that this reading causes, usually none: a rule decides when it starts to hold, then stays latched.

        Test, backlog and retained readings are judged too, apart from the live ones; the lane decides what becomes of it.
        `old` backlog has a track of its own too: what it latches is a record, and must not hide what is still worth a crew.
        `now_s` is the caller's monotonic clock. Ask `next_due_s` afterwards: a reading may arm timers, some of them due at once.
        """
        key = (reading.device, reading.backlog + old, reading.test, reading.retained)  # as `_key`
        planner = self._planner
        track = self._tracks.get(key)
        decisions: list[Decision] = []
        if (
            track is None
            or track.binding is not binding
            or track.planner is not planner
            or (planner.by_group and self._groups(reading.device) is not track.groups)
            or (self._profiles is not None and self._profiles(binding.premises) != track.profile)
        ):
            track = self._planned(key, track, binding, decisions)
        memory = track.memory
        at_s = memory.timeline.advance(reading, now_s)
        memory.seen_s = now_s
        touched = take_in(reading, track.plan, memory, at_s)
        if not touched:  # nearly always
            return decisions
        moment_s = reading.observed_ms / 1000.0 if reading.backlog else now_s
        look = Look(memory, binding, key, reading, at_s, moment_s, reading.received_ms, self.places)
        for bound in touched.values():
            decide(bound, look, decisions)
            if bound.timed:
                self._arm(bound, look, now_s)
        if not decisions:
            return decisions
        if memory.pending:  # what was decided may bear out a first alarm
            self._poke([(key, number) for number in track.plan.timed], now_s)
        return sorted(decisions, key=urgency) if len(decisions) > 1 else decisions

    def tick(self, now_s: float) -> list[Timed]:
        """The decisions that time has made by now; each rule is looked at as if its deadline were this moment.

        Ask `next_due_s` afterwards: a storm of deadlines is taken in turns.
        """
        found: list[Timed] = []
        for (key, number), deadline in self._deadlines.take(now_s):
            track = self._tracks[key]
            decisions: list[Decision] = []
            if track.planner is not self._planner:
                track = self._planned(key, track, track.binding, decisions)
            bound = track.plan.bounds.get(number)
            memory, reading = track.memory, deadline.reading
            if bound is not None:
                passed_s = max(0.0, now_s - memory.seen_s)
                at_s = max(memory.timeline.at_s + passed_s, deadline.at_s)
                moment_s = reading.observed_ms / 1000.0 + passed_s if reading.backlog else now_s
                wall_ms = (memory.timeline.received_ms or reading.received_ms) + (at_s - memory.timeline.at_s) * 1000.0
                look = Look(memory, track.binding, key, reading, at_s, moment_s, wall_ms, self.places)
                decide(bound, look, decisions)
                self._arm(bound, look, now_s)
                reading = look.armed or reading
            found += [Timed(decision, bare(reading), key[1] > 1) for decision in decisions]
        return sorted(found, key=lambda one: urgency(one.decision)) if len(found) > 1 else found

    def next_due_s(self) -> float | None:
        """When `tick` has something to do next, on the caller's clock; None while nothing is armed."""
        return self._deadlines.next_s()

    def armed(self, now_s: float) -> list[Armed]:
        """What is under way, to be kept over a restart: first alarms and what has to last; not what any reading arms anew."""
        found = []
        for (key, number), deadline in self._deadlines.items():
            bound = self._tracks[key].plan.bounds.get(number)
            if deadline.lasting and bound is not None:
                name = bound.name(next(leaf_nodes(bound.node)).point)
                found.append(Armed(name, max(0.0, deadline.due_s - now_s), bare(deadline.reading), key[1] > 1))
        return found

    def restore(self, armed: Iterable[Armed], bindings: Mapping[str, Binding], now_s: float) -> None:
        """Give back what was armed before a restart, after the recent readings: due when it would have been.

        What the recent readings do not tell any more is under way again, its end not known: it fails open.
        """
        for one in armed:
            reading = one.reading
            binding = bindings.get(reading.device)
            if binding is None:
                continue
            key = _key(reading, one.old)
            known = self._tracks.get(key)
            track = self._planned(key, known, binding, [])
            if known is None:
                track.memory.seen_s = now_s
            for number in track.plan.timed:
                bound = track.plan.bounds[number]
                if bound.name(next(leaf_nodes(bound.node)).point) == one.rule:
                    self._restored(track, key, bound, one, now_s)

    def latch(self, latches: Iterable[Latch], bindings: Mapping[str, Binding], now_s: float) -> None:
        """After the recent readings: latched is what the journal says of each rule, and nothing else."""
        standing = engine_latch.by_device(latches)
        for (device, *_), track in self._tracks.items():
            engine_latch.keep_only(track.memory, track.plan, standing.get(device, {}))
        for device, found in standing.items():
            live, binding = {rule: one for rule, one in found.items() if not one.late}, bindings.get(device)
            if binding is None or not live:
                continue
            key = (device, 0, False, False)
            known = self._tracks.get(key)
            track = self._planned(key, known, binding, [])
            if known is None:
                track.memory.seen_s = now_s
            first = min(live.values(), key=lambda one: one.received_ms)
            reading = Reading(device, "", 0, "reading", first.detector_ms, first.received_ms, ())
            at_s = track.memory.timeline.at_s
            look = Look(track.memory, binding, key, reading, at_s, now_s, first.received_ms, self.places)
            for bound in track.plan.bounds.values():
                engine_latch.give_back(bound, live, look)

    def _restored(self, track: _Track, key: TrackKey, bound: Bound, armed: Armed, now_s: float) -> None:
        memory, before = track.memory, self._deadlines.get((key, bound.number))
        if before is None:
            at_s = memory.timeline.at_s + armed.due_in_s
            look = Look(memory, track.binding, key, armed.reading, at_s, now_s, armed.reading.received_ms, self.places)
            look.begin(bound.number)
            resume(bound.node, look)
        else:
            at_s = before.at_s
        deadline = Deadline(now_s + armed.due_in_s, at_s, armed.reading, lasting=True)
        self._deadlines.set((key, bound.number), deadline)

    def plan_of(self, binding: Binding) -> Plan:
        """The rules that judge a device now, without verification, for a trial beside everything that is remembered (`trial`)."""
        groups = self._groups(binding.device) if self._planner.by_group else NO_GROUPS
        return self._planner.plan(binding, groups, verified=False)

    def alarming(self, reading: Reading, *, old: bool = False) -> bool:
        """Whether an alarm rule holds or waits to be confirmed, by this reading or an earlier one; asked after `evaluate`."""
        track = self._tracks[_key(reading, old)]
        memory, bounds = track.memory, track.plan.bounds
        standing = [bounds[number] for number in memory.raised if number in bounds and number not in memory.returned]
        return bool(memory.pending) or any(bound.rule.severity == "alarm" for bound in standing)

    def take_back(self, decisions: Iterable[Decision], reading: Reading, *, old: bool = False) -> None:
        """Forget that this reading decided so, for it is not taken: the next one that says the same decides anew."""
        track = self._tracks[_key(reading, old)]
        memory = track.memory
        for decision in decisions:
            for bound in track.plan.points[decision.point].rules:
                if bound.name(decision.point) != decision.rule:
                    continue
                if decision.change == "raise":
                    memory.raised.pop(bound.number, None)
                elif bound.number in memory.returned:
                    memory.returned.discard(bound.number)
                else:
                    leaf = next(leaf for leaf in leaf_nodes(bound.node) if leaf.point == decision.point)
                    memory.raised[bound.number] = Raised(leaf, bare(reading))

    def cleared(self, decision: Decision, reading: Reading) -> bool:
        """Whether the device has told since, live or late, that what this reading decided is over; nothing told is not over."""
        for late in range(3):
            key = (reading.device, late, reading.test, reading.retained)
            track = self._tracks.get(key)
            if track is None or not track.memory.timeline.later_than(reading.observed_ms):
                continue
            memory = track.memory
            look = Look(memory, track.binding, key, reading, memory.timeline.at_s, 0.0, reading.received_ms, self.places)
            point = track.plan.points.get(decision.point)
            for bound in point.rules if point else ():
                if bound.name(decision.point) == decision.rule.removesuffix(FIRST) and bound.plain.judge(look) is False:
                    return True
        return False

    def reset(self, devices: Iterable[str]) -> None:
        """Unlatch every rule of these devices; a point that is still active raises anew with its next reading."""
        wanted = set(devices)
        for (device, *_), track in self._tracks.items():
            if device in wanted:
                track.memory.raised.clear()
                track.memory.returned.clear()

    def evaluate_again(self, devices: Iterable[str], now_s: float) -> list[Timed]:  # noqa: ARG002 - the same for all that decides
        """What is still active of these devices decides anew: their disablement has ended. Live readings only."""
        found = []
        for device in dict.fromkeys(devices):
            track = self._tracks.get((device, 0, False, False))
            if track is None:
                continue
            memory = track.memory
            for number, raised in memory.raised.items():
                bound = track.plan.bounds.get(number)
                if bound is not None and number not in memory.returned:
                    decision = made(bound, raised.leaf, raised.leaf.reason, memory)
                    found.append(Timed(decision, raised.reading, old=False))
        return sorted(found, key=lambda one: urgency(one.decision))

    def _planned(self, key: TrackKey, track: _Track | None, binding: Binding, decisions: list[Decision]) -> _Track:
        """The track with the plan that its device has now: new at its first reading, else with all that it remembers."""
        planner = self._planner
        groups = self._groups(key[0]) if planner.by_group else NO_GROUPS
        profile = self._profile(binding)
        delayed = profile == "verified" and key[1] < 2 and not key[2] and not key[3]  # noqa: PLR2004 - live, or backlog for a crew
        plan = planner.plan(binding, groups, verified=delayed)
        if track is None:
            memory = Memory(latches=not key[2], criteria=plan.criteria)
            track = self._tracks[key] = _Track(memory, plan, binding, planner, groups, profile)
            return track
        if plan is not track.plan:
            _adopt(track, plan, key, self.places, decisions)
        track.plan, track.binding, track.planner, track.groups, track.profile = plan, binding, planner, groups, profile
        return track

    def _arm(self, bound: Bound, look: Look, now_s: float) -> None:
        """Remember when a rule is to be looked at again, and those that this look concerns too."""
        if look.pokes:
            self._poke(look.pokes, now_s)
        ref = (look.key, bound.number)
        if look.again_s == inf:
            if not look.unknown:
                self._deadlines.drop(ref)
            return
        due_s = now_s + max(look.again_s - look.at_s, RETRY_S if look.again_s <= look.at_s else 0.0)
        before = self._deadlines.get(ref)
        if look.unknown and before is not None and before.due_s < due_s:
            return  # a part that is unknown now may have asked for that
        deadline = Deadline(due_s, look.again_s, look.armed or look.reading, lasting=look.armed is not None)
        self._deadlines.set(ref, deadline)

    def _poke(self, refs: Iterable[tuple[TrackKey, int]], now_s: float) -> None:
        """Let rules that wait be looked at now."""
        for key, number in refs:
            track, before = self._tracks.get(key), self._deadlines.get((key, number))
            if before is not None:
                self._deadlines.set((key, number), before._replace(due_s=now_s, at_s=-inf))
            elif track is not None and track.memory.pending:
                reading = next(iter(track.memory.pending.values())).reading
                self._deadlines.set((key, number), Deadline(now_s, -inf, reading, lasting=True))


def _adopt(track: _Track, plan: Plan, key: TrackKey, places: Places, decisions: list[Decision]) -> None:
    """Go on by a new plan: windows as it wants them; what it has no rule for any more ends, but for what waits for a reset."""
    memory = track.memory
    spans = {name: point.span for name, point in plan.points.items() if point.span is not None}
    windows, memory.windows = memory.windows, {}
    for name, (at_s, value) in memory.newest.items():
        if name not in spans or isinstance(value, str):
            continue
        window = windows.get(name)
        if window is None:
            window = Window(*spans[name])
            window.add(at_s, value)
        window.lengthen(*spans[name])
        memory.windows[name] = window
    memory.criteria = plan.criteria
    for number in [number for number in memory.raised if number not in plan.bounds]:
        bound = track.plan.bounds.get(number)
        if bound is not None and not bound.rule.latched:
            decisions.append(made(bound, memory.raised.pop(number).leaf, Reason.RULE_CHANGED, memory))
    if memory.pending:
        _drop_stages(track, plan, key, places, decisions)


def _drop_stages(track: _Track, plan: Plan, key: TrackKey, places: Places, decisions: list[Decision]) -> None:
    """First alarms that no rule waits for any more end."""
    memory = track.memory
    left = {stage.number for bound in plan.bounds.values() for stage in stages(bound.node)}
    for bound in track.plan.bounds.values():
        for stage in stages(bound.node):
            pending = memory.pending.get(stage.number)
            if pending is not None and stage.number not in left:
                del memory.pending[stage.number]
                places.forget((key, bound.number))
                if bound.announced and not pending.confirmed and not pending.cancelled:
                    decisions.append(first_alarm(bound, pending.leaf, Reason.RULE_CHANGED, memory))


def _key(reading: Reading, old: bool) -> TrackKey:  # noqa: FBT001 - part of the key
    return (reading.device, reading.backlog + old, reading.test, reading.retained)

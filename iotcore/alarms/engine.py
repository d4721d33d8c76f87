"""Engine: rules over the stream of readings, in memory, one decision when a rule starts to hold.

```
reading ─► track (device × live | backlog | old | test | retained) ─► timeline ─► newest, windows ─► rules ─► decisions
```

Pure: no clock, no I/O. Backlog, test and retained readings have tracks of their own: what a drill or a late delivery latches must
never hide a live fire. A value that is not GOOD, not finite or of the wrong kind neither satisfies nor clears anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from iotcore.alarms.decisions import Decision, urgency
from iotcore.alarms.engine_judge import Track, decide, judge, name_of, take_in
from iotcore.alarms.engine_plan import NO_GROUPS, Numbers, Plan, Planner
from iotcore.alarms.rules import Rule
from iotcore.alarms.window import Window
from iotcore.reading import Reading
from iotcore.registry.directory import Binding

_Key = tuple[str, int, bool, bool]


class Engine:
    """Evaluates readings against rules. One per process; state is bounded by the registry's devices.

    `groups` tells the dynamic groups that a device is in; an answer that is the same object is the same answer.
    """

    def __init__(self, rules: Sequence[Rule], groups: Callable[[str], frozenset[str]] = lambda _: NO_GROUPS) -> None:
        self._numbers = Numbers()
        self._planner = Planner(rules, self._numbers)
        self._groups = groups
        self._tracks: dict[_Key, Track] = {}

    def use(self, rules: Sequence[Rule]) -> None:
        """Go on with these rules; what is remembered of the devices, and what is latched by a rule's id, stays."""
        self._planner = Planner(rules, self._numbers)

    def evaluate(self, reading: Reading, binding: Binding, *, old: bool = False, now_s: float) -> list[Decision]:  # noqa: ARG002 - for timers
        """The decisions that this reading causes, usually none: a rule decides when it starts to hold, then stays latched.

        Test, backlog and retained readings are judged too, apart from the live ones; the lane decides what becomes of it.
        `old` backlog has a track of its own too: what it latches is a record, and must not hide what is still worth a crew.
        `now_s` is the caller's monotonic clock.
        """
        key = (reading.device, reading.backlog + old, reading.test, reading.retained)  # as `_key`
        planner = self._planner
        track = self._tracks.get(key)
        if (
            track is None
            or track.binding is not binding
            or track.planner is not planner
            or (planner.by_group and self._groups(reading.device) is not track.groups)
        ):
            track = self._planned(key, track, binding)
        at_s = track.timeline.advance(reading)
        touched = take_in(reading, track, at_s)
        if not touched:  # nearly always
            return []
        decisions = [d for bound in touched.values() if (d := decide(bound, track, at_s)) is not None]
        return sorted(decisions, key=urgency) if len(decisions) > 1 else decisions

    def alarming(self, reading: Reading, *, old: bool = False) -> bool:
        """Whether an alarm rule holds, by this reading or since an earlier one; asked right after `evaluate` of it."""
        track = self._tracks[_key(reading, old)]
        standing = [track.plan.bounds[number] for number in track.raised if number in track.plan.bounds]
        return any(bound.rule.severity == "alarm" and judge(bound.node, track, track.timeline.at_s) for bound in standing)

    def take_back(self, decisions: Iterable[Decision], reading: Reading, *, old: bool = False) -> None:
        """Forget that this reading decided so, for it is not taken: the next one that says the same decides anew."""
        track = self._tracks[_key(reading, old)]
        for decision in decisions:
            for bound in track.plan.points[decision.point].rules:
                if name_of(bound, decision.point) == decision.rule:
                    track.raised.discard(bound.number)

    def cleared(self, decision: Decision, reading: Reading) -> bool:
        """Whether the device has told since, live or late, that what this reading decided is over; nothing told is not over."""
        for late in range(3):
            track = self._tracks.get((reading.device, late, reading.test, reading.retained))
            if track is None or not track.timeline.later_than(reading.observed_ms):
                continue
            point = track.plan.points.get(decision.point)
            for bound in point.rules if point else ():
                if name_of(bound, decision.point) == decision.rule and judge(bound.node, track, track.timeline.at_s) is False:
                    return True
        return False

    def reset(self, devices: Iterable[str]) -> None:
        """Unlatch every rule of these devices; a point that is still active raises anew with its next reading."""
        wanted = set(devices)
        for (device, *_), track in self._tracks.items():
            if device in wanted:
                track.raised.clear()

    def _planned(self, key: _Key, track: Track | None, binding: Binding) -> Track:
        """The track with the plan that its device has now: new at its first reading, else with all that it remembers."""
        planner = self._planner
        groups = self._groups(key[0]) if planner.by_group else NO_GROUPS
        plan = planner.plan(binding, groups)
        if track is None:
            track = self._tracks[key] = Track(plan, binding, planner, groups, latches=not key[2])
            return track
        if plan is not track.plan:
            _rewindow(track, plan)
        track.plan, track.binding, track.planner, track.groups = plan, binding, planner, groups
        return track


def _rewindow(track: Track, plan: Plan) -> None:
    """Windows as the new plan wants them, with what is remembered."""
    spans = {name: point.span for name, point in plan.points.items() if point.span is not None}
    windows, track.windows = track.windows, {}
    for name, newest in track.newest.items():
        if name not in spans:
            continue
        window = windows.get(name)
        if window is None:
            window = Window(*spans[name])
            window.add(*newest)
        window.lengthen(*spans[name])
        track.windows[name] = window


def _key(reading: Reading, old: bool) -> _Key:  # noqa: FBT001 - part of the key
    return (reading.device, reading.backlog + old, reading.test, reading.retained)

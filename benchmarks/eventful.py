"""When something could be decided: the part of normal life that has to be played to the rules, found without playing it. Pure.

A rule looks at what a detector tells now and at most five minutes before. So where, for longer than that, no more smoke and
heat is added than leaves every condition short of holding, nothing is decided, whatever else is told; only the rest is played.
It errs towards playing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf

from benchmarks.normal_life import (
    AIRCON_C,
    BATTERY,
    DAY_SWING_C,
    DRIFT_DB_PER_M_DAY,
    NOISE,
    NOISE_C,
    NOISE_DB_PER_M,
    STEP_S,
    SWING_C,
    SWING_DB_PER_M,
    Course,
    Event,
    Premises,
    course,
)
from iotcore.alarms.conditions import All, AnyOf, Condition, Each, Rise, Threshold, Wrapper, leaves
from iotcore.alarms.rules import Rule

WARM_S = 360.0  # the longest window of a shipped rule is 300 s: what is older is forgotten
BLOCK_S = 60.0
Reaching = tuple[Event, float, tuple[float, ...]]  # an event that reaches a detector: its share, through these doors
BACK = 6  # blocks that a rule may still look back on
SETTLE_S = 240.0  # what was seen once is not seen again after 60 s, and is over
FADES = 7.0  # time constants until a thousandth is left
HOTTEST_OVER_C = DAY_SWING_C + AIRCON_C + NOISE_C * max(NOISE)


@dataclass(frozen=True, slots=True)
class Episode:
    """A time of one premises to be played: its events, and what they add at each detector that is concerned."""

    from_s: float
    until_s: float
    events: tuple[Event, ...]
    courses: dict[int, tuple[Course, ...]]


@dataclass(frozen=True, slots=True)
class Resting:
    """What a detector tells at the most when nothing happens: dB/m and °C."""

    smoke: float
    celsius: float


def asked(judging: Sequence[Rule]) -> tuple[Condition, ...]:
    """What of a detector's rules could begin or end a fire; of its pre-alarms a threshold, which may hold for long."""
    fires = [one.when for one in judging if one.severity == "alarm" and not isinstance(one.when, Each)]
    signs = [leaf for one in judging if one.severity == "pre-alarm" for leaf in leaves(one.when) if isinstance(leaf, Threshold)]
    return (*fires, *signs)


def possible(condition: Condition, smoke: float, heat: float, rest: Resting) -> bool:  # noqa: PLR0911 - one for each kind
    """Whether a condition could hold, or still hold, where so much smoke (dB/m) and heat (°C) is added at the most.

    What it asks of other points is told by nothing in normal life.
    """
    if isinstance(condition, All):
        return all(possible(part, smoke, heat, rest) for part in condition.of)
    if isinstance(condition, AnyOf):
        return any(possible(part, smoke, heat, rest) for part in condition.of)
    if isinstance(condition, Wrapper):
        return not isinstance(condition.of, Each) and possible(condition.of, smoke, heat, rest)
    if not isinstance(condition, Rise | Threshold) or condition.point not in {"smoke", "temperature"}:
        return False
    of_smoke = condition.point == "smoke"
    if isinstance(condition, Rise):
        return (smoke + SWING_DB_PER_M if of_smoke else heat + SWING_C) >= condition.by
    if condition.above is None:
        return False
    level = condition.above if condition.clear is None else condition.clear
    return (rest.smoke + smoke if of_smoke else rest.celsius + heat) >= level


def episodes(premises: Premises, judging: Sequence[Sequence[Rule]], days: float) -> Iterator[Episode]:
    """The times to be played, in order, none touching another; `judging` are each detector's rules."""
    spans: list[tuple[float, float, int]] = []
    courses: dict[int, tuple[Course, ...]] = {}
    for n, detector in enumerate(premises.detectors):
        wanted = asked(judging[n])
        drift = DRIFT_DB_PER_M_DAY[1] * days
        rest = Resting(detector.zero + drift + NOISE_DB_PER_M * max(NOISE), detector.celsius + HOTTEST_OVER_C)
        assert not any(possible(one, 0.0, 0.0, rest) for one in wanted), f"{detector.id}: quiet could decide something"
        courses[n] = tuple(_courses(premises, n, wanted, rest))
        spans += [(begin, end, n) for begin, end in _eventful(courses[n], wanted, rest)]
        spans += [
            (one.at_s - WARM_S, one.at_s + SETTLE_S, n) for one in premises.events if one.kind is BATTERY and n in one.reach
        ]
    for from_s, until_s, concerned in _joined(sorted(spans)):
        adding = {n: tuple(one for one in courses[n] if one.at_s < until_s and one.until_s > from_s) for n in sorted(concerned)}
        events = tuple(one for one in premises.events if from_s < one.at_s < until_s and not concerned.isdisjoint(one.reach))
        yield Episode(from_s, until_s, events, adding)


def all_of_it(premises: Premises, days: float) -> Episode:
    """Every detector at every time, for whoever doubts that."""
    courses = {
        n: tuple(course(one, *one.reach[n]) for one in premises.events if n in one.reach and one.kind is not BATTERY)
        for n in range(len(premises.detectors))
    }
    return Episode(0.0, days * 86_400.0, premises.events, courses)


def _courses(premises: Premises, n: int, wanted: Sequence[Condition], rest: Resting) -> Iterator[Course]:
    """The courses of a detector's events, of those that together could matter.

    What is left out is found by its peak and length alone.
    """
    found = [(one, *one.reach[n]) for one in premises.events if n in one.reach and one.kind is not BATTERY]
    for run in _runs([(one.at_s, one.at_s + _at_most_s(one, doors)) for one, _, doors in found]):
        together = [found[i] for i in run]
        tops = list(_most(together))
        if any(possible(condition, smoke, heat, rest) for smoke, heat in tops for condition in wanted):
            for one, share, doors in together:
                yield course(one, share, doors)


def _most(together: Sequence[Reaching]) -> Iterator[tuple[float, float]]:
    """Smoke and heat at the most while each event begins and lasts: its own and what those before it have left."""
    before: list[tuple[float, float, float, float, float]] = []  # smoke, heat, when they fade, and how fast
    for event, share, doors in together:
        smoke, heat = event.most(share, doors)
        ends_s = event.at_s + event.rise_s + event.stay_s
        left = [(a * _left(event.at_s - end, fade), b * _left(event.at_s - end, lag)) for a, b, end, fade, lag in before]
        yield smoke + sum(one[0] for one in left), heat + sum(one[1] for one in left)
        before.append(
            (smoke, heat, ends_s + WARM_S, inf if doors else event.fade_s, inf if doors else 2.0 * event.kind.heat_lag_s)
        )


def _left(since_s: float, fade_s: float) -> float:
    return exp(-max(0.0, since_s) / fade_s)


def _at_most_s(event: Event, doors: tuple[float, ...]) -> float:
    lag_s = 2.0 * event.kind.heat_lag_s
    return WARM_S + event.rise_s + event.stay_s + FADES * (event.fade_s + lag_s + sum(doors)) + SETTLE_S


def _runs(spans: Sequence[tuple[float, float]]) -> Iterator[list[int]]:
    """Which of these spans, ordered by their begin, follow each other without a gap."""
    run: list[int] = []
    end_s = -inf
    for i, (begin, end) in enumerate(spans):
        if run and begin > end_s:
            yield run
            run = []
        run.append(i)
        end_s = max(end, end_s if len(run) > 1 else end)
    if run:
        yield run


def _eventful(courses: Sequence[Course], wanted: Sequence[Condition], rest: Resting) -> Iterator[tuple[float, float]]:
    """Where what is added could make a condition hold, from before to after it."""
    for run in _runs([(one.at_s, one.until_s + WARM_S) for one in courses]):
        together = [courses[i] for i in run]
        begin_s = together[0].at_s
        tops = _tops(together, begin_s)
        for b in range(len(tops)):
            near = tops[max(0, b - BACK) : b + 1]
            smoke, heat = max(one[0] for one in near), max(one[1] for one in near)
            if any(possible(condition, smoke, heat, rest) for condition in wanted):
                yield begin_s + b * BLOCK_S - WARM_S, begin_s + (b + 1) * BLOCK_S + SETTLE_S


def _tops(courses: Sequence[Course], begin_s: float) -> list[tuple[float, float]]:
    """The most that is added in each block of a minute: the sum of what each course adds at the most in it."""
    tops = [(0.0, 0.0)] * (int((max(one.until_s for one in courses) - begin_s) / BLOCK_S) + BACK + 1)
    for one in courses:
        edges = [int((one.at_s + i * STEP_S - begin_s) / BLOCK_S) for i in range(len(one.smoke))]
        starts = [0, *(i for i, (a, b) in enumerate(pairwise(edges), start=1) if a != b), len(edges)]
        for a, z in pairwise(starts):
            low = max(0, a - 1)  # a block begins between two steps
            smoke, heat = tops[edges[a]]
            tops[edges[a]] = smoke + max(one.smoke[low : z + 1]), heat + max(one.heat[low : z + 1])
    return tops


def _joined(spans: Sequence[tuple[float, float, int]]) -> Iterator[tuple[float, float, set[int]]]:
    for run in _runs([(begin, end) for begin, end, _ in spans]):
        yield spans[run[0]][0], max(spans[i][1] for i in run), {spans[i][2] for i in run}

"""30 days of normal life of 1,000 detectors: how often each profile sends a crew for nothing, and how late it is to a fire.

`python -m benchmarks.nuisances [--days 30] [--seed 1] [--fires FOLDER]` plays `benchmarks.normal_life` to the rules that ship,
on virtual time, in five ways side by side; with FOLDER (as for `benchmarks.fire_curves`) also when each of them alarms on
measured fires. The last line is one JSON object. What the figures mean: docs/normal-life.md.

Time is compressed: what cannot decide anything is not played (`benchmarks.eventful`); a test plays every reading and finds the
same.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from benchmarks import fire_curves
from benchmarks.eventful import Episode, episodes
from benchmarks.normal_life import Course, Detector, Premises, city
from iotcore.alarms import rules
from iotcore.alarms.decisions import FIRST, Decision
from iotcore.alarms.engine import Engine, Profile
from iotcore.alarms.engine_bind import Numbers
from iotcore.alarms.engine_plan import NO_GROUPS, Planner
from iotcore.reading import Reading
from iotcore.registry.directory import Binding
from iotcore.registry.siting import PLACE
from iotcore.specs.load import load_file, shipped_folder
from iotcore.specs.model import DeviceSpec
from simulators.replay import with_baseline

MODEL = "iotcore-smoke-heat"
EPOCH_S = 1_790_000_000.0
BASELINE_S = 1800.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the same premises: a profile, whether places are told, and what the detectors measure.

    `place` is the label of the detector that sees a measured fire; `stoves` is what hangs above them.
    """

    name: str
    profile: Profile
    place: str = ""
    smoke_alone: bool = False
    stoves: Literal["smoke and heat", "heat"] = "smoke and heat"

    @property
    def placed(self) -> bool:
        """Whether the registry says where detectors hang."""
        return bool(self.place)


IMMEDIATE = Way("immediate", "immediate")
UNPLACED = Way("verified, no place told", "verified")
SMOKE_ALONE = Way("verified, smoke alone", "verified", "kitchen", smoke_alone=True)
VERIFIED = Way("verified", "verified", "kitchen")
HEAT = Way("verified, heat at stoves", "verified", "kitchen", stoves="heat")
WAYS = (IMMEDIATE, UNPLACED, SMOKE_ALONE, VERIFIED)
LIVED = (*WAYS, HEAT)
COMMERCIAL = Way("verified, commercial", "verified", "commercial-kitchen")


@dataclass(frozen=True, slots=True)
class Told:
    """A decision, when and of which detector."""

    at_s: float
    device: str
    decision: Decision


@dataclass(slots=True)
class Life:
    """What was found. A dispatch is one premises and episode, whatever else of it alarms: how, where and why by way."""

    detectors: int = 0
    readings: int = 0
    events: Counter[str] = field(default_factory=Counter)
    dispatches: dict[str, list[str]] = field(default_factory=dict)  # "kind: detector, rule, reason"
    first_alarms: Counter[str] = field(default_factory=Counter)
    low_batteries: set[str] = field(default_factory=set)

    def by_kind(self, way: str) -> dict[str, int]:
        """How many dispatches each kind of event caused."""
        return dict(Counter(one.partition(":")[0] for one in self.dispatches[way]).most_common())


class Player:
    """One premises in one way, with an engine of its own."""

    def __init__(self, premises: Premises, shipped: Sequence[rules.Rule], spec: DeviceSpec, way: Way) -> None:
        self.premises = premises
        self.readings = 0
        self.told: list[Told] = []
        self._interval_s = spec.interval_s
        self._engine = Engine(shipped, profiles=lambda _: way.profile)
        heat = without(spec, "smoke") if way.stoves == "heat" else spec
        self._bindings = [
            _binding(one, premises.id, heat if one.spot.doors == () else spec, placed=way.placed) for one in premises.detectors
        ]
        planner = Planner(shipped, Numbers())
        plans = [planner.plan(one, NO_GROUPS, verified=way.profile == "verified") for one in self._bindings]
        self.judging = [[bound.rule for bound in plan.bounds.values()] for plan in plans]

    def play(self, episode: Episode) -> None:
        """Every reading of the detectors that are concerned, and what time decides."""
        detectors = self.premises.detectors
        for at_s, n, nth in sorted(turn for one in episode.courses for turn in self._turns(one, episode)):
            if detectors[n].silent(at_s):
                continue
            reading = _reading(detectors[n], at_s, nth, episode.courses[n])
            self.readings += 1
            self._pass_time(at_s)
            for decision in self._engine.evaluate(reading, self._bindings[n], now_s=at_s):
                self.told.append(Told(at_s, detectors[n].id, decision))
        self._pass_time(episode.until_s)

    def reset(self) -> None:
        """Somebody has looked, and resets what was latched."""
        self._engine.reset(one.id for one in self.premises.detectors)

    def _turns(self, n: int, episode: Episode) -> Iterator[tuple[float, int, int]]:
        phase_s = self.premises.detectors[n].phase_s
        first = max(0, ceil((episode.from_s - phase_s) / self._interval_s))
        for nth in range(first, max(first, ceil((episode.until_s - phase_s) / self._interval_s))):
            yield phase_s + nth * self._interval_s, n, nth

    def _pass_time(self, until_s: float) -> None:
        while (due_s := self._engine.next_due_s()) is not None and due_s <= until_s:
            self.told += [Told(due_s, timed.reading.device, timed.decision) for timed in self._engine.tick(due_s)]


def shipped() -> tuple[tuple[rules.Rule, ...], DeviceSpec]:
    """The rules that ship, and our own profile of a smoke and heat detector."""
    return rules.load(rules.default_path()), load_file(shipped_folder() / f"{MODEL}.yaml")


def without(spec: DeviceSpec, point: str) -> DeviceSpec:
    """The profile of a detector that does not measure this."""
    return msgspec.structs.replace(spec, points={name: one for name, one in spec.points.items() if name != point})


def live(days: float, seed: int, counts: Mapping[str, int] | None = None, ways: Sequence[Way] = LIVED) -> Life:
    """So many days of the city, or of so many premises of each plan."""
    found = Life(dispatches={way.name: [] for way in ways})
    all_rules, spec = shipped()
    smoke = without(spec, "temperature")
    for premises in city(days, seed, counts):
        found.detectors += len(premises.detectors)
        found.events.update(event.kind.name for event in premises.events)
        for way in ways:
            player = Player(premises, all_rules, smoke if way.smoke_alone else spec, way)
            for episode in episodes(premises, player.judging, days):
                player.play(episode)
                _count(found, way.name, episode, player.told)
                player.told.clear()
                player.reset()
            found.readings += player.readings
    return found


def fires(folder: Path, ways: Sequence[Way] = (*WAYS, COMMERCIAL)) -> dict[str, dict[str, float | None]]:
    """When each way alarms at each station of the measured fires, seconds after ignition; None: not at all."""
    found: dict[str, dict[str, float | None]] = {}
    for station in fire_curves.stations(folder):
        samples = with_baseline(station.curve, BASELINE_S, seed=1)
        found[station.name] = {}
        for way in ways:
            outcome = fire_curves.alarm(
                samples, station.curve[0].at_s, profile=way.profile, place=way.place, smoke_alone=way.smoke_alone
            )
            found[station.name][way.name] = outcome.at_s
    return found


def _binding(detector: Detector, premises: str, spec: DeviceSpec, *, placed: bool) -> Binding:
    labels = {PLACE: detector.spot.place} if placed and detector.spot.place is not None else {}
    return Binding(detector.id, detector.id, spec, "fire", detector.id, "active", premises=premises, labels=labels)


def _reading(detector: Detector, at_s: float, nth: int, courses: Sequence[Course]) -> Reading:
    smoke, temperature = detector.quiet(at_s, nth)
    for one in courses:
        if one.at_s <= at_s < one.until_s:
            added, warm = one.at(at_s)
            smoke += added
            temperature += warm
    ms = (EPOCH_S + at_s) * 1000.0
    told = {"smoke": smoke, "temperature": temperature, "battery": detector.charge(at_s)}
    return Reading(detector.id, "b", nth, "reading", ms, ms, (), clean=told)


def _count(found: Life, way: str, episode: Episode, told: Sequence[Told]) -> None:
    for one in told:
        if one.decision.rule == "battery-low" and one.decision.opens:
            found.low_batteries.add(one.device)
        if one.decision.rule.endswith(FIRST) and one.decision.opens:
            found.first_alarms[way] += 1
    fire = next((one for one in told if one.decision.severity == "alarm" and one.decision.opens), None)
    if fire is not None:
        before = [event for event in episode.events if event.at_s <= fire.at_s]
        kind = before[-1].kind.name if before else "nothing"
        found.dispatches[way].append(f"{kind}: {fire.device}, {fire.decision.rule}, {fire.decision.reason.value}")


def table(life: Life, days: float) -> None:
    """What life did, for people."""
    kinds = ", ".join(f"{count:,} {name}" for name, count in life.events.most_common())
    print(f"{days:g} days of {life.detectors:,} detectors: {kinds}; {life.readings:,} readings played")
    print(f"{'':28}{'first alarms':>14}{'false dispatches':>18}   by")
    for way, dispatches in life.dispatches.items():
        by = ", ".join(f"{count} {kind}" for kind, count in life.by_kind(way).items())
        print(f"{way:28}{life.first_alarms[way]:14,}{len(dispatches):18,}   {by}")
    for name in (VERIFIED.name, HEAT.name):
        for one in life.dispatches.get(name, []):
            print(f"  {name}, {one}")


def fire_table(found: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | int]]:
    """When each way alarms on measured fires, and how much later than immediate."""
    names = list(next(iter(found.values()), {}))
    print(f"\n{'seconds after ignition':24}" + "".join(f"{name:>26}" for name in names))
    for station, row in found.items():
        print(f"{station:24}" + "".join(f"{'-' if at_s is None else format(at_s, '.0f'):>26}" for at_s in row.values()))
    delays: dict[str, dict[str, float | int]] = {}
    for name in names[1:]:
        pairs = [(row[names[0]], row[name]) for row in found.values()]
        later = [after - before for before, after in pairs if before is not None and after is not None]
        missed = sum(before is not None and after is None for before, after in pairs)
        delays[name] = {"p50_s": median(later), "worst_s": max(later), "missed": missed, "stations": len(later)}
        print(f"{name}: later by {median(later):.0f} s (median), {max(later):.0f} s (worst); {missed} of {len(pairs)} missed")
    return delays


def main() -> None:
    """Print the tables; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=[way.name for way in LIVED], default=[way.name for way in LIVED])
    parser.add_argument("--fires", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    started_s = time.process_time()
    life = live(options.days, options.seed, ways=[way for way in LIVED if way.name in options.ways])
    table(life, options.days)
    told = {
        "days": options.days,
        "seed": options.seed,
        "detectors": life.detectors,
        "events": dict(life.events),
        "readings": life.readings,
        "false_dispatches": {way: len(one) for way, one in life.dispatches.items()},
        "by_kind": {way: life.by_kind(way) for way in life.dispatches},
        "first_alarms": dict(life.first_alarms),
        "low_batteries": len(life.low_batteries),
        "later_than_immediate": fire_table(fires(options.fires)) if options.fires else None,
        "cpu_s": round(time.process_time() - started_s, 1),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

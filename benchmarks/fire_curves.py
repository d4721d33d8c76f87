"""Which unit the measured fires' smoke is in, and when our rules alarm next to commercial alarms.

`python -m benchmarks.fire_curves FOLDER` prints its tables and, last, one JSON object. FOLDER holds `nist_activation_times.csv`
and the `nist_*.csv` curves that it names. What the figures mean: docs/fire-curves.md.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import exp
from pathlib import Path
from statistics import median

import msgspec

from iotcore.alarms import rules
from iotcore.alarms.engine import Engine, Profile
from iotcore.errors import ConfigError
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.registry.siting import PLACE
from iotcore.specs.model import DeviceSpec, Point
from simulators.optics import DB_PER_NEPER_POWER, decibels_per_metre
from simulators.replay import Sample, load, resample, with_baseline

BASELINE_S = 1800.0
EARLY_S = 20.0  # an alarm earlier than this before the first commercial one would be a false one
US_PHOTO_PERCENT_PER_FOOT = (1.0, 4.0)  # the range at which US photoelectric alarms are set (UL 217)
DETECTOR = DeviceSpec(
    model="replayed-detector",
    vendor="iotcore",
    title="Replayed detector",
    device_class="fire_detector",
    protocol="canonical",
    source="a measured curve",
    verified="no",
    interval_s=2.0,
    points={"smoke": Point(unit="dB/m"), "temperature": Point(unit="°C")},
)

SMOKE_DETECTOR = msgspec.structs.replace(DETECTOR, points={"smoke": DETECTOR.points["smoke"]})
DEVICE = Binding("d", "Replayed detector", DETECTOR, "fire", "d", "active")


@dataclass(frozen=True, slots=True)
class Station:
    """One place of one test: its curve, and when its commercial alarms sounded, by kind."""

    name: str
    curve: tuple[Sample, ...]
    alarms: tuple[tuple[str, float], ...]  # ("Ion" | "Pho" | "CO" | "Hea", seconds)

    @property
    def first_s(self) -> float:
        """When the first commercial alarm of any kind sounded."""
        return min(at_s for _, at_s in self.alarms)

    @property
    def photo_s(self) -> tuple[float, ...]:
        """When the photoelectric ones sounded, in order."""
        return tuple(sorted(at_s for kind, at_s in self.alarms if kind == "Pho"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """When our rules first alarmed, and by which rule; `baseline` counts decisions before the curve."""

    at_s: float | None
    rule: str
    baseline: int


def stations(folder: Path) -> Iterator[Station]:
    """Every station with activation times and a smoke meter and thermocouple under the ceiling, `SM?_1` and `TC?_1`."""
    alarms: dict[tuple[str, str], list[tuple[str, float]]] = {}
    with (folder / "nist_activation_times.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            test, alarm = row["alarm"].split("-")
            alarms.setdefault((test, alarm[-1]), []).append((alarm[:3], float(row["activation_s"])))
    for (test, letter), sounded in sorted(alarms.items()):
        try:
            curve = load(folder / f"nist_{test.lower()}.csv", "TIME", f"SM{letter}_1", f"TC{letter}_1", smoke_unit="1/m-od10")
        except ConfigError as error:
            print(f"{test} {letter} is left out: {str(error).split('; the file has')[0]}", file=sys.stderr)
            continue
        yield Station(f"{test} {letter}", curve, tuple(sounded))


def alarm(
    samples: Sequence[Sample],
    curve_from_s: float,
    shift: float = 0.0,
    profile: Profile = "immediate",
    place: str = "",
    *,
    smoke_alone: bool = False,
) -> Outcome:
    """Play the samples through the default rules; `shift` (dB/m) moves the detector's zero, `place` is its label."""
    engine = Engine(_shipped(), profiles=lambda _: profile)
    spec = SMOKE_DETECTOR if smoke_alone else DETECTOR
    device = replace(DEVICE, spec=spec, labels={PLACE: place} if place else {})
    baseline, first = 0, Outcome(None, "", 0)
    for seq, sample in enumerate(samples, start=1):
        ms = (sample.at_s + 1e6) * 1000.0
        values = (Value("smoke", sample.smoke + shift), Value("temperature", sample.temperature))
        timed = [one.decision for one in engine.tick(sample.at_s)]
        told = engine.evaluate(Reading("d", "b", seq, "reading", ms, ms, values), device, now_s=sample.at_s)
        for decision in timed + told + [one.decision for one in engine.tick(sample.at_s)]:
            if decision.severity != "alarm" or not decision.opens:
                continue
            if sample.at_s < curve_from_s:
                baseline += 1
            elif first.at_s is None:
                first = Outcome(sample.at_s, decision.rule, 0)
    return Outcome(first.at_s, first.rule, baseline)


@cache
def _shipped() -> tuple[rules.Rule, ...]:
    return rules.load(rules.default_path())


def verdict(station: Station, outcome: Outcome) -> str:
    """What to say of an outcome: ok, or baseline, missed, early, late."""
    if outcome.baseline:
        return "baseline"
    if outcome.at_s is None:
        return "missed"
    if outcome.at_s < station.first_s - EARLY_S:
        return "early"
    return "late" if station.photo_s and outcome.at_s > median(station.photo_s) else "ok"


def smoke_at(station: Station, at_s: float) -> float:
    """Smoke of the sample nearest to `at_s`, in the file's own number (1/m)."""
    return min(station.curve, key=lambda sample: abs(sample.at_s - at_s)).smoke / 10.0


def unit_table(found: Sequence[Station]) -> dict[str, object]:
    """Smoke when photoelectric alarms sounded, read in each unit that the files could be in."""
    raw = sorted(smoke_at(station, at_s) for station in found for at_s in station.photo_s)
    low, high = (decibels_per_metre(percent, "%/ft") for percent in US_PHOTO_PERCENT_PER_FOOT)
    print(f"SM*_1 when {len(raw)} photoelectric alarms sounded; their setting is {low:.2f} to {high:.2f} dB/m (1 to 4 %/ft)")
    print(f"{'read as':12}{'lowest':>9}{'median':>9}{'highest':>9}   dB/m{'at or above 1 %/ft':>22}")
    shares = {}
    for unit in ("1/m-od10", "1/m-ext", "dB/m", "%/m", "%/ft"):
        smoke = [decibels_per_metre(value, unit) for value in raw]
        above = sum(value >= low for value in smoke)
        shares[unit] = {"median_db_per_m": round(median(smoke), 3), "above_1_percent_per_ft": f"{above}/{len(smoke)}"}
        print(f"{unit:12}{smoke[0]:9.3f}{median(smoke):9.3f}{smoke[-1]:9.3f}       {above:>10}/{len(smoke)}")
    top = max(sample.smoke / 10.0 for station in found for sample in station.curve)
    left = {"1/m-od10": 100 * 10**-top, "1/m-ext": 100 * exp(-top)}
    print(f"light left over 1 m at the highest value, {top:.2f}: {left['1/m-od10']:.2f} % read as an optical density, ", end="")
    print(f"{left['1/m-ext']:.2f} % read as an extinction coefficient")
    ratio = DB_PER_NEPER_POWER / 10.0
    weaker = [tuple(Sample(s.at_s, s.smoke * ratio, s.temperature) for s in station.curve) for station in found]
    verdicts = [verdict(s, alarm(with_baseline(c, BASELINE_S, 1), c[0].at_s)) for s, c in zip(found, weaker, strict=True)]
    print(
        f"our rules, if the curves were extinction coefficients after all: {verdicts.count('ok')}/{len(verdicts)} stations ok\n"
    )
    return {"highest": top, "light_left_percent": left, "units": shares, "ok_if_extinction": verdicts.count("ok")}


def alarm_table(found: Sequence[Station]) -> list[dict[str, object]]:
    """When our rules alarm, next to the commercial alarms of the same station."""
    judged = [station for station in found if station.photo_s]
    print(f"{'station':9}{'first any':>10}{'fastest photo':>15}{'median photo':>14}{'ours':>7}  by{'':18}verdict   verified by")
    rows: list[dict[str, object]] = []
    for station in judged:
        samples = with_baseline(station.curve, BASELINE_S, seed=1)
        outcome = alarm(samples, station.curve[0].at_s)
        verified = alarm(samples, station.curve[0].at_s, profile="verified")
        row = {
            "station": station.name,
            "first_any_s": station.first_s,
            "fastest_photo_s": station.photo_s[0],
            "median_photo_s": median(station.photo_s),
            "ours_s": outcome.at_s,
            "rule": outcome.rule,
            "verified_s": verified.at_s,
            "verified_rule": verified.rule,
            "verified_baseline": verified.baseline,
            "verdict": verdict(station, outcome),
        }
        rows.append(row)
        ours = "-" if outcome.at_s is None else f"{outcome.at_s:.0f}"
        print(f"{station.name:9}{station.first_s:10.0f}{station.photo_s[0]:15.0f}{median(station.photo_s):14.0f}", end="")
        later = "-" if verified.at_s is None else f"{verified.at_s:.0f}"
        print(f"{ours:>7}  {outcome.rule:20}{row['verdict']:9}{later:>9} {verified.rule}")
    print()
    return rows


def sensitivity(found: Sequence[Station]) -> dict[str, dict[str, int]]:
    """Verdicts over report intervals (every whole-second phase), zero shifts and baseline seeds."""
    print("verdicts over zero shifts of -0.05, 0, 0.05, 0.1 dB/m, 3 baseline seeds and every phase")
    counted: dict[str, dict[str, int]] = {}
    for every_s in (1, 2, 5, 10):
        tally = counted.setdefault(f"{every_s} s", {})
        for station in found:
            for phase_s in range(every_s):
                curve = resample(station.curve, every_s, phase_s)
                for seed, shift in [(seed, shift) for seed in (1, 2, 3) for shift in (-0.05, 0.0, 0.05, 0.1)]:
                    quiet = with_baseline(station.curve, 600.0, seed)[: -len(station.curve)]
                    found_verdict = verdict(station, alarm([*resample(quiet, every_s), *curve], curve[0].at_s, shift))
                    tally[found_verdict] = tally.get(found_verdict, 0) + 1
        print(f"  a reading each {every_s:2} s: {tally}")
    print()
    return counted


def cost_us(points: int = 4, devices: int = 100, readings: int = 20_000) -> dict[str, float]:
    """Microseconds to evaluate a quiet reading: with three rules (a state, a rise, a mean), and with all default rules."""
    spec_points = {"smoke": Point(unit="dB/m"), "temperature": Point(unit="°C"), "alarm": Point(kind="bool")}
    spec = DeviceSpec(
        "cost", "iotcore", "Cost", "fire_detector", "canonical", "x", "x", 10.0, {**spec_points, "battery": Point(unit="%")}
    )
    quiet = [("smoke", 0.01), ("temperature", 24.0), ("alarm", False), ("battery", 96.0)][:points]
    said = tuple(Value(point, value) for point, value in quiet)
    shipped = rules.load(rules.default_path())
    three = tuple(rule for rule in shipped if rule.id in {"detector-alarm", "smoke-rise", "heat-static"})
    bindings = [Binding(f"d{n}", f"d{n}", spec, "fire", f"d{n}", "active") for n in range(devices)]
    costs = {}
    for name, chosen in (("three_rules", three), ("default_rules", shipped)):
        engine = Engine(chosen)
        batch = [
            Reading(f"d{i % devices}", "b", i, "reading", i // devices * 1e4, i // devices * 1e4, said) for i in range(readings)
        ]
        started_s = time.process_time()
        for i, reading in enumerate(batch):
            engine.evaluate(reading, bindings[i % devices], now_s=0.0)
        costs[name] = round((time.process_time() - started_s) / readings * 1e6, 2)
    return costs


def main() -> int:
    """Print the tables; exit 1 if a station's verdict is not ok."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - program and folder
        print("usage: python -m benchmarks.fire_curves FOLDER", file=sys.stderr)
        return 2
    try:
        found = list(stations(Path(sys.argv[1])))
    except (OSError, ConfigError) as error:
        print(f"cannot read the curves: {error}", file=sys.stderr)
        return 2
    if not found:
        print("no station has a curve", file=sys.stderr)
        return 2
    unit = unit_table(found)
    table = alarm_table(found)
    print(json.dumps({"unit": unit, "stations": table, "sensitivity": sensitivity(found), "evaluate_us": cost_us()}))
    return 0 if all(row["verdict"] == "ok" for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())

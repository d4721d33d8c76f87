"""What is no fire and looks like one: how often the default rules would dispatch, at once and verified.

`python -m benchmarks.nuisance_shapes COUNT` draws so many events of each kind at a detector that reports each 2 s and each 10 s,
plays them to the rules and prints the share that would have been a fire; the last line is one JSON object. The shapes are ours,
from what is said of such sources; they were not measured. What the figures mean: docs/fire-curves.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from random import Random

import msgspec

from benchmarks.fire_curves import DETECTOR
from iotcore.alarms import rules
from iotcore.alarms.conditions import Each, Verification
from iotcore.alarms.engine import Engine
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding

QUIET_S, AFTER_S = 400.0, 400.0
NOISE_DB_PER_M = 0.004  # of a clean detector at rest
DEVICE = Binding("d", "Detector", DETECTOR, "fire", "d", "active")
LASTS_S = (10.0, 20.0, 30.0)


@dataclass(frozen=True, slots=True)
class Nuisance:
    """Rises within `rise_s` to a peak, stays for `stay_s`, and goes away with the time constant `fade_s`; ranges to draw from."""

    name: str
    peak_db_per_m: tuple[float, float]
    rise_s: tuple[float, float]
    stay_s: tuple[float, float]
    fade_s: tuple[float, float]


KINDS = (
    Nuisance("insect or spark", (0.3, 2.0), (0.0, 0.0), (0.0, 2.0), (0.5, 1.0)),
    Nuisance("dust of a broom", (0.1, 0.4), (2.0, 6.0), (0.0, 8.0), (4.0, 10.0)),
    Nuisance("steam of a door", (0.1, 0.5), (3.0, 8.0), (2.0, 12.0), (5.0, 12.0)),
    Nuisance("cigarette or incense", (0.03, 0.12), (20.0, 60.0), (60.0, 240.0), (30.0, 90.0)),
    Nuisance("frying in the room", (0.1, 0.5), (20.0, 60.0), (30.0, 180.0), (40.0, 120.0)),
)


def smoke(kind: Nuisance, random: Random, every_s: float) -> Iterator[tuple[float, float]]:
    """Seconds and dB/m as a detector tells them, with quiet before and after."""
    peak, rise, stay, fade = (random.uniform(*span) for span in (kind.peak_db_per_m, kind.rise_s, kind.stay_s, kind.fade_s))
    zero, at_s = random.uniform(-0.02, 0.05), random.uniform(0.0, every_s)
    while at_s < QUIET_S + rise + stay + AFTER_S:
        into_s = at_s - QUIET_S
        if into_s < 0.0:
            share = 0.0
        elif into_s < rise:
            share = into_s / rise
        else:
            share = 1.0 if into_s <= rise + stay else exp(-(into_s - rise - stay) / fade)
        yield at_s, zero + peak * share + random.gauss(0.0, NOISE_DB_PER_M)
        at_s += every_s


def engine(lasts_s: float | None) -> Engine:
    """The default rules, at once or with smoke verified for `lasts_s`."""
    shipped = rules.load(rules.default_path())
    if lasts_s is None:
        return Engine(shipped)
    return Engine([verified(one, lasts_s) if one.hazard == "smoke" and one.severity == "alarm" else one for one in shipped])


def verified(rule: rules.Rule, lasts_s: float) -> rules.Rule:
    """A smoke rule that waits; two criteria in one rule bear each other out."""
    if isinstance(rule.when, Each) or rule.id == "smoke-and-heat":
        return rule
    return msgspec.structs.replace(rule, when=Verification(of=rule.when, lasts_s=lasts_s))


def dispatched(engine: Engine, kind: Nuisance, seed: int, every_s: float) -> bool:
    """Whether one event would have been a fire."""
    for seq, (at_s, value) in enumerate(smoke(kind, Random(seed), every_s), start=1):
        ms = (at_s + 1e6) * 1000.0
        timed = [one.decision for one in engine.tick(at_s)]
        told = engine.evaluate(Reading("d", "b", seq, "reading", ms, ms, (Value("smoke", value),)), DEVICE, now_s=at_s)
        if any(one.severity == "alarm" and one.opens for one in timed + told):
            return True
    return False


def main(count: int) -> dict[str, dict[str, float]]:
    """The share of events of each kind that would have been a fire."""
    found: dict[str, dict[str, float]] = {}
    print(f"{'of ' + str(count) + ' events each':28}{'at once':>10}" + "".join(f"{f'{one:.0f} s':>9}" for one in LASTS_S))
    for every_s in (2.0, 10.0):
        for kind in KINDS:
            shares = {}
            for lasts_s in (None, *LASTS_S):
                fires = sum(dispatched(engine(lasts_s), kind, seed, every_s) for seed in range(count))
                shares["at once" if lasts_s is None else f"{lasts_s:.0f} s"] = round(fires / count, 4)
            name = f"{kind.name}, each {every_s:.0f} s"
            found[name] = shares
            print(f"{name:28}" + "".join(f"{share * 100:8.1f} %" for share in shares.values()))
    return found


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)))

"""What the rules cost a reading: µs of CPU at 10, 1,000 and 10,000 rules, and for each kind of condition; ratios in one run.

    loaded      rules that concern other devices, spread over every kind of scope: they should cost nothing
    matching    each rule judges the device: each should cost the same
    kinds       ten rules of one kind on a quiet reading, against ten plain thresholds

A hundred detectors, readings of four numbers, all quiet. Best of the rounds; `python -m benchmarks.rules` takes about a minute.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.reading import Reading
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceSpec, Point

READINGS = 5_000
DEVICES = 100
ROUNDS = 5
SIZES = (10, 1_000, 10_000)
UNITS = {"smoke": "dB/m", "temperature": "°C", "battery": "%", "status": ""}
POINTS = {name: Point(unit=unit) for name, unit in UNITS.items()}
SPEC = DeviceSpec("bench", "iotcore", "Bench", "fire_detector", "canonical", "x", "x", 10.0, POINTS)
BINDINGS = [Binding(f"d{n}", f"d{n}", SPEC, "fire", f"d{n}", "active", f"p{n}", f"z{n}") for n in range(DEVICES)]
PLAIN = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.25}
JOINED = {"kind": "any", "of": [PLAIN]}  # looked at with each reading, as everything but a plain threshold is
RISE = {"kind": "rise", "point": "smoke", "unit": "dB/m", "by": 0.15, "within_s": 300, "mean_s": 6, "base_s": 60}
KINDS: dict[str, dict[str, Any]] = {
    "threshold": PLAIN,
    "threshold, looked at": JOINED,
    "mean of 6 s": PLAIN | {"mean_s": 6, "readings": 2},
    "rise": RISE,
    "bit": {"kind": "bit", "point": "status", "bit": 3},
    "sum": {"kind": "sum", "points": ["smoke"], "unit": "dB/m", "above": 0.5},
    "all of two": {"kind": "all", "of": [PLAIN, PLAIN | {"point": "temperature", "unit": "°C", "above": 54}]},
    "not": {"kind": "not", "of": {"kind": "threshold", "point": "smoke", "unit": "dB/m", "below": 0.25}},
    "sustained": {"kind": "sustained", "of": PLAIN, "for_s": 20},
    "verification": {"kind": "verification", "of": PLAIN},
    "coincidence": {"kind": "coincidence", "of": PLAIN, "place": "premises"},
    "during": {"kind": "during", "of": PLAIN, "schedule": {"named": "night"}},
    "stale": {"kind": "stale", "point": "smoke", "for_s": 300},
}


def document(n: int, when: dict[str, Any], **scope: Any) -> dict[str, Any]:
    """A rule as it stands in a file."""
    return {
        "id": f"r-{n}",
        "hazard": "fault",
        "severity": "trouble",
        "source": "benchmark",
        "latched": False,
        "when": when,
    } | scope


def elsewhere(count: int) -> list[dict[str, Any]]:
    """Ten rules that judge the detectors, and so many that concern others, by every kind of scope."""
    scopes: list[dict[str, Any]] = [
        {"device_classes": ["fire_panel"]}, {"models": ["another"]}, {"group": "others"}, {"premises": "p"}, {"device": "d"},
    ]  # fmt: skip
    return [document(n, PLAIN) for n in range(10)] + [document(n, PLAIN, **scopes[n % 5]) for n in range(10, count)]


def readings() -> list[Reading]:
    """Quiet ones, each device ten seconds after its last."""
    found = []
    for n in range(READINGS):
        clean = {"smoke": 0.01 + n % 7 * 0.001, "temperature": 24.0, "battery": 96.0, "status": 4.0}
        at_ms = 1.8e12 + n // DEVICES * 1e4
        found.append(Reading(f"d{n % DEVICES}", "b", n, "reading", at_ms, at_ms, (), clean=clean))
    return found


def cost_us(documents: Sequence[dict[str, Any]], batch: Sequence[Reading]) -> float:
    """µs of CPU for a reading; the first round makes the plans and does not count."""
    none: frozenset[str] = frozenset()
    engine = Engine(rules.check({"profile": "immediate", "rules": list(documents)}, "benchmark"), lambda _: none)
    times = []
    for round_ in range(ROUNDS + 1):
        gc.collect()
        begun_s = time.process_time()
        for n, reading in enumerate(batch):
            engine.evaluate(reading, BINDINGS[n % DEVICES], now_s=round_ * 1e4 + n // DEVICES * 10.0)
        times.append(time.process_time() - begun_s)
    return min(times[1:]) / len(batch) * 1e6


def main(sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """µs a reading; what each is to the first of its table stands beside it."""
    batch = readings()
    tables = {
        "loaded": {str(size): cost_us(elsewhere(size), batch) for size in sizes},
        "matching": {str(n): cost_us([document(i, JOINED) for i in range(n)], batch) for n in (1, 10, 100)},
        "kinds, ten each": {name: cost_us([document(i, when) for i in range(10)], batch) for name, when in KINDS.items()},
    }
    for title, table in tables.items():
        first = next(iter(table.values()))
        print(title)
        for name, us in table.items():
            print(f"  {name:22}{us:8.2f} µs  x {us / first:.2f}")
    return {title: {name: round(us, 2) for name, us in table.items()} for title, table in tables.items()}


if __name__ == "__main__":
    print(json.dumps(main([int(one) for one in sys.argv[1:]] or SIZES)))

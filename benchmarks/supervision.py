"""What supervision costs with 100,000 fire devices: a reading, a second of looking, the moment when all are silent.

    python -m benchmarks.supervision [--devices 100000]

Times are of the processor. Readings are those of a smoke detector, as the lane hands them over; time is played: a limit of
100 s passes in seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from iotcore.alarms.ears import STEP_S
from iotcore.alarms.supervise import Moment, Supervision
from iotcore.journal.heard import Stored
from iotcore.process.memory import settle
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.load import load_folder, shipped_folder

MODEL = "iotcore-smoke-heat"
WALL_MS = 1_795_312_800_000.0
TOLD = (Value("smoke", 0.01), Value("temperature", 24.0), Value("alarm", False))  # noqa: FBT003
PLAYED_S = 120.0


def measured(devices: int) -> dict[str, float]:
    """Each in the unit of its name."""
    spec = load_folder(shipped_folder())[MODEL]
    bindings = {f"d{i}": Binding(f"d{i}", "", spec, "fire", f"d{i}", "active") for i in range(devices)}
    readings = [Reading(name, "b1", 1, "reading", WALL_MS, WALL_MS, TOLD) for name in bindings]
    began = time.process_time()
    supervision = Supervision(Directory(bindings), Stored(), (), Moment("m", 0.0, WALL_MS), 0.0)
    start_s = time.process_time() - began
    settle()
    _tell(supervision, readings, bindings, 1.0)
    supervision.take_heard(Moment("m", 1.0, WALL_MS), 1.0)
    heard = min(_tell(supervision, readings, bindings, 2.0 + i) for i in range(5))
    bare = min(_tell(_Deaf(), readings, bindings, 2.0 + i) for i in range(5))
    sweeps, now_s = [], 10.0
    per_step = int(devices * STEP_S / spec.interval_s)
    while now_s < PLAYED_S:
        now_s += STEP_S
        at = int(now_s / STEP_S) * per_step
        for i in range(at, at + per_step):
            supervision.heard(readings[i % devices], bindings[readings[i % devices].device], now_s)
        sweeps.append(_timed(supervision, now_s))
    silence = max(_timed(supervision, now_s + i * STEP_S) for i in range(int(PLAYED_S / STEP_S)))
    steps_a_second = round(1.0 / STEP_S)
    seconds = [sum(sweeps[i : i + steps_a_second]) for i in range(0, len(sweeps), steps_a_second)]
    return {
        "devices": float(devices),
        "start_ms": start_s * 1e3,
        "reading_us": (heard - bare) / devices * 1e6,
        "sweep_ms_a_second_worst": max(seconds) * 1e3,
        "sweep_ms_a_second_mean": sum(seconds) / len(seconds) * 1e3,
        "all_silent_step_ms_worst": silence * 1e3,
        "silent": float(len(supervision.silent)),
    }


class _Deaf:
    """What the same loop costs without anybody who listens."""

    def heard(self, reading: Reading, binding: Binding, now_s: float) -> None:
        """Nothing."""


def _tell(ear: Supervision | _Deaf, readings: list[Reading], bindings: dict[str, Binding], now_s: float) -> float:
    heard = ear.heard
    began = time.process_time()
    for reading in readings:
        heard(reading, bindings[reading.device], now_s)
    return time.process_time() - began


def _timed(supervision: Supervision, now_s: float) -> float:
    began = time.process_time()
    supervision.tick(now_s, hears=True)
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=100_000)
    found = {name: round(value, 3) for name, value in measured(parser.parse_args().devices).items()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

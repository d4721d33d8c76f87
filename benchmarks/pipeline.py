"""What one message costs the bulk lane's CPU, stage by stage: no broker, no disk, no store.

    decode ─► is it new ─► quality (stuck values) ─► rules (1 for each point) ─► line

Messages of four values from a hundred air stations, decoded from the bytes that a broker would hand over. `rules` is the fire
lane's engine with one threshold a point; the same with 10,000 more rules that concern other models shows that what is loaded but does
not concern a device costs nothing. Best of the rounds, in µs of CPU; `python -m benchmarks.pipeline` takes half a minute.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.ingest_lane import DEVICES, directory
from drivers.mqtt.canonical import decode
from iotcore.alarms.engine import Engine
from iotcore.alarms.rules import Rule, Threshold
from iotcore.journal.progress import Progress
from iotcore.reading import Reading
from iotcore.telemetry.line import line
from iotcore.wire.arrival import Arrival

COUNT = 20_000
ROUNDS = 7
LOADED = 10_000
SPANS = {"no2": "µg/m³", "o3": "µg/m³", "pm25": "µg/m³", "temperature": "°C"}


def arrivals(count: int) -> list[Arrival]:
    """Messages as a broker hands them over, each device counting from 1."""
    topics = [f"iot/v1/air/a{n}/up/reading/a{n}" for n in range(DEVICES)]
    now_ms = time.time_ns() // 1_000_000
    return [Arrival(topics[n % DEVICES], payload(n // DEVICES + 1, now_ms + n), False, float(now_ms)) for n in range(count)]  # noqa: FBT003 - retained


def payload(seq: int, at_ms: int) -> bytes:
    """One message as an air station sends it."""
    values = {"no2": 18.0 + seq % 7, "o3": 42.0, "pm25": 18.3, "temperature": 24.1 + seq % 5}
    message = {"v": 1, "boot": "9f3c12ab", "seq": seq, "ts": at_ms, "fw": "2.4.1", "values": values}
    return json.dumps(message, separators=(",", ":")).encode()


def rules(more: int) -> list[Rule]:
    """One threshold for each point of the stations, and `more` for a class that none of them is of."""
    ours = [Threshold(point=point, unit=unit, above=1e6) for point, unit in SPANS.items()]
    return [
        *(
            Rule(id=f"air-{n}", severity="advisory", hazard="air", classes=("air_station",), when=when)
            for n, when in enumerate(ours)
        ),
        *(
            Rule(id=f"w-{n}", severity="advisory", hazard="water", classes=("water_station",), when=ours[n % 4])
            for n in range(more)
        ),
    ]


def best_us(work: Callable[[], Any], count: int) -> float:
    """µs of CPU for one of `count`, the best of the rounds; the collector runs as it does in the lane."""
    times = []
    for _ in range(ROUNDS):
        gc.collect()
        begun_s = time.process_time()
        work()
        times.append(time.process_time() - begun_s)
    return round(min(times) / count * 1e6, 2)

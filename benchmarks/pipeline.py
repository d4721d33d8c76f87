"""What one message costs the bulk lane's CPU, stage by stage: no broker, no disk, no store.

    decode ─► is it new ─► quality (stuck values) ─► rules (1 for each point) ─► line

Messages of four values from a hundred air stations, decoded from the bytes that a broker would hand over. `rules` is the fire
lane's engine with one threshold a point; the same with 10,000 more rules that concern other models shows that what is loaded but
does not concern a device costs nothing. Best of the rounds, in µs of CPU; `python -m benchmarks.pipeline` takes half a minute.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from benchmarks.ingest_lane import DEVICES, directory
from drivers.mqtt.canonical import decode
from iotcore.alarms.conditions import Threshold
from iotcore.alarms.engine import Engine
from iotcore.alarms.rules import Rule
from iotcore.journal.progress import Progress
from iotcore.process import memory
from iotcore.reading import Reading
from iotcore.specs.model import DeviceClass
from iotcore.telemetry.line import line
from iotcore.telemetry.quality import Standing
from iotcore.wire.arrival import Arrival

json_alone = msgspec.json.Decoder().decode
COUNT = 20_000
BATCH = 1_000
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
    """One threshold for each point of the stations, and `more` that concern a class none of them is of."""
    ours = [Threshold(point=point, unit=unit, above=1e6) for point, unit in SPANS.items()]
    made: list[tuple[DeviceClass, Threshold]] = [("air_station", when) for when in ours]
    made += [("water_station", ours[n % len(ours)]) for n in range(more)]
    return [
        Rule(id=f"r-{n}", severity="advisory", hazard="fault", source="benchmark", device_classes=(kind,), when=when)
        for n, (kind, when) in enumerate(made)
    ]


def best_us(work: Callable[[], object], count: int) -> float:
    """µs of CPU for one of `count`, the best of the rounds; the collector runs as it does in the lane."""
    times = []
    for _ in range(ROUNDS):
        gc.collect()
        begun_s = time.process_time()
        work()
        times.append(time.process_time() - begun_s)
    return round(min(times) / count * 1e6, 2)


def staged(readings: Sequence[Reading]) -> int:
    """Every reading is new; the tracks of a batch of a thousand are applied and written out as the lane does."""
    progress, rows = Progress(), 0
    for low in range(0, len(readings), BATCH):
        stage = progress.stage(0.0)
        for reading in readings[low : low + BATCH]:
            stage.take(reading.device, reading.boot, reading.seq)
        rows += len(stage.rows())
        progress.apply(stage.changed)
    return rows


def main(count: int) -> dict[str, Any]:
    """µs of CPU a message for each stage and for all of them together."""
    who = directory()
    messages = arrivals(count)
    now_ms = time.time_ns() / 1e6
    readings = [decode(message, who, now_ms).readings[0] for message in messages]
    spec = who.devices["a0"].spec
    watched = {name: replace(point, stuck_after_s=3600.0) for name, point in spec.points.items() if name in SPANS}
    canonical = replace(spec, protocol="canonical", points=spec.points | watched)
    standing = Standing()
    few, many = Engine(rules(0)), Engine(rules(LOADED))

    def whole() -> None:
        progress = Progress()
        for low in range(0, count, BATCH):
            stage = progress.stage(0.0)
            for message in messages[low : low + BATCH]:
                for reading in decode(message, who, now_ms).readings:
                    if stage.take(reading.device, reading.boot, reading.seq):
                        judged = standing.judge(reading, canonical)
                        binding = who.devices[reading.device]
                        few.evaluate(judged, binding, now_s=0.0)
                        line(judged, binding)
            progress.apply(stage.changed)

    memory.settle()
    return {
        "count": count,
        "cpus": os.cpu_count(),
        "bare_json_us": best_us(lambda: [json_alone(message.payload) for message in messages], count),
        "decode_us": best_us(lambda: [decode(message, who, now_ms) for message in messages], count),
        "identity_us": best_us(lambda: staged(readings), count),
        "quality_us": best_us(lambda: [standing.judge(reading, canonical) for reading in readings], count),
        "rules_us": best_us(
            lambda: [few.evaluate(reading, who.devices[reading.device], now_s=0.0) for reading in readings], count
        ),
        "rules_of_10000_us": best_us(
            lambda: [many.evaluate(reading, who.devices[reading.device], now_s=0.0) for reading in readings], count
        ),
        "line_us": best_us(lambda: [line(reading, who.devices[reading.device]) for reading in readings], count),
        "all_us": best_us(whole, count),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)))

"""The telemetry lane in a process of its own, as `iotcore run telemetry` composes it, until it has stored so many readings.

`python -m benchmarks.ingest_lane JOB.json` prints "connected", and at the end one JSON object: when it began to connect, when
the last reading was committed and when the store held everything (seconds on the machine's monotonic clock), its CPU seconds
since it began to connect, and what the lane counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drivers.mqtt.canonical import decode
from drivers.mqtt.ingest import Ingest
from iotcore.clock import SystemClock
from iotcore.journal.throttle import Throttle
from iotcore.process import memory
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Settings, Store
from iotcore.specs.load import load_folder, shipped_folder
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.stores import TELEMETRY_DB, open_store
from iotcore.wire.arrival import Endpoint

DEVICES = 100
FILTERS = ("iot/v1/air/+/up/#",)
POLL_S = 0.005
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class LaneJob:
    """`expect` readings end it; 0 only makes the session."""

    port: int
    client_id: str
    ca_file: str
    cert_file: str
    key_file: str
    folder: str
    store: Literal["embedded", "influx1"]
    url: str
    expect: int


def directory() -> Directory:
    """Air stations a0, a1 … of one model, each its own publisher."""
    spec = load_folder(shipped_folder())["vaisala-aqt530"]
    names = [f"a{number}" for number in range(DEVICES)]
    return Directory({name: Binding(name, name, spec, "air", name, "active", premises="p1") for name in names})


async def run(job: LaneJob) -> dict[str, Any]:
    """Serve until everything expected is stored and drained.

    Raises:
        TimeoutError: it was not, within LIMIT_S.
    """
    clock, folder, who = SystemClock(), Path(job.folder), directory()
    settings = Settings(data=job.folder, store=Store(kind=job.store, url=job.url))
    endpoint = Endpoint("127.0.0.1", job.port, Path(job.ca_file), Path(job.cert_file), Path(job.key_file))
    async with (
        asyncio.timeout(LIMIT_S),
        TelemetryFile(folder / TELEMETRY_DB) as file,
        open_store(settings, clock, file) as store,
        Spool(folder / "spool-1.db", clock, store_format=store.format, max_bytes=10**9, max_age_s=86_400.0) as spool,
    ):
        started_s, cpu_s = time.monotonic(), time.process_time()
        async with Ingest(endpoint, job.client_id, FILTERS, clock) as ingest:
            lane = TelemetryLane(
                owned=ingest,
                watched=None,
                decode=decode,
                directory=lambda: who,
                spool=spool,
                store=store,
                panel=Panel(file, clock),
                clock=clock,
                first_seen=lambda _: asyncio.sleep(0),
                throttle=Throttle(times=0.0),  # asked for each reading as ever, and never against it
            )
            memory.settle()
            task = asyncio.create_task(lane.run())
            await _until(lambda: ingest.connected, task)
            print("connected", flush=True)
            await _until(lambda: int(lane.counts()["stored"]) >= job.expect, task)
            stored_s = time.monotonic()
            while (await spool.depth()).batches:  # noqa: ASYNC110 - a state to see, not an event
                await asyncio.sleep(POLL_S)
            drained_s = time.monotonic()
            task.cancel()
            await asyncio.wait({task})
        times = {"started_s": started_s, "stored_s": stored_s, "drained_s": drained_s}
        return {**times, "cpu_s": time.process_time() - cpu_s, **lane.counts()}


async def _until(condition: Callable[[], bool], task: asyncio.Task[None]) -> None:
    """Wait for `condition`, or raise what ended `task`."""
    while not condition():
        if task.done():
            task.result()
        await asyncio.sleep(POLL_S)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(LaneJob(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))))

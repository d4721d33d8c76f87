"""A worker that knows a hundred thousand devices: how fast it starts, what it keeps in memory, how fast it hears of one more.

    registry.db (imported here) ─► a fresh process: open, read all, start the lane ─► one reading of every device ─► figures

The process is composed as `iotcore run telemetry` does; in place of the brokers stands a list of arrivals. Memory is what the
operating system counts as resident, after the garbage collector ran. `python -m benchmarks.many_devices [COUNT]` takes one or two
minutes; its last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import psutil

from drivers.mqtt.canonical import decode
from iotcore.app.common import opened, specs_of
from iotcore.clock import SystemClock
from iotcore.process import memory
from iotcore.registry.city import DeviceEntry
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.stores import TELEMETRY_DB, open_store
from iotcore.wire.arrival import Arrival

COUNT = 100_000
MODEL = "iotcore-mqtt-signal"
POLL_S = 0.01
MIB = 1024 * 1024


class Feed:
    """Stands where the broker stands: hands over one reading of each device."""

    def __init__(self, count: int) -> None:
        self.acknowledged = 0
        self._next = 0
        self._count = count

    async def take(self, limit: int) -> list[Arrival]:
        """The next of them; waits for ever when there are no more."""
        if self._next == self._count:
            await asyncio.Event().wait()
        last = min(self._next + limit, self._count)
        numbers, self._next = range(self._next, last), last
        now_ms = time.time_ns() / 1e6
        return [Arrival(f"iot/v1/traffic/{name(n)}/up/reading/{name(n)}", payload(n), False, now_ms) for n in numbers]  # noqa: FBT003 - retained

    def working(self) -> None:
        """Nobody watches this lane."""

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Count them."""
        self.acknowledged += len(arrivals)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Receipts go nowhere."""


def name(number: int) -> str:
    """A device's name, as long as real ones are."""
    return f"signal-junction-{number:06d}"


def payload(number: int) -> bytes:
    """A reading; each device has a boot of its own."""
    message = {"boot": f"{number:08x}", "seq": 1, "ts": time.time_ns() // 1_000_000, "values": {"plan": 3, "offset_s": 12}}
    return json.dumps(message).encode()


async def prepare(settings: Settings, count: int) -> dict[str, Any]:
    """Import the devices; how long that took."""
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        devices = [{"id": name(n), "title": f"Nút giao {n}", "model": MODEL} for n in range(count)]
        begun_s = time.monotonic()
        await registry.import_city({"devices": devices}, specs_of(settings), "benchmark")
        return {"import_s": round(time.monotonic() - begun_s, 2)}


async def measure(settings: Settings, count: int) -> dict[str, Any]:
    """Start as a worker does, take a reading of each device, and hear of a new one."""
    clock, feed = SystemClock(), Feed(count)
    begun_s = time.monotonic()
    async with (
        opened(settings, clock) as (registry, follower),
        TelemetryFile(settings.folder / TELEMETRY_DB) as file,
        open_store(settings, clock, file) as store,
        Spool(settings.folder / "spool-1.db", clock, store_format=store.format, max_bytes=10**9, max_age_s=86_400.0) as spool,
    ):
        started_s = time.monotonic() - begun_s
        knows_mib = resident_mib()
        lane = TelemetryLane(
            owned=feed,
            watched=None,
            decode=decode,
            directory=lambda: follower.directory,
            spool=spool,
            store=store,
            panel=Panel(file, clock),
            clock=clock,
            first_seen=lambda _: asyncio.sleep(0),
        )
        memory.settle()
        task = asyncio.create_task(lane.run())
        while feed.acknowledged < count:
            if task.done():
                task.result()
            await asyncio.sleep(POLL_S)
        while (await spool.depth()).batches:  # noqa: ASYNC110 - a state to see, not an event
            await asyncio.sleep(POLL_S)
        heard_mib = resident_mib()
        heard_s = await _hear_of_one_more(registry, settings, follower.refresh)
        assert "one-more" in follower.directory.devices
        task.cancel()
        await asyncio.wait({task})
    return {
        "start_s": round(started_s, 2),
        "knows_mib": knows_mib,
        "heard_each_mib": heard_mib,
        "one_more_ms": round(heard_s * 1000.0, 1),
    }


async def _hear_of_one_more(registry: Registry, settings: Settings, refresh: Any) -> float:
    await registry.add_device(DeviceEntry(id="one-more", title="one more", model=MODEL), specs_of(settings), "benchmark")
    begun_s = time.monotonic()
    await refresh()
    return time.monotonic() - begun_s


def resident_mib() -> int:
    """MiB that this process has in memory."""
    gc.collect()
    return round(psutil.Process().memory_info().rss / MIB)


def main(count: int) -> dict[str, Any]:
    """{"count", "import_s", "start_s", "knows_mib", "heard_each_mib", "one_more_ms", "cpus"}."""
    with tempfile.TemporaryDirectory(prefix="devices-") as folder:
        imported = asyncio.run(prepare(Settings(data=folder), count))
        command = [sys.executable, "-m", "benchmarks.many_devices", str(count), folder]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {"count": count, "cpus": os.cpu_count(), **imported, **json.loads(said.splitlines()[-1])}


if __name__ == "__main__":
    wanted, *measured = sys.argv[1:] or [str(COUNT)]
    if measured:  # the process that is measured
        print(json.dumps(asyncio.run(measure(Settings(data=measured[0]), int(wanted)))))
    else:
        print(json.dumps(main(int(wanted))))

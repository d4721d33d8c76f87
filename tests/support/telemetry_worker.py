"""A telemetry lane in a process of its own, to be killed: `python -m tests.support.telemetry_worker FOLDER URL`.

FOLDER/arrivals.jsonl stands for the broker's queue: every message that is not in FOLDER/acknowledged is handed out again after a
restart, as a broker would. Receipts are appended to FOLDER/receipts.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from drivers.mqtt.canonical import decode
from iotcore.clock import SystemClock
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Settings, Store
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.stores import open_store
from iotcore.wire.arrival import Arrival
from tests.support.shipped import SPECS

BURST = 20  # messages handed out at once
PACE_S = 0.005


def directory(devices: int) -> Directory:
    """`devices` air stations a0, a1 …, each its own publisher."""
    spec = SPECS["vaisala-aqt530"]
    names = [f"a{number}" for number in range(devices)]
    return Directory({name: Binding(name, name, spec, "air", name, "active", premises="p1") for name in names})


class FileBroker:
    """The broker's side of it, in two files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / "acknowledged"
        done = {int(line) for line in path.read_text().split()} if path.exists() else set()
        messages = enumerate((folder / "arrivals.jsonl").read_text().splitlines())
        self._queue = [(number, json.loads(message)) for number, message in messages if number not in done]
        self._acknowledged = path.open("a", encoding="ascii")
        self._receipts = (folder / "receipts").open("a", encoding="utf-8")

    async def take(self, limit: int) -> list[Arrival]:
        await asyncio.sleep(PACE_S)
        if not self._queue:
            await asyncio.Event().wait()
        some, self._queue = self._queue[: min(limit, BURST)], self._queue[min(limit, BURST) :]
        now_ms = SystemClock().wall_ms()
        return [Arrival(said["topic"], json.dumps(said["body"]).encode(), False, now_ms, number) for number, said in some]  # noqa: FBT003 - retained

    def working(self) -> None:
        """Nobody watches this lane."""

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        self._acknowledged.writelines(f"{arrival.token}\n" for arrival in arrivals)
        self._acknowledged.flush()

    async def publish(self, topic: str, payload: bytes) -> None:
        self._receipts.write(json.dumps({"topic": topic, "body": json.loads(payload)}) + "\n")
        self._receipts.flush()


async def main(folder: Path, url: str) -> None:
    clock = SystemClock()
    settings = Settings(data=str(folder), store=Store(kind="influx1", url=url))
    who = directory(50)
    async with (
        TelemetryFile(folder / "telemetry.db") as file,
        Spool(folder / "spool-1.db", clock, store_format="line1", max_bytes=10**9, max_age_s=86_400.0) as spool,
        open_store(settings, clock, file) as store,
    ):
        lane = TelemetryLane(
            owned=FileBroker(folder),
            watched=None,
            decode=decode,
            directory=lambda: who,
            spool=spool,
            store=store,
            panel=Panel(file, clock),
            clock=clock,
            first_seen=lambda _: asyncio.sleep(0),
        )
        await lane.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))

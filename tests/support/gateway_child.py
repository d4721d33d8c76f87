"""A gateway in a process of its own, to be killed: both outboxes and uplinks on real brokers, readings numbered by their value.

Each line that it prints is a JSON array: ["try", lane, n] before a put, ["put", lane, n, boot, seq] when it has returned,
["not", lane, n, why] when it failed, ["state", …] when asked for. It takes what to do as JSON on its command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.outbox import Outbox
from drivers.outbox.file import INSERT, ROW_BYTES
from drivers.uplink import Uplink
from iotcore.clock import SystemClock, machine_uptime
from iotcore.errors import StoreError
from iotcore.wire.arrival import Endpoint

CLOCK = SystemClock()
FILLER_CHUNK = bytes(64 * 1024)
FLOODS, FLOOD_PAUSE_S = 20, 0.05  # up to 400 bulk readings a second, beside the backlog


def say(*what: Any) -> None:
    """One line, at once: a pipe keeps it when we are killed."""
    os.write(1, json.dumps(what).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Lane:
    """One outbox with its uplink."""

    name: str
    outbox: Outbox
    uplink: Uplink

    async def put(self, n: int, **more: Any) -> bool:
        """One reading; whether it was kept."""
        say("try", self.name, n)
        try:
            row = await self.outbox.put("fire" if self.name == "fire" else "air", f"{self.name}-1", {"n": float(n), **more})
        except StoreError as error:
            say("not", self.name, n, str(error))
            return False
        say("put", self.name, n, row.boot, row.seq)
        return True


async def flow(lanes: list[Lane], numbers: Iterator[int]) -> None:
    """Readings without end, until we are killed."""

    async def each(lane: Lane) -> None:
        while True:
            await lane.put(next(numbers))
            await asyncio.sleep(0)

    await asyncio.gather(*map(each, lanes))


async def busy(lanes: list[Lane], backlog: int, numbers: Iterator[int]) -> None:
    """Fires at their pace while bulk readings come by the hundred a second, on top of a backlog that goes out meanwhile."""
    fire, bulk = lanes
    assert bulk.outbox.rows >= backlog

    async def flood() -> None:
        while True:
            with contextlib.suppress(StoreError):
                await bulk.outbox.put("air", "bulk-1", {"n": 0.0})
            await asyncio.sleep(FLOOD_PAUSE_S)

    floods = [asyncio.create_task(flood()) for _ in range(FLOODS)]
    while not (fire.uplink.connected and bulk.uplink.connected):  # noqa: ASYNC110 - the broker's doing
        await asyncio.sleep(0.02)
    for _ in range(100):
        await fire.put(next(numbers), sent_s=time.monotonic())
        await asyncio.sleep(0.03)
    say("state", {"resent": bulk.uplink.counters.resent, "published": bulk.uplink.counters.published, "rows": bulk.outbox.rows})
    for task in floods:
        task.cancel()


def keep_backlog(path: Path, rows: int) -> None:
    """A bulk outbox that an outage has left behind, made quickly: by SQL, with the program's own statement."""

    async def make() -> None:
        async with Outbox(path, CLOCK, uptime=machine_uptime()) as outbox:
            row = await outbox.put("air", "bulk-1", {"n": 0.0})
            database = outbox._file._db

            def fill() -> None:
                made = (row._replace(seq=seq) for seq in range(2, rows + 1))
                database.execute("BEGIN")
                database.executemany(INSERT, (one[1:] for one in made))
                database.execute("UPDATE mark SET value = ? WHERE name = 'rows'", (rows,))
                size = rows * (len(row.body) + ROW_BYTES)
                database.execute("UPDATE mark SET value = ? WHERE name = 'size'", (size,))
                database.execute("COMMIT")

            await outbox._on_thread(fill)

    asyncio.run(make())


async def drained(lanes: list[Lane]) -> None:
    """Until the core has everything."""
    while any(lane.outbox.rows for lane in lanes):  # noqa: ASYNC110 - the core's doing
        await asyncio.sleep(0.05)
    say("state", {lane.name: lane.outbox.evicted for lane in lanes})


async def full_disk(lanes: list[Lane], folder: Path, numbers: Iterator[int]) -> None:
    """Fill the file system; bulk until it is refused, then fires that must all go; then die."""
    fire, bulk = lanes
    while not (fire.uplink.connected and bulk.uplink.connected):  # noqa: ASYNC110 - the broker's doing
        await asyncio.sleep(0.02)
    for lane in lanes:
        await lane.put(next(numbers))
    fill(folder / "filler")
    fill(folder / "filler-2")
    refused = 0
    while refused < 3:
        refused += not await bulk.put(next(numbers), text="x" * 20_000)
    for _ in range(200):
        await fire.put(next(numbers), text="y" * 4_000)
    await asyncio.sleep(0.5)  # what was kept is on its way
    say("state", {"in_reserve": fire.outbox.in_reserve, "held": fire.outbox.reserve_held})
    os.kill(os.getpid(), signal.SIGKILL)


async def after_full_disk(lanes: list[Lane], folder: Path, numbers: Iterator[int]) -> None:
    """Another start on the full disk; everything goes out, then the disk has room again."""
    fire, bulk = lanes
    say("state", {"in_reserve": fire.outbox.in_reserve})
    await fire.put(next(numbers))
    await drained(lanes)
    for filler in ("filler", "filler-2"):
        (folder / filler).unlink()
    for lane in (fire, bulk):
        assert await lane.put(next(numbers))
    await drained(lanes)
    say("state", {"in_reserve": fire.outbox.in_reserve})


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(FILLER_CHUNK)
            except OSError:
                break
        while True:
            try:
                file.write(b"z")
            except OSError:
                return


async def main(told: dict[str, Any]) -> None:
    folder, numbers = Path(told["folder"]), itertools.count(told["next"])
    async with AsyncExitStack() as stack:
        lanes = []
        for name in ("fire", "bulk"):
            outbox = Outbox(folder / f"{name}.db", CLOCK, uptime=machine_uptime(), reserve=name == "fire")
            await stack.enter_async_context(outbox)
            files = [Path(path) for path in told["tls"]]
            endpoint = Endpoint("127.0.0.1", told["ports"][name], *files)
            lanes.append(Lane(name, outbox, Uplink(endpoint, "gw1", outbox, CLOCK, resend_s=told.get("resend_s", 2.0))))
        lanes[1].uplink.urgent = lambda: lanes[0].uplink.pending
        tasks = [asyncio.create_task(lane.uplink.run()) for lane in lanes]
        match told["do"]:
            case "flow":
                await flow(lanes, numbers)
            case "drain":
                await drained(lanes)
            case "full":
                await full_disk(lanes, folder, numbers)
            case "busy":
                await busy(lanes, told["backlog"], numbers)
            case "after":
                await after_full_disk(lanes, folder, numbers)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

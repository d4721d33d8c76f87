"""A telemetry lane on a table: the real decoder, spool, page tables and store; the broker is a list of arrivals."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from drivers.mqtt.canonical import decode
from iotcore.clock import SystemClock
from iotcore.errors import DeliveryError
from iotcore.journal.recent import RecentReadings
from iotcore.journal.throttle import Throttle
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Settings
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.queries import TelemetryReader
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.stores import open_confidential, open_store
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Decoded
from tests.support.shipped import SPECS

LIMIT_S = 20.0


def directory() -> Directory:
    rows = (
        ("a1", "vaisala-aqt530", "air", "gw", "provisioned"),
        ("a2", "vaisala-aqt530", "air", "gw", "active"),
        ("a9", "vaisala-aqt530", "air", "gw", "suspended"),
        ("w1", "endress-liquiline-cm44x", "water", "gw", "active"),
        ("s1", "iotcore-mqtt-signal", "traffic", "s1", "active"),
        ("gw", "iotcore-modbus-gateway", "gateway", "gw", "active"),
        ("f1", "iotcore-smoke-heat", "fire", "f1", "active"),
    )
    return Directory(
        {name: Binding(name, name, SPECS[model], domain, by, state, "p1") for name, model, domain, by, state in rows}
    )


class ListBroker:
    """Stands where a connection to a broker stands; remembers what the lane did with it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Arrival] = asyncio.Queue()
        self.acknowledged: list[Arrival] = []
        self.receipts: list[tuple[str, dict[str, Any]]] = []
        self.connected = True

    async def take(self, limit: int) -> list[Arrival]:
        some = [await self.queue.get()]
        while len(some) < limit and not self.queue.empty():
            some.append(self.queue.get_nowait())
        return some

    def working(self) -> None:
        """Nobody watches this lane."""

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        self.acknowledged += arrivals

    async def publish(self, topic: str, payload: bytes) -> None:
        if not self.connected:
            raise DeliveryError("not_connected")
        self.receipts.append((topic, json.loads(payload)))


class Bench:
    """A lane that runs; say things to it and wait for what must come of them."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.clock = SystemClock()
        self.directory = directory()
        self.field, self.fire = ListBroker(), ListBroker()
        self.activated: list[str] = []
        self.spool_bytes = 10**8
        self.throttle: Throttle | None = None
        self.fire_journal: RecentReadings | None = None
        self.decode: Callable[[Arrival, Directory, float], Decoded] = decode
        self.directory = directory()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TelemetryLane]:
        async with (
            TelemetryFile(self.folder / "telemetry.db") as file,
            open_store(self.settings, self.clock, file) as store,
            open_confidential(self.settings, self.clock) as confidential,
            Spool(
                self.folder / "spool-1.db", self.clock, store_format=store.format, max_bytes=self.spool_bytes, max_age_s=3600.0
            ) as self.spool,
        ):
            lane = TelemetryLane(
                owned=self.field,
                watched=self.fire,
                decode=self.decode,
                directory=lambda: self.directory,
                spool=self.spool,
                store=store,
                panel=Panel(file, self.clock),
                clock=self.clock,
                first_seen=self._first_seen,
                receipted=self.fire_journal,
                throttle=self.throttle,
                confidential=confidential,
            )
            task = asyncio.create_task(lane.run())
            try:
                yield lane
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _first_seen(self, device: str) -> None:
        self.activated.append(device)

    def say(
        self, device: str, seq: int, values: dict[str, Any], *, retained: bool = False, kind: str = "reading", **more: Any
    ) -> Arrival:
        """One message of a device, as its publisher sends it."""
        body = {"boot": "b1", "seq": seq, "ts": int(self.clock.wall_ms()), "values": values, **more}
        return self.send(device, body, retained=retained, kind=kind)

    def send(self, device: str, body: Any, *, retained: bool = False, kind: str = "reading") -> Arrival:
        binding = directory().devices[device]
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        topic = topics.up(binding.domain, binding.publisher, kind, device)
        arrival = Arrival(topic, payload, retained, self.clock.wall_ms())
        (self.fire if binding.domain == "fire" else self.field).queue.put_nowait(arrival)
        return arrival

    def put(self, topic: str, payload: bytes) -> None:
        """Anything on the field broker."""
        self.field.queue.put_nowait(Arrival(topic, payload, retained=False, received_ms=self.clock.wall_ms()))

    def receipted(self, device: str) -> int:
        """The highest number that a receipt for this device named."""
        ends = [body["up_to"] for topic, body in self.field.receipts + self.fire.receipts if topic.endswith(f"/{device}")]
        return max(ends, default=0)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "spool-1.db")) as connection:
            return connection.execute(query).fetchall()

    async def drained(self) -> bool:
        """Whether the store has taken everything."""
        return (await self.spool.depth()).batches == 0

    def reader(self) -> closing[TelemetryReader]:
        return closing(TelemetryReader(self.folder / "telemetry.db"))


async def until(what: Callable[[], object | Awaitable[object]]) -> None:
    """Wait until `what` is true, at most LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found = what()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, "did not happen"
        await asyncio.sleep(0.02)

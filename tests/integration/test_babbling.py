"""One device that babbles beside fifty that do not, over a real Mosquitto: the others do not notice."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path

import aiomqtt
import pytest

from benchmarks.load import BarePublisher
from drivers.mqtt.canonical import decode
from drivers.mqtt.ingest import Ingest
from iotcore.clock import SystemClock
from iotcore.journal import quarantine
from iotcore.journal.throttle import Throttle
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Settings
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.queries import TelemetryReader
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.stores import open_store
from iotcore.wire.arrival import Endpoint
from tests.support.mosquitto import Mosquitto
from tests.support.shipped import SPECS
from tests.support.telemetry_bench import until

WELL_BEHAVED = tuple(f"a{n}" for n in range(50))
ROUNDS = 6
FLOOD = 6_000  # messages of the babbler, as fast as the broker takes them
GARBAGE = 1_200
BURST = 500  # in one write
LATENCY_LIMIT_S = 2.0  # a stalled neighbour would wait for the whole flood; generous, because the machine of a test is shared
LIMIT_S = 30.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, extra="max_queued_messages 100000", durable=False) as running:
        yield running


def directory() -> Directory:
    spec = SPECS["vaisala-aqt530"]
    return Directory(
        {name: Binding(name, name, spec, "air", name, "active", "") for name in (*WELL_BEHAVED, "babbler", "garbler")}
    )


def message(device: str, seq: int) -> tuple[bytes, bytes]:
    body = {"boot": "b1", "seq": seq, "ts": int(time.time() * 1000), "values": {"pm10": float(seq)}}
    return f"iot/v1/air/{device}/up/reading/{device}".encode(), json.dumps(body).encode()


def flood(port: int) -> None:
    """Thousands a second that are well formed, and a thousand that are not."""
    topic = b"iot/v1/air/garbler/up/reading/garbler"
    with BarePublisher(port, "babbler") as babbler, BarePublisher(port, "garbler") as garbler:
        for start in range(1, FLOOD, BURST):
            babbler.send([message("babbler", seq) for seq in range(start, start + BURST)])
            garbler.send([(topic, b"{\xff")] * (GARBAGE * BURST // FLOOD))
        babbler.drain()
        garbler.drain()


class Receipts:
    """What devices hear from the core: a receipt for what is stored."""

    def __init__(self) -> None:
        self.up_to: dict[str, int] = {}
        self.listening = asyncio.Event()

    async def listen(self, port: int) -> None:
        async with aiomqtt.Client("127.0.0.1", port, identifier="receipts") as client:
            await client.subscribe("iot/v1/+/+/down/receipt/+", qos=1)
            self.listening.set()
            async for one in client.messages:
                self.up_to[one.topic.value.rpartition("/")[2]] = json.loads(bytes(one.payload))["up_to"]

    async def rounds(self, port: int, seqs: range) -> list[float]:
        """Each well-behaved device says something, again once all are receipted; the seconds from publish to the last receipt."""
        took_s = []
        with BarePublisher(port, "well-behaved") as publisher:
            for seq in seqs:
                sent_s = time.monotonic()
                await asyncio.to_thread(publisher.send, [message(device, seq) for device in WELL_BEHAVED])
                await self.until(partial(self.all_have, seq))
                took_s.append(time.monotonic() - sent_s)
        return took_s

    def all_have(self, seq: int) -> bool:
        return all(self.up_to.get(device, 0) >= seq for device in WELL_BEHAVED)

    async def until(self, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline_s, self.up_to
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running_lane(port: int, folder: Path) -> AsyncIterator[TelemetryLane]:
    clock = SystemClock()
    endpoint = Endpoint("127.0.0.1", port, Path(), Path(), Path())
    devices = directory()
    async with (
        TelemetryFile(folder / "telemetry.db") as file,
        open_store(Settings(data=str(folder)), clock, file) as store,
        Spool(folder / "spool-1.db", clock, store_format=store.format, max_bytes=10**8, max_age_s=3600.0) as spool,
        Ingest(endpoint, "svc.telemetry.1.field", ["iot/v1/+/+/up/#"], clock, tls=False) as ingest,
    ):
        lane = TelemetryLane(
            owned=ingest,
            watched=None,
            decode=decode,
            directory=lambda: devices,
            spool=spool,
            store=store,
            panel=Panel(file, clock),
            clock=clock,
            first_seen=_nobody,
            throttle=Throttle(live_credit_s=0.0, least_credit=100),
        )
        running = asyncio.create_task(lane.run())
        try:
            await until(lambda: ingest.connected)
            yield lane
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def _nobody(device: str) -> None:
    raise AssertionError(device)  # all are active


async def test_fifty_devices_are_stored_at_once_beside_one_that_babbles_and_one_that_sends_garbage(
    broker: Mosquitto, tmp_path: Path
) -> None:
    receipts = Receipts()
    listening = asyncio.create_task(receipts.listen(broker.port))
    async with running_lane(broker.port, tmp_path) as lane:
        await receipts.listening.wait()
        quiet_s = await receipts.rounds(broker.port, range(1, 4))
        flooding = asyncio.create_task(asyncio.to_thread(flood, broker.port))
        beside_s = await receipts.rounds(broker.port, range(4, 4 + ROUNDS))
        await flooding
        await receipts.until(lambda: receipts.up_to.get("babbler", 0) == FLOOD)  # it is receipted: nothing is sent again
        await receipts.until(lambda: lane.counts()["refused"] == GARBAGE)
        with closing(TelemetryReader(tmp_path / "telemetry.db")) as reader:
            for seq in range(4 + ROUNDS, 40):
                await receipts.rounds(broker.port, range(seq, seq + 1))
                if any(one.reason == "throttled" for one in reader.faults("babbler")):
                    break
            assert [one.reason for one in reader.faults("babbler")] == ["throttled"]
        counts = lane.counts()
    listening.cancel()
    assert max(beside_s) < LATENCY_LIMIT_S, (quiet_s, beside_s)
    assert int(counts["throttled"]) > 0.9 * FLOOD
    with closing(sqlite3.connect(tmp_path / "telemetry.db")) as file:
        assert file.execute("SELECT device, throttled FROM conduct WHERE throttled > 0").fetchall() == [
            ("babbler", counts["throttled"])
        ]
    with closing(sqlite3.connect(tmp_path / "spool-1.db")) as file:
        assert file.execute("SELECT count(*), sum(more) FROM quarantine").fetchone() == (
            quarantine.ROWS_A_MINUTE + 1,
            GARBAGE - quarantine.ROWS_A_MINUTE,
        )

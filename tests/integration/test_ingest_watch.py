"""The ingest's heartbeat and its versions, on real brokers: what is dead is replaced, and a slow lane is not taken for it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from drivers.mqtt.connection import Version
from drivers.mqtt.ingest import Ingest
from iotcore.clock import SystemClock
from iotcore.provision.acl import BrokerName
from iotcore.wire.arrival import Endpoint
from tests.integration.test_ingest import FILTER, TOPIC, ingest_on, numbers_of, publish, taken, until
from tests.support.amqtt_broker import AmqttBroker
from tests.support.brokers import Kind, site
from tests.support.mosquitto import Mosquitto
from tests.support.old_broker import OldBroker
from tests.support.pki import service_files, trust_file
from tests.support.stalling_proxy import StallingProxy

WITHIN_S = 10.0
UNSUBSCRIBE = 0xA2  # MQTT 5, 3.10
CLIENT = "svc.telemetry.1.field"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, extra="max_queued_messages 100000") as running:
        yield running


async def proven(ingest: Ingest) -> None:
    """Wait until a heartbeat has come back."""
    await until(lambda: ingest._connection is not None and ingest._connection._topics.beats > 0, "a heartbeat has come back")


@contextlib.asynccontextmanager
async def lane_of(ingest: Ingest) -> Any:
    """A lane that takes and acknowledges; gives what it has taken."""
    arrivals: list[Any] = []

    async def serve() -> None:
        while True:
            batch = await ingest.take(100)
            arrivals.extend(batch)
            ingest.acknowledge(batch)

    task = asyncio.create_task(serve())
    try:
        yield arrivals
    finally:
        task.cancel()
        await asyncio.wait({task})


def unsubscribe(ingest: Ingest) -> None:
    """Make the broker lose every subscription of this session, behind our back."""
    connection = ingest._connection
    assert connection is not None
    names = [name.encode() for name in (FILTER, f"iotcore/heartbeat/{CLIENT}")]
    body = struct.pack("!H", 7) + (b"\0" if ingest.version == "5" else b"")
    body += b"".join(struct.pack("!H", len(name)) + name for name in names)
    connection._stream.write(bytes([UNSUBSCRIBE, len(body)]) + body)


async def test_with_its_defaults_a_dead_link_is_replaced_within_ten_seconds(broker: Mosquitto) -> None:
    async with StallingProxy(broker.port) as proxy, ingest_on(proxy.port) as ingest, lane_of(ingest) as arrivals:
        await proven(ingest)
        proxy.stall()
        began_s = time.monotonic()
        await until(lambda: ingest.connections == 2 and ingest.connected, "reconnected")
        assert time.monotonic() - began_s < WITHIN_S
        await asyncio.to_thread(publish, broker.port, range(1))
        await until(lambda: numbers_of(arrivals) == [0], "it is served again")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_broker_that_has_lost_our_subscriptions_is_found_out(broker: Mosquitto, version: Literal["5", "3.1.1"]) -> None:
    async with ingest_on(broker.port, keepalive_s=1, version=version) as ingest, lane_of(ingest) as arrivals:
        await proven(ingest)
        unsubscribe(ingest)
        await until(lambda: ingest.connections == 2 and ingest.connected, "reconnected")
        await asyncio.to_thread(publish, broker.port, range(1))
        await until(lambda: numbers_of(arrivals) == [0], "it is subscribed again")


async def test_a_reader_that_stands_still_is_replaced(broker: Mosquitto) -> None:
    async with ingest_on(broker.port, keepalive_s=1) as ingest, lane_of(ingest) as arrivals:
        await proven(ingest)
        connection = ingest._connection
        assert connection is not None
        assert connection._stream._transport is not None
        connection._stream._transport.pause_reading()  # nobody has asked for it: a reader that died
        await asyncio.to_thread(publish, broker.port, range(1))
        await until(lambda: ingest.connections == 2, "reconnected")
        await until(lambda: numbers_of(arrivals) == [0], "what waited has come")


async def test_heartbeats_reach_no_lane_and_are_acknowledged(broker: Mosquitto) -> None:
    async with ingest_on(broker.port, keepalive_s=1) as ingest, lane_of(ingest) as arrivals:
        await proven(ingest)
        connection = ingest._connection
        await until(lambda: connection is not None and connection._topics.beats >= 3, "three have come back")
        await until(lambda: not ingest.holding, "and are acknowledged")
        assert (arrivals, ingest.waiting) == ([], 0)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_lane_that_holds_all_the_broker_gives_is_not_taken_for_a_dead_link(
    tmp_path: Path, version: Literal["5", "3.1.1"]
) -> None:
    """Beyond its limit of unacknowledged messages a broker is silent: that is our lane's doing."""
    with Mosquitto(tmp_path, extra="max_inflight_messages 20") as broker:
        async with ingest_on(broker.port, keepalive_s=1, version=version) as ingest:
            held: list[Any] = []
            async with lane_of(ingest):
                await proven(ingest)
            await asyncio.to_thread(publish, broker.port, range(100))
            while len(held) < 20:
                held += await ingest.take(100)
            await asyncio.sleep(2.3)  # more than four heartbeats
            assert ingest.connections == 1
            assert ingest.holding
            ingest.acknowledge(held)
            rest = await taken(ingest, 100 - len(held))
            assert numbers_of(held + rest) == list(range(100))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_without_the_right_to_a_heartbeat_the_connection_stays(tmp_path: Path, version: Literal["5", "3.1.1"]) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite iot/#\n", encoding="utf-8")
    with Mosquitto(tmp_path, extra=f"acl_file {acl}") as broker:
        async with ingest_on(broker.port, keepalive_s=1, version=version) as ingest, lane_of(ingest) as arrivals:
            await until(lambda: ingest.connected, "connected")
            await asyncio.sleep(2.3)
            await asyncio.to_thread(publish, broker.port, range(1))
            await until(lambda: numbers_of(arrivals) == [0], "served")
            assert ingest.connections == 1


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
async def test_the_services_have_the_right_to_their_heartbeat_on_the_brokers_that_we_run(tmp_path: Path, kind: Kind) -> None:
    async with site(tmp_path, kind, [BrokerName.FIRE, BrokerName.FIELD]) as running, contextlib.AsyncExitStack() as stack:
        for name, cn in (
            (BrokerName.FIRE, "svc.fire.1.in"),
            (BrokerName.FIRE, "svc.telemetry.1.fire"),
            (BrokerName.FIELD, "svc.telemetry.1.field"),
        ):
            files = service_files(running.authority, running.folder, cn)
            endpoint = Endpoint("127.0.0.1", running.homes[name].port, trust_file(running.authority, running.folder), *files)
            version: Version = "5" if kind == "mosquitto" else "3.1.1"
            ingest = Ingest(endpoint, cn, ["iot/v1/fire/+/up/#"], SystemClock(), version=version, keepalive_s=1)
            await stack.enter_async_context(ingest)
            await stack.enter_async_context(lane_of(ingest))
            await proven(ingest)


async def test_a_resume_with_thousands_unacknowledged_brings_them_all_again_in_order(broker: Mosquitto) -> None:
    """Mosquitto 2.0 then ignores whatever receive maximum it was told: a client that enforced one would disconnect for ever."""
    count = 3_000
    async with ingest_on(broker.port) as ingest:
        await until(lambda: ingest.connected, "connected")
        await asyncio.to_thread(publish, broker.port, range(count))
        held = await taken(ingest, count, acknowledge=False)
        assert numbers_of(held) == list(range(count))
        await asyncio.to_thread(publish, broker.port, range(count, count + 500))
    async with ingest_on(broker.port) as ingest:
        assert numbers_of(await taken(ingest, count + 500)) == list(range(count + 500))
        assert ingest.connections == 1


async def test_a_receipt_that_nobody_subscribes_to_is_counted_as_not_accepted(broker: Mosquitto) -> None:
    async with ingest_on(broker.port) as ingest:
        await until(lambda: ingest.connected, "connected")
        await ingest.publish("iot/v1/air/gone/down/receipt/gone", b"{}")
        await until(lambda: ingest.counts.unmatched == 1, "0x10 is counted")
        await ingest.publish(TOPIC, b"1")
        assert numbers_of(await taken(ingest, 1)) == [1]
        assert (ingest.counts.unmatched, ingest.counts.refused) == (1, 0)


async def test_more_receipts_than_the_broker_takes_at_once_wait_for_its_answers(broker: Mosquitto) -> None:
    """Mosquitto cuts whoever has more than 20 publications without its answer."""
    async with ingest_on(broker.port) as ingest:
        await until(lambda: ingest.connected, "connected")
        for number in range(200):
            await ingest.publish(TOPIC, str(number).encode())
        assert numbers_of(await taken(ingest, 200)) == list(range(200))
        assert ingest.connections == 1


async def test_auto_speaks_5_where_the_broker_has_it(broker: Mosquitto) -> None:
    async with ingest_on(broker.port, version="auto") as ingest:
        await until(lambda: ingest.connected, "connected")
        assert ingest.version == "5"
        await asyncio.to_thread(broker.restart)
        await until(lambda: ingest.connections == 2, "reconnected")
        assert ingest.version == "5"


@pytest.mark.parametrize("manner", ["refuses", "closes"])
async def test_auto_speaks_3_1_1_to_a_broker_that_knows_no_other_and_remembers(
    broker: Mosquitto, manner: Literal["refuses", "closes"], caplog: pytest.LogCaptureFixture
) -> None:
    async with OldBroker(broker.port, manner) as old, ingest_on(old.port, version="auto") as ingest:
        await until(lambda: ingest.connected, "connected")
        await asyncio.to_thread(broker.restart)
        await until(lambda: ingest.connections == 2 and ingest.connected, "reconnected")
        await asyncio.to_thread(publish, broker.port, range(1))
        assert numbers_of(await taken(ingest, 1)) == [0]
        assert (ingest.version, old.fives) == ("3.1.1", 1)
    assert caplog.text.count("speaks MQTT 3.1.1") == 1


async def test_auto_waits_a_bounded_time_for_a_broker_that_does_not_answer_5_at_all(tmp_path: Path) -> None:
    with AmqttBroker(tmp_path) as broker:
        async with ingest_on(broker.port, version="auto") as ingest:
            await until(lambda: ingest.connected, "connected")
            assert ingest.version == "3.1.1"
            await ingest.publish(TOPIC, b"5")
            assert numbers_of(await taken(ingest, 1)) == [5]


async def test_auto_goes_back_to_5_when_neither_works_at_first(tmp_path: Path) -> None:
    """A broker that was only starting must not be taken for an old one."""
    with Mosquitto(tmp_path) as broker:
        endpoint = Endpoint("127.0.0.1", broker.port, Path(), Path(), Path())
        broker.kill()
        async with Ingest(endpoint, CLIENT, [FILTER], SystemClock(), tls=False, retry_most_s=0.2, version="auto") as ingest:
            await until(lambda: "ConnectionRefusedError" in ingest.last_error, "refused")
            await asyncio.to_thread(broker.start)
            await until(lambda: ingest.connected, "connected")
            assert ingest.version == "5"

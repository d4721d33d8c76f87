"""The ingest client's further filters, which the registry gives and takes while it runs, on real brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import pytest

from benchmarks.load import BarePublisher
from drivers.mqtt.ingest import Ingest
from iotcore.clock import SystemClock
from iotcore.wire.arrival import Endpoint
from tests.support.amqtt_broker import AmqttBroker
from tests.support.mosquitto import Mosquitto
from tests.support.until import until

OURS = "iot/v1/air/d1/up/reading/d1"
NAMES = count(1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


def ingest_on(port: int, version: Literal["5", "3.1.1"] = "5") -> Ingest:
    endpoint = Endpoint("127.0.0.1", port, Path(), Path(), Path())
    return Ingest(
        endpoint, "svc.telemetry.1.field", ["iot/v1/air/+/up/#"], SystemClock(), version=version, tls=False, retry_most_s=0.1
    )


def say(port: int, *topics: str) -> None:
    with BarePublisher(port, f"device-{next(NAMES)}") as publisher:
        publisher.send([(topic.encode(), b"{}") for topic in topics])
        publisher.drain()


async def heard(ingest: Ingest, port: int, *topics: str) -> list[str]:
    """What of these it gets; the contract's own, said last, ends the wait."""
    await asyncio.to_thread(say, port, *topics, OURS)
    found: list[str] = []
    async with asyncio.timeout(10):
        while OURS not in found:
            batch = await ingest.take(100)
            ingest.acknowledge(batch)
            found += [arrival.topic for arrival in batch]
    return found[:-1]


async def hears(ingest: Ingest, port: int, topic: str, *, wanted: bool) -> None:
    """Wait until it does, or does not."""
    async with asyncio.timeout(10):
        while (topic in await heard(ingest, port, topic)) is not wanted:  # noqa: ASYNC110 - another program's doing
            await asyncio.sleep(0.01)


async def test_what_is_wanted_before_there_is_a_connection_is_heard_on_it(broker: Mosquitto) -> None:
    ingest = ingest_on(broker.port)
    ingest.subscribe(["zigbee2mqtt/+"])
    async with ingest:
        await until(lambda: ingest.connected)
        await hears(ingest, broker.port, "zigbee2mqtt/a", wanted=True)


async def test_the_difference_is_followed_without_a_new_connection(broker: Mosquitto) -> None:
    async with ingest_on(broker.port) as ingest:
        await until(lambda: ingest.connected)
        assert await heard(ingest, broker.port, "zigbee2mqtt/a") == []
        ingest.subscribe(["zigbee2mqtt/+", "acme/+/up"])
        await hears(ingest, broker.port, "acme/a/up", wanted=True)
        ingest.subscribe(["acme/+/up", "lora/+"])
        await hears(ingest, broker.port, "zigbee2mqtt/a", wanted=False)
        await hears(ingest, broker.port, "lora/1", wanted=True)
        assert await heard(ingest, broker.port, "acme/a/up") == ["acme/a/up"]
        for n in range(20):  # faster than the broker answers
            ingest.subscribe([f"many/{i}/+" for i in range(n)])
        ingest.subscribe(["last/+"])
        await hears(ingest, broker.port, "many/3/x", wanted=False)
        await hears(ingest, broker.port, "last/x", wanted=True)
        assert ingest.connections == 1


async def test_what_an_earlier_process_heard_is_given_up_before_more_is_asked_for(broker: Mosquitto) -> None:
    endpoint = Endpoint("127.0.0.1", broker.port, Path(), Path(), Path())
    both = ["iot/v1/air/+/up/#", "iot/v1/water/+/up/#"]
    before = Ingest(endpoint, "svc.telemetry.1.field", both, SystemClock(), tls=False)
    async with before:
        await until(lambda: before.connected)
    after = Ingest(endpoint, "svc.telemetry.1.field", both[:1], SystemClock(), tls=False, given_up=both[1:])
    after.subscribe(["zigbee2mqtt/+"])
    async with after:
        await hears(after, broker.port, "zigbee2mqtt/a", wanted=True)
        assert await heard(after, broker.port, "iot/v1/water/w1/up/reading/w1", "zigbee2mqtt/a") == ["zigbee2mqtt/a"]
        after.subscribe([])
        await hears(after, broker.port, "zigbee2mqtt/a", wanted=False)


async def test_they_stand_again_after_the_broker_forgot_everything(broker: Mosquitto) -> None:
    async with ingest_on(broker.port) as ingest:
        await until(lambda: ingest.connected)
        ingest.subscribe(["acme/+/up"])
        await hears(ingest, broker.port, "acme/a/up", wanted=True)
        broker.kill()
        for path in broker.folder.glob("*.db*"):
            path.unlink()
        ingest.subscribe(["lora/+"])
        broker.start()
        await until(lambda: ingest.connections == 2)
        await hears(ingest, broker.port, "lora/1", wanted=True)
        assert await heard(ingest, broker.port, "acme/a/up") == []


async def test_a_filter_that_is_not_granted_costs_only_itself(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite iot/#\ntopic readwrite iotcore/#\ntopic readwrite lora/#\ntopic deny secret/#\n")
    with Mosquitto(tmp_path, extra=f"acl_file {acl}") as strict:
        async with ingest_on(strict.port) as ingest:
            await until(lambda: ingest.connected)
            ingest.subscribe(["secret/+", "lora/+"])
            await hears(ingest, strict.port, "lora/1", wanted=True)
            assert await heard(ingest, strict.port, "secret/1") == []
            assert ingest.connections == 1


async def test_a_broker_of_version_3_1_1_is_asked_the_same_way(tmp_path: Path) -> None:
    with AmqttBroker(tmp_path) as broker:
        async with ingest_on(broker.port, "3.1.1") as ingest:
            await until(lambda: ingest.connected)
            ingest.subscribe(["acme/+/up"])
            await hears(ingest, broker.port, "acme/a/up", wanted=True)
            ingest.subscribe([])
            await hears(ingest, broker.port, "acme/a/up", wanted=False)

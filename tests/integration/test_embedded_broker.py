"""The embedded broker under a city's load, and the manners that amqtt alone does not have."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from iotcore.errors import StartError
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, refresh_crl, write_home
from iotcore.provision.ca import Anchor
from iotcore.provision.embedded_broker import EmbeddedBroker, run
from tests.support.brokers import CONNACK, Site, accepted, becomes, site
from tests.support.pki import authority, device_files
from tests.support.ports import free_port

FIRE = BrokerName.FIRE
CLIENTS = 250
MESSAGES = 4
UP = "iot/v1/fire/+/up/#"


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, "amqtt", [FIRE]) as running:
        yield running


def packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


@asynccontextmanager
async def by_hand(
    city: Site, tls: ssl.SSLContext, *, keepalive_s: int, will: str = ""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of a kept session that says nothing by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", city.homes[FIRE].port, ssl=tls, server_hostname="localhost")
    flags = 0x0C if will else 0x00  # will at QoS 1; never a clean session
    body = (
        text("MQTT")
        + bytes([4, flags])
        + keepalive_s.to_bytes(2, "big")
        + text("x")
        + (text(will) + text("gone") if will else b"")
    )
    writer.write(packet(0x10, body))
    assert (await reader.readexactly(4))[3] == CONNACK[3]
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_a_city_of_clients_that_connects_at_once_is_served_without_a_loss(city: Site) -> None:
    async with city.client(FIRE, city.service("svc.fire.1.in")) as lane, AsyncExitStack() as stack:
        await lane.listen(UP)

        async def live(name: str) -> None:
            client = await stack.enter_async_context(city.client(FIRE, city.device(name)))
            await client.listen(f"iot/v1/+/{name}/down/#")
            await client.say(f"iot/v1/fire/{name}/up/status/{name}", retain=True)
            await client.say(*(f"iot/v1/fire/{name}/up/reading/{name}" for _ in range(MESSAGES)))
            await lane.say(f"iot/v1/fire/{name}/down/receipt/{name}")
            assert await client.until(bool) == [f"iot/v1/fire/{name}/down/receipt/{name}"]

        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(live(f"d-{number}"))
        await lane.until(lambda topics: len(topics) == CLIENTS * (1 + MESSAGES))
        assert len({*lane.topics}) == 2 * CLIENTS


async def test_the_newest_connection_of_a_name_wins_and_is_served(city: Site) -> None:
    tls, topic = city.service("svc.fire.1.in"), "iot/v1/fire/d-1/up/reading/d-1"
    async with city.client(FIRE, tls, clean_session=False) as first, city.client(FIRE, city.device("d-1")) as device:
        await first.listen(UP)
        for _ in range(3):
            async with city.client(FIRE, tls, clean_session=False) as second:
                await device.say(topic)
                assert await second.until(bool) == [topic]
        assert first.topics == []
        with pytest.raises(aiomqtt.MqttError):
            await first.mqtt.publish("iot/v1/x/svc.fire.1.in/up/event/x", b"", qos=1, timeout=5)


async def test_a_message_that_was_not_acknowledged_comes_again(city: Site) -> None:
    tls = city.service("svc.fire.1.in")
    async with city.client(FIRE, city.device("d-1")) as device:
        async with by_hand(city, tls, keepalive_s=60) as (reader, writer):
            writer.write(packet(0x82, b"\0\1" + text(UP) + b"\1"))
            assert await reader.readexactly(5) == b"\x90\x03\x00\x01\x01"
            await device.say("iot/v1/fire/d-1/up/reading/d-1", payload=b"once")
            assert b"once" in await reader.readuntil(b"once")  # and no PUBACK
        async with by_hand(city, tls, keepalive_s=60) as (reader, _):
            async with asyncio.timeout(5):
                assert b"iot/v1/fire/d-1/up/reading/d-1" in await reader.readuntil(b"once")


async def test_a_client_that_falls_silent_is_cut_and_its_will_is_published(city: Site) -> None:
    will = "iot/v1/fire/d-1/up/status/d-1"
    async with city.client(FIRE, city.service("svc.fire.1.in")) as lane:
        await lane.listen(UP)
        async with by_hand(city, city.device("d-1"), keepalive_s=1, will=will) as (reader, _):
            assert await lane.until(bool) == [will]
            assert lane.received[0].payload == b"gone"
            assert await reader.read() == b""


async def test_it_says_one_loud_line_takes_up_new_lists_and_leaves_its_port(tmp_path: Path) -> None:
    ours, home, said = authority(tmp_path), BrokerHome(FIRE, tmp_path / "broker", free_port()), list[str]()
    write_home(ours, home)
    city = Site(tmp_path, "amqtt", ours, {FIRE: home})
    certificate, key, issued = device_files(ours, tmp_path, Anchor.FIRE, "lost")
    tls = city.tls(certificate, key)
    running = asyncio.create_task(run(home, said.append))
    assert await becomes(city, FIRE, tls, wanted=True)
    assert len(said) == 1
    assert said[0].startswith("NOT FOR REAL ALARMS: the fire broker")
    ours.revoke(Anchor.FIRE, issued.serial)
    refresh_crl(ours, home)
    assert await becomes(city, FIRE, tls, wanted=False)
    assert await accepted(city, FIRE, city.device("d-2"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((home.host, home.port))


async def test_a_taken_port_is_one_clear_line(city: Site) -> None:
    with pytest.raises(StartError, match=r"The fire broker cannot listen on 127\.0\.0\.1:\d+: .*address already in use"):
        await EmbeddedBroker(city.homes[FIRE]).start()

"""Alarms out of a real Mosquitto: its process tells of clones, bursts and full queues, and who has to know of them does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iotcore.app import troubles
from iotcore.app.common import recorded
from iotcore.clock import SystemClock
from iotcore.commands.doctor import _broker_check
from iotcore.process import brokers, home
from iotcore.process.serve import beats
from iotcore.provision import broker_process
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker_watch import BURST
from iotcore.provision.ca import Anchor
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings, check
from tests.support.brokers import Site, becomes
from tests.support.pki import device_files
from tests.support.ports import free_port
from tests.support.registered import SPECS, city
from tests.support.until import until

FIRE = BrokerName.FIRE
CLOCK = SystemClock()
HERE, THERE = "127.0.0.1", "127.0.0.2"  # both are loopback on Linux
UP = "iot/v1/fire/d1/up/reading/d1"


@dataclass
class Town:
    """The process of the fire broker, as the supervisor runs it, and a registry."""

    settings: Settings
    site: Site
    registry: Registry

    def said(self) -> dict[str, Any]:
        """What the broker's process says of it now."""
        return beats(self.settings.folder, CLOCK).get("broker-fire", {})

    async def device(self, name: str) -> ssl.SSLContext:
        certificate, key, issued = device_files(self.site.authority, self.settings.folder / "d", Anchor.FIRE, name)
        await self.registry.record_certificate(recorded(issued), "test")
        await self.registry.activate(name, "test")
        return self.site.tls(certificate, key)

    async def doctor(self) -> str:
        found = await _broker_check(self.settings, FIRE, CLOCK)()
        return f"{'well' if found.well else 'bad'}: {found.said} {found.remedy}"

    @contextlib.asynccontextmanager
    async def connected(self, name: str, tls: ssl.SSLContext, address: str) -> AsyncIterator[asyncio.StreamReader]:
        """A connection of `name` from `address`."""
        port = self.site.homes[FIRE].port
        reader, writer = await asyncio.open_connection(HERE, port, ssl=tls, server_hostname="localhost", local_addr=(address, 0))
        hello = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name.encode()
        writer.write(bytes([0x10, len(hello)]) + hello)
        try:
            assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
            yield reader
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def town(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    monkeypatch.setattr(broker_process, "FIGURES_S", 0.5)
    ports = {name.value: {"port": free_port(), "run": "mosquitto"} for name in BrokerName}
    settings = check({"data": str(tmp_path / "data"), "brokers": ports, "metrics": {"port": 0}}, "a test")
    authority = home.prepare(settings, CLOCK)
    place = home.broker_home(settings, FIRE)
    queue: int | None = getattr(request, "param", None)
    if queue is not None:
        text = place.configuration.read_text()
        place.configuration.write_text(text.replace("max_queued_messages 100000", f"max_queued_messages {queue}"))
    running = asyncio.create_task(brokers.run(settings, FIRE))
    try:
        async with await open_registry(settings.registry_url) as registry:
            await registry.import_city(city(), SPECS, "test")
            made = Town(settings, Site(tmp_path, "mosquitto", authority, {FIRE: place}), registry)
            assert await becomes(made.site, FIRE, made.site.service("svc.fire.2.in"), wanted=True)
            yield made
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_one_key_at_two_addresses_is_told_with_both_and_noted_in_the_audit(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    tls = await town.device("d1")
    async with contextlib.AsyncExitStack() as stack:
        for address in (HERE, THERE) * 2:
            await stack.enter_async_context(town.connected("d1", tls, address))
        await until(lambda: bool(town.said().get("clones")), 5.0)
    (clone,) = troubles.clones(town.settings, CLOCK)
    assert (clone.broker, clone.name, clone.addresses) == ("fire", "d1", (HERE, THERE))
    assert sum("CLONE? d1" in record.getMessage() for record in caplog.records) == 1
    said = await town.doctor()
    assert said.startswith("bad:")
    assert f"d1 connects from {HERE} and {THERE} by turns" in said
    assert "iotcore device revoke d1" in said
    directory = await town.registry.directory(SPECS)
    watching = troubles.Watching(town.settings, town.registry, lambda: directory, CLOCK)
    await watching.look()
    await watching.look()
    noted = [entry.deed for entry in await town.registry.audit_entries() if entry.deed.action == "identity.cloned"]
    assert [(deed.subject, THERE in deed.detail) for deed in noted] == [("d1", True)], "once for an episode"
    assert troubles.faults([], [clone], directory, CLOCK.wall_ms()) == [("d1", "cloned")]


async def test_a_device_that_comes_back_at_the_same_address_raises_nothing(town: Town) -> None:
    tls = await town.device("d1")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(town.connected("d1", tls, HERE))
        async with town.connected("d2", await town.device("d2"), THERE):
            await until(lambda: town.said().get("clients", 0) >= 2, 10.0)
    assert town.said()["clones"] == []
    assert (await town.doctor()).startswith("well: a message to ourselves took")


async def test_a_burst_of_strangers_is_told_with_their_address(town: Town) -> None:
    nobody = town.site.tls()
    for _ in range(BURST + 5):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with town.connected("x", nobody, THERE):
                pytest.fail("it was let in")
    await until(lambda: town.said().get("burst") is not None, 5.0)
    assert town.said()["burst"]["addresses"] == [THERE]
    said = await town.doctor()
    assert "connections refused in a burst (from 127.0.0.2)" in said


@pytest.mark.parametrize("town", [20], indirect=True)
async def test_a_queue_that_overflows_is_seen_though_every_publish_is_answered_well(town: Town) -> None:
    """`max_queued_messages` drops silently: PUBACK says success (0x00), and only the broker's own count knows."""
    lane = town.site.service("svc.fire.1.in")
    async with town.site.client(FIRE, lane, clean_session=False) as away:
        await away.listen("iot/v1/fire/+/up/#")
    codes: list[int] = []
    async with town.site.client(FIRE, await town.device("d1")) as device:
        paho: Any = device.mqtt._client
        before = paho.on_publish

        def note(client: Any, userdata: Any, mid: int, code: Any, properties: Any) -> None:
            codes.append(code.value)
            before(client, userdata, mid, code, properties)

        paho.on_publish = note
        await device.say(*[UP] * 50)
    assert codes == [0] * 50, "every one was answered with success"
    await until(lambda: town.said().get("dropped", 0) >= 30, 15.0)
    assert town.said()["overflows"] == ["svc.fire.1.in"]
    said = await town.doctor()
    assert "messages for svc.fire.1.in are dropped: its queue is full" in said
    async with town.site.client(FIRE, lane, clean_session=False) as back:
        await back.until(lambda topics: len(topics) >= 20)
        await asyncio.sleep(0.5)
        assert len(back.topics) == 20, "what fitted came; for the rest the devices send again, having no receipt"

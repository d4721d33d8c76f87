"""The real world of a timeline: real time, a real journal and sockets, pysiaalarm's own server at the end of a real connection.

One fire process, two buildings, and whatever service the row is about: a Mosquitto, a Modbus unit, a database. Times of its rows
have room for a busy machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pysiaalarm.account import SIAAccount
from pysiaalarm.aio.client import SIAClient
from pysiaalarm.event import SIAEvent
from pysiaalarm.utils.enums import MessageTypes

from drivers.mqtt.ingest import Ingest
from iotcore.app.channels import channels_of
from iotcore.app.outgoing import Rescue
from iotcore.app.receivers import told_of_all
from iotcore.clock import SystemClock, machine_uptime
from iotcore.journal.database import Place
from iotcore.journal.journal import Journal
from iotcore.process.replicas import Replica
from iotcore.registry.directory import Binding, Directory, Premises, Zone
from iotcore.settings import check
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from iotcore.wire.messages import ReadingMessage, encode
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.shipped import SPECS
from tests.timelines.centre import LINK_ACCOUNT, WITHIN, seen_event
from tests.timelines.city import RULES
from tests.timelines.notation import Seen, dc09
from tests.timelines.observer import Observer
from tests.timelines.parts import Parts, Variant

BUSY_S = 1.0  # what a busy machine may take for what takes milliseconds
FIRST = dc09("FA", "DC-09 FA at the receiver", at="arc", account="1001")
LOOK_S = 0.02
READY_S = 10.0


class Quiet:
    """Where no broker is part of it: messages are handed to the lane."""

    connected = True
    oldest_s = 0.0

    async def take(self, limit: int) -> list[Arrival]:  # noqa: ARG002
        return await asyncio.Future()

    def acknowledge(self, arrivals: object) -> None:
        """Nobody waits for it."""

    def working(self) -> None:
        """Nobody watches this lane."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Receipts go to nobody."""


@dataclass(slots=True)
class Town:
    """What a row's deeds have at hand."""

    folder: Path
    clock: SystemClock = field(default_factory=SystemClock)
    directory: Directory = field(default_factory=Directory)
    seen: list[Seen] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    journal: Any = None
    lane: Any = None
    broker: Mosquitto | None = None
    ingest: Ingest | None = None
    unit: Any = None
    server: Any = None
    moving: bool = True  # whether the unit's life-check word does
    flood: Any = None

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.began_s

    def note(self, kind: str, /, **facts: Any) -> None:
        self.seen.append(Seen(self.now_s, kind, facts))

    async def until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.now_s))

    def message(self, device: str, seq: int, values: Mapping[str, Any], **more: Any) -> tuple[str, bytes]:
        """Topic and payload of a device's reading."""
        more.setdefault("ts", int(self.clock.wall_ms()))
        binding = self.directory.devices[device]
        topic = topics.up("fire", binding.publisher, more.pop("kind", "reading"), device)
        return topic, encode(ReadingMessage(boot=more.pop("boot", "b1"), seq=seq, values=dict(values), **more))

    async def hand(self, topic: str, payload: bytes) -> None:
        """A message as it comes off a broker."""
        await self.lane.turn([Arrival(topic, payload, retained=False, received_ms=self.clock.wall_ms())])


def directory(more: Mapping[str, Binding] | None = None) -> Directory:
    """Two buildings with a detector each, and a gateway with a child."""
    devices = {
        f"sd-{n}": Binding(f"sd-{n}", f"sd-{n}", SPECS["iotcore-smoke-heat"], "fire", f"sd-{n}", "active", f"p{n}", "z1")
        for n in (1, 2)
    }
    devices["gw-1"] = Binding("gw-1", "gw-1", SPECS["iotcore-modbus-gateway"], "gateway", "gw-1", "active")
    devices["child"] = Binding("child", "child", SPECS["iotcore-smoke-heat"], "fire", "gw-1", "active", "p2", "z1")
    load = {
        f"load-{n}": Binding(f"load-{n}", "", SPECS["iotcore-smoke-heat"], "fire", f"load-{n}", "active", "p2", "z1")
        for n in range(20)
    }
    places = {f"p{n}": Premises(f"p{n}", f"Nhà {n}", f"{n} Lê Hoàn", 19.8, 105.77, f"{1000 + n}") for n in (1, 2)}
    return Directory({**devices, **load, **(more or {})}, places, {"z1": Zone("z1", "p1", 1, "Tầng 1", "Sảnh")})


@asynccontextmanager
async def centre(note: Any) -> AsyncIterator[int]:
    """pysiaalarm's own server on a real socket, with its own clock; its port."""

    async def take(event: SIAEvent) -> None:
        if event.message_type is not MessageTypes.NULL:
            note("dc09", at="arc", **seen_event(event))

    port = free_port()
    known = [SIAAccount(one, None, allowed_timeband=WITHIN) for one in (LINK_ACCOUNT, "1001", "1002")]
    client = SIAClient("127.0.0.1", port, known, function=take)  # type: ignore[abstract] # __new__ chooses
    await client.async_start()
    try:
        yield port
    finally:
        await client.async_stop()
        await asyncio.sleep(0.01)  # its connections end by themselves


@asynccontextmanager
async def town(
    folder: Path,
    *,
    broker: bool = False,
    place: Place | None = None,
    more: Mapping[str, Binding] | None = None,
    receivers: list[Any] | None = None,
) -> AsyncIterator[Town]:
    """A running one. `receivers` are told beside the alarm receiving centre."""
    clock = SystemClock()
    made = Town(folder, clock, directory(more))
    async with AsyncExitStack() as stack:
        arc = {"kind": "sia_dc09", "name": "arc", "host": "127.0.0.1", "port": await stack.enter_async_context(centre(made.note))}
        settings = check({"data": str(folder), "receivers": [arc, *(receivers or [])]}, "row")
        ear: Any = Quiet()
        if broker:
            made.broker = stack.enter_context(Mosquitto(folder))
            ear = Ingest(
                made.broker.endpoint(),
                "fire",
                ["iot/v1/fire/+/up/#", "iot/v1/gateway/+/up/status/+"],
                clock,
                tls=False,
                retry_most_s=0.2,
            )
            made.ingest = await stack.enter_async_context(ear)
        journal = made.journal = Journal(place or folder / "journal.db", clock, told_of_all(settings), "fire", machine_uptime())
        stack.callback(journal.close)
        observer = Observer(folder / "journal.db", made.note)
        stack.callback(observer.close)
        channels = channels_of(settings, clock)
        rescue = Rescue(settings, Replica(1, alone=True), channels, clock, "fire")
        parts = Parts(settings, clock, machine_uptime(), lambda: made.directory, ear, journal, RULES)
        running = asyncio.create_task(_run(parts, rescue, channels, made))
        stack.push_async_callback(_stop, running)
        watching = asyncio.create_task(_watch(observer)) if place is None else None
        async with asyncio.timeout(READY_S):
            while made.lane is None or (made.ingest is not None and not made.ingest.connected):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        made.began_s = time.monotonic()
        yield made
        if watching is not None:
            await _stop(watching)
        assert not running.done()


async def _run(parts: Parts, rescue: Rescue, channels: Any, made: Town) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(rescue.run())
        await rescue.opened.wait()
        made.lane, _ = parts.begin(group, rescue, channels, "fire", Variant())


async def _watch(observer: Observer) -> None:
    while True:
        observer.look()
        await asyncio.sleep(LOOK_S)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

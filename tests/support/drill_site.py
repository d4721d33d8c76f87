"""A fire process as far as drills need it: a registry, the lane, two paths to a receiving centre, and a keeper that speaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from drivers.mqtt.decode import Decoder
from drivers.mqtt.vendor import Vendors
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app.channels import channels_of
from iotcore.app.drill_speaker import DrillSpeaker, waits
from iotcore.app.drilling import Drilling
from iotcore.app.intents import Intents
from iotcore.app.outgoing import Outgoing, Rescue
from iotcore.app.receivers import told_of_all
from iotcore.clock import ManualClock, Uptime
from iotcore.journal import drills
from iotcore.journal.drills import Drill
from iotcore.journal.journal import Journal
from iotcore.process import home
from iotcore.process.follow import Follower
from iotcore.process.replicas import Replica
from iotcore.registry.records import Intent
from iotcore.registry.response import Drills, Response
from iotcore.registry.responses import Responses
from iotcore.registry.store import Registry, open_registry
from iotcore.schedule import ZONE
from iotcore.settings import check
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Broker, Endpoint
from simulators.arc_receiver import ArcReceiver
from tests.support.console import CITY
from tests.support.listed import ListBroker
from tests.support.shipped import SPECS
from tests.support.until import until

RULES = rules.load(rules.default_path())
MORNING_MS = datetime(2026, 11, 23, 8, 0, tzinfo=ZONE).timestamp() * 1000.0
NOWHERE = Endpoint("127.0.0.1", 1, Path(), Path(), Path())


class Site:
    """The city of the console with drills each 30 days at p1. `arc` is told by its own path and by `arc-2`."""

    def __init__(self, folder: Path, registry: Registry, clock: ManualClock, arcs: Sequence[ArcReceiver]) -> None:
        self.folder, self.registry, self.clock = folder, registry, clock
        self.arc, self.second = arcs
        self.follower = Follower(registry, SPECS)
        self.broker = ListBroker()
        self.seq = 0
        receivers = [
            {"kind": "sia_dc09", "name": name, "host": "127.0.0.1", "port": arc.port, "reply_timeout_s": 1.0}
            for name, arc in zip(("arc", "arc-2"), arcs, strict=True)
        ]
        receivers[0]["alternate"] = "arc-2"
        self.settings = check({"data": str(folder), "receivers": receivers}, "drills")
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def place(self) -> Path:
        return self.folder / "journal.db"

    async def start(self, broker: Broker | None = None) -> None:
        """The fire process begins; whatever an earlier one left is in the journal."""
        directory = lambda: self.follower.directory  # noqa: E731 - read at each look
        self.channels = channels_of(self.settings, self.clock)
        rescue = Rescue(self.settings, Replica(1, alone=True), self.channels, self.clock, "fire")
        self.journal = Journal(
            self.place, self.clock, told_of_all(self.settings), "fire", Uptime("machine-1", self.clock.monotonic_s)
        )
        self.outgoing = Outgoing(self.settings, self.journal, rescue, self.channels, self.clock, "fire")
        self.engine = Engine(RULES)
        self.drilling = Drilling(*(self.settings, self.registry, self.journal, self.engine, directory, self.channels), self.clock)
        self.lane = FireLane(
            broker=broker or self.broker,
            decode=Decoder(Vendors(("fire",))),
            directory=directory,
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            opened=self.outgoing.opened,
            first_seen=lambda _: asyncio.sleep(0),
            drilled=self.drilling.drilled,
        )
        self.lane.warm()
        self.intents = Intents(self.lane, self.follower, self.engine, self.journal, self.outgoing.dispatcher, drill=self.drilling)
        self.run(self.outgoing.dispatcher.run())
        self.run(self.drilling.courier.run())

    def run(self, part: Any) -> None:
        """Until the process stops."""
        self._tasks.append(asyncio.create_task(part))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self.drilling.close()
        for channel in self.channels.values():
            await channel.close()
        self.journal.close()

    async def ask(self, source: str = "simulated", premises: str = "p1", by: str = "lan") -> str:
        """A person wants a drill; its id."""
        self.clock.advance(1.0)
        id_ = drills.drill_id(premises, self.clock.wall_ms())
        body = json.dumps({"premises": premises, "source": source})
        number = await self.registry.intent("drill", id_, by, "127.0.0.1", body)
        await self.intents(Intent(number, "drill", id_, by, int(self.clock.wall_ms()), body))
        return id_

    def spoken(self) -> list[Arrival]:
        """What a keeper would put on the broker now."""
        speaker = DrillSpeaker(self.place, NOWHERE, self.clock)
        return [
            Arrival(
                topics.drill(home.DRILL_OUT, one.device), speaker.payload(one), retained=False, received_ms=self.clock.wall_ms()
            )
            for one in waits(self.place)
        ]

    async def hear(self, *more: Arrival) -> None:
        """The lane takes what keepers say, and these beside it."""
        await self.lane.turn([*self.spoken(), *more])

    def arrival(self, device: str, values: dict[str, Any], **more: Any) -> Arrival:
        """What a detector says."""
        self.seq += 1
        body = {"v": 1, "boot": "b1", "seq": self.seq, "ts": int(self.clock.wall_ms()), "values": values, **more}
        topic = topics.up("fire", device, "reading", device)
        return Arrival(topic, json.dumps(body).encode(), retained=False, received_ms=self.clock.wall_ms())

    def drill(self, id_: str) -> Drill:
        with self.journal.reading() as connection:
            found = drills.get(connection, id_)
        assert found is not None
        return found

    async def ended(self, id_: str) -> Drill:
        await until(lambda: self.drill(id_).state != "waiting")
        return self.drill(id_)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.journal.reading() as connection:
            return [tuple(row) for row in connection.execute(query).fetchall()]


@asynccontextmanager
async def drill_site(folder: Path, *, broker: Broker | None = None) -> AsyncIterator[Site]:
    """A running one, in the morning."""
    clock = ManualClock(MORNING_MS)
    async with AsyncExitStack() as stack:
        arcs = [await stack.enter_async_context(ArcReceiver(now_s=lambda: clock.wall_ms() / 1000.0)) for _ in range(2)]
        registry = await stack.enter_async_context(await open_registry(f"sqlite://{folder / 'registry.db'}", clock))
        await registry.import_city(CITY, SPECS, "tester")
        for device in ("d1", "d2"):
            await registry.set_state(device, "provisioned", "tester")
        await Responses(registry.database).save("p1", Response(drills=Drills(every_days=30)), "tester")
        site = Site(folder, registry, clock, arcs)
        await site.follower.refresh()
        await site.start(broker)
        try:
            yield site
        finally:
            await site.stop()

"""A registry, a fire lane that follows it, and what is disabled or in walk test there, on a clock that a test moves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app.intents import INTENT_CURSOR, Intents
from iotcore.app.outages import Outages
from iotcore.clock import ManualClock, Uptime
from iotcore.dispatch.outbox import Dispatcher
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.process.follow import Follower
from iotcore.registry.disablements import Disablements
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.walks import Walks
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from tests.support.console import CITY
from tests.support.listed import ListBroker
from tests.support.shipped import SPECS

RULES = rules.load(rules.default_path())
CALL_POINT = {"id": "cp-1", "title": "Nút nhấn", "model": "iotcore-call-point", "premises": "p1", "zone": "p1-z1"}
CALM = {"smoke": 0.0, "temperature": 25.0, "alarm": False, "battery": 90.0}
SMOKE = {"smoke": 1.0, "temperature": 25.0, "alarm": True, "battery": 90.0}


class Replica:
    """One fire process: its own engine and lane over the site's journal."""

    def __init__(self, site: Site) -> None:
        self.site, self.opened = site, list[str]()
        self.journal = Journal(
            site.folder / "journal.db", site.clock, site.receivers, uptime=Uptime(site.machine, site.clock.monotonic_s)
        )
        self.engine, exempt = Engine(RULES), Exempt()
        self.lane = FireLane(
            broker=ListBroker(),
            decode=decode,
            directory=lambda: site.follower.directory,
            engine=self.engine,
            journal=self.journal,
            clock=site.clock,
            opened=lambda committed: self.opened.extend(committed.opened),
            first_seen=site.first_seen,
            exempt=exempt,
        )
        self.lane.warm()
        directory = lambda: site.follower.directory  # noqa: E731 - read at each look
        registry = site.registry.database
        self.outages = Outages(self.journal, directory, exempt, self.engine, self.lane.raise_again, site.clock, registry)
        dispatcher = Dispatcher(SqlOutbox(self.journal), {}, site.clock, "test")
        self.pressed: list[tuple[str, str]] = []
        pressed = lambda call, said: self.pressed.append((call, said))  # noqa: E731 - who waits for a key
        self.intents = Intents(self.lane, site.follower, self.engine, self.journal, dispatcher, pressed=pressed)
        self.applied = self.journal.cursor(INTENT_CURSOR)


class Site:
    """The city of the console: d1 and a call point in p1-z1, d2 in p2-z1."""

    def __init__(self, folder: Path, registry: Registry, clock: ManualClock) -> None:
        self.folder, self.registry, self.clock = folder, registry, clock
        self.out, self.walks = Disablements(registry.database), Walks(registry.database)
        self.follower = Follower(registry, SPECS)
        self.machine, self.seq = "boot-1", 0
        self.receivers = ["arc"]
        self.replicas: list[Replica] = []

    @property
    def fire(self) -> Replica:
        return self.replicas[0]

    def start(self, count: int = 1) -> None:
        """The fire processes of before are gone; so many begin."""
        self.stop()
        self.replicas = [Replica(self) for _ in range(count)]

    def stop(self) -> None:
        for one in self.replicas:
            one.journal.close()
        self.replicas = []

    async def first_seen(self, device: str) -> None:
        await self.registry.activate(device, "ingest")

    async def say(self, device: str, values: dict[str, Any], **extra: Any) -> None:
        """One message, a second after the last, to every replica."""
        await self.follower.refresh()
        self.clock.advance(1.0)
        self.seq += 1
        body = {"v": 1, "boot": "b1", "seq": self.seq, "ts": int(self.clock.wall_ms()) - 3, "values": values, **extra}
        topic = topics.up("fire", device, "reading", device)
        for one in self.replicas:
            await one.lane.turn([Arrival(topic, json.dumps(body).encode(), retained=False, received_ms=self.clock.wall_ms())])

    async def apply(self) -> None:
        """Every replica applies the intents that it has not applied yet."""
        for one in self.replicas:
            for intent in await self.registry.intents_after(one.applied):
                await one.intents(intent)
                one.applied = intent.id

    async def look(self) -> None:
        """Every replica looks after what is disabled, once."""
        await self.follower.refresh()
        for one in self.replicas:
            await one.outages.look()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.fire.journal.connection.execute(query).fetchall()]

    def alarms(self) -> list[tuple[str, str]]:
        """Device and state of each fire alarm."""
        return [(str(a), str(b)) for a, b in self.rows("SELECT device, state FROM alarm WHERE severity = 'alarm' ORDER BY id")]

    def incidents(self) -> list[str]:
        return [str(name) for (name,) in self.rows("SELECT id FROM incident ORDER BY id")]

    def told(self) -> list[tuple[str, str]]:
        """Incident and event of each notice."""
        return [(str(a), str(b)) for a, b in self.rows("SELECT incident, event FROM outbox ORDER BY id")]


@asynccontextmanager
async def outage_site(folder: Path) -> AsyncIterator[Site]:
    """A site with one fire process."""
    clock = ManualClock()
    async with await open_registry(f"sqlite://{folder / 'registry.db'}", clock) as registry:
        await registry.import_city({**CITY, "devices": [*CITY["devices"], CALL_POINT]}, SPECS, "tester")
        for device in ("d1", "d2", "cp-1"):
            await registry.set_state(device, "provisioned", "tester")
            await registry.set_state(device, "active", "tester")
        site = Site(folder, registry, clock)
        await site.follower.refresh()
        site.start()
        try:
            yield site
        finally:
            site.stop()

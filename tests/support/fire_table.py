"""The fire lane on a table with both ways out, as its process has them: a real journal, emergency log and receiving centre."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app.channels import channels_of
from iotcore.app.outgoing import Outgoing, Rescue
from iotcore.clock import SystemClock
from iotcore.journal.journal import Journal
from iotcore.process.replicas import Replica
from iotcore.registry.directory import Binding, Directory, Premises
from iotcore.settings import check
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from simulators.arc_receiver import ArcReceiver
from tests.support.listed import ListBroker
from tests.support.shipped import SPECS

RULES = rules.load(rules.default_path())
PREMISES = 40
OWNER = "fire-test"
FIRE: dict[str, Any] = {"smoke": 0.01, "alarm": True}
QUIET: dict[str, Any] = {"smoke": 0.01, "alarm": False}


def directory() -> Directory:
    """Premises p1 … with a detector sd-1 … each, and a second one sdb-1 …."""
    spec = SPECS["iotcore-smoke-heat"]
    devices = {
        name: Binding(name, name, spec, "fire", name, "active", f"p{n}", "")
        for n in range(1, PREMISES + 1)
        for name in (f"sd-{n}", f"sdb-{n}")
    }
    places = {f"p{n}": Premises(f"p{n}", f"Nhà {n}", f"{n} Lê Hoàn", 19.8, 105.7, f"{1000 + n}") for n in range(1, PREMISES + 1)}
    return Directory(devices, places, {})


class FireTable:
    """One replica. `start` opens everything as its process does, `stop` as its end; both may be called again."""

    def __init__(self, folder: Path, arc: ArcReceiver, number: int = 1, emergency_folder: Path | None = None) -> None:
        self.folder = folder
        self.place: Path | str = folder / "journal.db"
        self.arc = arc
        self.clock = SystemClock()
        self.broker = ListBroker()
        self.directory = directory()
        receiver = {"kind": "sia_dc09", "name": "arc", "host": "127.0.0.1", "port": arc.port, "reply_timeout_s": 1.0}
        apart = str(emergency_folder or "")
        document = {"data": str(folder), "fire": {"replicas": 4, "emergency_folder": apart}, "receivers": [receiver]}
        self.settings = check(document, "table")
        self.replica = Replica(number, alone=False)
        self.owner = f"{OWNER}-{number}"
        self.seq: dict[str, int] = {}
        self.rules = RULES
        self._tasks: list[asyncio.Task[None]] = []
        self.journal: Journal | None = None

    def start_rescue(self) -> None:
        """What runs before the journal is open."""
        self.channels = channels_of(self.settings, self.clock)
        self.rescue = Rescue(self.settings, self.replica, self.channels, self.clock, self.owner)
        self._tasks = [asyncio.create_task(self.rescue.run())]

    async def start(self) -> None:
        self.start_rescue()
        await self.rescue.opened.wait()
        self.start_lane()

    def start_lane(self) -> None:
        self.journal = Journal(self.place, self.clock, ["arc"], self.owner)
        self.outgoing = Outgoing(self.settings, self.journal, self.rescue, self.channels, self.clock, self.owner)
        self.engine = Engine(self.rules)
        self.lane = FireLane(
            broker=self.broker,
            decode=decode,
            directory=lambda: self.directory,
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            opened=self.outgoing.opened,
            first_seen=lambda _: asyncio.sleep(0),
            safety=self.outgoing.safety,
        )
        self.lane.warm()
        self._tasks += [asyncio.create_task(self.lane.run()), asyncio.create_task(self.outgoing.dispatcher.run())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self.journal is not None:
            self.journal.close()

    def arrival(self, device: str, values: dict[str, Any], **more: Any) -> Arrival:
        self.seq[device] = self.seq.get(device, 0) + 1
        body = {"v": 1, "boot": "b1", "seq": self.seq[device], "ts": int(self.clock.wall_ms()), "values": values, **more}
        topic = topics.up("fire", device, "reading", device)
        return Arrival(topic, json.dumps(body).encode(), retained=False, received_ms=self.clock.wall_ms())

    async def say(self, device: str, values: dict[str, Any], **more: Any) -> Arrival:
        arrival = self.arrival(device, values, **more)
        await self.lane.turn([arrival])
        return arrival

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "journal.db")) as reader:
            return reader.execute(query).fetchall()

    @property
    def stalled(self) -> bool:
        return "journal_stalled" in self.lane.state()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Another process holds the journal's file, as one that was stopped in the middle of a commit does."""
        with closing(sqlite3.connect(self.folder / "journal.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                other.execute("ROLLBACK")


@asynccontextmanager
async def fire_table(folder: Path, **more: Any) -> AsyncIterator[FireTable]:
    """A running one, with its receiving centre."""
    async with ArcReceiver() as arc:
        table = FireTable(folder, arc, **more)
        await table.start()
        try:
            yield table
        finally:
            await table.stop()

"""Rule documents followed into a fire lane with its real engine, journal and decoder: saved is in use, broken changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest

from drivers.mqtt.canonical import decode
from iotcore.alarms import rule_saving
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.alarms.rule_saving import Known
from iotcore.app import fire_rules
from iotcore.clock import ManualClock
from iotcore.errors import ConfigError
from iotcore.journal.journal import Journal
from iotcore.process.follow import Follower
from iotcore.process.ruled import WHOLE_S
from iotcore.registry.rule_documents import RuleStore
from iotcore.registry.store import open_registry
from iotcore.settings import Settings
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from tests.support.covered import CITY
from tests.support.listed import ListBroker
from tests.support.registry_sql import sql
from tests.support.ruling import BASE, level
from tests.support.shipped import SPECS
from tests.support.until import until


async def _quiet(_: str) -> None:
    """Nobody is told of a device's first reading."""


class Followed:
    """A lane whose rules are followed, one device of it, and the registry that somebody edits."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.clock = url, folder, ManualClock()
        self.seq = 0

    async def __aenter__(self) -> Self:
        self.registry = await open_registry(self.url, self.clock)
        await self.registry.import_city(CITY, SPECS, "tester")
        await self.registry.set_state("s1", "provisioned", "tester")
        follower = Follower(self.registry, SPECS)
        await follower.refresh()
        self.store = RuleStore(self.registry.database)
        self.ruled = await fire_rules.documents(self.registry, BASE, self.clock)
        settings = Settings(data=str(self.folder))
        grouped = await fire_rules.grouped(settings, self.registry, lambda: follower.directory, self.clock)
        self.engine = engine = Engine(self.ruled.rules, grouped.members.of)
        self.journal = Journal(self.folder / "journal.db", self.clock, ["arc"])
        self.lane = FireLane(
            broker=ListBroker(),
            decode=decode,
            directory=lambda: follower.directory,
            engine=engine,
            journal=self.journal,
            clock=self.clock,
            opened=lambda _: None,
            first_seen=_quiet,
        )
        self.known = Known(SPECS, follower.directory, (), BASE, self.ruled.in_use)
        self.task = asyncio.create_task(self.ruled.run(fire_rules.using(engine, lambda: follower.directory, grouped)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        self.journal.close()
        await self.registry.close()

    async def edit(self, document: dict[str, Any]) -> None:
        """As a person saves a rule: checked, kept, and in use within a second."""
        found = rule_saving.check([("edit.yaml", document)], self.known)
        (made,) = await self.store.save({key: one.body for key, one in found.items()}, "lan")
        await until(lambda: made.key in self.ruled.in_use and self.ruled.in_use[made.key].version == made.version, 1.0)
        await until(lambda: self.engine.rules == self.ruled.rules, 1.0)

    async def incidents_at(self, smoke: float, readings: int = 4) -> int:
        for _ in range(readings):
            self.clock.advance(2.0)
            self.seq += 1
            body: dict[str, Any] = {"v": 1, "boot": "b1", "seq": self.seq, "ts": int(self.clock.wall_ms())}
            payload = json.dumps({**body, "values": {"smoke": smoke}}).encode()
            topic = topics.up("fire", "s1", "reading", "s1")
            await self.lane.turn([Arrival(topic, payload, retained=False, received_ms=self.clock.wall_ms())])
        return len(self.journal.connection.execute("SELECT id FROM incident").fetchall())


@pytest.fixture
async def followed(registry_url: str, tmp_path: Path) -> AsyncIterator[Followed]:
    async with Followed(registry_url, tmp_path) as one:
        yield one


async def test_a_saved_rule_judges_the_next_reading_and_a_refused_or_broken_one_changes_nothing(followed: Followed) -> None:
    """A broken or edited rule is refused and flagged, and the previous version keeps evaluating."""
    assert await followed.incidents_at(0.12) == 0
    await followed.edit(level(0.18, when={**level(0.18)["when"], "clear": 0.1}))
    assert await followed.incidents_at(0.14) == 0
    with pytest.raises(ConfigError, match=r"edit\.yaml: when\.above"):
        await followed.edit(level("nothing"))
    broken = json.dumps({**level(0.9), "shade": "unknown"})
    await sql(followed.url, f"UPDATE rule_document SET body = '{broken}', version = 2 WHERE key = 'smoke-level'")
    followed.clock.advance(WHOLE_S)
    await until(lambda: bool(followed.ruled.troubles), 2.0)
    assert "version 1 stays in use" in followed.ruled.state()["rule_troubles"][0]
    assert await followed.incidents_at(0.19) == 1


async def test_a_rule_of_one_device_spares_no_other_and_goes_with_its_document(followed: Followed) -> None:
    deaf = level(0.9, device="s1")
    await followed.edit(deaf)
    await followed.edit({**deaf, "id": "smoke-rise"})
    assert await followed.incidents_at(0.3) == 0
    await followed.store.remove("smoke-level@device:s1", "lan")
    await until(lambda: "smoke-level@device:s1" not in followed.ruled.in_use, 1.0)
    await until(lambda: followed.engine.rules == followed.ruled.rules, 1.0)
    assert await followed.incidents_at(0.3, 1) == 1

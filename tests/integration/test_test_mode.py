"""Test mode in the fire lane: a marked alarm is proof and goes to nobody; an unmarked one is a fire, whatever is tested."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app.testing import TestsBack, end_overdue
from iotcore.clock import ManualClock
from iotcore.journal.journal import Journal
from iotcore.process.follow import Follower
from iotcore.registry.city import DeviceEntry
from iotcore.registry.commissioning import MINUTE_MS, Commissioning, LastTest
from iotcore.registry.store import Registry, open_registry
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from tests.support.console import CITY
from tests.support.listed import ListBroker
from tests.support.shipped import SPECS
from tests.support.until import until

RULES = rules.load(rules.default_path())
PANEL = DeviceEntry(
    id="panel-1",
    title="Đầu báo lửa",
    model="generic-flame-detector",
    parent="modbus-1",
    premises="p1",
    zone="p1-z1",
    connection="tcp://10.0.0.7:502?device_id=1",
)
CALM = {"smoke": 0.0, "temperature": 25.0, "alarm": False}
SMOKE = {"smoke": 1.0, "temperature": 25.0, "alarm": True}


class Site:
    """A registry, the fire lane that follows it, and what carries its test alarms back."""

    def __init__(self, folder: Path, registry: Registry, clock: ManualClock) -> None:
        self.folder, self.registry, self.clock = folder, registry, clock
        self.made = Commissioning(registry.database)
        self.follower = Follower(registry, SPECS)
        self.seq = 0
        self.carrying: asyncio.Task[None] | None = None
        self.restart()

    def restart(self) -> None:
        self.opened: list[str] = []
        self.journal = Journal(self.folder / "journal.db", self.clock, ["arc"])
        self.back = TestsBack(self.journal, self.made, self.clock)
        self.lane = FireLane(
            broker=ListBroker(),
            decode=decode,
            directory=lambda: self.follower.directory,
            engine=Engine(RULES),
            journal=self.journal,
            clock=self.clock,
            opened=lambda committed: self.opened.extend(committed.opened),
            first_seen=self._first_seen,
            tested=self.back.tell,
        )
        self.lane.warm()

    async def _first_seen(self, device: str) -> None:
        await self.registry.activate(device, "ingest")

    async def say(self, device: str, values: dict[str, Any], *, publisher: str = "", **extra: Any) -> None:
        await self.follower.refresh()
        self.clock.advance(1.0)
        self.seq += 1
        body = {"v": 1, "boot": "b1", "seq": self.seq, "ts": int(self.clock.wall_ms()) - 3, "values": values, **extra}
        topic = topics.up("fire", publisher or device, "reading", device)
        await self.lane.turn([Arrival(topic, json.dumps(body).encode(), retained=False, received_ms=self.clock.wall_ms())])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.journal.connection.execute(query).fetchall()

    async def carried(self) -> None:
        """Until every marked test alarm is back at the registry."""
        task = asyncio.create_task(self.back.run())
        self.back.tell()
        try:
            await until(lambda: not self.rows("SELECT id FROM test_alarm WHERE back_ms IS NULL AND proves"))
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = ManualClock()
    async with await open_registry(f"sqlite://{tmp_path / 'registry.db'}", clock) as registry:
        await registry.import_city(CITY, SPECS, "tester")
        await registry.add_device(PANEL, SPECS, "tester")
        await registry.set_state("d1", "provisioned", "tester")
        await registry.set_state("d1", "active", "tester")
        site = Site(tmp_path, registry, clock)
        yield site
        site.journal.close()


async def test_a_marked_alarm_is_timed_goes_to_nobody_and_comes_back_as_the_devices_last_test(site: Site) -> None:
    begun = await site.made.start_test("d1", 10 * MINUTE_MS, "lan")
    await site.say("d1", SMOKE, test=True)
    await site.carried()
    assert site.opened == []
    assert site.rows("SELECT id FROM incident") == site.rows("SELECT id FROM outbox") == []
    assert {state for (state,) in site.rows("SELECT state FROM alarm")} == {"test"}
    rows = site.rows("SELECT device, by, mode_ms, incident, received_ms - detector_ms, durable_ms >= decided_ms FROM test_alarm")
    assert rows
    assert set(rows) == {("d1", "lan", float(begun.started_ms), None, 3.0, 1)}
    received_ms = int(site.clock.wall_ms())
    last = (await site.made.last_tests())["d1"]
    assert (last.at_ms, last.by) == (received_ms, "lan")
    assert 3.0 <= last.latency_ms < 1_000.0
    detail = json.loads([one.deed.detail for one in await site.registry.audit_entries() if one.deed.action == "device.test"][-1])
    assert {"detector", "received", "decided", "durable", "latency_ms"} <= detail.keys()


async def test_an_alarm_without_the_mark_is_a_fire_though_its_device_is_under_test(site: Site) -> None:
    await site.made.start_test("d1", 10 * MINUTE_MS, "lan")
    await site.say("d1", SMOKE)
    await site.carried()
    assert len(site.opened) == 1
    assert [channel for (channel,) in site.rows("SELECT channel FROM outbox")] == ["arc"]
    assert {incident for (incident,) in site.rows("SELECT incident FROM test_alarm")} == set(site.opened)
    assert await site.made.last_tests() == {}, "a fire is no proof of a test"


async def test_a_device_that_cannot_mark_its_tests_is_proved_by_the_alarm_that_went_out(site: Site) -> None:
    await site.made.start_test("panel-1", 10 * MINUTE_MS, "lan")
    await site.say("panel-1", {"alarm": True}, publisher="modbus-1")
    await site.carried()
    assert len(site.opened) == 1
    assert (await site.made.last_tests()).keys() == {"panel-1"}
    details = [json.loads(one.deed.detail) for one in await site.registry.audit_entries() if one.deed.action == "device.test"]
    assert [detail["incident"] for detail in details] == site.opened


async def test_the_mark_hides_no_fire_of_the_same_device(site: Site) -> None:
    await site.made.start_test("d1", 10 * MINUTE_MS, "lan")
    await site.say("d1", SMOKE, test=True)
    await site.say("d1", SMOKE)
    assert len(site.opened) == 1


async def test_outside_of_a_test_mode_all_is_as_it_was(site: Site) -> None:
    await site.say("d1", SMOKE, test=True)
    begun = await site.made.start_test("d1", MINUTE_MS, "lan")
    await site.say("d2", SMOKE, test=True)  # another device
    site.clock.advance((begun.until_ms - site.clock.wall_ms()) / 1000.0)
    await site.say("d1", SMOKE, test=True)  # its time is up, though nobody has written that down
    await site.say("d1", SMOKE)
    assert site.rows("SELECT * FROM test_alarm") == []
    assert len(site.opened) == 1
    assert len(site.rows("SELECT id FROM alarm WHERE state = 'test'")) >= 3


async def test_a_late_alarm_proves_nothing_of_the_road(site: Site) -> None:
    await site.made.start_test("d1", MINUTE_MS, "lan")
    await site.say("d1", SMOKE, test=True, backlog=True, age_ms=2_000)
    assert site.rows("SELECT * FROM test_alarm") == []


async def test_a_test_mode_goes_on_over_a_restart_and_so_does_what_was_on_the_road(site: Site) -> None:
    await site.made.start_test("d1", 10 * MINUTE_MS, "lan")
    await site.say("d1", SMOKE, test=True)
    site.journal.connection.execute("UPDATE test_alarm SET durable_ms = NULL")  # killed between the commit and the note
    site.journal.close()
    site.follower = Follower(site.registry, SPECS)
    site.restart()
    await site.carried()
    first = (await site.made.last_tests())["d1"]
    await site.say("d1", {"smoke": 0.0, "temperature": 25.0, "alarm": False}, test=True)
    await site.say("d1", SMOKE, test=True)
    await site.carried()
    second = (await site.made.last_tests())["d1"]
    assert isinstance(first, LastTest)
    assert second.at_ms > first.at_ms


async def test_a_registry_that_fails_for_a_while_loses_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotcore.app.testing.RETRY_S", 0.01)
    await site.made.start_test("d1", 10 * MINUTE_MS, "lan")
    await site.say("d1", SMOKE, test=True)
    await until(lambda: not site.rows("SELECT id FROM test_alarm WHERE durable_ms IS NULL"))
    with closing(sqlite3.connect(site.folder / "registry.db", isolation_level=None, check_same_thread=False)) as connection:
        await asyncio.to_thread(connection.execute, "ALTER TABLE device_test RENAME TO gone")
        task = asyncio.create_task(site.back.run())
        try:
            await asyncio.sleep(0.1)
            assert not task.done()
            assert site.rows("SELECT count(*) FROM test_alarm WHERE back_ms IS NOT NULL") == [(0,)]
            await asyncio.to_thread(connection.execute, "ALTER TABLE gone RENAME TO device_test")
            await until(lambda: not site.rows("SELECT id FROM test_alarm WHERE back_ms IS NULL"))
        finally:
            task.cancel()
            await asyncio.wait({task})
    assert (await site.made.last_tests()).keys() == {"d1"}


async def test_the_keeper_writes_down_what_ended_by_itself(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotcore.app.testing.LOOK_S", 0.01)
    await site.made.start_test("d1", MINUTE_MS, "lan")
    site.clock.advance(60.0)
    task = asyncio.create_task(end_overdue(site.made))
    try:
        async with asyncio.timeout(5.0):
            while (await site.registry.directory(SPECS)).in_test:  # noqa: ASYNC110 - the database's doing
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.wait({task})
    last = (await site.registry.audit_entries())[-1].deed
    assert (last.by, last.action, last.subject) == ("clock", "test_mode.end", "d1")


async def test_a_button_that_sticks_is_not_one_audit_entry_a_press(site: Site) -> None:
    await site.made.start_test("d1", 10 * MINUTE_MS, "lan")
    for _ in range(20):
        await site.say("d1", SMOKE, test=True)
        await site.say("d1", CALM, test=True)
    await until(lambda: not site.rows("SELECT id FROM test_alarm WHERE durable_ms IS NULL"))
    presses = site.rows("SELECT count(DISTINCT received_ms) FROM test_alarm")[0][0]
    await site.carried()
    assert presses >= 20
    assert [one.deed.action for one in await site.registry.audit_entries()].count("device.test") == 1
    assert (await site.made.last_tests())["d1"].at_ms == int(site.rows("SELECT max(received_ms) FROM test_alarm")[0][0])


async def test_the_journal_keeps_the_newest_test_alarms_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotcore.journal.tests.KEPT", 2)
    await site.made.start_test("d1", 10 * MINUTE_MS, "lan")
    for _ in range(5):
        await site.say("d1", SMOKE, test=True)
        await site.say("d1", CALM, test=True)
    site.clock.advance(120.0)
    await site.say("d1", CALM)
    assert len(site.rows("SELECT id FROM test_alarm")) == 2

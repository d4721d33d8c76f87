"""Vendors' devices in the real lanes: a smoke detector raises one incident, an air station is stored once, without receipts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt.decode import Decoder
from drivers.mqtt.vendor import Vendors
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.clock import ManualClock
from iotcore.journal.journal import Journal
from iotcore.journal.progress import Progress
from iotcore.journal.recent import RecentReadings
from iotcore.registry.directory import Directory, Premises, Zone
from iotcore.settings import Settings
from iotcore.wire.arrival import Arrival
from tests.support.telemetry_bench import Bench as TelemetryBench
from tests.support.telemetry_bench import until
from tests.support.vendors import DIRECTORY, binding

RULES = rules.load(rules.default_path())
TOPIC = "zigbee2mqtt/Bếp"
PREMISES = Premises("p1", "Chợ Vườn Hoa", "Đường Lê Hoàn, Thanh Hóa", 19.807, 105.776, "1001")
SMOKE = replace(binding("smoke-1", "aqara-smoke-zigbee2mqtt", "z2m", name="Bếp"), premises="p1", zone="p1-z1")
QUIET = {"smoke": False, "test": False, "battery": 100}
FIRE = {"smoke": True, "test": False, "battery": 100}


class Table:
    """A fire lane on a table; stands where the connection to the broker stands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.acknowledged = 0
        self.published: list[str] = []
        self.opened: list[str] = []
        zone = Zone("p1-z1", "p1", 1, "1", "Bếp")
        self.directory = Directory({**DIRECTORY.devices, "smoke-1": SMOKE}, {"p1": PREMISES}, {"p1-z1": zone})
        self.restart("@b1")

    def working(self) -> None:
        """Nobody watches this lane."""

    def restart(self, boot: str) -> None:
        """The process died; a new one opens the same file, with a boot of its own."""
        self.journal = Journal(self.folder / "journal.db", self.clock, ["arc"])
        self.engine = Engine(RULES)
        self.lane = FireLane(
            broker=self,
            decode=Decoder(Vendors(("fire",), boot)),
            directory=lambda: self.directory,
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            opened=lambda committed: self.opened.extend(committed.opened),
            first_seen=self._first_seen,
        )
        self.lane.warm()

    async def _first_seen(self, device: str) -> None:
        raise AssertionError(device)

    async def take(self, limit: int) -> list[Arrival]:  # noqa: ARG002 - the lane is driven by `turn`
        return await asyncio.Future()

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        self.acknowledged += len(arrivals)

    async def publish(self, topic: str, payload: bytes) -> None:  # noqa: ARG002
        self.published.append(topic)

    async def say(self, payload: dict[str, Any], *, retained: bool = False) -> None:
        self.clock.advance(1.0)
        await self.lane.turn([Arrival(TOPIC, json.dumps(payload).encode(), retained, self.clock.wall_ms())])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.journal.connection.execute(query).fetchall()

    def reset(self) -> None:
        """A person closes the open episode."""
        ((incident,),) = self.rows("SELECT id FROM incident WHERE state = 'open'")
        assert self.journal.reset(incident, ["smoke-1"], "a person", self.clock.wall_ms())
        self.engine.reset(["smoke-1"])


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    made.journal.close()


async def test_a_vendor_s_smoke_detector_raises_an_incident_with_its_address(table: Table) -> None:
    await table.say(QUIET)
    assert table.opened == []
    await table.say(FIRE)
    ((notice,),) = table.rows("SELECT notice FROM incident")
    assert (json.loads(notice)["address"], json.loads(notice)["device"]) == (PREMISES.address, "smoke-1")
    assert table.acknowledged == 2


async def test_a_fire_that_the_broker_delivers_twice_is_one_incident_also_over_a_restart(table: Table) -> None:
    await table.say(FIRE)
    await table.say(FIRE)
    table.journal.close()
    table.restart("@b2")
    await table.say(FIRE)
    assert len(table.rows("SELECT id FROM incident")) == 1
    assert len(table.opened) == 1
    assert len(table.rows("SELECT seq FROM reading")) == 3  # at least once: each delivery is a reading


async def test_the_next_fire_after_a_reset_is_a_new_incident_whatever_the_detector_s_clock(table: Table) -> None:
    await table.say(FIRE)
    table.reset()
    await table.say(QUIET)
    await table.say(FIRE)
    table.reset()
    table.journal.close()
    table.restart("@b2")
    await table.say(FIRE)
    assert len(table.rows("SELECT id FROM incident")) == 3


async def test_a_self_test_is_no_fire(table: Table) -> None:
    await table.say({**FIRE, "test": True})
    assert table.opened == []
    assert table.rows("SELECT state FROM alarm") == [("test",)]


async def test_a_retained_message_is_history_unless_it_is_a_fire_which_is_told_once_and_unconfirmed(table: Table) -> None:
    await table.say(QUIET, retained=True)
    assert table.rows("SELECT reason, count FROM quarantine_count") == [("retained", 1)]
    assert table.rows("SELECT * FROM reading") == []
    await table.say(FIRE, retained=True)
    ((notice,),) = table.rows("SELECT notice FROM incident")
    assert json.loads(notice)["unconfirmed"]
    table.reset()
    table.journal.close()
    table.restart("@b2")
    await table.say(FIRE, retained=True)  # the same one, for a new subscription
    assert len(table.rows("SELECT id FROM incident")) == 1


async def test_a_suspended_detector_is_refused_at_the_next_message(table: Table) -> None:
    await table.say(QUIET)
    table.directory = Directory(
        {**table.directory.devices, "smoke-1": replace(SMOKE, state="suspended")}, table.directory.premises
    )
    await table.say(FIRE)
    assert table.opened == []
    assert table.rows("SELECT reason, device FROM quarantine") == [("not_accepted:suspended", "smoke-1")]


async def test_no_receipt_is_sent_to_a_vendor_s_device(table: Table) -> None:
    sending = asyncio.create_task(table.lane.receipts.run())
    await table.say(QUIET)
    for _ in range(3):
        await asyncio.sleep(0)
    sending.cancel()
    assert table.published == []
    assert Progress(table.journal.progress()).track("smoke-1", "@b1").up_to == 1


@pytest.fixture
def bench(tmp_path: Path) -> TelemetryBench:
    made = TelemetryBench(tmp_path, Settings(data=str(tmp_path)))
    made.decode = Decoder()
    smoke = binding("s2", "acme-smoke", "tb-1", name="Smoke")
    made.directory = Directory({**DIRECTORY.devices, "smoke-1": SMOKE, "s2": smoke})
    return made


def told(pm25: float, at: float | None = None) -> bytes:
    return json.dumps({"sensors": [{"name": "pm25", "value": str(pm25)}], "at": at}).encode()


async def test_a_vendor_s_reading_is_stored_once_and_not_receipted_also_over_a_restart(bench: TelemetryBench) -> None:
    at = int(bench.clock.wall_ms())
    for stored in (1, 0):  # a second process gets the same message again
        async with bench.running() as lane:
            bench.put("acme/st-1/measures", told(12.5, at))
            await until(lambda counts=lane.counts: counts()["stored"] + counts()["duplicates"] == 1)  # type: ignore[misc]
            assert lane.counts()["stored"] == stored
            await until(bench.drained)
    with bench.reader() as reader:
        assert [one.value for one in reader.samples("st-1", "pm25", 0.0, 1e14)] == [12.5]
    assert bench.field.receipts == []


async def test_a_gateway_s_message_of_many_devices_is_stored_device_by_device(bench: TelemetryBench) -> None:
    async with bench.running() as lane:
        payload = {"Device A": {"temperature": 21}, "Smoke": {"smoke": True}, "Device B": {"temperature": 22}}
        bench.put("v1/gateway/telemetry", json.dumps(payload).encode())
        await until(lambda: lane.counts()["stored"] == 2)
        await until(bench.drained)
    assert bench.rows("SELECT reason, device FROM quarantine") == [("wrong_broker", "s2")]


async def test_what_the_fire_lane_has_of_a_vendor_s_device_is_not_stored_a_second_time(
    bench: TelemetryBench, tmp_path: Path
) -> None:
    fire = Table(tmp_path)
    await fire.say(QUIET)
    fire.journal.close()
    bench.fire_journal = RecentReadings(tmp_path / "journal.db", bench.clock)
    async with bench.running() as lane:
        bench.fire.queue.put_nowait(Arrival(TOPIC, json.dumps(QUIET).encode(), retained=False, received_ms=bench.clock.wall_ms()))
        await until(lambda: lane.counts()["stored"] == 1)
        assert not lane._missed("smoke-1", "@b1", 1)
        assert lane._missed("smoke-1", "b1", 1)

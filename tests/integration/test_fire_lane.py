"""The fire lane with the real rules, journal and decoder; the broker is a list of arrivals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.alarms.lane_notice import LATE_DISPATCH_MS
from iotcore.clock import ManualClock
from iotcore.journal.journal import Journal
from iotcore.registry.directory import Binding, Directory, Premises, Zone
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from tests.support.listed import ListBroker
from tests.support.shipped import SPECS
from tests.support.until import until

RULES = rules.load(rules.default_path())


def directory() -> Directory:
    smoke, call_point, gateway = SPECS["iotcore-smoke-heat"], SPECS["iotcore-call-point"], SPECS["iotcore-modbus-gateway"]
    devices = {
        name: Binding(name, name, spec, domain, publisher, state, "p1", "p1-z1")
        for name, spec, domain, publisher, state in (
            ("sd-1", smoke, "fire", "sd-1", "provisioned"),
            ("sd-2", smoke, "fire", "gw-1", "active"),
            ("cp-1", call_point, "fire", "cp-1", "active"),
            ("sd-9", smoke, "fire", "sd-9", "suspended"),
            ("sd-5", smoke, "fire", "sd-5", "registered"),
            ("gw-1", gateway, "gateway", "gw-1", "active"),
        )
    }
    premises = Premises("p1", "Chợ Vườn Hoa", "Đường Lê Hoàn, Thanh Hóa", 19.807, 105.776, "1001")
    return Directory(devices, {"p1": premises}, {"p1-z1": Zone("p1-z1", "p1", 1, "Tầng 1", "Gian hàng")})


class Bench:
    """A lane on a table: push readings in, look at the journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.broker = ListBroker()
        self.opened: list[str] = []
        self.activated: list[str] = []
        self.seq: dict[str, int] = {}
        self.restart()

    def restart(self) -> None:
        """The process died; a new one opens the same file."""
        self.journal = Journal(self.folder / "journal.db", self.clock, ["arc"])
        self.engine = Engine(RULES)
        self.lane = FireLane(
            broker=self.broker,
            decode=decode,
            directory=directory,
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            opened=lambda committed: self.opened.extend(committed.opened),
            first_seen=self._first_seen,
        )
        self.lane.warm()

    async def _first_seen(self, device: str) -> None:
        self.activated.append(device)

    async def say(
        self, device: str, values: dict[str, Any], *, retained: bool = False, kind: str = "reading", **extra: Any
    ) -> Arrival:
        """One message of a device, one second after the last."""
        self.clock.advance(1.0)
        self.seq[device] = self.seq.get(device, 0) + 1
        body = {"v": 1, "boot": "b1", "seq": self.seq[device], "ts": int(self.clock.wall_ms()), "values": values, **extra}
        publisher = directory().devices[device].publisher if device in directory().devices else device
        arrival = Arrival(topics.up("fire", publisher, kind, device), json.dumps(body).encode(), retained, self.clock.wall_ms())
        await self.lane.turn([arrival])
        return arrival

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.journal.connection.execute(query).fetchall()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.journal.close()


async def test_a_call_point_opens_one_incident_with_address_floor_and_zone(bench: Bench) -> None:
    await bench.say("cp-1", {"pressed": True}, kind="event")
    ((notice,),) = bench.rows("SELECT notice FROM incident")
    said = json.loads(notice)
    assert (said["address"], said["floor"], said["zone_name"]) == ("Đường Lê Hoàn, Thanh Hóa", "Tầng 1", "Gian hàng")
    assert said["hazard"] == "manual"
    assert len(bench.opened) == 1


async def test_a_fire_just_after_enrolment_is_not_refused_while_the_directory_is_a_poll_behind(bench: Bench) -> None:
    await bench.say("sd-5", {"alarm": True}, kind="event")
    assert len(bench.opened) == 1
    assert bench.rows("SELECT reason FROM quarantine") == []


async def test_a_message_is_acknowledged_only_when_its_reading_is_in_the_journal(bench: Bench) -> None:
    arrival = await bench.say("sd-1", {"smoke": 0.0, "temperature": 24.0})
    assert bench.broker.acknowledged == [arrival]
    assert bench.rows("SELECT device, seq FROM reading") == [("sd-1", 1)]


async def test_a_disk_that_refuses_delays_the_acknowledgement_and_loses_nothing(bench: Bench) -> None:
    pages = bench.rows("PRAGMA page_count")[0][0]
    bench.journal.connection.execute(f"PRAGMA max_page_count = {pages}")
    bench.journal.connection.execute("CREATE TEMP TABLE IF NOT EXISTS t (x)")
    big = {"smoke": 0.0, "temperature": 24.0}
    waiting = [asyncio.create_task(bench.say("sd-1", big)) for _ in range(1)]
    for _ in range(400):
        arrival = Arrival("nonsense", b"x" * 4000, retained=False, received_ms=0.0)
        waiting.append(asyncio.create_task(bench.lane.turn([arrival])))  # type: ignore[arg-type]
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert "journal_stalled" in bench.lane.state()
    ((kept,),) = bench.rows("SELECT (SELECT count(*) FROM reading) + coalesce(sum(count), 0) FROM quarantine_count")
    assert len(bench.broker.acknowledged) == kept < 400, "of what is in the journal, and of nothing else"
    bench.journal.connection.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    await until(lambda: "journal_stalled" not in bench.lane.state(), 10.0)
    assert bench.rows("SELECT count FROM quarantine_count WHERE reason = 'topic'") == [(400,)]
    assert len(bench.broker.acknowledged) == 401


async def test_the_same_message_twice_counts_once_and_is_receipted_again(bench: Bench) -> None:
    arrival = await bench.say("cp-1", {"pressed": True}, kind="event")
    receipts = asyncio.create_task(bench.lane.receipts.run())
    await asyncio.sleep(0)
    await bench.lane.turn([arrival])
    for _ in range(3):
        await asyncio.sleep(0)
    receipts.cancel()
    assert len(bench.opened) == 1
    assert [(topic, said["up_to"]) for topic, said in bench.broker.published] == [
        ("iot/v1/fire/cp-1/down/receipt/cp-1", 1),
        ("iot/v1/fire/cp-1/down/receipt/cp-1", 1),
    ]


async def test_a_restart_in_the_middle_neither_repeats_nor_forgets(bench: Bench) -> None:
    arrival = await bench.say("cp-1", {"pressed": True}, kind="event")
    bench.journal.close()
    bench.restart()
    await bench.lane.turn([arrival])
    await bench.say("cp-1", {"pressed": True}, kind="event")
    assert len(bench.rows("SELECT id FROM incident")) == 1


async def test_an_old_backlog_fire_is_a_record_and_a_young_one_is_dispatched_as_delayed(bench: Bench) -> None:
    await bench.say("cp-1", {"pressed": True}, kind="event", backlog=True, age_ms=LATE_DISPATCH_MS + 1)
    assert bench.opened == []
    assert bench.rows("SELECT state FROM alarm") == [("historical",)]
    await bench.say("sd-1", {"alarm": True}, backlog=True, age_ms=60_000)
    assert len(bench.opened) == 1
    assert json.loads(bench.rows("SELECT notice FROM incident")[0][0])["delayed"] is True


async def test_an_unmarked_reading_is_live_whatever_its_clock_says(bench: Bench) -> None:
    await bench.say("cp-1", {"pressed": True}, kind="event", ts=1000)
    assert len(bench.opened) == 1
    assert bench.rows("SELECT device, reason FROM fault WHERE cleared_ms IS NULL") == [("cp-1", "clock_past")]


async def test_a_test_press_is_recorded_and_never_dispatched(bench: Bench) -> None:
    await bench.say("cp-1", {"pressed": True}, kind="event", test=True)
    assert bench.opened == []
    assert bench.rows("SELECT state FROM alarm") == [("test",)]


async def test_every_press_of_a_test_button_is_seen(bench: Bench) -> None:
    for pressed in (True, False, True):
        await bench.say("cp-1", {"pressed": pressed}, kind="event", test=True)
    assert bench.rows("SELECT state FROM alarm") == [("test",), ("test",)]


async def test_a_retained_reading_is_refused_unless_it_is_a_fire_nobody_knows(bench: Bench) -> None:
    await bench.say("sd-1", {"smoke": 0.0}, retained=True)
    assert bench.rows("SELECT reason FROM quarantine") == [("retained",)]
    await bench.say("cp-1", {"pressed": True}, kind="event", retained=True)
    assert json.loads(bench.rows("SELECT notice FROM incident")[0][0])["unconfirmed"] is True


async def test_bad_input_of_every_kind_is_quarantined_and_the_lane_goes_on(bench: Bench) -> None:
    bad = [
        ("iot/v1/fire/sd-1/up/reading/sd-1", b"{not json"),
        ("iot/v1/fire/sd-1/up/reading/sd-1", b'{"v":1,"boot":"b1"}'),
        ("iot/v1/air/sd-1/up/reading/sd-1", b'{"v":1,"boot":"b1","seq":1,"values":{}}'),
        ("iot/v1/fire/stranger/up/reading/stranger", b'{"v":1,"boot":"b1","seq":1,"values":{}}'),
        ("iot/v1/fire/sd-1/up/reading/sd-2", b'{"v":1,"boot":"b1","seq":1,"values":{}}'),
        ("iot/v1/fire/sd-9/up/reading/sd-9", b'{"v":1,"boot":"b1","seq":1,"values":{}}'),
        ("iot/v1/fire/sd-1/up/reading/sd-1", b"[" + b" " * 1_000_000 + b"]"),
        ("rubbish", b""),
    ]
    await bench.lane.turn([Arrival(topic, payload, retained=False, received_ms=1.0) for topic, payload in bad])
    await bench.say("cp-1", {"pressed": True}, kind="event")
    counts = dict(bench.rows("SELECT reason, count FROM quarantine_count"))
    assert sum(counts.values()) == len(bad)
    assert {"not_json", "schema", "wrong_domain", "unknown_device", "wrong_publisher", "oversized", "topic"} <= set(counts)
    assert len(bench.opened) == 1
    assert len(bench.broker.acknowledged) == len(bad) + 1


async def test_what_does_not_belong_on_the_fire_broker_is_refused_and_shown(bench: Bench) -> None:
    for domain, device, publisher in (("gateway", "gw-1", "gw-1"), ("air", "sd-1", "sd-1")):
        body = b'{"boot":"b1","seq":1,"values":{}}'
        topic = topics.up(domain, publisher, "reading", device)
        await bench.lane.turn([Arrival(topic, body, retained=False, received_ms=bench.clock.wall_ms())])
    assert bench.rows("SELECT reason FROM quarantine_count ORDER BY reason") == [("wrong_broker",), ("wrong_domain",)]
    assert bench.rows("SELECT device, reason FROM fault ORDER BY device") == [
        ("gw-1", "refused:wrong_broker"),
        ("sd-1", "refused:wrong_domain"),
    ]
    assert bench.rows("SELECT count(*) FROM reading") == [(0,)]


async def test_nan_is_a_visible_fault_of_one_value_and_its_neighbours_count(bench: Bench) -> None:
    body = b'{"v":1,"boot":"b1","seq":1,"values":{"smoke":NaN,"alarm":true}}'
    await bench.lane.turn([Arrival("iot/v1/fire/sd-1/up/reading/sd-1", body, retained=False, received_ms=1.0)])
    assert bench.rows("SELECT device, reason FROM fault") == [("sd-1", "bad:smoke:not_finite")]
    assert len(bench.opened) == 1


async def test_a_gateways_will_is_the_trouble_of_its_fire_children(bench: Bench) -> None:
    will = Arrival("iot/v1/gateway/gw-1/up/status/gw-1", b'{"v":1,"state":"offline"}', retained=False, received_ms=1.0)
    await bench.lane.turn([will])
    assert set(bench.rows("SELECT device, reason FROM fault WHERE cleared_ms IS NULL")) == {
        ("gw-1", "offline"),
        ("sd-2", "offline"),
    }
    await bench.say("sd-2", {"smoke": 0.0})
    assert bench.rows("SELECT device FROM fault WHERE cleared_ms IS NULL") == [("gw-1",)]


async def test_the_first_reading_makes_a_device_active(bench: Bench) -> None:
    await bench.say("sd-1", {"smoke": 0.0})
    await bench.say("sd-1", {"smoke": 0.0})
    await asyncio.sleep(0)
    assert bench.activated == ["sd-1"]

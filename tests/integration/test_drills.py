"""A drill goes the whole road, is a test wherever it comes, and never stands in the way of a fire or in the place of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY

from drivers.mqtt.ingest import Ingest
from iotcore.app.drill_speaker import DrillSpeaker, waits
from iotcore.app.lesser_notices import of_work
from iotcore.clock import SystemClock
from iotcore.journal.told import Work
from iotcore.keeper import overdue_notices
from iotcore.process import home
from iotcore.provision.acl import DRILLS, UP, BrokerName
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Endpoint
from simulators.arc_receiver import Fault
from tests.support import brokers
from tests.support.drill_site import Site, drill_site
from tests.support.pki import service_files, trust_file
from tests.support.ports import free_port
from tests.support.until import until

SMOKE = {"smoke": 1.0, "alarm": True}
CALM = {"smoke": 0.0, "alarm": False}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with drill_site(tmp_path) as site:
        yield site


def changed(arrival: Arrival, **fields: object) -> Arrival:
    """What a keeper says, with something in it that it may not say."""
    body = [{**one, **fields} for one in json.loads(arrival.payload)]
    return msgspec.structs.replace(arrival, payload=json.dumps(body).encode())


async def test_a_drill_reaches_the_centre_by_both_paths_as_a_fire_test_and_is_no_incident(site: Site) -> None:
    id_ = await site.ask()
    await site.hear()
    done = await site.ended(id_)
    assert (done.state, done.reason, done.asked_by, done.source) == ("passed", "", "lan", "simulated")
    assert [(one.path, one.state) for one in done.deliveries] == [("arc", "acknowledged"), ("arc-2", "acknowledged")]
    for arc in (site.arc, site.second):
        assert [(one.code, one.account) for one in arc.received] == [("FX", "A001")]
        assert arc.received[0].text.startswith(f"{id_} TEST ")
    assert done.detector_ms is not None
    assert done.latency_ms is not None
    assert site.rows("SELECT id FROM incident") == site.rows("SELECT id FROM outbox") == site.rows("SELECT id FROM alarm") == []


async def test_a_drill_leaves_no_trace_in_the_stream_of_the_device_that_it_speaks_for(site: Site) -> None:
    id_ = await site.ask()
    await site.hear()
    assert (await site.ended(id_)).state == "passed"
    for table in ("reading", "progress", "cause", "heard", "conduct", "test_alarm"):
        assert site.rows(f"SELECT * FROM {table} WHERE device = 'd1'") == [], table
    await site.follower.refresh()
    assert site.follower.directory.devices["d1"].tested_ms is None
    await site.hear(site.arrival("d1", CALM))
    await site.hear(site.arrival("d1", SMOKE))
    assert len(site.rows("SELECT id FROM incident")) == 1


async def test_the_devices_own_test_press_is_heard_before_and_after_a_drill_and_does_not_hide_one(site: Site) -> None:
    await site.hear(site.arrival("d1", SMOKE, test=True))
    id_ = await site.ask()
    await site.hear()
    assert (await site.ended(id_)).state == "passed"
    await site.hear(site.arrival("d1", CALM, test=True), site.arrival("d1", SMOKE, test=True))
    assert site.rows("SELECT state FROM alarm WHERE rule = 'detector-alarm'") == [("test",), ("test",)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"test": False}, "drill:unmarked"), ({"backlog": True}, "drill:unmarked"), ({"boot": "!"}, "drill:schema")],
)
async def test_what_is_not_marked_as_a_test_is_refused_and_a_security_event(
    site: Site, fields: dict[str, object], reason: str
) -> None:
    site.run(site.drilling.run())
    id_ = await site.ask()
    (spoken,) = site.spoken()
    await site.lane.turn([changed(spoken, **fields)])
    assert site.rows("SELECT reason, culprit FROM quarantine") == [(reason, home.DRILL_OUT)]
    assert site.drill(id_).received_ms is None
    assert site.rows("SELECT id FROM incident") == site.rows("SELECT id FROM alarm") == []
    assert site.journal.standing_faults() == []  # the device is not at fault
    noted: list[str] = []
    async with asyncio.timeout(5.0):
        while not noted:
            await asyncio.sleep(0.01)
            noted = [one.deed.subject for one in await site.registry.audit_entries() if one.deed.action == "drill.refused"]
    assert noted == [home.DRILL_OUT]


@pytest.mark.parametrize(
    "topic", ["iotcore/v1/drill/d1/d1", "iotcore/v1/drill/svc.fire.1.in/d1", "iotcore/v1/drill/svc.drill.1.out"]
)
async def test_nobody_else_speaks_for_a_device(site: Site, topic: str) -> None:
    id_ = await site.ask()
    (spoken,) = site.spoken()
    await site.lane.turn([msgspec.structs.replace(spoken, topic=topic)])
    assert site.rows("SELECT reason FROM quarantine") == [("drill:topic",)]
    assert site.drill(id_).received_ms is None


async def test_a_drill_and_a_fire_at_once_make_the_fire_alone_and_the_drill_is_put_off(site: Site) -> None:
    id_ = await site.ask()
    await site.hear(site.arrival("d1", SMOKE))
    assert site.drill(id_).received_ms is None  # the fire waits for nothing; a drill is said again
    ((incident,),) = site.rows("SELECT id FROM incident")
    await site.hear()
    done = await site.ended(id_)
    assert (done.state, done.reason, done.deliveries) == ("put_off", f"burning: {incident}", ())
    await until(lambda: len(site.arc.received) == 1)
    assert [(one.code, one.incident) for one in site.arc.received] == [("FA", incident)]
    assert site.rows("SELECT hold, notice LIKE '%test%' FROM incident") == [(None, 0)]
    again = await site.ask()
    assert (site.drill(again).state, site.drill(again).reason) == ("put_off", f"burning: {incident}")


async def test_a_fire_elsewhere_goes_out_while_a_drill_waits_for_a_receiver_that_says_nothing(site: Site) -> None:
    site.arc.faults.append(Fault.SILENCE)
    id_ = await site.ask()
    await site.hear()
    await until(lambda: len(site.arc.frames) == 1)
    await site.hear(site.arrival("d2", SMOKE))
    await until(lambda: [one.code for one in site.arc.received] == ["FX", "FA"])
    assert site.drill(id_).state == "waiting"


async def test_a_path_that_refuses_fails_the_drill_and_the_other_one_is_proved(site: Site) -> None:
    await site.second.__aexit__()
    id_ = await site.ask()
    await site.hear()
    await until(lambda: [one.state for one in site.drill(id_).deliveries] == ["acknowledged", "waiting"])
    await until(lambda: site.drill(id_).deliveries[1].reason != "")
    site.clock.advance(100.0)
    site.drilling.courier.wake()
    done = await site.ended(id_)
    assert done.state == "failed"
    assert done.reason.startswith("arc by arc-2: ")
    assert len(site.arc.received) == 1


async def test_two_keepers_that_say_it_and_a_broker_that_brings_it_twice_make_one_drill(site: Site) -> None:
    id_ = await site.ask()
    spoken = site.spoken()
    await site.lane.turn(spoken + spoken)
    await site.lane.turn(spoken)
    assert (await site.ended(id_)).state == "passed"
    await site.lane.turn(spoken)
    assert [one.text.split()[0] for one in site.arc.received] == [id_]


async def test_a_drill_that_was_said_and_not_recorded_when_the_process_died_is_said_again_and_no_incident(site: Site) -> None:
    id_ = await site.ask()
    said = site.spoken()
    await site.stop()
    await site.start()
    assert [one.topic for one in site.spoken()] == [one.topic for one in said]  # still waits: the next keeper says it
    await site.hear()
    assert (await site.ended(id_)).state == "passed"
    assert site.rows("SELECT id FROM incident") == []


async def test_a_drill_that_was_heard_when_the_process_died_goes_on(site: Site) -> None:
    id_ = await site.ask()
    for task in site._tasks:
        task.cancel()  # nobody posts it any more
    await site.hear()
    await site.stop()
    assert site.arc.received == site.second.received == type(site.arc.received)()
    await site.start()
    done = await site.ended(id_)
    assert done.state == "passed"
    assert done.durable_ms is not None


async def test_a_real_detector_that_somebody_presses_is_the_drill_with_its_own_latency(site: Site) -> None:
    id_ = await site.ask("real")
    assert site.spoken() == []
    await site.hear(site.arrival("d2", SMOKE, test=True))
    await site.hear(site.arrival("d1", {"button": True}, test=True))
    done = await site.ended(id_)
    assert (done.state, done.source, done.device, done.point) == ("passed", "real", "d1", "button")
    assert [one.text.split()[0] for one in site.arc.received] == [id_]
    assert site.rows("SELECT id FROM incident") == []


async def test_each_point_that_can_alarm_is_tried_in_its_turn(site: Site) -> None:
    points = []
    for _ in range(5):
        id_ = await site.ask()
        await site.hear()
        assert (await site.ended(id_)).state == "passed"
        points.append(site.drill(id_).point)
    assert points == ["button", "alarm", "smoke", "temperature", "button"]


async def test_a_drill_that_is_due_begins_by_itself_and_a_missed_one_is_a_trouble_that_names_the_premises(site: Site) -> None:
    await site.drilling.look()
    site.clock.advance(9 * 3600.0 - 1.0)
    await site.drilling.look()
    assert site.rows("SELECT asked_by, state FROM drill") == [("schedule", "waiting")]
    site.clock.advance(86_400.0)
    await site.drilling.look()
    assert ("drill:p1", "drill_missed") in site.journal.standing_faults()
    assert site.rows("SELECT device, rule, severity, state FROM alarm") == [("drill:p1", "drill_missed", "trouble", "active")]
    assert REGISTRY.get_sample_value("iotcore_fire_drills_missed") == 1.0
    work = Work("arc", "drill:p1", "drill_missed", "trouble", 0.0, "raise", 1)
    notice = of_work(work, site.follower.directory, "0000")
    assert notice is not None
    assert (notice.premises, notice.account, notice.severity, notice.reason) == ("p1", "A001", "trouble", "drill_missed")


async def test_a_retained_drill_is_history(site: Site) -> None:
    await site.ask()
    (spoken,) = site.spoken()
    await site.lane.turn([msgspec.structs.replace(spoken, retained=True)])
    assert site.rows("SELECT reason FROM quarantine") == [("drill:retained",)]


async def test_the_keeper_speaks_over_mutual_tls_on_a_real_broker_where_no_device_can(tmp_path: Path) -> None:
    """The thin path: keeper, Mosquitto, ingest, lane, rules, journal, two real receivers; and a device that tries the same."""
    async with brokers.site(tmp_path / "broker", "mosquitto", (BrokerName.FIRE,)) as city:

        def endpoint(name: str) -> Endpoint:
            certificate, key = service_files(city.authority, city.folder, name)
            return Endpoint("127.0.0.1", city.homes[BrokerName.FIRE].port, city.folder / "service-root.pem", certificate, key)

        trust_file(city.authority, city.folder)
        ingest = Ingest(endpoint("svc.fire.1.in"), "svc.fire.1.in", (UP, DRILLS), SystemClock())
        async with ingest, drill_site(tmp_path, broker=ingest) as site:
            site.run(site.lane.run())
            await until(lambda: ingest.connected)
            id_ = await site.ask()
            async with city.client(BrokerName.FIRE, city.device("d1")) as thief:
                await thief.say(site.spoken()[0].topic, payload=site.spoken()[0].payload)
            assert site.drill(id_).received_ms is None
            speaker = DrillSpeaker(site.place, endpoint(home.DRILL_OUT), site.clock)
            assert await speaker.speak() == 1
            done = await site.ended(id_)
            assert (done.state, [one.state for one in done.deliveries]) == ("passed", ["acknowledged"] * 2)
            assert await speaker.speak() == 0
            assert site.rows("SELECT * FROM quarantine") == []


def test_the_topic_of_drills_is_apart_from_those_of_devices() -> None:
    assert not topics.drill(home.DRILL_OUT, "d1").startswith(topics.ROOT)


def test_a_journal_that_cannot_be_opened_has_nothing_to_say_and_ends_no_keeper(tmp_path: Path) -> None:
    assert waits(f"postgresql://nobody@127.0.0.1:{free_port()}/journal") == []
    (tmp_path / "journal.db").mkdir()  # SQLite says so when it opens it, not when it is asked
    assert waits(tmp_path / "journal.db") == []
    assert overdue_notices(tmp_path / "journal.db", SystemClock(), {}) == []

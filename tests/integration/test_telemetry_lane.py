"""The telemetry lane with the real decoder, spool, page tables and InfluxDB; the broker is a list of arrivals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.settings import Settings, Store
from iotcore.wire.arrival import Arrival
from tests.support.influx import Influxd
from tests.support.telemetry_bench import Bench, until


@pytest.fixture
def influxd(tmp_path: Path) -> Iterator[Influxd]:
    with Influxd(tmp_path) as server:
        yield server


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Settings(data=str(tmp_path)))


@pytest.fixture
def influx_bench(tmp_path: Path, influxd: Influxd) -> Bench:
    return Bench(tmp_path, Settings(data=str(tmp_path), store=Store(kind="influx1", url=influxd.url)))


async def test_a_reading_is_acknowledged_receipted_and_found_by_influxql(influx_bench: Bench, influxd: Influxd) -> None:
    async with influx_bench.running():
        arrival = influx_bench.say("a1", 1, {"pm10": 12.5, "no2": 7})
        await until(lambda: influxd.count("air_station") == 1)
        assert influx_bench.field.acknowledged == [arrival]
        await until(lambda: influx_bench.receipted("a1") == 1)
        assert influx_bench.field.receipts[0][0] == "iot/v1/air/gw/down/receipt/a1"
        await until(lambda: influx_bench.activated == ["a1"])
    (series,) = influxd.query("SELECT pm10, no2, premises FROM air_station")
    assert series["values"][0][1:] == [12.5, 7, "p1"]


async def test_a_reading_that_comes_twice_is_stored_once_and_receipted_again(bench: Bench) -> None:
    async with bench.running() as lane:
        bench.say("a1", 1, {"pm10": 1.0})
        await until(lambda: bench.receipted("a1") == 1)
        before = len(bench.field.receipts)
        bench.say("a1", 1, {"pm10": 1.0}, backlog=True, age_ms=30_000)
        await until(lambda: len(bench.field.receipts) > before)
        assert (lane.counts()["stored"], lane.counts()["duplicates"]) == (1, 1)
        await until(bench.drained)
    with bench.reader() as reader:
        assert len(reader.samples("a1", "pm10", 0.0, 1e14)) == 1


async def test_a_receipt_never_claims_what_has_not_come(bench: Bench) -> None:
    async with bench.running():
        for seq in (1, 2, 5):
            bench.say("a1", seq, {"pm10": 1.0})
        await until(lambda: len(bench.field.acknowledged) == 3)
        await until(lambda: bench.receipted("a1") == 2)
        for seq in (4, 3):
            bench.say("a1", seq, {"pm10": 1.0})
        await until(lambda: bench.receipted("a1") == 5)


async def test_every_field_domain_is_receipted_on_its_own_topic(bench: Bench) -> None:
    async with bench.running():
        said = {"a1": {"pm10": 1.0}, "w1": {"ph": 7.2}, "s1": {"plan": 1.0}, "gw": {"uptime_s": 5.0}}
        for device, values in said.items():
            bench.say(device, 1, values)
        await until(lambda: len(bench.field.receipts) == len(said))
    assert {topic for topic, _ in bench.field.receipts} == {
        "iot/v1/air/gw/down/receipt/a1",
        "iot/v1/water/gw/down/receipt/w1",
        "iot/v1/traffic/s1/down/receipt/s1",
        "iot/v1/gateway/gw/down/receipt/gw",
    }


async def test_progress_survives_a_restart(bench: Bench) -> None:
    async with bench.running():
        bench.say("a1", 1, {"pm10": 1.0})
        await until(lambda: bench.receipted("a1") == 1)
    bench.field.receipts.clear()
    async with bench.running() as lane:
        bench.say("a1", 1, {"pm10": 1.0})
        bench.say("a1", 2, {"pm10": 1.0})
        await until(lambda: bench.receipted("a1") == 2)
        assert lane.counts()["duplicates"] == 1


async def test_a_broker_that_is_gone_does_not_stop_the_lane_and_the_receipt_comes_with_the_next_message(bench: Bench) -> None:
    async with bench.running():
        bench.field.connected = False
        bench.say("a1", 1, {"pm10": 1.0})
        await until(lambda: len(bench.field.acknowledged) == 1)
        bench.field.connected = True
        bench.say("a1", 2, {"pm10": 1.0})
        await until(lambda: bench.receipted("a1") == 2)


async def test_fire_values_reach_the_store_but_the_fire_lane_answers_for_them(influx_bench: Bench, influxd: Influxd) -> None:
    async with influx_bench.running() as lane:
        influx_bench.say("f1", 1, {"smoke": 0.4, "alarm": True})
        influx_bench.send("f1", b"{")
        await until(lambda: influxd.count("fire_detector", "smoke") == 1)
        await until(lambda: lane.counts()["refused"] == 1)
        assert len(influx_bench.fire.acknowledged) == 2
    assert influx_bench.field.receipts == influx_bench.fire.receipts == []
    assert influx_bench.rows("SELECT * FROM quarantine_count") == []
    with influx_bench.reader() as reader:
        assert reader.faults(standing=False) == []
        assert {one.point: one.value for one in reader.latest("f1")} == {"smoke": 0.4, "alarm": True}


@pytest.mark.parametrize(
    ("device", "payload", "reason"),
    [
        ("a1", b"\xff\x00 not json", "not_json"),
        ("a1", b'{"boot":"b","seq":0,"values":{}}', "schema"),
        ("a1", b'{"boot":"b","seq":1,"values":{"nonsense":1}}', "unknown_point"),
        ("a1", b"[" + b" " * 1_000_000 + b"]", "oversized"),
        ("a9", b'{"boot":"b","seq":1,"values":{"pm10":1}}', "not_accepted:suspended"),
    ],
)
async def test_bad_input_is_quarantined_shown_as_a_fault_and_the_lane_goes_on(
    bench: Bench, device: str, payload: bytes, reason: str
) -> None:
    async with bench.running():
        bad = bench.send(device, payload)
        await until(lambda: bad in bench.field.acknowledged)
        with bench.reader() as reader:
            await until(lambda: [one.reason for one in reader.faults(device)] == [f"refused:{reason}"])
            good = bench.say("a2", 1, {"pm10": 1.0})
            await until(lambda: good in bench.field.acknowledged)
            if device == "a1":
                bench.say("a1", 2, {"pm10": 1.0}, boot="b2")
                await until(lambda: reader.faults("a1") == [])
                assert [one.times for one in reader.faults("a1", standing=False)] == [1]
    assert bench.rows("SELECT reason, count FROM quarantine_count") == [(reason, 1)]


async def test_messages_of_strangers_are_quarantined_but_make_no_list_of_faults(bench: Bench) -> None:
    async with bench.running() as lane:
        for topic in ("iot/v1/air/x/up/reading/x", "iot/v1/air/a1/up/reading/a1", "iot/v1/water/gw/up/reading/a1"):
            bench.field.queue.put_nowait(Arrival(topic, b"{}", False, 0.0))  # noqa: FBT003 - retained
        await until(lambda: lane.counts()["refused"] == 3)
    assert sorted(bench.rows("SELECT reason FROM quarantine_count")) == [
        ("unknown_device",),
        ("wrong_domain",),
        ("wrong_publisher",),
    ]
    with bench.reader() as reader:
        assert {one.device for one in reader.faults(standing=False)} <= {"a1"}


async def test_nan_and_a_wrong_clock_are_flagged_and_their_neighbours_are_kept(influx_bench: Bench, influxd: Influxd) -> None:
    async with influx_bench.running():
        influx_bench.send("a1", b'{"boot":"b","seq":1,"ts":4070908800000,"values":{"pm10":NaN,"no2":7,"co":1e999}}')
        await until(lambda: influxd.count("air_station") == 1)
        with influx_bench.reader() as reader:
            await until(lambda: len(reader.faults("a1")) == 3)
            assert {one.reason for one in reader.faults("a1")} == {"bad:pm10:not_finite", "bad:co:not_finite", "clock_future"}
    (series,) = influxd.query("SELECT * FROM air_station")
    row = dict(zip(series["columns"], series["values"][0], strict=True))
    assert (row["no2"], row["pm10_q"], row["co_q"], row["quality"]) == (7, 2, 2, 2)
    assert abs(row["time"] / 1e6 - SystemClock().wall_ms()) < 60_000, "stored at the time it was received"


async def test_a_retained_reading_is_refused_and_counted(bench: Bench) -> None:
    async with bench.running() as lane:
        bench.say("a1", 1, {"pm10": 1.0}, retained=True)
        await until(lambda: lane.counts()["refused"] == 1)
        bench.say("a2", 1, {"pm10": 1.0})
        await until(lambda: bench.receipted("a2") == 1)
        assert bench.receipted("a1") == 0
    assert bench.rows("SELECT reason, device FROM quarantine") == [("retained", "a1")]
    with bench.reader() as reader:
        assert reader.latest("a1") == []


async def test_a_fire_reading_on_the_field_broker_is_refused_because_no_rule_would_see_it(bench: Bench) -> None:
    async with bench.running() as lane:
        body = b'{"boot":"b1","seq":1,"values":{"smoke":0.9}}'
        bench.field.queue.put_nowait(Arrival("iot/v1/fire/f1/up/reading/f1", body, False, bench.clock.wall_ms()))  # noqa: FBT003
        await until(lambda: lane.counts()["refused"] == 1)
        await until(lambda: bool(bench.field.acknowledged))
        assert bench.receipted("f1") == 0
    assert bench.rows("SELECT reason, device FROM quarantine") == [("wrong_broker", "f1")]
    with bench.reader() as reader:
        assert [(one.device, one.reason) for one in reader.faults()] == [("f1", "refused:wrong_broker")]


async def test_a_gateways_will_is_the_fault_of_its_children_until_they_speak(bench: Bench) -> None:
    async with bench.running():
        bench.send("gw", {"state": "offline"}, kind="status")
        with bench.reader() as reader:
            await until(
                lambda: {one.device for one in reader.faults() if one.reason == "offline"} == {"gw", "a1", "a2", "a9", "w1"}
            )
            bench.send("gw", {"state": "online"}, kind="status")
            bench.say("a1", 1, {"pm10": 1.0})
            await until(lambda: {one.device for one in reader.faults()} == {"a2", "a9", "w1"})
            assert [one.state for one in reader.presence("gw")] == ["online"]


REFUSED_FOR_GOOD = {
    "schema, one of a batch": [{"boot": "b1", "seq": 2, "values": 7}, {"boot": "b1", "seq": 3, "values": {"pm10": 1.0}}],
    "oversized": {"boot": "b1", "seq": 2, "values": {"pm10": 1.0}, "pad": "x" * 70_000},
    "batch too long": [{"boot": "b1", "seq": 2, "values": {"pm10": 1.0}}] * 501,
}


@pytest.mark.parametrize("body", REFUSED_FOR_GOOD.values(), ids=REFUSED_FOR_GOOD)
async def test_what_is_refused_for_good_counts_as_handled_so_that_receipts_go_on(bench: Bench, body: object) -> None:
    async with bench.running():
        bench.say("a1", 1, {"pm10": 1.0})
        bench.send("a1", body)
        bench.say("a1", 4 if isinstance(body, list) and len(body) == 2 else 3, {"pm10": 1.0})
        await until(lambda: bench.receipted("a1") >= 3)
    assert len(bench.rows("SELECT id FROM quarantine")) == 1
    assert bench.rows("SELECT above FROM progress") == [("[]",)]


async def test_what_somebody_else_says_in_a_devices_name_does_not_move_its_receipts(bench: Bench) -> None:
    async with bench.running():
        bench.field.queue.put_nowait(
            Arrival("iot/v1/air/stranger/up/reading/a1", b'[{"boot":"b1","seq":1,"values":7}]', retained=False, received_ms=1.0)
        )
        bench.say("a9", 1, {"pm10": 1.0})  # suspended
        await until(lambda: len(bench.field.acknowledged) == 2)
    assert bench.rows("SELECT * FROM progress") == []

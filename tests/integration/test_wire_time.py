"""The wire contract's chapter "Time", sentence by sentence, on both lanes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iotcore.alarms.lane_notice import LATE_DISPATCH_MS
from iotcore.journal.skew import LIMIT_MS
from iotcore.journal.throttle import Throttle
from iotcore.settings import Settings
from iotcore.wire.arrival import Arrival
from tests.integration.test_fire_throttle import Lane
from tests.support.telemetry_bench import Bench, until

DAY_MS = 86_400_000
ALARM = {"smoke": 0.0, "alarm": True}
CALM = {"smoke": 0.0, "alarm": False}


@pytest.fixture
def fire(tmp_path: Path) -> Iterator[Lane]:
    lane = Lane(tmp_path, Throttle())
    yield lane
    lane.journal.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Settings(data=str(tmp_path)))


def states(fire: Lane) -> list[str]:
    return [state for (state,) in fire.rows("SELECT state FROM alarm ORDER BY id")]


def standing(fire: Lane) -> list[str]:
    return [reason for (reason,) in fire.rows("SELECT reason FROM fault WHERE cleared_ms IS NULL")]


def observed(fire: Lane) -> list[tuple[float, float]]:
    return [(one.observed_ms, one.received_ms) for one in fire.journal.recent_readings()]


ODD = {
    "more than 7 days old": (-7 * DAY_MS - 5000, "clock_past"),
    "more than 5 min ahead": (5 * 60_000 + 5000, "clock_future"),
    "skew over the device's limit": (int(LIMIT_MS) + 5000, "clock_skew"),
}


@pytest.mark.parametrize(("ahead_ms", "fault"), ODD.values(), ids=ODD)
async def test_an_unmarked_fire_reading_is_live_whatever_its_ts_which_is_replaced_and_raises_a_clock_trouble(
    fire: Lane, ahead_ms: int, fault: str
) -> None:
    await fire.turn([fire.arrival(ALARM, 1.0, ts=int(fire.clock.wall_ms()) + ahead_ms)])
    assert (states(fire), len(fire.opened), standing(fire)) == (["active"], 1, [fault])
    ((observed_ms, received_ms),) = observed(fire)
    assert observed_ms == received_ms
    assert fire.journal.recent_readings()[0].claimed_ms is not None
    assert not json.loads(fire.rows("SELECT notice FROM incident")[0][0]).get("delayed", False)


async def test_lateness_comes_only_from_backlog_and_age_and_never_from_ts(fire: Lane) -> None:
    await fire.turn([fire.arrival(ALARM, 1.0, ts=int(fire.clock.wall_ms()) - 3 * DAY_MS, age_ms=3 * DAY_MS)])
    assert (states(fire), len(fire.opened)) == (["active"], 1)


async def test_a_redelivery_keeps_the_time_first_given(fire: Lane) -> None:
    first = fire.arrival(CALM, 1.0, ts=None)
    again = Arrival(first.topic, first.payload, retained=False, received_ms=first.received_ms + 60_000.0)
    await fire.turn([first])
    await fire.turn([again, again])
    assert observed(fire) == [(first.received_ms, first.received_ms)]


async def test_a_redelivery_keeps_the_time_first_given_on_the_bulk_lane(bench: Bench) -> None:
    async with bench.running() as lane:
        first = bench.say("a1", 1, {"pm10": 1.0}, ts=None)
        again = Arrival(first.topic, first.payload, retained=False, received_ms=first.received_ms + 60_000.0)
        bench.field.queue.put_nowait(again)
        await until(lambda: lane.counts()["duplicates"] == 1)
        await until(bench.drained)
        with bench.reader() as reader:
            assert [one.at_ms for one in reader.samples("a1", "pm10", 0.0, 1e14)] == [pytest.approx(first.received_ms, abs=2.0)]


async def test_an_odd_ts_is_replaced_and_a_clock_trouble_on_the_bulk_lane_too(bench: Bench) -> None:
    async with bench.running():
        ahead = bench.say("a1", 1, {"pm10": 1.0}, ts=int(bench.clock.wall_ms() + LIMIT_MS + 5_000))
        await until(lambda: bench.receipted("a1") == 1)
        await until(bench.drained)
        with bench.reader() as reader:
            assert [one.at_ms for one in reader.samples("a1", "pm10", 0.0, 1e14)] == [pytest.approx(ahead.received_ms, abs=2.0)]
            await until(lambda: [one.reason for one in reader.faults("a1")] == ["clock_skew"])


@pytest.mark.parametrize(
    ("age_ms", "state", "opened"), [(LATE_DISPATCH_MS, "active", 1), (LATE_DISPATCH_MS + 1, "historical", 0)]
)
async def test_backlog_younger_than_15_min_is_dispatched_marked_delayed_and_older_is_a_record(
    fire: Lane, age_ms: int, state: str, opened: int
) -> None:
    await fire.turn([fire.arrival(ALARM, 1.0, ts=None, backlog=True, age_ms=age_ms)])
    assert (states(fire), len(fire.opened)) == ([state], opened)
    assert [json.loads(text).get("delayed", False) for (text,) in fire.rows("SELECT notice FROM incident")] == [True] * opened


LATER: dict[str, tuple[list[tuple[dict[str, Any], dict[str, Any]]], str]] = {
    "a later clear in the same backlog": ([(ALARM, {"age_ms": 300_000}), (CALM, {"age_ms": 200_000})], "historical"),
    "an earlier clear in the same backlog": ([(CALM, {"age_ms": 400_000}), (ALARM, {"age_ms": 300_000})], "active"),
    "a later reading that says nothing of it": ([(ALARM, {"age_ms": 300_000}), ({"smoke": 0.0}, {"age_ms": 200_000})], "active"),
    "still active in a later one": ([(ALARM, {"age_ms": 300_000}), (ALARM, {"age_ms": 200_000})], "active"),
}


@pytest.mark.parametrize(("told", "state"), LATER.values(), ids=LATER)
async def test_young_backlog_is_dispatched_only_without_a_later_clear(
    fire: Lane, told: list[tuple[dict[str, Any], dict[str, Any]]], state: str
) -> None:
    await fire.turn([fire.arrival(values, 0.01, ts=None, backlog=True, **more) for values, more in told])
    assert states(fire) == [state]


async def test_a_clear_that_came_live_before_its_backlog_counts_as_later(fire: Lane) -> None:
    await fire.turn([fire.arrival(CALM, 1.0)])
    await fire.turn([fire.arrival(ALARM, 1.0, ts=None, backlog=True, age_ms=60_000)])
    assert (states(fire), fire.opened) == (["historical"], [])


async def test_what_was_a_record_when_it_was_old_is_dispatched_when_a_young_reading_says_it_still_burns(fire: Lane) -> None:
    await fire.turn(
        [fire.arrival(ALARM, 0.01, ts=None, backlog=True, age_ms=age_ms) for age_ms in (1_800_000, 1_200_000, 60_000)]
    )
    assert states(fire) == ["historical", "active"]
    assert len(fire.opened) == 1


async def test_a_retained_reading_is_refused_and_counted_except_a_fire_that_the_journal_does_not_know(fire: Lane) -> None:
    calm = fire.arrival(CALM, 1.0)
    await fire.turn([Arrival(calm.topic, calm.payload, retained=True, received_ms=calm.received_ms)])
    assert fire.rows("SELECT reason, count FROM quarantine_count") == [("retained", 1)]
    burning = fire.arrival(ALARM, 1.0)
    await fire.turn([burning])
    await fire.turn([Arrival(burning.topic, burning.payload, retained=True, received_ms=burning.received_ms)])
    assert len(fire.opened) == 1
    unknown = fire.arrival(ALARM, 1.0, boot="b0")
    await fire.turn([Arrival(unknown.topic, unknown.payload, retained=True, received_ms=unknown.received_ms)])
    (alarm,) = fire.rows("SELECT notice, repeats FROM alarm")
    assert (json.loads(alarm[0]).get("unconfirmed", False), alarm[1]) == (False, 1), "its alarm stands already: said again"


async def test_a_retained_fire_that_the_journal_does_not_know_is_one_incident_that_says_it_is_not_confirmed(fire: Lane) -> None:
    unknown = fire.arrival(ALARM, 1.0)
    await fire.turn([Arrival(unknown.topic, unknown.payload, retained=True, received_ms=unknown.received_ms)])
    assert [json.loads(text)["unconfirmed"] for (text,) in fire.rows("SELECT notice FROM incident")] == [True]


async def test_a_retained_reading_is_refused_and_counted_on_the_bulk_lane_and_no_receipt_is_sent(bench: Bench) -> None:
    async with bench.running() as lane:
        said = bench.say("a1", 1, {"pm10": 1.0}, retained=True)
        await until(lambda: said in bench.field.acknowledged)
        assert lane.counts()["stored"] == 0
    assert bench.rows("SELECT reason, count FROM quarantine_count") == [("retained", 1)]
    assert bench.receipted("a1") == 0


async def test_a_retained_status_sets_presence_and_never_last_seen(bench: Bench) -> None:
    async with bench.running():
        bench.send("s1", {"state": "online"}, retained=True, kind="status")
        with bench.reader() as reader:
            await until(lambda: reader.presence("s1"))
            (found,) = reader.presence("s1")
    assert (found.state, found.last_seen_ms) == ("online", None)

"""Fires while the journal does not answer: at a real receiving centre within a second, once, and in the journal afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iotcore.alarms import lane_commit
from iotcore.errors import StoreError
from iotcore.journal.emergency import FIRST_NUMBER
from iotcore.journal.records import Batch, Committed
from simulators.arc_receiver import ArcReceiver
from tests.support.fire_table import FIRE, PREMISES, QUIET, FireTable, fire_table
from tests.support.until import until

LIMIT_S = 1.0  # from the reading to the frame, with the 250 ms that the journal is waited for


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[FireTable]:
    async with fire_table(tmp_path) as table:
        yield table


async def arrives(table: FireTable, frames: int, since_s: float) -> None:
    await until(lambda: len(table.arc.received) >= frames, 5.0)
    assert time.monotonic() - since_s < LIMIT_S


def delivered(table: FireTable) -> list[tuple[str, int, bool]]:
    found = table.rows("SELECT incident, number, acknowledged_ms FROM outbox WHERE event = 'alarm' ORDER BY id")
    return [(incident, number, acknowledged is not None) for incident, number, acknowledged in found]


async def reconciled(table: FireTable) -> None:
    await until(lambda: not table.stalled and table.rescue.emergency.fires == 0, 15.0)


async def test_a_fire_is_sent_while_another_process_holds_the_journal_and_is_one_incident_afterwards(table: FireTable) -> None:
    await table.say("sd-1", QUIET)
    with table.held():
        began_s = time.monotonic()
        arrival = await table.say("sd-1", FIRE)
        await arrives(table, 1, began_s)
        assert arrival not in table.broker.acknowledged, "it is not in the journal"
        assert table.rows("SELECT count(*) FROM incident") == [(0,)]
        (frame,) = table.arc.received
        assert frame.number == FIRST_NUMBER
        await until(lambda: table.rescue.emergency.carried()[0].acknowledged_ms is not None)
    await reconciled(table)
    assert delivered(table) == [(frame.incident, FIRST_NUMBER, True)]
    assert arrival in table.broker.acknowledged
    assert table.rows("SELECT kind FROM incident_event WHERE kind IN ('reconciled', 'delivered') ORDER BY id") == [
        ("reconciled",),
        ("delivered",),
    ]
    await asyncio.sleep(0.5)
    assert len(table.arc.received) == 1, "the journal's own dispatcher does not say it again"
    await table.say("sdb-1", FIRE)
    assert table.rows("SELECT count(*) FROM incident") == [(1,)]


async def test_a_storm_without_a_journal_tells_every_premises_once_and_its_further_detectors_join(table: FireTable) -> None:
    with table.held():
        began_s = time.monotonic()
        await table.lane.turn([table.arrival(f"sd-{n}", FIRE) for n in range(1, PREMISES + 1)])
        await table.lane.turn([table.arrival(f"sdb-{n}", FIRE) for n in range(1, PREMISES + 1)])
        await arrives(table, PREMISES, began_s)
        await asyncio.sleep(0.2)
    await reconciled(table)
    assert len(table.arc.incidents) == len(table.arc.received) == PREMISES
    assert table.rows("SELECT count(*) FROM incident") == [(PREMISES,)]
    assert table.rows("SELECT count(*) FROM alarm") == [(2 * PREMISES,)]
    assert {row[0] for row in delivered(table)} == {frame.incident for frame in table.arc.received}


async def test_a_premises_that_burns_already_is_not_told_twice(table: FireTable) -> None:
    await table.say("sd-1", FIRE)
    await until(lambda: len(table.arc.received) == 1)
    with table.held():
        await table.say("sdb-1", FIRE)
        await table.say("sd-2", FIRE)
        await until(lambda: len(table.arc.received) == 2)
    await reconciled(table)
    assert [frame.account for frame in table.arc.received][:2] == ["1001", "1002"]
    assert table.rows("SELECT count(*) FROM incident") == [(2,)], "the second detector is an update of the first's"


async def test_a_process_that_dies_meanwhile_sends_again_at_its_start_before_the_journal_is_open(tmp_path: Path) -> None:
    async with ArcReceiver() as arc:
        port = arc.port
    table = FireTable(tmp_path, arc)  # nobody listens there now
    await table.start()
    with table.held():
        await table.say("sd-1", FIRE)
        stopping = asyncio.create_task(table.stop())
        await asyncio.sleep(0.05)
        async with ArcReceiver(port=port) as again:
            anew = FireTable(tmp_path, again)
            anew.start_rescue()
            await until(lambda: len(again.received) == 1)
            assert again.received[0].number == FIRST_NUMBER
            await anew.stop()
    await stopping


async def test_what_the_last_run_left_is_reconciled_and_its_reading_is_one_with_it(tmp_path: Path) -> None:
    async with fire_table(tmp_path) as table:
        with table.held():
            await table.say("sd-1", FIRE)
            await until(lambda: len(table.arc.received) == 1)
            (told,) = table.arc.received
            await until(lambda: table.rescue.emergency.carried()[0].acknowledged_ms is not None)
            await asyncio.sleep(0.2)  # the acknowledgement is in the log too
            stopping = asyncio.create_task(table.stop())  # it ends when its commit does: the memory of it is gone by then
            await asyncio.sleep(0.05)
        await stopping
    async with fire_table(tmp_path) as table:
        await reconciled(table)
        await table.say("sd-1", FIRE)  # the same boot and number: as the broker brings it again
        await asyncio.sleep(0.3)
        assert not table.arc.received
        assert delivered(table) == [(told.incident, told.number, True)]


async def test_a_commit_that_is_late_and_comes_through_after_all_is_the_same_incident(
    table: FireTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal_commit = table.lane._commits._commit

    def slow(batch: Batch) -> Committed:
        time.sleep(0.6 if batch.raises else 0.0)
        return journal_commit(batch)

    monkeypatch.setattr(table.lane._commits, "_commit", slow)
    began_s = time.monotonic()
    await table.say("sd-1", FIRE)
    await arrives(table, 1, began_s)
    await reconciled(table)
    assert table.rows("SELECT count(*) FROM incident") == [(1,)]
    assert {frame.incident for frame in table.arc.received} == {table.rows("SELECT id FROM incident")[0][0]}


async def test_our_own_error_in_a_commit_stops_no_fire(table: FireTable, monkeypatch: pytest.MonkeyPatch) -> None:
    journal_commit, broken = table.lane._commits._commit, [True]

    def commit(batch: Batch) -> Committed:
        if broken[0]:
            raise TypeError("a programming error")
        return journal_commit(batch)

    monkeypatch.setattr(table.lane._commits, "_commit", commit)
    await table.say("sd-1", FIRE)
    await until(lambda: len(table.arc.received) == 1)
    await table.say("sd-2", FIRE)
    await until(lambda: len(table.arc.received) == 2)
    broken[0] = False
    await reconciled(table)
    assert table.rows("SELECT count(*) FROM incident") == [(2,)]


async def test_our_own_error_in_one_message_is_refused_and_stops_no_other(
    table: FireTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = table.engine.evaluate

    def broken(reading, *more, **options):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN003, ANN202
        if reading.device == "sd-1":
            raise ZeroDivisionError
        return evaluate(reading, *more, **options)

    monkeypatch.setattr(table.engine, "evaluate", broken)
    bad = table.arrival("sd-1", FIRE)
    await table.lane.turn([bad, table.arrival("sd-2", FIRE)])
    await until(lambda: len(table.arc.received) == 1)
    assert table.arc.received[0].account == "1002"
    assert bad in table.broker.acknowledged
    assert table.rows("SELECT reason FROM quarantine") == [("crashed",)]


async def test_turns_go_on_and_what_is_held_is_bounded_and_no_fire_is_behind_it(
    table: FireTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_commit, "HELD_ARRIVALS", 10)
    with table.held():
        held = [await table.say("sd-3", {**QUIET, "temperature": 20.0 + n}) for n in range(10)]
        left = [await table.say("sd-3", {**QUIET, "temperature": 40.0}) for _ in range(5)]
        assert not [one for one in held if one in table.broker.acknowledged]
        assert [one for one in left if one in table.broker.acknowledged] == left, "the broker would bring nothing more"
        fire = await table.say("sd-1", FIRE)
        await until(lambda: len(table.arc.received) == 1)
        assert fire in table.broker.acknowledged
        assert table.lane.counts()["unkept"] == 5
    await reconciled(table)
    assert [one for one in held if one in table.broker.acknowledged] == held
    assert table.rows("SELECT count(*) FROM incident") == [(1,)]
    receipted = {topic: said["up_to"] for topic, said in table.broker.published}
    assert receipted["iot/v1/fire/sd-3/down/receipt/sd-3"] == 10, "none for what was not kept: its sender says it again"
    again = table.arrival("sd-3", QUIET)
    table.seq["sd-3"] = 10
    await table.lane.turn([table.arrival("sd-3", QUIET), again])
    assert table.rows("SELECT count(*) FROM reading WHERE device = 'sd-3'") == [(12,)]


async def test_a_delivery_by_the_other_path_is_told_to_come_again_and_its_fire_is_out(table: FireTable) -> None:
    with table.held():
        arrival = table.arrival("sd-1", FIRE)
        with pytest.raises(StoreError):
            await table.lane.deliver(arrival)
        await until(lambda: len(table.arc.received) == 1)
    await reconciled(table)
    again = await table.lane.deliver(arrival)
    assert (again.taken, again.up_to) == (1, {"b1": 1})
    assert len(table.arc.received) == 1


async def test_two_replicas_without_a_journal_name_a_fire_alike_and_it_is_one_incident(tmp_path: Path) -> None:
    async with ArcReceiver() as arc:
        tables = [FireTable(tmp_path, arc, number) for number in (1, 2)]
        for table in tables:
            await table.start()
        try:
            seen_ms = int(tables[0].clock.wall_ms())  # by the detector: one message, heard twice
            with tables[0].held():
                for table in tables:
                    await table.say("sd-1", FIRE, ts=seen_ms)
                await until(lambda: len(arc.received) == 2)
            for table in tables:
                await reconciled(table)
            assert len({frame.incident for frame in arc.received}) == 1
            assert {frame.number for frame in arc.received} == {FIRST_NUMBER, FIRST_NUMBER + 250}
            assert tables[0].rows("SELECT count(*) FROM incident") == [(1,)]
            assert [one[2] for one in delivered(tables[0])] == [True]
        finally:
            for table in tables:
                await table.stop()

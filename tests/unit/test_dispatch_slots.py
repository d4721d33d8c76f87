"""Several slots of a channel, and its alternate path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from iotcore.clock import SystemClock
from iotcore.dispatch.outbox import Dispatcher, Way
from iotcore.journal.records import OutboxRow
from tests.support.dispatching import ScriptedChannel, done, fails, running, waits
from tests.support.outbox import MemoryOutbox
from tests.support.until import until


async def test_several_slots_carry_different_incidents_beside_each_other_and_each_in_order() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel(*[waits(0.1)] * 8)
    incidents = [outbox.alarm(f"p{n}") for n in range(4)]
    for incident in incidents:
        outbox.restore(incident)
    began_s = time.perf_counter()
    async with running(outbox, arc=arc, ways={"arc": Way(parallel=4)}):
        await until(done(outbox, incidents))
    assert time.perf_counter() - began_s < 0.6  # one after another they take 0.8 s
    assert [row.notice.event for row in arc.rows] == ["alarm"] * 4 + ["restore"] * 4
    assert len({row.id for row in arc.rows}) == 8


async def test_a_receiver_that_wants_one_frame_at_a_time_gets_one_at_a_time() -> None:
    at_once = [0, 0]

    class Counting(ScriptedChannel):
        async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
            at_once[0] += 1
            at_once[1] = max(at_once)
            try:
                return await super().send(row, sent)
            finally:
                at_once[0] -= 1

    outbox, arc = MemoryOutbox(("arc",)), Counting(*[waits(0.01)] * 5)
    incidents = [outbox.alarm(f"p{n}") for n in range(5)]
    async with running(outbox, arc=arc):
        await until(done(outbox, incidents))
    assert at_once == [0, 1]


async def test_what_was_handed_over_and_waited_long_is_sent_only_while_it_is_still_ours() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel(waits(1.2))
    async with running(outbox, arc=arc) as dispatcher:
        first = outbox.alarm("p1")
        dispatcher.send_now(outbox.lease_all("fire-1", SystemClock().wall_ms()))
        await until(lambda: bool(arc.rows))
        second = outbox.alarm("p2")
        row = outbox.lease("arc", "fire-1", SystemClock().wall_ms(), 1000.0)
        assert row is not None
        assert row.incident in {first, second}
        (given,) = [one for one in outbox.lease_all("fire-1", SystemClock().wall_ms()) if one.incident == second]
        dispatcher.send_now([given])
        await asyncio.sleep(1.05)
        taken = outbox.lease("arc", "fire-2", SystemClock().wall_ms(), 5000.0)  # another process, which sends it in our place
        assert taken is not None
        assert taken.incident == second
        outbox.acknowledged(taken.id, SystemClock().wall_ms(), "ACK by another")
        await until(done(outbox, [first, second]))
        await asyncio.sleep(0.1)
    assert [one.incident for one in arc.rows] == [first]


async def test_an_update_that_is_handed_over_overtakes_nothing() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel(fails("no_reply"))
    incident = outbox.alarm("p1")
    outbox.restore(incident)
    rows = outbox.lease_all("fire-1", SystemClock().wall_ms())
    async with running(outbox, arc=arc) as dispatcher:
        dispatcher.send_now([rows[1]])
        await until(done(outbox, [incident]))
    assert [row.notice.event for row in arc.rows] == ["alarm", "alarm", "restore"]


async def test_a_fire_that_its_receiver_does_not_acknowledge_goes_to_the_alternate_too_and_both_are_tried_on() -> None:
    outbox = MemoryOutbox(("arc",))
    arc, backup = ScriptedChannel(*[fails("no_reply")] * 3), ScriptedChannel()
    incident = outbox.alarm("p1")
    began_s = time.perf_counter()
    async with running(outbox, arc=arc, backup=backup, ways={"arc": Way(alternate="backup", hedge_s=0.4)}):
        await until(lambda: bool(backup.rows))
        assert 0.35 < backup.begun_s[0] - began_s < 0.9
        await until(lambda: len(outbox.deliveries(incident)) == 2 and done(outbox, [incident])())
    assert {(row.incident, row.notice.event) for row in [*arc.rows, *backup.rows]} == {(incident, "alarm")}
    assert (len(arc.rows), len(backup.rows)) == (4, 1)


async def test_a_fire_that_is_acknowledged_in_time_does_not_go_to_the_alternate() -> None:
    outbox, arc, backup = MemoryOutbox(("arc",)), ScriptedChannel(waits(0.2)), ScriptedChannel()
    incident = outbox.alarm("p1")
    async with running(outbox, arc=arc, backup=backup, ways={"arc": Way(alternate="backup", hedge_s=0.4)}):
        await until(done(outbox, [incident]))
        await asyncio.sleep(0.5)
    assert not backup.rows


async def test_the_age_that_counts_is_that_on_disk_so_that_a_restart_does_not_begin_it_anew() -> None:
    outbox, arc, backup = MemoryOutbox(("arc",)), ScriptedChannel(waits(5.0)), ScriptedChannel()
    outbox.alarm("p1", created_ms=SystemClock().wall_ms() - 60_000.0)
    async with running(outbox, arc=arc, backup=backup, ways={"arc": Way(alternate="backup", hedge_s=3.0)}):
        await until(lambda: bool(backup.rows), within_s=0.6)


async def test_a_path_that_is_known_to_be_dead_is_not_waited_for() -> None:
    outbox, arc, backup = MemoryOutbox(("arc",)), ScriptedChannel(waits(5.0)), ScriptedChannel()
    ways = {"arc": Way(alternate="backup", hedge_s=3.0)}
    dispatcher = Dispatcher(
        outbox, {"arc": arc, "backup": backup}, SystemClock(), "fire-1", ways=ways, down=lambda name: name == "arc"
    )
    task = asyncio.create_task(dispatcher.run())
    outbox.alarm("p1")
    await until(lambda: bool(backup.rows), within_s=0.6)
    task.cancel()
    await asyncio.wait({task})


async def test_blocking_calls_run_where_the_caller_says() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel()
    calls: list[object] = []

    async def at_once(call: Callable[[], Any], /) -> Any:
        calls.append(call)
        return call()

    incident = outbox.alarm("p1")
    dispatcher = Dispatcher(outbox, {"arc": arc}, SystemClock(), "fire-1", off_loop=at_once)
    task = asyncio.create_task(dispatcher.run())
    await until(done(outbox, [incident]))
    task.cancel()
    await asyncio.wait({task})
    assert len(calls) >= 3

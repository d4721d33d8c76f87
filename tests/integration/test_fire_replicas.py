"""Two replicas of the fire lane on one journal: each decides everything, and what they decide is one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.process.serve import beat
from iotcore.process.siblings import Siblings
from simulators.arc_receiver import ArcReceiver
from tests.support.fire_table import FIRE, PREMISES, QUIET, FireTable
from tests.support.until import until


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[FireTable, FireTable]]:
    async with ArcReceiver() as arc:
        tables = FireTable(tmp_path, arc, 1), FireTable(tmp_path, arc, 2)
        for table in tables:
            await table.start()
        yield tables
        for table in tables:
            await table.stop()


async def reset(*tables: FireTable) -> str:
    """As a person's intent is applied by each replica, whoever is first."""
    ((incident, premises),) = tables[0].rows("SELECT id, premises FROM incident WHERE state = 'open'")
    devices = [name for name, one in tables[0].directory.devices.items() if one.premises == premises]
    for table in tables:
        assert table.journal is not None
        await asyncio.to_thread(table.journal.reset, incident, devices, "test", table.clock.wall_ms())
        table.lane.closed(premises, devices)
    return str(incident)


async def test_what_both_hear_is_one_incident_and_one_frame(pair: tuple[FireTable, FireTable]) -> None:
    arrivals = [pair[0].arrival(f"sd-{n}", FIRE) for n in range(1, PREMISES + 1)]
    await asyncio.gather(*(table.lane.turn(arrivals) for table in pair))
    await until(lambda: len(pair[0].arc.received) == PREMISES)
    await asyncio.sleep(0.3)
    assert pair[0].rows("SELECT count(*) FROM incident") == [(PREMISES,)]
    assert pair[0].rows("SELECT count(*) FROM alarm") == [(PREMISES,)]
    assert len(pair[0].arc.received) == len(pair[0].arc.incidents) == PREMISES
    for table in pair:
        assert table.broker.acknowledged == arrivals


async def test_a_replica_that_slept_across_a_reset_makes_no_second_incident_and_can_raise_again(
    pair: tuple[FireTable, FireTable],
) -> None:
    awake, asleep = pair
    stale = [awake.arrival("sd-1", QUIET), awake.arrival("sd-1", FIRE)]
    await awake.lane.turn(stale)
    await until(lambda: len(awake.arc.received) == 1)
    incident = await reset(awake)
    await asleep.lane.turn(stale)  # it wakes: what it had not read yet comes first, the reset after it
    assert awake.rows("SELECT id, state FROM incident") == [(incident, "closed")]
    assert awake.rows("SELECT count(*) FROM cause") == [(1,)]
    again = [awake.arrival("sd-1", QUIET), awake.arrival("sd-1", FIRE)]
    await asleep.lane.turn(again)  # and the other one is dead by now
    assert awake.rows("SELECT count(*) FROM incident WHERE state = 'open'") == [(1,)]


async def test_a_reading_before_the_reset_that_nobody_had_judged_joins_the_closed_episode(
    pair: tuple[FireTable, FireTable],
) -> None:
    awake, asleep = pair
    first, other = awake.arrival("sd-1", FIRE), awake.arrival("sdb-1", QUIET)
    await awake.lane.turn([first, other])
    incident = await reset(awake)
    awake.seq["sdb-1"] = 0
    late = awake.arrival("sdb-1", FIRE)  # the same number: as it would be judged by other rules
    await asleep.lane.turn([late])
    assert awake.rows("SELECT id FROM incident") == [(incident,)]
    await asleep.lane.turn([awake.arrival("sdb-1", FIRE)])
    assert awake.rows("SELECT count(*) FROM incident WHERE state = 'open'") == [(1,)]


async def test_what_a_dead_replica_had_leased_is_sent_at_once_by_the_other(pair: tuple[FireTable, FireTable]) -> None:
    dying, living = pair
    dying.lane._opened = lambda _: None  # it dies between its commit and its first frame
    for task in dying._tasks[2:]:
        task.cancel()
    arrival = dying.arrival("sd-1", FIRE)
    await dying.lane.turn([arrival])
    await living.lane.turn([arrival])
    assert living.rows("SELECT lease_owner FROM outbox") == [(dying.owner,)]
    began_s = time.monotonic()
    await living.outgoing.take_over(dying.owner)
    await until(lambda: len(living.arc.received) == 1)
    assert time.monotonic() - began_s < 0.5, "not when the lease ends"


async def test_the_end_of_a_sibling_is_known_at_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    gone: list[tuple[str, str]] = []
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    clock = SystemClock()
    telling = asyncio.create_task(beat(tmp_path, "fire-2", clock, lambda: {"pid": child.pid, "owner": "fire-2-x"}))
    watching = asyncio.create_task(Siblings(tmp_path, ["fire-2"], clock, lambda owner, name: gone.append((owner, name))).run())
    try:
        await asyncio.sleep(1.0)
        assert not gone
        child.kill()
        await child.wait()
        await until(lambda: bool(gone), 0.5)
        assert gone == [("fire-2-x", "fire-2")]
    finally:
        for task in (telling, watching):
            task.cancel()
        await asyncio.gather(telling, watching, return_exceptions=True)
        if child.returncode is None:
            child.kill()
            await child.wait()

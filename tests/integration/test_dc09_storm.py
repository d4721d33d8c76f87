"""Two hundred buildings burn at once: nobody waits for the reply to somebody else's alarm."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.dispatch.outbox import Dispatcher, Way
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.records import Batch
from iotcore.settings_receivers import Dc09Receiver
from simulators.arc_receiver import ArcReceiver
from tests.support.fire import notice, raise_
from tests.support.until import until

PREMISES = 200
REPLY_S = 0.02
LIMIT_S = 2.0


@pytest.mark.parametrize("parallel", [4, 16])
async def test_two_hundred_incidents_are_acknowledged_within_two_seconds(tmp_path: Path, parallel: int) -> None:
    """One after another they would take four seconds, by the receiver's thinking alone."""
    clock = SystemClock()
    journal = Journal(tmp_path / "journal.db", clock, ["arc"], "fire-1")
    async with ArcReceiver(reply_s=REPLY_S) as arc:
        channel = Dc09Channel(Dc09Receiver("arc", "127.0.0.1", arc.port, parallel=parallel), clock)
        ways = {"arc": Way(parallel=parallel)}
        dispatcher = Dispatcher(SqlOutbox(journal), {"arc": channel}, clock, "fire-1", ways=ways)
        running = asyncio.create_task(dispatcher.run())
        await asyncio.sleep(0.05)
        raises = tuple(raise_(n, of=notice(f"sd-{n}", f"p{n}")) for n in range(1, PREMISES + 1))
        began_s = time.perf_counter()
        committed = await asyncio.to_thread(journal.commit, Batch(raises=raises))
        dispatcher.send_now(committed.leased)
        await until(lambda: len(set(arc.incidents)) == PREMISES, within_s=10.0)
        took_s = time.perf_counter() - began_s
        waiting = "SELECT count(*) FROM outbox WHERE acknowledged_ms IS NULL"
        await until(lambda: journal.connection.execute(waiting).fetchone()[0] == 0, within_s=5.0)
        running.cancel()
        await asyncio.wait({running})
    journal.close()
    assert took_s < LIMIT_S
    assert len(arc.frames) == PREMISES  # each once
    assert arc.most_open <= parallel

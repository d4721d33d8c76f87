"""PostgreSQL behind the journal is stopped: fires are at the receiver within a second, once, and in the journal afterwards."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from iotcore.journal.emergency import FIRST_NUMBER
from simulators.arc_receiver import ArcReceiver
from tests.support.fire_table import FIRE, QUIET, FireTable
from tests.support.postgres import Postgres
from tests.support.until import until


async def test_fires_without_their_database_are_out_within_a_second_and_taken_over_once(tmp_path: Path) -> None:
    with Postgres() as server:
        async with ArcReceiver() as arc:
            table = FireTable(tmp_path, arc)
            table.place = server.url(server.fresh())
            await table.start()
            try:
                await table.say("sd-1", QUIET)
                await asyncio.to_thread(server.pause)
                began_s = time.monotonic()
                arrival = await table.say("sd-1", FIRE)
                await until(lambda: len(arc.received) == 1)
                assert time.monotonic() - began_s < 1.0
                assert arc.received[0].number == FIRST_NUMBER
                assert arrival not in table.broker.acknowledged
                await asyncio.to_thread(server.resume)
                await until(lambda: not table.stalled and not table.rescue.emergency.fires, 30.0)
                await asyncio.sleep(0.5)
                assert table.journal is not None
                with table.journal.reading() as connection:
                    found = connection.execute(
                        "SELECT incident, number, acknowledged_ms IS NOT NULL FROM outbox WHERE event = 'alarm'"
                    ).fetchall()
                assert [tuple(row) for row in found] == [(arc.received[0].incident, FIRST_NUMBER, True)]
                assert len(arc.received) == 1
                assert arrival in table.broker.acknowledged
            finally:
                await table.stop()

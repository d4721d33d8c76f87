"""From the spool into InfluxDB as documented: a poison line goes to the quarantine, once; a busy server is waited for."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.settings import Store
from iotcore.telemetry.drain import Drain
from iotcore.telemetry.influx import Influx2
from iotcore.telemetry.spool import Spool
from tests.support.influx_fake import OPERATOR, ORG, Busy, InfluxFake
from tests.support.telemetry_bench import until

START_NS = 1_795_312_800_000_000_000
POISON = b'air_station,device=a pm10="high" %d' % START_NS


def air(n: int) -> bytes:
    return b"air_station,device=a pm10=1.5 %d" % (START_NS + n)


@asynccontextmanager
async def draining(folder: Path, fake: InfluxFake) -> AsyncIterator[tuple[Spool, Drain]]:
    clock = SystemClock()
    settings = Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR)
    async with (
        Spool(folder / "spool-t.db", clock, store_format="line1", max_bytes=10**8, max_age_s=3600.0) as spool,
        Influx2(settings, clock) as store,
    ):
        drain = Drain(spool, store)
        task = asyncio.create_task(drain.run())
        try:
            yield spool, drain
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def quarantined(folder: Path) -> list[tuple[str, bytes]]:
    with closing(sqlite3.connect(folder / "spool-t.db")) as reader:
        return reader.execute("SELECT reason, payload FROM quarantine").fetchall()


@pytest.mark.parametrize("version", ["2.7.12", "3.10.1"])
async def test_a_poison_line_is_quarantined_once_its_neighbours_are_stored_and_it_is_never_sent_again(
    tmp_path: Path, version: str
) -> None:
    async with InfluxFake(version).make("iotcore") as fake:
        bucket = fake.buckets["iotcore"]
        async with draining(tmp_path, fake) as (spool, drain):
            await spool.commit([air(0)])
            drain.wake()
            await until(lambda: bucket.count("air_station") == 1)
            await spool.commit([*(air(n) for n in range(1, 2_000)), POISON, *(air(n) for n in range(2_000, 4_000))])
            drain.wake()
            await until(lambda: quarantined(tmp_path) == [("store_rejected", POISON)])
            assert bucket.count("air_station") == 4_000
            assert (await spool.depth()).batches == 0
        sent = fake.writes
        async with draining(tmp_path, fake) as (spool, drain):
            await spool.commit([air(4_000)])
            drain.wake()
            await until(lambda: bucket.count("air_station") == 4_001)
        assert fake.writes == sent + 1
        assert quarantined(tmp_path) == [("store_rejected", POISON)]


async def test_retry_after_is_waited_for_and_then_nothing_is_missing_or_twice(tmp_path: Path) -> None:
    async with InfluxFake("2.7.12").make("iotcore") as fake:
        fake.busy = [Busy(429, {"Retry-After": "1"}), Busy(503, {"Retry-After": "1"})]
        async with draining(tmp_path, fake) as (spool, drain):
            began_s = time.monotonic()
            await spool.commit([air(n) for n in range(100)])
            drain.wake()
            await until(lambda: drain.trouble == "http_429")
            await until(lambda: fake.buckets["iotcore"].count("air_station") == 100)
            assert time.monotonic() - began_s >= 2.0
            await until(lambda: drain.trouble == "")
        assert [status for _, path, status in fake.asked if path == "/api/v2/write"] == [429, 503, 204]

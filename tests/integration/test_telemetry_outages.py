"""The telemetry lane when something it stands on is gone: InfluxDB, the disk, its own process."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from iotcore.settings import Settings, Store
from iotcore.telemetry.lane import TelemetryLane
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


async def test_influxdb_down_at_start_and_mid_run_loses_nothing_and_doubles_nothing(
    influx_bench: Bench, influxd: Influxd
) -> None:
    influxd.stop()
    sent = 0
    async with influx_bench.running() as lane:
        for phase in ("down at start", "up", "killed", "up again"):
            if phase == "killed":
                influxd.kill()
            elif phase != "down at start":
                influxd.start()
            for _ in range(200):
                sent += 1
                influx_bench.say("a1", sent, {"pm10": float(sent)})
                influx_bench.say("s1", sent, {"mode": "fixed", "cycle_s": 90})
            await until(partial(_receipted, influx_bench, "s1", sent))  # whether the store is up or down
            if phase.startswith("up"):
                await until(partial(_stored, influxd, "air_station", sent))
            await until(partial(_trouble, lane, "" if phase.startswith("up") else "unreachable"))
        await until(lambda: influxd.count("traffic_signal") == sent)
        await until(influx_bench.drained)
    (series,) = influxd.query("SELECT sum(pm10), count(pm10) FROM air_station")
    assert series["values"][0][1:] == [sent * (sent + 1) / 2, sent]


def _receipted(bench: Bench, device: str, up_to: int) -> bool:
    return bench.receipted(device) == up_to


def _stored(influxd: Influxd, measurement: str, count: int) -> bool:
    return influxd.count(measurement) == count


def _trouble(lane: TelemetryLane, trouble: str) -> bool:
    return lane.counts()["store_trouble"] == trouble


async def test_after_an_outage_the_newest_is_written_first(influx_bench: Bench, influxd: Influxd) -> None:
    influxd.stop()
    async with influx_bench.running():
        await _spool_old_batches(influx_bench)
        influx_bench.say("a2", 1, {"pm10": 1.0})
        await until(lambda: influx_bench.receipted("a2") == 1)
        influxd.start()
        await until(lambda: influxd.count("air_station") >= 1)
        newest = influxd.query("SELECT count(pm10) FROM air_station WHERE device = 'a2'")
        assert newest, "the newest reading is there as soon as anything is"
        await until(lambda: influxd.count("air_station") == 1 + 3 * 6000)


async def _spool_old_batches(bench: Bench) -> None:
    """Three batches, each larger than one write."""
    for batch in range(3):
        lines = [b"air_station,device=old pm10=1.0,quality=0i %d" % (10**18 + batch * 10_000 + n) for n in range(6000)]
        await bench.spool.commit(lines)


async def test_a_full_disk_acknowledges_nothing_until_there_is_room_and_then_all(bench: Bench) -> None:
    async with bench.running() as lane:
        bench.say("a1", 1, {"pm10": 1.0})
        await until(lambda: bench.receipted("a1") == 1)
        connection = bench.spool._connection
        assert connection is not None
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for seq in range(2, 300):
            bench.say("s1", seq - 1, {"mode": "x" * 2000})
        await asyncio.sleep(0.1)
        assert len(bench.field.acknowledged) == 1
        connection.execute("PRAGMA max_page_count = 100000")
        await until(lambda: bench.receipted("s1") == 298)
        assert lane.counts()["stored"] == 299


async def test_kill_9_between_commit_and_drain_and_at_any_other_moment_loses_and_doubles_nothing(
    tmp_path: Path, influxd: Influxd
) -> None:
    total, devices = 4000, 50
    messages = (
        {
            "topic": f"iot/v1/air/a{n % devices}/up/reading/a{n % devices}",
            "body": {"boot": "b1", "seq": n // devices + 1, "ts": int(time.time() * 1000), "values": {"pm10": n / 4}},
        }
        for n in range(total)
    )
    (tmp_path / "arrivals.jsonl").write_text("\n".join(json.dumps(one) for one in messages))
    influxd.stop()
    for number in range(8):
        async with _worker(tmp_path, influxd.url):
            await until(partial(_acknowledged, tmp_path, (number + 1) * 450))
        if number == 3:
            influxd.start()  # four workers were killed with all that they had acknowledged still in the spool
    async with _worker(tmp_path, influxd.url):
        await until(partial(_acknowledged, tmp_path, total))
        await until(lambda: influxd.count("air_station") >= total)
        await until(lambda: max(_receipts(tmp_path), default=0) == total // devices)
    (series,) = influxd.query("SELECT count(pm10), sum(pm10) FROM air_station")
    assert series["values"][0][1:] == [total, total * (total - 1) / 8]


@asynccontextmanager
async def _worker(folder: Path, url: str) -> AsyncIterator[None]:
    """A lane in a process of its own, killed at the end."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.support.telemetry_worker", str(folder), url)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def _acknowledged(folder: Path, at_least: int) -> bool:
    path = folder / "acknowledged"
    return path.exists() and path.read_bytes().count(b"\n") >= at_least


def _receipts(folder: Path) -> list[int]:
    """What was promised so far; a worker may be in the middle of a line."""
    path = folder / "receipts"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line)["body"]["up_to"] for line in whole.splitlines()]

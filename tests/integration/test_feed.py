"""The feed: what a real fire journal tells of incidents and drills, in both kinds of store; kills lose and double nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import StoreFull
from iotcore.journal.database import connect_readonly
from iotcore.journal.drill_store import Ask, SqlDrills, Way
from iotcore.journal.records import Batch, Tried
from iotcore.journal.timeline import timeline
from iotcore.registry.directory import Directory, Premises
from iotcore.settings import Settings, Store
from iotcore.telemetry.coverage import Files, watch_coverage
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.feed import CURSOR, follow_incidents, incident_points
from iotcore.telemetry.point import PlatformSeries
from iotcore.telemetry.queries import TelemetryReader
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.store import Written
from iotcore.telemetry.stores import open_store
from tests.support.fire import notice
from tests.support.fire_journal import ARC, FireJournal
from tests.support.influx import Influxd
from tests.support.telemetry_bench import directory, until

NOW_MS = 1_795_312_800_000.0
STEPS = {"opened": 0.4, "durable": 1.6, "sent/arc": 3.0, "receiver_acknowledged/arc": 27.5, "acknowledged": 0.0, "reset": 0.0}


@pytest.fixture
def fire(tmp_path: Path) -> Iterator[FireJournal]:
    made = FireJournal(tmp_path / "journal.db", ManualClock(NOW_MS))
    yield made
    made.close()


def live(fire: FireJournal) -> str:
    """A fire from the first reading to the reset, and a test of another premises' detector."""
    incident = fire.burn()
    fire.deliver(ARC)
    fire.journal.acknowledge(incident, "Officer", fire.clock.wall_ms() + 60_000.0)
    fire.journal.reset(incident, ["d1"], "Officer", fire.clock.wall_ms() + 120_000.0)
    fire.burn("p2", "d2", test=True)
    return incident


@contextlib.asynccontextmanager
async def following(folder: Path, store_format: str, kind: type[Spool] = Spool) -> AsyncIterator[Spool]:
    spool = kind(folder / "spool-1.db", SystemClock(), store_format=store_format, max_bytes=10**8, max_age_s=3600.0)
    async with spool:
        task = asyncio.create_task(
            follow_incidents(folder / "journal.db", PlatformSeries(spool, store_format, lambda: None, "north"))
        )
        try:
            yield spool
        finally:
            task.cancel()
            await asyncio.wait({task})


def followed(folder: Path) -> int:
    with closing(connect_readonly(folder / "spool-1.db")) as connection:
        row = connection.execute("SELECT up_to FROM progress WHERE device = ?", (CURSOR,)).fetchone()
    return int(row[0]) if row else 0


def changes(fire: FireJournal) -> int:
    return int(fire.journal.connection.execute("SELECT max(id) FROM change").fetchone()[0])


async def carried(spool: Spool, settings: Settings, file: TelemetryFile) -> None:
    """Everything in the spool into the store."""
    async with open_store(settings, SystemClock(), file) as store:
        await store.ensure()
        for batch in await spool.oldest(10_000):
            assert await store.write(batch.lines, batch.line_count) == Written()


async def test_an_incident_is_a_point_for_each_step_in_the_embedded_store(tmp_path: Path, fire: FireJournal) -> None:
    incident = live(fire)
    async with TelemetryFile(tmp_path / "telemetry.db") as file, following(tmp_path, "row1") as spool:
        await until(lambda: followed(tmp_path) == changes(fire))
        for _ in range(2):  # written twice, there once
            await carried(spool, Settings(data=str(tmp_path)), file)
    with closing(TelemetryReader(tmp_path / "telemetry.db")) as reader:
        for step, after_ms in STEPS.items():
            (sample,) = reader.samples(f"~incident/p1/{step}", "since_received_ms", 0.0, 1e14)
            expected = {"acknowledged": 60_000.0, "reset": 120_000.0}.get(step, after_ms)
            assert sample.value == pytest.approx(expected, abs=0.01), step
            (told,) = reader.samples(f"~incident/p1/{step}", "incident", 0.0, 1e14)
            assert told.value == incident
        assert len(reader.samples("~drill/p2/opened", "since_detector_ms", 0.0, 1e14)) == 1
        assert reader.samples("~incident/p2/opened", "since_detector_ms", 0.0, 1e14) == []


async def test_influxql_finds_the_steps_of_incidents_by_tags_and_no_device_among_them(tmp_path: Path, fire: FireJournal) -> None:
    live(fire)
    with Influxd(tmp_path) as influxd:
        settings = Settings(data=str(tmp_path), store=Store(kind="influx1", url=influxd.url))
        async with TelemetryFile(tmp_path / "telemetry.db") as file, following(tmp_path, "line1") as spool:
            await until(lambda: followed(tmp_path) == changes(fire))
            for _ in range(2):
                await carried(spool, settings, file)
        found = influxd.query('SELECT count("since_detector_ms") FROM incident GROUP BY step')
        assert {one["tags"]["step"]: one["values"][0][1] for one in found} == {
            **dict.fromkeys(("opened", "durable", "sent", "receiver_acknowledged", "acknowledged", "reset"), 1)
        }
        (series,) = influxd.query(
            "SELECT since_detector_ms FROM incident WHERE step = 'sent' AND channel = 'arc' AND cell = 'north'"
        )
        assert series["values"][0][1] == pytest.approx(15.0, abs=0.01)
        assert influxd.count("drill", "since_detector_ms") == 1
        (tags,) = influxd.query("SHOW TAG KEYS FROM incident")
        assert {row[0] for row in tags["values"]} == {"cell", "channel", "hazard", "premises", "severity", "step"}


async def test_the_feed_goes_on_where_it_was_and_from_the_start_of_a_new_journal(tmp_path: Path, fire: FireJournal) -> None:
    live(fire)
    async with following(tmp_path, "row1"):
        await until(lambda: followed(tmp_path) == changes(fire))
    fire.clock.advance(3600.0)
    fire.burn("p3", "d3")
    async with following(tmp_path, "row1") as spool:
        await until(lambda: followed(tmp_path) == changes(fire))
        newest = (await spool.newest(1))[0]
    assert b"~incident/p3/" in newest.lines
    assert b"~incident/p1/" not in newest.lines, "nothing is told again"
    fire.close()
    for ending in ("", "-wal", "-shm"):
        (tmp_path / f"journal.db{ending}").unlink(missing_ok=True)
    with closing(FireJournal(tmp_path / "journal.db", fire.clock)) as anew:
        anew.burn("p4", "d4")
        last = changes(anew)
    async with following(tmp_path, "row1") as spool:
        await until(lambda: followed(tmp_path) == last)
        assert b"~incident/p4/" in (await spool.newest(1))[0].lines


class FullAtFirst(Spool):
    """Its disk is full when it is first asked."""

    refused = 0

    async def commit(self, *rest: Any, **more: Any) -> None:
        if not self.refused:
            self.refused += 1
            raise StoreFull("a full disk")
        await super().commit(*rest, **more)


async def test_a_full_disk_holds_the_feed_back_and_costs_nothing(tmp_path: Path, fire: FireJournal) -> None:
    live(fire)
    async with following(tmp_path, "row1", FullAtFirst) as spool:
        await until(lambda: followed(tmp_path) == changes(fire))
        assert sum(batch.line_count for batch in await spool.oldest(1000)) >= len(STEPS) + 1
        assert isinstance(spool, FullAtFirst)
        assert spool.refused == 1


def test_a_feed_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(tmp_path: Path, fire: FireJournal) -> None:
    def child() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.support.feed_child", str(tmp_path)])

    incidents = []
    for number in range(4):
        process = child()
        try:
            before = followed(tmp_path) if (tmp_path / "spool-1.db").exists() else 0
            incidents += [fire.burn(f"p{number}-{each}", f"d{number}-{each}") for each in range(20)]
            _wait(lambda before=before: (tmp_path / "spool-1.db").exists() and _followed(tmp_path) > before)  # type: ignore[misc]
        finally:
            process.kill()
            process.wait()
    process = child()
    try:
        _wait(lambda: _followed(tmp_path) == changes(fire))
    finally:
        process.kill()
        process.wait()
    with closing(connect_readonly(tmp_path / "journal.db")) as connection:
        stories = [timeline(connection, incident) for incident in incidents]
    expected = [(point.device, point.at_ns) for story in stories if story is not None for point in incident_points(story)]
    with closing(connect_readonly(tmp_path / "spool-1.db")) as connection:
        lines = [json.loads(line) for (body,) in connection.execute("SELECT lines FROM batch") for line in body.split(b"\n")]
    assert len(incidents) == 80
    assert {(device, at_ns) for device, at_ns, *_ in lines} == set(expected)
    assert len(set(expected)) == len(expected), "no two moments replace each other"


def _followed(folder: Path) -> int:
    with contextlib.suppress(sqlite3.Error):  # the child is just making it
        return followed(folder)
    return -1


def _wait(condition: Callable[[], bool]) -> None:
    asyncio.run(until(condition))


async def test_coverage_is_written_each_minute_and_when_a_key_site_gains_or_loses_its_detector(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    spool = Spool(tmp_path / "spool-1.db", clock, store_format="line1", max_bytes=10**8, max_age_s=3600.0)
    bench = directory()
    tested = replace(bench.devices["f1"], tested_ms=int(NOW_MS))
    city = Directory({**bench.devices, "f1": tested}, {"p1": Premises("p1", "x", "x", 0.0, 0.0, "1001", key_site=True)})
    async with TelemetryFile(tmp_path / "telemetry.db") as file, spool:
        files = Files(file.path, tmp_path / "journal.db")
        series = PlatformSeries(spool, "line1", lambda: None)
        task = asyncio.create_task(watch_coverage(lambda: city, files, series, clock, look_s=0.02))
        try:

            async def percents() -> list[str]:
                lines = [line for batch in await spool.oldest(1000) for line in batch.lines.decode().split("\n")]
                return [line.partition("percent=")[2].split()[0] for line in lines if "scope=all" in line]

            async def told(*wanted: str) -> bool:
                return await percents() == [*wanted]

            await until(lambda: told("0.0"))
            clock.advance(1.0)
            await file.in_transaction(
                lambda connection: connection.execute(
                    "INSERT INTO presence VALUES ('f1', 'online', 0, ?, '')", (clock.wall_ms(),)
                )
            )
            await until(lambda: told("0.0", "100.0"))
            clock.advance(1.0)
            fire = FireJournal(tmp_path / "journal.db", clock)
            fire.refuse("x", "other")
            fire.close()
            await file.in_transaction(
                lambda connection: connection.execute("INSERT INTO fault VALUES ('f1', 'offline', 0, 0, 1, NULL)")
            )
            await until(lambda: told("0.0", "100.0", "0.0"))
            clock.advance(60.0)
            await until(lambda: told("0.0", "100.0", "0.0", "0.0"))
        finally:
            task.cancel()
            await asyncio.wait({task})
        lines = [line for batch in await spool.oldest(1000) for line in batch.lines.decode().split("\n")]
        assert any(line.startswith("coverage,scope=devices,domain=air,state=active devices=1.0") for line in lines)


async def test_a_drill_is_a_point_for_each_step_and_each_path(tmp_path: Path, fire: FireJournal) -> None:
    store, now_ms = SqlDrills(fire.journal), fire.clock.wall_ms()
    store.ask(Ask("D1", "p1", "lan", "simulated", "d1", "alarm", "[true]"))
    fire.journal.commit(Batch(drills=(Tried("D1", "d1", notice(), now_ms - 9.0, now_ms, now_ms + 1.0),)))
    fire.journal.note_drills(["D1"], now_ms + 2.0)
    store.post("D1", (Way("arc", "arc-2"),))
    work = store.next("arc-2")
    assert work is not None
    store.sent(work, now_ms + 3.0)
    store.acknowledged(work, now_ms + 20.0)
    store.finish()
    async with TelemetryFile(tmp_path / "telemetry.db") as file, following(tmp_path, "row1") as spool:
        await until(lambda: followed(tmp_path) == changes(fire))
        await carried(spool, Settings(data=str(tmp_path)), file)
    steps = {"opened": 1.0, "durable": 2.0, "sent/arc-2": 3.0, "receiver_acknowledged/arc-2": 20.0, "passed": 0.0}
    with closing(TelemetryReader(tmp_path / "telemetry.db")) as reader:
        for step, after_ms in steps.items():
            (sample,) = reader.samples(f"~drill/p1/{step}", "since_received_ms", 0.0, 1e14)
            assert sample.value == pytest.approx(after_ms, abs=0.01), step

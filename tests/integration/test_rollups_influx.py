"""Rolling up InfluxDB: what is asked and written of versions 2 and 3, and what is said when something is missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from iotcore.clock import ManualClock
from iotcore.errors import QueryError
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Settings, Store
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.late import LateHour, note
from iotcore.telemetry.query import open_query
from iotcore.telemetry.rollups import InfluxRollups
from iotcore.telemetry.stores import CONFIDENTIAL_DB
from tests.support.ports import free_port
from tests.support.shipped import SPECS
from tests.support.until import until
from tests.support.victoria import Victoria

START_MS = 1_795_312_800_000  # a whole hour
MINUTE, HOUR = 60_000, 3_600_000
AIR = Binding("air-1", "", SPECS["hach-nitratax"], "water", "gw", "active", premises="Hồ 1, phía Bắc")  # one point
DIRECTORY = Directory({"air-1": AIR})
TAGS = {"device": "air-1", "model": "hach-nitratax", "premises": "Hồ 1, phía Bắc"}


@dataclass
class Influx2:
    """A server of the v2 API that has two samples in the first minute; `buckets` are those that take lines."""

    url: str = ""
    buckets: set[str] = field(default_factory=lambda: {"iotcore_1m", "iotcore_1h"})
    asked: list[str] = field(default_factory=list)
    written: dict[str, set[str]] = field(default_factory=dict)

    async def query(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Token t"
        assert request.query["epoch"] == "ns"
        statement = request.query["q"]
        assert ";" not in statement  # InfluxDB 3 takes one statement at a time
        self.asked.append(statement)
        rows: list[list[float]]
        begin, end = (int(found) for found in re.findall(r"\d{19}", statement)[:2]) if "GROUP BY" in statement else (0, 0)
        at = START_MS * 1_000_000
        if '"quality"' in statement:
            rows, columns = [[at + 1, 0]], ["time", "quality"]
        elif "mean" in statement and begin <= at < end:
            rows, columns = [[at, 2.5, 1, 4, 2]], ["time", "mean", "min", "max", "count"]
        else:
            return web.json_response({"results": [{"statement_id": 0}]})
        series = {"name": "water_station", "tags": TAGS, "columns": columns, "values": rows}
        return web.json_response({"results": [{"statement_id": 0, "series": [series]}]})

    async def write(self, request: web.Request) -> web.Response:
        bucket = request.query["bucket"]
        if bucket not in self.buckets:
            return web.json_response({"code": "not found", "message": f'bucket "{bucket}" not found'}, status=404)
        self.written.setdefault(bucket, set()).update((await request.text()).split("\n"))
        return web.Response(status=204)


@asynccontextmanager
async def influx2() -> AsyncIterator[Influx2]:
    server = Influx2()
    app = web.Application()
    app.router.add_get("/query", server.query)
    app.router.add_post("/api/v2/write", server.write)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    server.url = f"http://127.0.0.1:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def rollups(server: Influx2, folder: Path, clock: ManualClock) -> InfluxRollups:
    store = Store(kind="influx2", url=server.url, token="t", org="city")
    return InfluxRollups(store, folder, clock, lambda: DIRECTORY)


async def test_a_minute_and_an_hour_are_lines_with_mean_count_range_and_completeness(tmp_path: Path) -> None:
    async with influx2() as server:
        await rollups(server, tmp_path, ManualClock(START_MS + HOUR + 3.0 * MINUTE)).roll()
    (point,) = AIR.spec.points
    series = rf"water_station,device=air-1,model=hach-nitratax,premises=Hồ\ 1\,\ phía\ Bắc {point}=2.5,{point}_n=2i"
    rest = f"{point}_min=1.0,{point}_max=4.0"
    assert server.written == {
        "iotcore_1m": {f"{series},{rest},expected=0.2,completeness=1.0 {START_MS}000000"},
        "iotcore_1h": {f"{series},{rest},expected=12.0,completeness={2 / 12!r} {START_MS}000000"},
    }


async def test_a_missing_bucket_says_what_to_run_and_is_tried_again(tmp_path: Path) -> None:
    clock = ManualClock(START_MS + HOUR + 3.0 * MINUTE)
    async with influx2() as server:
        server.buckets = set()
        with pytest.raises(QueryError, match=r"iotcore_1m.*iotcore store init") as refused:
            await rollups(server, tmp_path, clock).roll()
        assert refused.value.reason == "no_database"
        server.buckets = {"iotcore_1m", "iotcore_1h"}
        await rollups(server, tmp_path, clock).roll()
    assert set(server.written) == server.buckets


async def test_each_minute_is_rolled_up_once_and_again_only_when_a_value_was_late(tmp_path: Path) -> None:
    clock = ManualClock(START_MS + HOUR + 3.0 * MINUTE)
    async with influx2() as server, TelemetryFile(tmp_path / "telemetry.db") as file:
        await rollups(server, tmp_path, clock).roll()
        server.written.clear()
        clock.advance(60)
        await rollups(server, tmp_path, clock).roll()  # a process of its own: it remembers by its file
        assert server.written == {}
        late = {LateHour("water_station", "air-1", START_MS)}
        await file.in_transaction(lambda connection: note(connection, late, int(clock.wall_ms())))
        clock.advance(60)
        server.asked.clear()
        await rollups(server, tmp_path, clock).roll()
        assert set(server.written) == {"iotcore_1m", "iotcore_1h"}
        assert any("\"device\" = 'air-1'" in statement for statement in server.asked)
        server.written.clear()
        clock.advance(60)
        await rollups(server, tmp_path, clock).roll()
        assert server.written == {}


async def test_the_keeper_says_what_keeps_it_from_rolling_up(tmp_path: Path) -> None:
    with Victoria(tmp_path) as server:
        store = Store(kind="influx2", url=server.url, token="t", org="o")
        made = InfluxRollups(store, tmp_path, ManualClock(), lambda: DIRECTORY)
        running = asyncio.create_task(made.run())
        await until(lambda: bool(made.state()["rollup_trouble"]), 10.0)
        running.cancel()
    assert made.state() == {"rollup_trouble": "no_influxql"}


async def test_questions_reach_confidential_readings_of_the_embedded_store_too(tmp_path: Path) -> None:
    clock = ManualClock()
    (point,) = AIR.spec.points
    for name, value in (("telemetry.db", 1.0), (CONFIDENTIAL_DB, 3.0)):  # its class became confidential in between
        async with TelemetryFile(tmp_path / name) as file:
            store = EmbeddedStore(file)
            at_ms = START_MS + value * 1000.0
            await store.write(store.record(Reading("air-1", "b", 1, "reading", at_ms, at_ms, (Value(point, value),)), AIR), 1)
    async with open_query(Settings(data=str(tmp_path), store=Store(confidential=["water"])), clock) as query:
        samples = await query.samples("air-1", point, START_MS, START_MS + MINUTE, 10)
        assert [one.value for one in samples] == [1.0, 3.0]
        assert await query.latest("air-1", point) == samples[-1]
        assert await query.series("air-1") == [point]
        (minute,) = await query.intervals(["air-1"], point, START_MS, START_MS + MINUTE, MINUTE)
        assert (minute.mean, minute.values) == (2.0, 2)
    async with open_query(Settings(data=str(tmp_path)), clock) as query:
        assert [one.value for one in await query.samples("air-1", point, START_MS, START_MS + MINUTE, 10)] == [1.0]

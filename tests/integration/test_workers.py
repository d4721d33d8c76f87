"""Several telemetry workers on one machine, and several cells into one store: real brokers, real processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.telemetry.queries import TelemetryReader
from tests.support.cell import CITY, GATEWAY, Cell
from tests.support.influx import Influxd
from tests.support.postgres import Postgres

pytestmark = pytest.mark.timeout(150)

ALL_BUT_WATER = ("fire", "air", "traffic", "gateway")
WITH_WATER = ("fire", "air", "water")
REST = ("traffic", "gateway")
EVERY = ("fire", "air", "water", "traffic", "gateway")
COUNT = 40
DAY_MS = 86_400_000.0
TRACKS = "SELECT DISTINCT device FROM progress WHERE device NOT LIKE '~%'"  # but for the change feed's own


def import_city(cell: Cell) -> None:
    path = cell.folder / "city.json"
    path.write_text(json.dumps(CITY), encoding="utf-8")
    cell.iotcore("import", str(path))


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    made = Cell(tmp_path / "one", [ALL_BUT_WATER, ("water",)])
    import_city(made)
    with made:
        yield made


def owned(cell: Cell, number: int) -> set[str]:
    """The devices that a worker has tracks of."""
    return {
        device for (device,) in cell.rows(f"spool-{number}.db", "SELECT DISTINCT device FROM progress WHERE device NOT LIKE '~%'")
    }


def stored(cell: Cell, device: str, point: str) -> int:
    with closing(TelemetryReader(cell.data / "telemetry.db")) as reader:
        now_ms = SystemClock().wall_ms()
        return len(reader.samples(device, point, now_ms - DAY_MS, now_ms + DAY_MS))


def offline(cell: Cell) -> set[str]:
    with closing(TelemetryReader(cell.data / "telemetry.db")) as reader:
        return {fault.device for fault in reader.faults() if fault.reason == "offline"}


async def test_two_workers_share_the_domains_and_a_domain_moves_from_one_to_the_other(cell: Cell) -> None:
    everything = range(1, COUNT + 1)
    at_ms = int(SystemClock().wall_ms())
    async with cell.gateway() as gateway:
        await asyncio.gather(*(gateway.say(device, everything, at_ms=at_ms) for device in ("a-1", "w-1", GATEWAY)))
        await gateway.send("iot/v1/lift/gw/up/reading/lift-1", b"{}")
        await gateway.send("iot/v1/fire/gw/up/reading/a-1", b"{}")
        for device in ("a-1", "w-1", GATEWAY):
            await gateway.until(lambda device=device: gateway.receipted(device) == COUNT, f"{device} is receipted")  # type: ignore[misc]

        # each device is its owner's alone, and what is nobody's is heard by exactly one
        assert (owned(cell, 1), owned(cell, 2)) == ({"a-1", GATEWAY}, {"w-1"})
        counts = "SELECT reason, count FROM quarantine_count ORDER BY reason"
        await gateway.until(lambda: len(cell.rows("spool-1.db", counts)) == 2, "both strays are refused")
        assert cell.rows("spool-1.db", counts) == [("topic", 1), ("wrong_domain", 1)]
        assert cell.rows("spool-2.db", counts) == []
        for device, point in (("a-1", "pm10"), ("w-1", "ph"), (GATEWAY, "uptime_s")):
            await gateway.until(lambda device=device, point=point: stored(cell, device, point) == COUNT, f"{device} is stored")  # type: ignore[misc]

        # a gateway that is lost is the fault of its children, at whichever worker; each is well again when it speaks
        await gateway.send("iot/v1/gateway/gw/up/status/gw", b'{"state":"offline"}')
        await gateway.until(lambda: offline(cell) == {GATEWAY, "a-1", "w-1"}, "all are offline")
        await gateway.send("iot/v1/gateway/gw/up/status/gw", b'{"state":"online"}')
        await gateway.say("w-1", [COUNT + 1], at_ms=at_ms)
        await gateway.until(lambda: offline(cell) == {"a-1"}, "water speaks again, at its own worker")

        # one that is killed does not touch the other; what it missed waits for it in its session
        cell.kill("telemetry-2")
        await gateway.say("w-1", [COUNT + 2], at_ms=at_ms)
        await gateway.say("a-1", [COUNT + 1], at_ms=at_ms)
        await gateway.until(lambda: gateway.receipted("a-1") == COUNT + 1, "the other goes on")
        assert gateway.receipted("w-1") == COUNT + 1
        assert cell.alive("telemetry-1")
        await asyncio.to_thread(cell.start, "telemetry-2")
        await gateway.until(lambda: gateway.receipted("w-1") == COUNT + 2, "it is back")

        # water moves; what is said meanwhile waits in the former owner's session, and is sent again for want of a receipt
        await asyncio.to_thread(cell.stop, *cell.workers)
        between = range(COUNT + 3, COUNT + 12)
        await gateway.say("w-1", between, at_ms=at_ms)
        cell.share([WITH_WATER, REST])
        await asyncio.to_thread(cell.start, *cell.workers)
        await gateway.until(lambda: stored(cell, "w-1", "ph") == COUNT + 11, "the former owner stores what its session held")
        assert gateway.receipted("w-1") == COUNT + 2, "only the owner receipts"
        await gateway.say("w-1", between, at_ms=at_ms)
        await gateway.until(lambda: gateway.receipted("w-1") == COUNT + 11, "the new owner knew what was receipted before")
        former = cell.rows("spool-2.db", "SELECT up_to FROM progress WHERE device = 'w-1'")
        await gateway.say("w-1", [COUNT + 12], at_ms=at_ms)
        await gateway.say(GATEWAY, [COUNT + 1], at_ms=at_ms)
        await gateway.until(lambda: gateway.receipted("w-1") == COUNT + 12, "the new owner goes on")
        await gateway.until(lambda: gateway.receipted(GATEWAY) == COUNT + 1, "so does the other's new domain")
        assert cell.rows("spool-2.db", "SELECT up_to FROM progress WHERE device = 'w-1'") == former, "its filter is given up"
        assert cell.rows("spool-1.db", "SELECT up_to, above, lost FROM progress WHERE device = 'w-1'") == [(COUNT + 12, "[]", 0)]
    cell.until(lambda: stored(cell, "w-1", "ph") == COUNT + 12, "nothing is there twice")
    assert "database is locked" not in cell.logs()


async def test_two_cells_share_a_registry_and_a_store_and_nothing_else(tmp_path: Path) -> None:
    with Postgres() as postgres, Influxd(tmp_path) as influxd:
        registry = postgres.url(postgres.fresh())
        store = {"kind": "influx1", "url": influxd.url}
        north, south = (Cell(tmp_path / name, [EVERY], store=store, registry=registry) for name in ("north", "south"))
        import_city(north)
        with north, south:
            async with north.gateway(boot="n1") as there, south.gateway(boot="s1") as here:
                await there.say("a-1", range(1, COUNT + 1))
                await here.say("w-1", range(1, COUNT + 1))
                await there.until(lambda: there.receipted("a-1") == COUNT, "the north has it")
                await here.until(lambda: here.receipted("w-1") == COUNT, "the south has it")
                assert (owned(north, 1), owned(south, 1)) == ({"a-1"}, {"w-1"})

                north.kill("telemetry")
                await here.say("a-1", range(1, COUNT + 1))  # the station was moved to the south, and started anew there
                await here.until(lambda: here.receipted("a-1") == COUNT, "the south goes on, with the moved station")
                assert south.alive("telemetry")
            for measurement, points in (("air_station", 2 * COUNT), ("water_station", COUNT)):
                south.until(lambda m=measurement, n=points: influxd.count(m) == n, f"{measurement}: {points} points")  # type: ignore[misc]
            (series,) = influxd.query("SHOW SERIES FROM air_station")
            assert len(series["values"]) == 1, "a device that moved keeps its series"

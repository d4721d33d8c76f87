"""Confidential classes: their values go to a database or file of their own, and nowhere else."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.settings import Settings, Store
from tests.support.influx import Influxd
from tests.support.influx_fake import OPERATOR, ORG, InfluxFake
from tests.support.telemetry_bench import Bench, until


@pytest.fixture
def influxd(tmp_path: Path) -> Iterator[Influxd]:
    with Influxd(tmp_path) as server:
        yield server


def say(bench: Bench) -> None:
    """A confidential signal and air station, a public water station, one arrival each."""
    bench.say("s1", 1, {"plan": 1.0})
    bench.say("a1", 1, {"pm10": 12.5})
    bench.say("w1", 1, {"ph": 7.2})


async def test_influxdb_1_keeps_confidential_domains_and_classes_in_their_own_database(tmp_path: Path, influxd: Influxd) -> None:
    store = Store(kind="influx1", url=influxd.url, confidential=["traffic", "air_station"], database_confidential="secret")
    bench = Bench(tmp_path, Settings(data=str(tmp_path), store=store))
    async with bench.running():
        say(bench)
        await until(bench.drained)
        await until(lambda: len(bench.field.acknowledged) == 3)
        await until(lambda: bench.receipted("s1") == bench.receipted("w1") == 1)
    measurements = {
        name: {row[0] for series in influxd.query("SHOW MEASUREMENTS", name) for row in series["values"]}
        for name in ("iotcore", "secret")
    }
    assert measurements == {"iotcore": {"water_station"}, "secret": {"traffic_signal", "air_station"}}


async def test_influxdb_2_keeps_them_in_their_own_bucket_and_neither_waits_for_the_other(tmp_path: Path) -> None:
    async with InfluxFake("2.7.12").make("iotcore") as fake:
        store = Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR, confidential=["traffic"])
        bench = Bench(tmp_path, Settings(data=str(tmp_path), store=store))
        async with bench.running() as lane:
            say(bench)
            await until(lambda: fake.buckets["iotcore"].count("water_station") == 1)
            await until(lambda: lane.counts()["store_trouble"] == "no_database")
            assert fake.buckets["iotcore"].count("traffic_signal") == 0
            fake.make("iotcore_confidential")
            await until(lambda: fake.buckets["iotcore_confidential"].count("traffic_signal") == 1)
            await until(lambda: lane.counts()["store_trouble"] == "")
        assert {key[0] for key in fake.buckets["iotcore"].points} == {"air_station", "water_station"}


async def test_the_embedded_store_keeps_them_in_a_file_that_only_we_can_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Settings(data=str(tmp_path), store=Store(confidential=["traffic"])))
    path = tmp_path / "telemetry-confidential.db"
    async with bench.running():
        say(bench)
        await until(lambda: _devices(path) == {"s1"} and _devices(tmp_path / "telemetry.db") == {"a1", "w1"})
        assert _modes(path) == {0o600}


async def test_what_waits_when_nothing_is_confidential_any_more_stays_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Store(kind="influx2", url="http://127.0.0.1:9", token="t", confidential=["traffic"])
    bench = Bench(tmp_path, Settings(data=str(tmp_path), store=nowhere))
    async with bench.running():
        bench.say("s1", 1, {"plan": 1.0})
        await until(lambda: bench.receipted("s1") == 1)
    async with InfluxFake("2.7.12").make("iotcore") as fake:
        store = Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR)
        public = Bench(tmp_path, Settings(data=str(tmp_path), store=store))
        async with public.running():
            public.say("w1", 1, {"ph": 7.2})
            await until(lambda: fake.buckets["iotcore"].count("water_station") == 1)
            assert fake.buckets["iotcore"].count("traffic_signal") == 0
    assert "1 batches of confidential readings wait in the spool" in caplog.text


def _modes(path: Path) -> set[int]:
    """Of the file and of what SQLite keeps beside it."""
    return {stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob(f"{path.name}*")}


def _devices(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as reader:
        return {row[0] for row in reader.execute("SELECT DISTINCT device FROM series JOIN value ON value.series = series.id")}

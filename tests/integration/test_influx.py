"""Writing to the real InfluxDB 1.x, to the v2 API of VictoriaMetrics, and to answers that neither of the two gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from msgspec import structs

from iotcore.clock import ManualClock
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.settings import Store
from iotcore.telemetry.influx import Influx1, Influx2
from iotcore.telemetry.store import Later, Written
from tests.support.influx import Influxd
from tests.support.influx_fake import OPERATOR, ORG, InfluxFake
from tests.support.joined import joined
from tests.support.ports import free_port
from tests.support.shipped import SPECS
from tests.support.victoria import Victoria

CLOCK = ManualClock()
AIR = Binding("a1", "", SPECS["vaisala-aqt530"], "air", "gw", "active", premises="Trạm 1, Hàm Rồng")
SIGNAL = Binding("s1", "", SPECS["iotcore-mqtt-signal"], "traffic", "s1", "active")
READING = Reading("a1", "b", 1, "reading", CLOCK.now_ms, CLOCK.now_ms, (Value("pm10", 12.5), Value("no2", 7.0)))


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest.fixture
async def store(influxd: Influxd) -> AsyncIterator[Influx1]:
    influxd.query('DROP DATABASE "iotcore"')
    async with Influx1(Store(kind="influx1", url=influxd.url), CLOCK) as one:
        assert await one.ensure() is None
        yield one


async def test_a_reading_comes_back_by_influxql_with_its_time_tags_and_values(store: Influx1, influxd: Influxd) -> None:
    assert await store.write(*joined(store.record(READING, AIR))) == Written()
    (series,) = influxd.query("SELECT * FROM air_station")
    row = dict(zip(series["columns"], series["values"][0], strict=True))
    assert row == {
        "time": int(CLOCK.now_ms) * 1_000_000 + 1,
        "device": "a1",
        "model": "vaisala-aqt530",
        "premises": "Trạm 1, Hàm Rồng",
        "pm10": 12.5,
        "no2": 7,
        "quality": 0,
    }


async def test_writing_twice_leaves_one_point(store: Influx1, influxd: Influxd) -> None:
    lines = [store.record(structs.replace(READING, seq=seq), AIR) for seq in (1, 2, 3)]
    for _ in range(2):
        assert await store.write(*joined(*lines)) == Written()
    assert influxd.count("air_station") == 3


@pytest.mark.parametrize("text", ['say "no"', "back\\slash", "a,b=c d", "ends\\", "Đèn đỏ ⛔", ""])
async def test_text_comes_back_as_it_was(store: Influx1, influxd: Influxd, text: str) -> None:
    reading = structs.replace(READING, device="s1", told=(Value("mode", text),))
    assert await store.write(*joined(store.record(reading, SIGNAL))) == Written()
    (series,) = influxd.query("SELECT mode FROM traffic_signal")
    assert series["values"][0][1] == text


@pytest.mark.parametrize("premises", ["a b", "a,b", "a=b", "a\\b", "a\\,b", 'a"b', "số 8"])
async def test_a_tag_comes_back_as_it_was(store: Influx1, influxd: Influxd, premises: str) -> None:
    assert await store.write(*joined(store.record(READING, replace(AIR, premises=premises)))) == Written()
    (series,) = influxd.query('SHOW TAG VALUES FROM air_station WITH KEY = "premises"')
    assert series["values"] == [["premises", premises]]


@pytest.mark.parametrize("number", [0.0, -1e-7, 1e25, 5e-324, 1.7e308, 123456789.125])
async def test_a_number_comes_back_as_it_was(store: Influx1, influxd: Influxd, number: float) -> None:
    reading = structs.replace(READING, told=(Value("pm10", number),))
    assert await store.write(*joined(store.record(reading, AIR))) == Written()
    (series,) = influxd.query("SELECT pm10 FROM air_station")
    assert series["values"][0][1] == number


async def test_one_line_of_the_wrong_type_is_found_and_the_others_are_stored(store: Influx1, influxd: Influxd) -> None:
    await store.write(*joined(store.record(READING, AIR)))
    lines = [store.record(structs.replace(READING, seq=seq), AIR) for seq in range(2, 40)]
    wrong = b'air_station,device=a1 pm10="high" 1795312800000000000'
    garbage = b"this is no line"
    result = await store.write(*joined(*lines[:20], wrong, *lines[20:], garbage))
    assert isinstance(result, Written)
    said = {one.record: one.detail for one in result.rejected}
    assert said.keys() == {wrong, garbage}
    assert "field type conflict" in said[wrong]
    assert "unable to parse" in said[garbage]
    assert influxd.count("air_station") == 39


async def test_a_batch_that_is_wrong_as_a_whole_needs_no_halving(store: Influx1) -> None:
    await store.write(*joined(store.record(READING, AIR)))
    wrong = [b'air_station,device=a1 pm10="high" %d' % (1_795_312_800_000_000_000 + n) for n in range(1000)]
    result = await store.write(*joined(*wrong))
    assert isinstance(result, Written)
    assert len(result.rejected) == 1000


async def test_a_database_that_vanished_is_created_again(store: Influx1, influxd: Influxd) -> None:
    influxd.query('DROP DATABASE "iotcore"')
    result = await store.write(*joined(store.record(READING, AIR)))
    assert isinstance(result, Later)
    assert result.reason == "no_database"
    assert await store.write(*joined(store.record(READING, AIR))) == Written()


async def test_a_server_that_is_not_there_means_later() -> None:
    nowhere = Store(kind="influx1", url=f"http://127.0.0.1:{free_port()}")
    for kind in (Influx1, Influx2):
        async with kind(nowhere, CLOCK) as store:
            result = await store.write(*joined(b"a b=1 1"))
            assert isinstance(result, Later)
            assert result.reason == "unreachable"
            assert (await store.ensure()) is not None


async def test_a_wrong_password_means_later_and_the_right_one_writes(tmp_path: Path) -> None:
    with Influxd(tmp_path, user="lane", password="pw") as server:
        async with Influx1(Store(kind="influx1", url=server.url, username="lane", password="no"), CLOCK) as store:
            result = await store.write(*joined(b"a b=1 1"))
            assert isinstance(result, Later)
            assert result.reason == "not_authorised"
        async with Influx1(Store(kind="influx1", url=server.url, username="lane", password="pw"), CLOCK) as store:
            assert await store.ensure() is None
            assert await store.write(*joined(b"a quality=1 1")) == Written()


async def test_the_v2_road_reaches_a_real_server_and_the_fake_takes_it_alike(tmp_path: Path) -> None:
    bad = structs.replace(READING, seq=2, told=(Value("pm10", 9999.0, Quality.BAD, "out_of_range"),))
    async with InfluxFake("2.7.12").make("iotcore") as fake:
        with Victoria(tmp_path) as server:
            for url in (server.url, fake.url):
                async with Influx2(Store(kind="influx2", url=url, org=ORG, token=OPERATOR), CLOCK) as store:
                    assert await store.ensure() is None
                    for _ in range(2):
                        assert await store.write(*joined(store.record(READING, AIR), store.record(bad, AIR))) == Written()
            numbers = {}
            for name in ("pm10", "pm10_bad", "no2"):
                (series,) = server.export(f'{{__name__="air_station_{name}"}}')
                values = sorted(set(series["values"]))  # it keeps what comes twice until it is asked not to
                numbers[name] = (series["metric"]["device"], series["metric"]["premises"], values)
        kept = {
            name: (dict(tags)["device"], dict(tags)["premises"], [value])
            for (_, tags, _), fields in fake.buckets["iotcore"].points.items()
            for name, value in fields.items()
            if name in numbers
        }
        assert (
            kept == numbers == {name: ("a1", AIR.premises, [v]) for name, v in (("pm10", 12.5), ("pm10_bad", 9999), ("no2", 7))}
        )


Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server that answers as the InfluxDB documentation says; gives its URL."""
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("kind", [Influx1, Influx2])
@pytest.mark.parametrize(
    ("status", "header", "wait_s"),
    [
        (429, "7", 7.0),
        (503, "Sun, 22 Nov 2026 02:00:30 GMT", 30.0),
        (503, "Sun, 22 Nov 2026 01:00:00 GMT", 0.0),
        (503, "Mon, 23 Nov 2026 02:00:00 GMT", 300.0),
        (429, "soon", 0.0),
        (500, "", 0.0),
        (502, "", 0.0),
    ],
)
async def test_a_busy_or_broken_server_is_asked_again_when_it_says(
    kind: type[Influx1 | Influx2], status: int, header: str, wait_s: float
) -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": header} if header else {}, text="busy")

    async with answering(busy) as url, kind(Store(url=url, org="city", token="secret"), CLOCK) as store:
        assert await store.write(*joined(b"a pm10=1.0 1")) == Later(f"http_{status}", "busy", wait_s)

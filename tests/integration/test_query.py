"""The same readings in the embedded store and in a real InfluxDB 1.x give the same answers to every question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import QueryError
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Settings, Store
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.influx import Influx1
from iotcore.telemetry.late import noting
from iotcore.telemetry.query import Interval, Query, Sample, open_query
from iotcore.telemetry.rollups import InfluxRollups
from iotcore.telemetry.store import Store as TelemetryStore
from iotcore.telemetry.store import Written
from iotcore.telemetry.upkeep import Upkeep
from tests.support.influx import Influxd
from tests.support.shipped import SPECS
from tests.support.victoria import Victoria

START_MS = 1_795_312_800_000.0  # 2026-11-22T02:00:00Z, a whole hour
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
AIR = Binding("air-1", "", SPECS["vaisala-aqt530"], "air", "gw", "active", premises="Trạm 1, Hàm Rồng")
SIGNAL = Binding("signal-1", "", SPECS["iotcore-mqtt-signal"], "traffic", "signal-1", "active")
SMOKE = Binding("smoke-1", "", SPECS["iotcore-smoke-heat"], "fire", "smoke-1", "active")
DIRECTORY = Directory({binding.device: binding for binding in (AIR, SIGNAL, SMOKE)})


@dataclass
class Both:
    """Two stores with the same content, and what keeps each rolled up."""

    clock: ManualClock
    stores: list[TelemetryStore]
    queries: list[Query]
    upkeep: Upkeep
    rollups: InfluxRollups
    influxd: Influxd

    async def write(self, binding: Binding, *readings: Reading) -> None:
        for store in self.stores:
            body = b"\n".join(store.record(one, binding) for one in readings)
            assert await store.write(body, len(readings)) == Written()

    async def roll(self) -> None:
        await self.upkeep.roll()
        await self.rollups.roll()

    async def samples(
        self, device: str, point: str, start_ms: float = 0.0, end_ms: float = 2e12, limit: int = 1000
    ) -> list[Sample]:
        one, other = [await query.samples(device, point, start_ms, end_ms, limit) for query in self.queries]
        assert one == other
        return one

    async def latest(self, device: str, point: str) -> Sample | None:
        one, other = [await query.latest(device, point) for query in self.queries]
        assert one == other
        return one

    async def series(self, device: str) -> list[str]:
        one, other = [await query.series(device) for query in self.queries]
        assert one == other
        return one

    async def intervals(self, devices: list[str], point: str, start_ms: float, end_ms: float, interval_ms: int) -> list[Interval]:
        one, other = [await query.intervals(devices, point, start_ms, end_ms, interval_ms) for query in self.queries]
        assert one == [pytest.approx(interval) for interval in other]
        return one


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest.fixture
async def both(influxd: Influxd, tmp_path: Path) -> AsyncIterator[Both]:
    for database in influxd.databases():
        influxd.query(f'DROP DATABASE "{database}"')
    clock = ManualClock()
    influx = Settings(data=str(tmp_path), store=Store(kind="influx1", url=influxd.url))
    async with AsyncExitStack() as stack:
        file = await stack.enter_async_context(TelemetryFile(tmp_path / "telemetry.db"))
        embedded = EmbeddedStore(file)
        remote = await stack.enter_async_context(Influx1(influx.store, clock))
        assert await remote.ensure() is None
        queries = [
            await stack.enter_async_context(open_query(settings, clock)) for settings in (Settings(data=str(tmp_path)), influx)
        ]
        upkeep = Upkeep(embedded, Store(), clock, lambda: DIRECTORY)
        rollups = InfluxRollups(influx.store, tmp_path, clock, lambda: DIRECTORY)
        yield Both(clock, [embedded, noting(remote, file, clock)], queries, upkeep, rollups, influxd)


def reading(binding: Binding, seq: int, after_ms: float, *values: Value, test: bool = False) -> Reading:
    at_ms = START_MS + after_ms
    return Reading(binding.device, "b1", seq, "reading", at_ms, at_ms + 50.0, values, test=test)


def pm10(seq: int, after_ms: float, value: float | None, quality: Quality = Quality.GOOD, *, test: bool = False) -> Reading:
    return reading(AIR, seq, after_ms, Value("pm10", value, quality, "" if quality is Quality.GOOD else "why"), test=test)


async def test_values_of_every_quality_and_tests_come_back_alike(both: Both) -> None:
    await both.write(
        AIR,
        pm10(1, 0, 12.5),
        pm10(2, 1, 13.0, Quality.UNCERTAIN),
        pm10(3, 1001, 900.0, Quality.BAD),
        pm10(4, 2000, None, Quality.BAD),
        pm10(5, 3000, float("nan")),
        pm10(6, 4000, 7.0, test=True),
        reading(AIR, 7, 5000, Value("no2", 1.0)),  # a reading without this point is no sample of it
        reading(AIR, 8, 6000, Value("no2", 1.0), test=True),
    )
    assert await both.samples("air-1", "pm10") == [
        Sample(START_MS, 12.5, Quality.GOOD, False),  # noqa: FBT003 - the record itself
        Sample(START_MS + 1, 13.0, Quality.UNCERTAIN, False),  # noqa: FBT003 - the record itself
        Sample(START_MS + 1001, 900.0, Quality.BAD, False),  # noqa: FBT003 - the record itself
        Sample(START_MS + 2000, None, Quality.BAD, False),  # noqa: FBT003 - the record itself
        Sample(START_MS + 3000, None, Quality.BAD, False),  # noqa: FBT003 - the record itself
        Sample(START_MS + 4000, 7.0, Quality.GOOD, True),  # noqa: FBT003 - the record itself
    ]
    assert await both.latest("air-1", "pm10") == Sample(START_MS + 4000, 7.0, Quality.GOOD, True)  # noqa: FBT003 - the record itself
    assert await both.series("air-1") == ["no2", "pm10"]


async def test_text_and_truth_values_come_back_alike_and_text_has_no_mean(both: Both) -> None:
    await both.write(
        SIGNAL,
        reading(SIGNAL, 1, 0, Value("mode", 'say "Đèn đỏ"\nnow'), Value("conflict", True)),  # noqa: FBT003 - the value itself
        reading(SIGNAL, 2, 1000, Value("mode", "flash", Quality.BAD, "stuck"), Value("conflict", False)),  # noqa: FBT003 - the value itself
        reading(SIGNAL, 3, 2000, Value("mode", 5.0), Value("unheard_of", 5.0)),
    )
    assert [(one.value, one.quality) for one in await both.samples("signal-1", "mode")] == [
        ('say "Đèn đỏ" now', Quality.GOOD), (None, Quality.BAD), (None, Quality.BAD)
    ]  # fmt: skip
    assert [one.value for one in await both.samples("signal-1", "conflict")] == [1.0, 0.0]
    assert await both.intervals(["signal-1"], "mode", START_MS, START_MS + MINUTE, 1000) == []
    assert await both.series("signal-1") == ["conflict", "mode"]


async def test_ranges_are_half_open_to_the_millisecond_and_give_the_newest_when_there_are_too_many(both: Both) -> None:
    await both.write(AIR, *(pm10(seq, seq, float(seq)) for seq in range(1, 10)))
    assert [one.value for one in await both.samples("air-1", "pm10", START_MS + 3, START_MS + 6)] == [3.0, 4.0, 5.0]
    assert [one.value for one in await both.samples("air-1", "pm10", START_MS + 2.5, START_MS + 5.5)] == [3.0, 4.0, 5.0]
    assert [one.value for one in await both.samples("air-1", "pm10", limit=2)] == [8.0, 9.0]
    assert await both.samples("air-1", "pm10", START_MS + 10, START_MS + 10) == []
    assert await both.samples("air-1", "pm10", START_MS + 100, START_MS + 200) == []


async def test_what_nobody_ever_wrote_is_empty(both: Both) -> None:
    await both.write(AIR, pm10(1, 0, 1.0))
    for device, point in (("nobody", "pm10"), ("air-1", "so2"), ("air-1", "nothing"), ("' OR 1=1 --", 'pm10" FROM x; DROP')):
        assert await both.latest(device, point) is None
        assert await both.samples(device, point) == []
        assert await both.intervals([device], point, START_MS, START_MS + HOUR, MINUTE) == []
    assert await both.series("nobody") == []


async def test_intervals_are_whole_aligned_to_utc_and_without_bad_values_and_tests(both: Both) -> None:
    await both.write(
        AIR,
        pm10(1, 0, 1.0),
        pm10(2, 20_000, 4.0, Quality.UNCERTAIN),
        pm10(3, 30_000, 900.0, Quality.BAD),
        pm10(4, 40_000, 500.0, test=True),
        pm10(5, 70_000, 8.0),
        pm10(6, 130_000, 500.0, test=True),
    )
    await both.write(SMOKE, reading(SMOKE, 1, 0, Value("smoke", 0.5)))
    found = await both.intervals(["smoke-1", "air-1", "air-1"], "pm10", START_MS + 30_000, START_MS + 100_000, MINUTE)
    assert found == [
        Interval("air-1", START_MS, 2.5, 1.0, 4.0, 2),
        Interval("air-1", START_MS + MINUTE, 8.0, 8.0, 8.0, 1),
    ]
    (day,) = await both.intervals(["air-1"], "pm10", START_MS, START_MS + 1, DAY)
    assert (day.start_ms, day.values, day.maximum) == (START_MS - 2 * HOUR, 3, 8.0)
    (seven,) = await both.intervals(["air-1"], "pm10", START_MS, START_MS + 1, 7 * 1000 + 1)
    assert seven.start_ms % 7001 == 0


async def test_rollups_answer_for_old_times_after_the_samples_are_gone(both: Both) -> None:
    for hour in range(3):
        await both.write(AIR, *(pm10(hour * 60 + m, hour * HOUR + m * MINUTE, float(hour * 60 + m)) for m in range(0, 60, 2)))
    await both.write(AIR, pm10(500, 10 * MINUTE + 1000, 10_000.0, test=True), pm10(501, 10 * MINUTE + 2000, 20.0))
    span = (START_MS, START_MS + 4 * HOUR)
    fresh = {width: await both.intervals(["air-1"], "pm10", *span, width) for width in (MINUTE, 5 * MINUTE, HOUR, DAY)}
    both.clock.now_ms = START_MS + 4 * HOUR + 5 * MINUTE
    await both.roll()
    both.influxd.query("DELETE FROM air_station")
    await both.upkeep._file.in_transaction(lambda connection: connection.execute("DELETE FROM value"))
    for width, expected in fresh.items():
        found = await both.intervals(["air-1"], "pm10", *span, width)
        assert [one[:6] for one in found] == [pytest.approx(one[:6]) for one in expected]
    hours = await both.intervals(["air-1"], "pm10", *span, HOUR)
    assert [one.completeness for one in hours] == [31 / 60, 0.5, 0.5]
    assert await both.intervals(["air-1"], "pm10", *span, 7000) == []


async def test_what_is_newer_than_the_rollups_comes_from_samples(both: Both) -> None:
    await both.write(AIR, *(pm10(minute + 1, minute * MINUTE, float(minute)) for minute in range(60)))
    both.clock.now_ms = START_MS + 30 * MINUTE
    await both.roll()
    for query in both.queries:
        found = await query.intervals(["air-1"], "pm10", START_MS, START_MS + HOUR, MINUTE)
        assert [one.mean for one in found] == [float(minute) for minute in range(60)]
        assert (found[0].completeness, found[-1].completeness) == (1.0, None)
    (hour,) = await both.intervals(["air-1"], "pm10", START_MS, START_MS + HOUR, HOUR)
    assert (hour.values, hour.mean) == (60, 29.5)


async def test_late_values_are_in_the_rollups_after_the_next_round(both: Both) -> None:
    await both.write(AIR, pm10(1, 0, 10.0), pm10(2, 2 * HOUR, 1.0))
    both.clock.now_ms = START_MS + 3 * HOUR
    await both.roll()
    await both.write(AIR, pm10(3, 30_000, 30.0), pm10(4, 30 * MINUTE, 40.0))
    both.clock.advance(300)
    await both.roll()
    minutes = await both.intervals(["air-1"], "pm10", START_MS, START_MS + HOUR, MINUTE)
    assert [(one.start_ms, one.mean, one.values) for one in minutes] == [(START_MS, 20.0, 2), (START_MS + 30 * MINUTE, 40.0, 1)]
    hours = await both.intervals(["air-1"], "pm10", START_MS, START_MS + 3 * HOUR, HOUR)
    assert [(one.values, one.mean) for one in hours] == [(3, pytest.approx(80 / 3)), (1, 1.0)]


async def test_rolling_up_twice_changes_nothing_and_downtime_is_caught_up(both: Both) -> None:
    await both.write(AIR, *(pm10(hour + 1, hour * HOUR, float(hour)) for hour in range(0, 50, 10)))
    both.clock.now_ms = START_MS + 25 * HOUR
    await both.roll()
    both.clock.now_ms = START_MS + 60 * HOUR
    await both.roll()
    once = await both.intervals(["air-1"], "pm10", START_MS, START_MS + 60 * HOUR, HOUR)
    await both.roll()
    assert await both.intervals(["air-1"], "pm10", START_MS, START_MS + 60 * HOUR, HOUR) == once
    assert [one.mean for one in once] == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert all(one.completeness == pytest.approx(1 / 60) for one in once)


async def test_a_question_that_is_too_large_says_what_to_ask_instead(both: Both) -> None:
    for query in both.queries:
        with pytest.raises(QueryError, match="longer intervals, a shorter range or fewer devices"):
            await query.intervals(["air-1"], "pm10", 0.0, START_MS, 1000)
        with pytest.raises(QueryError, match="bad_range"):
            await query.samples("air-1", "pm10", 0.0, float("inf"), 10)


async def test_a_store_that_is_not_there_says_what_to_do(both: Both, tmp_path: Path) -> None:
    gone = Store(kind="influx1", url="http://127.0.0.1:9")
    other = Store(kind="influx1", url=both.influxd.url, database="other")
    for settings, reason in (
        (Settings(data=str(tmp_path / "none")), "no_database"),
        (Settings(data=str(tmp_path), store=gone), "unreachable"),
        (Settings(data=str(tmp_path), store=other), "no_database"),
    ):
        async with open_query(settings, both.clock) as query:
            with pytest.raises(QueryError, match=r"check|iotcore store init") as refused:
                await query.latest("air-1", "pm10")
        assert refused.value.reason == reason


async def test_a_server_without_influxql_is_named_as_such(tmp_path: Path) -> None:
    with Victoria(tmp_path) as server:
        store = Store(kind="influx2", url=server.url, token="t", org="o")
        async with open_query(Settings(data=str(tmp_path), store=store), ManualClock()) as query:
            with pytest.raises(QueryError, match="VictoriaMetrics") as refused:
                await query.latest("air-1", "pm10")
    assert refused.value.reason == "no_influxql"

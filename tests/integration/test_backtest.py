"""A rule over recorded readings: out of the embedded store and out of a real InfluxDB, in pages, by places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.process import backtest
from iotcore.process.backtest import Limits, Trial
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.settings import Settings, Store
from iotcore.telemetry.query import open_query
from iotcore.telemetry.recorded import pages
from iotcore.telemetry.stores import open_store
from tests.support.bound import bound
from tests.support.influx import Influxd
from tests.support.ruling import BASE
from tests.support.shipped import SPECS

START_MS = 1_795_312_800_000.0
SPEC = SPECS["iotcore-smoke-heat"]
DEVICES = [bound(SPEC, "s1", "school"), bound(SPEC, "s2", "market"), bound(SPEC, "s3", "market"), bound(SPEC, "s4")]
FIRES_AT = {"s1": (100, 400), "s3": (250,), "s4": ()}  # s2 has never said anything
SPAN = (START_MS, START_MS + 1_000_000.0)


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest.fixture(params=["embedded", "influx1"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A store with 500 readings of each of three detectors, of whom two had smoke."""
    if request.param == "embedded":
        found = Settings(data=str(tmp_path))
    else:
        server: Influxd = request.getfixturevalue("influxd")
        for database in server.databases():
            server.query(f'DROP DATABASE "{database}"')
        found = Settings(data=str(tmp_path), store=Store(kind="influx1", url=server.url))
    async with open_store(found, ManualClock()) as store:
        await store.ensure()
        for one in DEVICES:
            if one.device in FIRES_AT:
                lines = [store.record(reading, one) for reading in _readings(one)]
                await store.write(b"\n".join(lines), len(lines))
    return found


def _readings(one: Binding) -> Iterator[Reading]:
    for seq in range(500):
        smoke = 0.5 if any(at <= seq < at + 20 for at in FIRES_AT[one.device]) else 0.01
        values: tuple[Value, ...] = (Value("smoke", smoke), Value("temperature", 24.0), Value("alarm", value=False))
        if seq == 30:
            values = (Value("smoke", None, Quality.BAD, "timeout"), Value("alarm", value=one.device == "s4"))
        at_ms = START_MS + seq * 2_000.0
        yield Reading(one.device, "b", seq, "reading", at_ms, at_ms, values, test=seq in range(50, 60))


async def test_it_counts_by_premises_and_says_when_and_by_what(settings: Settings) -> None:
    trial = Trial("smoke-level", [BASE], DEVICES, SPAN)
    async with open_query(settings, ManualClock()) as query:
        ((one,), evidence) = await backtest.run(query, trial, ManualClock())
    assert one.outcome.by_premises == {"school": 2, "market": 1}
    seconds = {(firing.device, (firing.at_ms - START_MS) / 2_000.0) for firing in one.outcome.firings}
    # as the engine decides: the mean of the last 6 s must be above 0.25 dB/m
    assert seconds == {("s1", 101.0), ("s1", 401.0), ("s3", 251.0)}
    assert (evidence.devices, evidence.with_data, evidence.readings, evidence.tests) == (4, 3, 1500, 30)
    assert evidence.bad == 3


async def test_a_state_is_a_state_again(settings: Settings) -> None:
    trial = Trial("detector-alarm", [BASE], DEVICES, SPAN)
    async with open_query(settings, ManualClock()) as query:
        ((one,), _) = await backtest.run(query, trial, ManualClock())
    assert [(firing.device, firing.point, firing.value) for firing in one.outcome.firings] == [("s4", "alarm", True)]


async def test_the_size_of_a_page_changes_nothing(settings: Settings) -> None:
    async with open_query(settings, ManualClock()) as query:
        wanted = [(one, ["smoke", "temperature"]) for one in DEVICES]
        whole = [pair[0] for page in [p async for p in pages(query, wanted, SPAN)] for pair in page]
        small = [page async for page in pages(query, wanted, SPAN, page_rows=100)]
    assert len(small) > 10
    assert max(len(page) for page in small) <= 200
    times = [pair[0].observed_ms for page in small for pair in page]
    assert times == sorted(times)
    assert [(one.device, one.observed_ms, one.values) for page in small for one, _ in page] == [
        (one.device, one.observed_ms, one.values) for one in whole
    ]


async def test_it_stops_where_it_is_told_to_and_says_so(settings: Settings) -> None:
    trial = Trial("smoke-level", [BASE, BASE], DEVICES, SPAN)
    async with open_query(settings, ManualClock()) as query:
        for limits, cut in ((Limits(readings=400), "rows"), (Limits(seconds=-1.0), "time"), (Limits(devices=2), "devices")):
            replays, evidence = await backtest.run(query, trial, ManualClock(), limits, page_rows=300)
            assert evidence.cut == cut
            assert len(replays) == 2
            assert evidence.readings < 1500

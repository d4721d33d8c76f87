"""`iotcore telemetry query` and `latest`: what people and programs get to see, the same of either store."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from iotcore.commands import telemetry_query
from iotcore.commands.telemetry_query import Wanted
from iotcore.errors import QueryError, StartError
from iotcore.reading import Quality, Value
from iotcore.settings import Settings, Store
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.stores import TELEMETRY_DB
from tests.support.influx import Influxd
from tests.support.ports import free_port
from tests.support.technician import said
from tests.support.telemetry_folder import CLOCK, EVERY_MS, START_MS, prepared, reading, readings

COUNT = 60
SPAN = (START_MS, START_MS + COUNT * EVERY_MS)
MINUTE_MS = 60_000
MADE = [one for one in readings(COUNT) if not 20 <= one.seq < 40]  # with a gap of 200 s
Show = Callable[..., Any]


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["embedded", "influx1"])
async def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        return await prepared(folder, MADE)
    influxd: Influxd = request.getfixturevalue("influxd")
    return await prepared(folder, MADE, Store(kind="influx1", url=influxd.url, retention_days=0))


@pytest.fixture
def show(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Show:
    """What a query prints."""

    async def shown(device: str, point: str, output: str, **more: Any) -> str:
        wanted = Wanted(device, point, more.get("span_ms", SPAN), more.get("every_ms"), more.get("limit", 1000))
        assert await telemetry_query.query(settings, CLOCK, wanted, output) == 0
        return capsys.readouterr().out

    return shown


async def test_json_has_every_value_with_its_time_in_utc_and_its_quality(show: Show) -> None:
    document = json.loads(await show("sd-1", "temperature", "json"))
    values = document.pop("values")
    assert document == {
        "device": "sd-1",
        "point": "temperature",
        "title": {"vi": "Nhiệt độ", "en": "Temperature"},
        "unit": "°C",
        "from": "2026-11-22T02:00:00.000Z",
        "to": "2026-11-22T02:10:00.000Z",
        "every_s": None,
        "cut": False,
    }
    assert len(values) == 40
    assert values[3] == {"time": "2026-11-22T02:00:30.000Z", "value": 2000.0, "quality": "bad", "test": False}
    assert values[4] == {"time": "2026-11-22T02:00:40.000Z", "value": 20.5, "quality": "good", "test": True}


async def test_json_of_intervals_has_their_means_without_bad_values_and_tests(show: Show) -> None:
    document = json.loads(await show("sd-1", "temperature", "json", every_ms=MINUTE_MS))
    assert document["every_s"] == 60.0
    first, *rest = document["values"]
    assert {name: first[name] for name in ("time", "mean", "min", "max", "values")} == {
        "time": "2026-11-22T02:00:00.000Z",
        "mean": pytest.approx((20.0 + 20.125 + 20.25 + 20.625) / 4),
        "min": 20.0,
        "max": 20.625,
        "values": 4,
    }
    assert [one["time"][14:16] for one in rest] == ["01", "02", "03", "06", "07", "08", "09"], "the gap has no intervals"


async def test_csv_has_the_same_columns_and_words_quoted(show: Show) -> None:
    rows = list(csv.DictReader(io.StringIO(await show("tl-1", "mode", "csv"))))
    assert len(rows) == 40
    assert rows[0] == {"time": "2026-11-22T02:00:00.000Z", "value": 'say "go"', "quality": "good", "test": "false"}
    means = await show("tl-1", "plan", "csv", every_ms=MINUTE_MS)
    assert means.startswith("time,mean,min,max,values,completeness\n")


async def test_a_table_is_of_the_citys_clock_and_says_what_it_left_out(show: Show) -> None:
    lines = (await show("sd-1", "alarm", "table", limit=2)).splitlines()
    assert lines[0] == "Detector's own alarm: sd-1 alarm, 2026-11-22 09:00 – 2026-11-22 09:10"
    assert [line.split() for line in lines[1:4]] == [
        ["time", "(Asia/Ho_Chi_Minh)", "value", "quality", "test"],
        ["2026-11-22", "09:09:40.000", "false", "good", "false"],
        ["2026-11-22", "09:09:50.000", "false", "good", "false"],
    ]
    assert lines[4].startswith("the newest 2; there are more")


async def test_a_chart_shows_the_gap_and_counts_what_it_does_not_draw(show: Show) -> None:
    lines = (await show("sd-1", "temperature", "chart")).splitlines()
    assert lines[0].startswith("Temperature [°C]: sd-1 temperature, 2026-11-22 09:00 – ")
    assert lines[-1] == "min 20  mean 23.75  max 27.25 °C  (33 values; not drawn: 6 bad, 1 tests)"
    assert lines[-2].split()[:2] == ["09:00", "09:02"]
    drawn = [re.split("[┤│]", line, maxsplit=1)[1] for line in lines if re.search("[┤│]", line)]
    used = {at for line in drawn for at, sign in enumerate(line) if sign != " "}
    empty = set(range(max(used))) - used
    assert empty == set(range(min(empty), max(empty) + 1)), "one gap"
    assert len(empty) > 0.25 * max(used)
    assert "\x1b" not in "".join(lines), "no colour where no terminal is"


async def test_a_chart_of_intervals_counts_their_values(show: Show) -> None:
    lines = (await show("sd-1", "temperature", "chart", every_ms=MINUTE_MS)).splitlines()
    assert lines[0].endswith(", every 60 s")
    assert lines[-1] == "min 20  mean 23.75  max 27.25 °C  (33 values)"


async def test_where_nothing_is_the_newest_is_told(show: Show) -> None:
    early = (START_MS - 3_600_000.0, START_MS - 1.0)
    for output in ("table", "chart"):
        said = await show("sd-1", "smoke", output, span_ms=early)
        assert said.splitlines()[1] == "no values in this range; the newest is of 2026-11-22 09:09:50.000 (good)"
    assert await show("sd-1", "button", "table") == (
        "Button on the detector: sd-1 button, 2026-11-22 09:00 – 2026-11-22 09:10\nno value at all is stored of this point\n"
    )
    assert json.loads(await show("sd-1", "smoke", "json", span_ms=early))["values"] == []


async def test_words_are_no_chart(show: Show) -> None:
    with pytest.raises(StartError, match="mode is words, not numbers"):
        await show("tl-1", "mode", "chart")


async def test_an_unknown_device_or_point_is_refused_with_what_there_is(show: Show) -> None:
    with pytest.raises(StartError, match=r"There is no device 'sd-11'\. Did you mean sd-1"):
        await show("sd-11", "smoke", "json")
    with pytest.raises(StartError, match=r"sd-1 has no point 'temp'\. Did you mean temperature\?"):
        await show("sd-1", "temp", "json")
    with pytest.raises(StartError, match="There are: alarm, battery, button, smoke, temperature"):
        await show("sd-1", "zzz", "json")
    with pytest.raises(StartError, match="--limit 0 is not from 1 to 100000"):
        await show("sd-1", "smoke", "json", limit=0)


async def test_latest_of_a_device_is_what_the_store_has_where_the_page_has_nothing(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await telemetry_query.latest(settings, CLOCK, "tl-1", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["point"], row["value"], row["observed"]) for row in rows] == [
        ("lamp_fault", False, "2026-11-22T02:09:50.000Z"),
        ("mode", "Xanh", "2026-11-22T02:09:50.000Z"),
        ("plan", 59.0, "2026-11-22T02:09:50.000Z"),
    ]
    with pytest.raises(StartError, match=r"There is no device 'tl-2'\. Did you mean tl-1"):
        await telemetry_query.latest(settings, CLOCK, "tl-2", "json")


async def test_latest_is_what_the_page_shows_with_the_reason_of_its_quality(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = await prepared(tmp_path, [])
    async with TelemetryFile(settings.folder / TELEMETRY_DB) as file:
        panel = Panel(file, CLOCK)
        first = reading("sd-1", 1, Value("smoke", 0.5), Value("temperature", None, Quality.BAD, "timeout"))
        panel.readings([first, reading("sd-2", 1, Value("alarm", True))])  # noqa: FBT003 - the value itself
        await panel.write()
    assert await telemetry_query.latest(settings, CLOCK, None, "table") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split("  +", lines[0]) == [
        "device", "point", "value", "unit", "quality", "why", "observed (Asia/Ho_Chi_Minh)", "title",
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[1:]] == [["sd-1", "smoke"], ["sd-1", "temperature"], ["sd-2", "alarm"]]
    assert re.split("  +", lines[2])[2:] == ["°C", "bad", "timeout", "2026-11-22 09:00:10.000", "Temperature"]


async def test_a_store_that_is_down_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    await prepared(tmp_path, [], Store(kind="influx1", url=f"http://127.0.0.1:{free_port()}"))
    found = await said("telemetry", "query", "sd-1", "smoke", "--from", "-2h", cwd=tmp_path)
    assert (found.code, found.out) == (1, "")
    assert found.err.startswith("iotcore: unreachable: ")
    assert found.err.count("\n") == 1


async def test_a_store_that_was_never_written_is_said_to_be(tmp_path: Path) -> None:
    settings = await prepared(tmp_path, [])
    (settings.folder / TELEMETRY_DB).unlink()
    with pytest.raises(QueryError, match="the telemetry process makes it"):
        await telemetry_query.query(settings, CLOCK, Wanted("sd-1", "smoke", SPAN, None, 10), "json")

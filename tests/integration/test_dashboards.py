"""Every query of every dashboard, on a real InfluxDB that the real decoder and line writer have filled.

That a query names only points of the shipped specs is in tests/unit/test_dashboard_points.py.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from drivers.mqtt.canonical import decode
from iotcore.clock import ManualClock, SystemClock
from iotcore.journal.database import connect_readonly
from iotcore.journal.timeline import timeline
from iotcore.registry.coverage import Signs, assess
from iotcore.registry.directory import Area, Binding, Directory, Premises
from iotcore.settings import Store
from iotcore.telemetry.coverage import device_points, key_site_points
from iotcore.telemetry.feed import incident_points, proof_points
from iotcore.telemetry.influx import Influx1
from iotcore.telemetry.point import Point, as_line
from iotcore.telemetry.store import Written
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from tests.support.fire_journal import FireJournal
from tests.support.influx import Influxd
from tests.support.joined import joined
from tests.support.shipped import SPECS

FOLDER = Path(__file__).parents[2] / "dashboards"
DASHBOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
SPAN_MS = 3 * 3_600_000
STEP_MS = 60_000
GRID_COLUMNS = 24
PM25_BANDS = [None, 25, 50, 80, 150, 250]  # Decision 1459/QĐ-TCMT (2019), µg/m³
PM10_BANDS = [None, 50, 150, 250, 350, 420]

PLATFORM = {"coverage"}  # dashboards of the platform's own series
VARIABLES_OF = {"coverage": ["datasource", "area", "premises"]}
AREAS = {"th": Area("th", "province", "Thanh Hóa"), "w1": Area("w1", "ward", "Phường Hạc Thành", "th")}
CELLS = ("", "south")
DEVICES = {"sd-1": "iotcore-smoke-heat", "cp-1": "iotcore-call-point", "aqt-1": "vaisala-aqt530", "aqt-2": "vaisala-aqt530"}


class Query(NamedTuple):
    """One query of a panel or a variable."""

    dashboard: str
    title: str
    text: str


QUERIES = [
    Query(name, panel["title"], target["query"])
    for name, board in DASHBOARDS.items()
    for panel in board["panels"]
    for target in panel["targets"]
]
VARIABLES = [
    Query(name, one["name"], one["query"])
    for name, board in DASHBOARDS.items()
    for one in board["templating"]["list"]
    if one["type"] == "query"
]


def bindings() -> Directory:
    return Directory(
        {
            name: Binding(name, name, SPECS[model], topics.DOMAIN_OF_CLASS[SPECS[model].device_class], name, "active", "p 1")
            for name, model in DEVICES.items()
        },
        {"p 1": Premises("p 1", "Chợ", "x", 19.8, 105.7, "1001", key_site=True, area="w1")},
        {},
        AREAS,
    )


def arrivals(now_ms: int) -> Iterator[Arrival]:
    """Three hours of a message a minute of every device, each with all points of its spec; the last of the detector is a test."""
    for name, binding in bindings().devices.items():
        for step in range(SPAN_MS // STEP_MS):
            at_ms = now_ms - step * STEP_MS
            body = {
                "boot": "b1",
                "seq": SPAN_MS // STEP_MS - step,
                "ts": at_ms,
                "test": step == 0,
                "values": {
                    point: step % 7 == 0 if one.kind == "bool" else _plausible(one.range, step)
                    for point, one in binding.spec.points.items()
                },
            }
            yield Arrival(topics.up(binding.domain, name, "reading", name), json.dumps(body).encode(), False, float(at_ms))  # noqa: FBT003 - retained


def _plausible(limits: tuple[float, float] | None, step: int) -> float:
    low, high = limits or (0.0, 100.0)
    return low + (high - low) * (0.5 + 0.4 * math.sin(step / 10.0))


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    folder = tmp_path_factory.mktemp("dashboards")
    with Influxd(folder) as server:
        asyncio.run(_fill(server, folder))
        yield server


async def _fill(server: Influxd, folder: Path) -> None:
    clock, directory = SystemClock(), bindings()
    async with Influx1(Store(kind="influx1", url=server.url), clock) as store:
        await store.ensure()
        readings = [
            reading
            for arrival in arrivals(int(clock.wall_ms()))
            for reading in decode(arrival, directory, clock.wall_ms()).readings
        ]
        lines = [store.record(reading, directory.devices[reading.device]) for reading in readings]
        platform = [as_line(point) for point in platform_points(folder, int(clock.wall_ms()))]
        assert await store.write(*joined(*lines, *platform)) == Written()


def platform_points(folder: Path, now_ms: int) -> Iterator[Point]:
    """Three hours of coverage, half of it before the detector was tested, as two cells see it; a fire, and a test alarm."""
    directory = bindings()
    for step in range(0, SPAN_MS // STEP_MS, 10):
        at_ms = now_ms - step * STEP_MS
        signs = Signs(dict.fromkeys(DEVICES, float(at_ms)))
        tested = {
            name: replace(one, tested_ms=at_ms if step < SPAN_MS // STEP_MS // 2 else None)
            for name, one in directory.devices.items()
        }
        found = assess(replace(directory, devices=tested), signs, float(at_ms))
        nobody = assess(directory, Signs(), float(at_ms))
        yield from key_site_points(found, at_ms, CELLS[0])
        yield from key_site_points(nobody, at_ms, CELLS[1])
        yield from device_points(directory, signs, float(at_ms), at_ms)
    fire = FireJournal(folder / "journal.db", ManualClock(now_ms - 600_000.0))
    incident = fire.burn("p 1", "sd-1")
    fire.deliver()
    fire.burn("p 1", "sd-1", test=True)
    fire.close()
    with closing(connect_readonly(folder / "journal.db")) as connection:
        story = timeline(connection, incident)
        assert story is not None
        yield from incident_points(story)
        for (alarm,) in connection.execute("SELECT id FROM alarm").fetchall():
            yield from proof_points(connection, alarm)


def substituted(query: str, *, choose_all: bool) -> str:
    """As Grafana sends it: macros replaced, variables as a regular expression."""
    now_ms = int(SystemClock().wall_ms())
    several = "(" + "|".join(DEVICES) + ")"
    for name, text in (
        ("$timeFilter", f"time >= {now_ms - SPAN_MS}ms and time <= {now_ms}ms"),
        ("$__interval", "30s"),
        ("$area", ".*" if choose_all else "w1"),
        ("$premises", ".*" if choose_all else "p 1"),
        ("$device", ".*" if choose_all else several),
    ):
        query = query.replace(name, text)
    assert "$" not in query.replace("$/", ""), f"a variable that nobody fills in: {query}"
    return query


@pytest.mark.parametrize("choose_all", [True, False])
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.dashboard}: {query.title}: {query.text[:30]}")
def test_every_query_of_a_panel_finds_values(influxd: Influxd, query: Query, *, choose_all: bool) -> None:
    found = influxd.query(substituted(query.text, choose_all=choose_all))
    assert found
    assert any(value is not None for series in found for row in series["values"] for value in row[1:])


@pytest.mark.parametrize("query", VARIABLES, ids=lambda query: f"{query.dashboard}: {query.title}")
def test_every_variable_has_something_to_choose(influxd: Influxd, query: Query) -> None:
    (series,) = influxd.query(substituted(query.text, choose_all=True))
    assert {row[1] for row in series["values"]} <= {*DEVICES, *AREAS, "p 1"}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.dashboard}: {query.title}: {query.text[:30]}")
def test_every_query_heeds_the_time_range_and_the_chosen_premises_and_devices(query: Query) -> None:
    heeded = ["$timeFilter"]
    if 'FROM "coverage"' in query.text:
        pass  # of the whole city
    elif query.dashboard not in PLATFORM:
        heeded += ['"premises" =~ /^$premises$/', '"device" =~ /^$device$/']
    else:
        heeded += ['"premises" =~ /^$premises$/']
    for part in heeded:
        assert part in query.text


@pytest.mark.parametrize(
    ("title", "values"),
    [
        ("Key sites covered", [100.0]),
        ("Key sites not covered", [0.0]),
        ("Incidents opened", [1.0]),
        ("Test alarms", [1.0]),
        ("Silent and weakly supervised", [0.0]),
        ("From the detector to the receiving centre", [39.5]),
    ],
)
def test_the_figures_of_the_city_are_those_that_were_written(influxd: Influxd, title: str, values: list[float]) -> None:
    query, *_ = [one for one in QUERIES if one.title.endswith(f" / {title}")]
    (series,) = influxd.query(substituted(query.text, choose_all=True))
    assert [value for value in series["values"][-1][1:] if value is not None] == pytest.approx(values)


def test_an_area_shows_what_the_cell_says_that_covers_it(influxd: Influxd) -> None:
    (query,) = [one for one in QUERIES if one.title.endswith(" / Coverage by area")]
    found = influxd.query(substituted(query.text, choose_all=True))
    assert {series["tags"]["area"]: series["values"][0][1] for series in found} == {"th": 100.0, "w1": 100.0}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_a_unit_two_languages_a_place_of_its_own_and_the_chosen_source(name: str) -> None:
    board = DASHBOARDS[name]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert re.fullmatch(r".+ / .+", panel["title"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "influxdb", "uid": "${datasource}"}
        assert all(target["datasource"] == panel["datasource"] and target["rawQuery"] for target in panel["targets"])
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= GRID_COLUMNS
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
    names = VARIABLES_OF.get(name, ["datasource", "premises", "device"])
    assert [one["name"] for one in board["templating"]["list"]] == names


def test_particles_are_coloured_by_the_bands_of_the_decision() -> None:
    panels = {panel["title"].split(" / ")[1]: panel for panel in DASHBOARDS["air"]["panels"]}
    for title, bands in (("PM2.5, 1 h mean", PM25_BANDS), ("PM10, 1 h mean", PM10_BANDS)):
        steps = panels[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [step["value"] for step in steps] == bands
        assert steps[0]["color"] == "rgb(0,228,0)"
        assert steps[-1]["color"] == "rgb(126,0,35)"


def test_thresholds_climb() -> None:
    for board in DASHBOARDS.values():
        for panel in board["panels"]:
            values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
            assert values[0] is None
            assert all(low < high for low, high in pairwise(values[1:]))


def test_provisioning_names_the_source_that_the_dashboards_choose() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/iotcore.yaml").read_text(encoding="utf-8"))["datasources"]
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/iotcore.yaml").read_text(encoding="utf-8"))["providers"]
    assert {one["type"] for one in sources} == {"influxdb"}
    assert provider["options"]["path"].startswith("/")
    chosen = {board["templating"]["list"][0]["current"]["value"] for board in DASHBOARDS.values()}
    assert chosen == {one["uid"] for one in sources}

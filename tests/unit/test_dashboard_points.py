"""Dashboards against every shipped spec: a query asks only for what some device tells, in the unit in which all of them tell it.

Pure: names are read out of the InfluxQL; tests/integration/test_dashboards.py runs the same queries on a real InfluxDB.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceSpec, Point
from iotcore.telemetry import line
from tests.support.shipped import SPECS

FOLDER = Path(__file__).parents[2] / "dashboards"
OURS = {"quality", "test"}  # fields that the line writer adds to every reading
OF_THE_PLATFORM = {"coverage"}  # no device tells its series; test_dashboards.py has the real writers fill them
TEXT_KINDS = ("text", "enum", "flags")
MOLAR_LITRES = 24.45  # L/mol at 25 °C and 1 atm: µg/m³ = ppb × M / 24.45
MOLAR_GRAMS = {"no2": 46.006, "so2": 64.064, "o3": 47.998, "co": 28.010}  # g/mol
UNITS = {  # Grafana's name of a unit → the specs' word for it
    "conμgm3": "µg/m³",
    "conppb": "ppb",
    "celsius": "°C",
    "humidity": "%",
    "percent": "%",
    "pressurehpa": "hPa",
    "suffix: dB/m": "dB/m",
    "none": "",
    "short": "",
}


class Query(NamedTuple):
    """One query of a panel."""

    dashboard: str
    title: str
    unit: str
    text: str

    @property
    def measurements(self) -> set[str]:
        return set(re.findall(r'FROM "(\w+)"', self.text))

    @property
    def fields(self) -> dict[str, tuple[str, float]]:
        """Field → the function over it, and the number that its result is multiplied by."""
        found = re.findall(r'(\w+)\("(\w+)"\)(?: \* ([0-9.]+))?', self.text)
        return {field: (function, float(factor or 1)) for function, field, factor in found}

    @property
    def others(self) -> set[str]:
        """Quoted names that are neither measurement nor field, nor given by the query itself."""
        given = set(re.findall(r'AS "(\w+)"', self.text))
        return set(re.findall(r'"(\w+)"', self.text)) - self.measurements - set(self.fields) - given


QUERIES = [
    Query(path.stem, panel["title"], panel["fieldConfig"]["defaults"]["unit"], target["query"])
    for path in sorted(FOLDER.glob("*.json"))
    if path.stem not in OF_THE_PLATFORM
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
    for target in panel["targets"]
    if 'FROM "coverage"' not in target["query"]
]
each_query = pytest.mark.parametrize(
    "query", QUERIES, ids=[f"{i}: {one.title.split(' / ')[-1]}" for i, one in enumerate(QUERIES)]
)
SHOWN = sorted({(query.dashboard, measurement) for query in QUERIES for measurement in query.measurements})


def of_class(measurement: str) -> dict[str, DeviceSpec]:
    return {model: spec for model, spec in SPECS.items() if spec.device_class == measurement}


def stored_as(point: Point) -> str:
    """What InfluxDB holds it as: the first write decides, and every other kind is then rejected."""
    return "text" if point.kind in TEXT_KINDS else "number"


@each_query
def test_a_query_asks_only_for_points_that_exist(query: Query) -> None:
    assert query.measurements
    assert query.fields
    for measurement in query.measurements:
        specs = of_class(measurement)
        assert specs, f"no model is of class {measurement}"
        known = {name for spec in specs.values() for name in spec.points}
        assert set(query.fields) - known - OURS == set()


@each_query
def test_a_query_filters_and_groups_only_by_tags_that_are_written(query: Query) -> None:
    spec = SPECS["iotcore-smoke-heat"]
    reading = Reading("d-1", "b1", 1, "reading", 0.0, 0.0, (Value("smoke", 0.1),), test=True)
    written = line.line(reading, Binding("d-1", "D", spec, "fire", "d-1", "active", "p-1")).decode()
    tags = {pair.split("=")[0] for pair in written.split(" ")[0].split(",")[1:]}
    assert {pair.split("=")[0] for pair in written.split(" ")[1].split(",")} >= OURS
    assert query.others <= tags


@each_query
def test_a_number_over_time_is_made_of_numbers(query: Query) -> None:
    for measurement in query.measurements:
        for model, spec in of_class(measurement).items():
            for field in set(query.fields) & set(spec.points):
                assert stored_as(spec.points[field]) == "number", f"{model} tells {field} as text"


@each_query
def test_a_panel_shows_each_model_in_the_unit_that_stands_beside_it(query: Query) -> None:
    """Every model of the class, whether it was there when the panel was drawn or came later."""
    for measurement in query.measurements:
        for model, spec in of_class(measurement).items():
            for field, (function, factor) in query.fields.items():
                point = spec.points.get(field)
                if point is None or function == "count":
                    continue
                if factor == 1:
                    assert point.unit == UNITS[query.unit], f"{model}: {field} is {point.unit}, the panel says {query.unit}"
                else:
                    assert (point.unit, UNITS[query.unit]) == ("ppb", "µg/m³"), f"{model}: {field} is {point.unit}"
                    assert factor == pytest.approx(MOLAR_GRAMS[field] / MOLAR_LITRES, rel=1e-4)


@pytest.mark.parametrize(("dashboard", "measurement"), SHOWN)
def test_every_model_of_a_class_is_seen_on_its_dashboard(dashboard: str, measurement: str) -> None:
    shown = {field for query in QUERIES if query.dashboard == dashboard for field in query.fields} - OURS
    assert [model for model, spec in of_class(measurement).items() if not shown & set(spec.points)] == []


@pytest.mark.parametrize("device_class", sorted({spec.device_class for spec in SPECS.values()}))
def test_a_point_has_one_unit_and_one_kind_in_all_models_of_a_class(device_class: str) -> None:
    """They share a measurement: one field for all of them, and one mean over it."""
    told: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for model, spec in of_class(device_class).items():
        for name, point in spec.points.items():
            told[name][point.unit, stored_as(point)].append(model)
    assert {name: dict(by) for name, by in told.items() if len(by) > 1} == {}


def test_a_bad_value_is_not_in_the_field_that_panels_average() -> None:
    spec = SPECS["teledyne-t400"]
    reading = Reading("d-1", "b1", 1, "reading", 0.0, 0.0, (Value("o3", 400.0, Quality.BAD, "calibrating"),))
    written = line.line(reading, Binding("d-1", "D", spec, "air", "d-1", "active", "p-1")).decode().split(" ")[1]
    assert written == "o3_bad=400.0,o3_q=2i,quality=2i"

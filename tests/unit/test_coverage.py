"""Coverage: which key sites have a fire detector that lives, and who of the others is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iotcore.registry.directory import Binding, Directory, Premises
from iotcore.telemetry.coverage import LIVE_LEAST_S, Signs, device_points, key_site_points
from iotcore.telemetry.point import Point, as_line, as_row
from tests.support.shipped import SPECS

NOW_MS = 1_795_312_800_000.0
AT_MS = int(NOW_MS)


def site(name: str, *, key: bool = True) -> Premises:
    return Premises(name, name, "x", 19.8, 105.7, "1001", key)


def detector(name: str, premises: str, state: str = "active") -> Binding:
    return Binding(name, name, SPECS["iotcore-smoke-heat"], "fire", name, state, premises)


def city(*bindings: Binding) -> Directory:
    premises = {one.id: one for one in (site("k1"), site("k2"), site("home", key=False))}
    return Directory({binding.device: binding for binding in bindings}, premises)


def figures(points: list[Point]) -> dict[str, dict[str, float | str]]:
    return {"/".join(point.series): dict(point.fields) for point in points}


HEARD = Signs({"d1": NOW_MS - 1000.0, "d2": NOW_MS - 1000.0, "d3": NOW_MS - 1000.0})


def test_a_key_site_counts_as_covered_with_one_detector_that_lives() -> None:
    directory = city(detector("d1", "k1"), detector("silent", "k1"), detector("d3", "home"))
    told = figures(key_site_points(directory, HEARD, NOW_MS, AT_MS))
    assert told == {
        "all": {"key_sites": 2.0, "covered": 1.0, "percent": 50.0},
        "premises/k1": {"covered": 1.0, "detectors": 2.0, "live": 1.0},
        "premises/k2": {"covered": 0.0, "detectors": 0.0, "live": 0.0},
    }


@pytest.mark.parametrize(
    ("binding", "signs", "live"),
    [
        (detector("d1", "k1"), HEARD, True),
        (detector("d1", "k1"), Signs({"d1": NOW_MS - (LIVE_LEAST_S + 60.0) * 1000.0}), False),
        (detector("d1", "k1"), replace(HEARD, offline=frozenset({"d1"})), False),
        (detector("d1", "k1", "suspended"), HEARD, False),
        (replace(detector("d1", "k1"), domain="air"), HEARD, False),
    ],
)
def test_a_detector_lives_that_is_accepted_not_told_offline_and_heard_lately(
    binding: Binding, signs: Signs, *, live: bool
) -> None:
    (everything, *_) = key_site_points(city(binding), signs, NOW_MS, AT_MS)
    assert everything.fields["covered"] == float(live)


def test_a_city_without_key_sites_has_no_percentage() -> None:
    assert key_site_points(Directory({}, {"home": site("home", key=False)}), HEARD, NOW_MS, AT_MS) == []


def test_devices_are_counted_by_domain_state_and_whether_they_are_there() -> None:
    directory = city(detector("d1", "k1"), detector("d2", "k1"), detector("d9", "k1"), detector("d8", "k1", "registered"))
    told = figures(list(device_points(directory, replace(HEARD, offline=frozenset({"d2"})), NOW_MS, AT_MS)))
    assert told == {
        "devices/fire/active": {"devices": 3.0, "online": 1.0, "offline": 1.0, "silent": 1.0},
        "devices/fire/registered": {"devices": 1.0, "online": 0.0, "offline": 0.0, "silent": 1.0},
    }


def test_a_point_is_a_line_with_escaped_tags_without_empty_ones_and_a_row_under_a_name_that_no_device_has() -> None:
    point = Point("coverage", ("premises", "k 1"), {"premises": "k 1", "cell": ""}, {"covered": 1, "who": 'a"b'}, 1_000_000)
    assert as_line(point) == rb'coverage,premises=k\ 1 covered=1.0,who="a\"b" 1000000'
    assert as_row(point) == b'["~coverage/premises/k 1",1000000,false,[["covered",1.0,0],["who","a\\"b",0]]]'

"""Coverage: which key sites have a fire device that would tell of a fire, what the others lack, and who is there at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iotcore.registry.coverage import DAY_MS, LIVE_LEAST_S, Coverage, Figure, Lack, Signs, assess
from iotcore.registry.coverage_report import weakly_supervised
from iotcore.registry.directory import Area, Binding, Directory, Premises
from iotcore.telemetry.coverage import device_points, key_site_points
from iotcore.telemetry.point import Point, as_line, as_row
from tests.support.shipped import SPECS

NOW_MS = 1_795_312_800_000.0
AT_MS = int(NOW_MS)
TESTED_MS = AT_MS - 30 * DAY_MS
AREAS = {
    one.id: one
    for one in (
        Area("th", "province", "Thanh Hóa"),
        Area("tp", "city", "Thành phố Thanh Hóa", "th"),
        Area("w1", "ward", "Phường Hạc Thành", "tp"),
        Area("w2", "ward", "Phường Hàm Rồng", "tp"),
    )
}


def site(name: str, area: str = "", *, key: bool = True) -> Premises:
    return Premises(name, name, "x", 19.8, 105.7, "1001", key, area)


def detector(name: str, premises: str, state: str = "active", tested_ms: int | None = TESTED_MS) -> Binding:
    return Binding(name, name, SPECS["iotcore-smoke-heat"], "fire", name, state, premises, tested_ms=tested_ms)


def city(*bindings: Binding) -> Directory:
    premises = {one.id: one for one in (site("k1", "w1"), site("k2", "w2"), site("home", "w1", key=False))}
    return Directory({binding.device: binding for binding in bindings}, premises, {}, AREAS)


def judged(*bindings: Binding, signs: Signs | None = None, days: float = 365.0) -> Coverage:
    return assess(city(*bindings), HEARD if signs is None else signs, NOW_MS, days)


def figures(points: list[Point]) -> dict[str, dict[str, float | str]]:
    return {"/".join(point.series): dict(point.fields) for point in points}


HEARD = Signs({"d1": NOW_MS - 1000.0, "d2": NOW_MS - 1000.0, "d3": NOW_MS - 1000.0})


def test_a_key_site_is_covered_by_one_detector_that_counts_and_its_area_and_all_above_say_so() -> None:
    found = judged(detector("d1", "k1"), detector("silent", "k1"), detector("d3", "home"))
    assert found.sites["k1"].covered
    assert (found.sites["k1"].detectors, found.sites["k1"].live, found.sites["k1"].counting) == (2, 1, 1)
    assert found.figures == {
        "": Figure(2, 1, 1),
        "th": Figure(2, 1, 1),
        "tp": Figure(2, 1, 1),
        "w1": Figure(1, 1, 1),
        "w2": Figure(1, 0, 0),
    }
    assert found.figures["tp"].percent == 50.0


@pytest.mark.parametrize(
    ("binding", "signs", "lacks"),
    [
        (detector("d1", "k1"), HEARD, ()),
        (
            detector("d1", "k1"),
            Signs({"d1": NOW_MS - (LIVE_LEAST_S + 60.0) * 1000.0}),
            (Lack("silent", 1, "d1", NOW_MS - (LIVE_LEAST_S + 60.0) * 1000.0),),
        ),
        (detector("d9", "k1"), HEARD, (Lack("silent", 1, "d9"),)),
        (detector("d1", "k1"), replace(HEARD, offline=frozenset({"d1"})), (Lack("offline", 1, "d1", NOW_MS - 1000.0),)),
        (detector("d1", "k1", "suspended"), HEARD, (Lack("not_active", 1, "d1"),)),
        (detector("d1", "k1", "provisioned"), HEARD, (Lack("not_active", 1, "d1"),)),
        (detector("d1", "k1", tested_ms=None), HEARD, (Lack("never_tested", 1, "d1"),)),
        (detector("d1", "k1", tested_ms=AT_MS - 365 * DAY_MS), HEARD, ()),
        (
            detector("d1", "k1", tested_ms=AT_MS - 365 * DAY_MS - 1),
            HEARD,
            (Lack("test_expired", 1, "d1", AT_MS - 365 * DAY_MS - 1),),
        ),
        (detector("d9", "k1", tested_ms=None), HEARD, (Lack("silent", 1, "d9"), Lack("never_tested", 1, "d9"))),
        (replace(detector("d1", "k1"), domain="air"), HEARD, (Lack("no_device"),)),
        (replace(detector("d1", "k1"), publisher="gw-1"), HEARD, ()),
    ],
)
def test_a_device_counts_that_is_active_there_and_tested_lately(binding: Binding, signs: Signs, lacks: tuple[Lack, ...]) -> None:
    found = judged(binding, signs=signs).sites["k1"]
    assert found.lacks == lacks
    assert found.covered == (not lacks)


def test_a_site_is_watched_by_a_device_that_nobody_has_tested_but_not_covered() -> None:
    assert judged(detector("d1", "k1", tested_ms=None)).figures["w1"] == Figure(1, 1, 0)
    assert judged(detector("d1", "k1"), days=29.0).figures["w1"] == Figure(1, 1, 0)


def test_reasons_are_counted_and_the_latest_device_is_the_example() -> None:
    old = [detector(f"d{i}", "k1", tested_ms=AT_MS - (400 + i) * DAY_MS) for i in (3, 1, 2)]
    (lack,) = judged(*old).sites["k1"].lacks
    assert lack == Lack("test_expired", 3, "d1", AT_MS - 401 * DAY_MS)


def test_what_lacks_most_comes_first() -> None:
    found = judged(detector("d1", "k1", tested_ms=None)).missing()
    assert [one.premises for one in found] == ["k2", "k1"]
    assert judged(detector("d1", "k1"), detector("d2", "k2")).missing() == []


def test_an_area_in_a_circle_is_counted_once() -> None:
    areas = {"a": Area("a", "ward", "A", "b"), "b": Area("b", "city", "B", "a")}
    found = assess(Directory({}, {"k": site("k", "a")}, {}, areas), HEARD, NOW_MS)
    assert found.figures == {"": Figure(1), "a": Figure(1), "b": Figure(1)}


def test_a_key_site_without_an_area_counts_for_the_whole_only() -> None:
    found = assess(Directory({}, {"k": site("k", "gone")}, {}, AREAS), HEARD, NOW_MS)
    assert found.figures == {"": Figure(1), **{area: Figure() for area in AREAS}}
    assert found.figures["w1"].percent is None


def test_the_series_tell_the_whole_each_area_and_each_key_site() -> None:
    found = judged(detector("d1", "k1"), detector("silent", "k1"))
    part, none = {"watched": 1.0, "covered": 1.0}, {"watched": 0.0, "covered": 0.0}
    assert figures(key_site_points(found, AT_MS)) == {
        "all": {"key_sites": 2.0, **part, "percent": 50.0},
        "area/th": {"key_sites": 2.0, **part, "percent": 50.0},
        "area/tp": {"key_sites": 2.0, **part, "percent": 50.0},
        "area/w1": {"key_sites": 1.0, **part, "percent": 100.0},
        "area/w2": {"key_sites": 1.0, **none, "percent": 0.0},
        "premises/k1": {"covered": 1.0, "detectors": 2.0, "live": 1.0, "counting": 1.0},
        "premises/k2": {"covered": 0.0, "detectors": 0.0, "live": 0.0, "counting": 0.0},
    }


def test_a_city_without_key_sites_has_no_series() -> None:
    found = assess(Directory({}, {"home": site("home", key=False)}), HEARD, NOW_MS)
    assert key_site_points(found, AT_MS) == []


def test_devices_are_counted_by_domain_state_and_whether_they_are_there() -> None:
    weak = replace(detector("d3", "k1"), spec=SPECS["heiman-smoke-zigbee2mqtt"])
    directory = city(detector("d1", "k1"), detector("d2", "k1"), detector("d9", "k1"), weak, detector("d8", "k1", "registered"))
    told = figures(list(device_points(directory, replace(HEARD, offline=frozenset({"d2"})), NOW_MS, AT_MS)))
    assert told == {
        "devices/fire/active": {"devices": 4.0, "online": 2.0, "offline": 1.0, "silent": 1.0, "weak": 1.0},
        "devices/fire/registered": {"devices": 1.0, "online": 0.0, "offline": 0.0, "silent": 1.0, "weak": 0.0},
    }


def test_who_the_fire_lane_calls_silent_does_not_count_though_it_was_heard_within_five_minutes() -> None:
    found = judged(detector("d1", "k1"), signs=replace(HEARD, silent=frozenset({"d1"})))
    assert [lack.reason for lack in found.sites["k1"].lacks] == ["silent"]


def test_active_fire_devices_of_key_sites_that_are_weakly_supervised_are_listed() -> None:
    sleeper = SPECS["heiman-smoke-zigbee2mqtt"]
    devices = [replace(detector(name, place, state), spec=sleeper) for name, place, state in (
        ("d1", "k1", "active"), ("d2", "k1", "provisioned"), ("d3", "home", "active"), ("d4", "k2", "active"))]  # fmt: skip
    directory = city(*devices, detector("d5", "k1"))
    found = assess(directory, HEARD, NOW_MS)
    assert weakly_supervised(found, directory) == ["d1", "d4"]
    assert weakly_supervised(found, directory, "w2") == ["d4"]


def test_a_point_is_a_line_with_escaped_tags_without_empty_ones_and_a_row_under_a_name_that_no_device_has() -> None:
    point = Point("coverage", ("premises", "k 1"), {"premises": "k 1", "cell": ""}, {"covered": 1, "who": 'a"b'}, 1_000_000)
    assert as_line(point) == rb'coverage,premises=k\ 1 covered=1.0,who="a\"b" 1000000'
    assert as_row(point) == b'["~coverage/premises/k 1",1000000,false,[["covered",1.0,0],["who","a\\"b",0]]]'

"""What responders are told: everything the directory knows of the place, and nothing that would have to be waited for."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.alarms import responders
from iotcore.alarms.decisions import Decision
from iotcore.alarms.responders import MOST_PEOPLE
from iotcore.journal.facts import Near, Person
from iotcore.journal.records import Notice
from iotcore.registry import landmarks
from iotcore.registry.directory import Binding, Contact, Directory, Premises, Zone
from iotcore.registry.landmarks import Landmark
from tests.support.fire import NOON_MS, full_notice, notice, reading
from tests.support.shipped import SPECS

SMOKE = Decision("smoke", "above", "alarm", "smoke", "smoke", 0.4, "dB/m")  # type: ignore[arg-type]
DETECTOR = Binding(
    "sd-1", "Khói 1", SPECS["iotcore-smoke-heat"], "fire", "sd-1", "active", "p1", "z1", location="Trần, trên cửa phòng 101"
)
LOST = Binding("sd-2", "Khói 2", SPECS["iotcore-smoke-heat"], "fire", "sd-2", "active")
CITY = Directory(
    {"sd-1": DETECTOR, "sd-2": LOST},
    {"p1": Premises("p1", "Chợ", "1 Lê Lợi", 19.8, 105.7, "1001", risk_class="high", hydrants="Trụ 12")},
    {"z1": Zone("z1", "p1", 1, "Tầng 1", "Gian hàng")},
    contacts={"p1": (Contact("c1", "p1", "Bảo vệ", "trực", "+84913000111", key_holder=True), Contact("c2", "p1", "Ông Hà"))},
    landmarks=landmarks.cells(
        [
            Landmark("sig-1", "Ngã tư", "traffic_signal", 19.801, 105.7),
            Landmark("sig-2", "Xa", "traffic_signal", 19.83, 105.7),
            Landmark("air-1", "Trạm", "air_station", 19.82, 105.7),
        ]
    ),
)


def told(binding: Binding = DETECTOR, directory: Directory = CITY) -> Notice:
    return responders.notice(SMOKE, reading(binding.device, smoke=0.4), binding, directory, NOON_MS + 6.0)


def test_a_notice_tells_all_that_is_known_of_the_place() -> None:
    one = told()
    assert (one.premises_name, one.address, one.floor, one.zone_name) == ("Chợ", "1 Lê Lợi", "Tầng 1", "Gian hàng")
    assert (one.title, one.location) == ("Khói 1", "Trần, trên cửa phòng 101")
    assert (one.risk_class, one.hydrants) == ("high", "Trụ 12")
    assert one.people == (Person("Bảo vệ", "+84913000111", "trực", keys=True), Person("Ông Hà"))
    assert one.signals == (Near("sig-1", "Ngã tư", 111),)
    assert one.stations == (Near("air-1", "Trạm", 2224),)
    assert one.air == ()
    assert one.decided_ms == NOON_MS + 6.0


def test_a_detector_without_a_building_still_burns() -> None:
    one = told(LOST)
    assert (one.premises, one.premises_name, one.account) == ("sd-2", "Khói 2", "0000")
    assert (one.people, one.signals, one.stations) == ((), (), ())


def test_what_lies_around_is_looked_up_anew_when_it_changes() -> None:
    first = responders.notice(SMOKE, reading(smoke=0.4), DETECTOR, CITY, 0.0)
    moved = landmarks.moved(CITY.landmarks, {"sig-1"}, [Landmark("sig-1", "Ngã tư", "traffic_signal", 19.802, 105.7)])
    directory = Directory(CITY.devices, CITY.premises, CITY.zones, landmarks=moved)
    second = responders.notice(SMOKE, reading(smoke=0.4), DETECTOR, directory, 0.0)
    assert [one.metres for one in (*first.signals, *second.signals)] == [111, 222]


def test_no_building_fills_a_message_with_telephones() -> None:
    many = tuple(Contact(f"c{i}", "p1", f"Người {i}") for i in range(100))
    assert len(told(directory=Directory(CITY.devices, CITY.premises, CITY.zones, contacts={"p1": many})).people) == MOST_PEOPLE


def test_a_notice_that_was_stored_before_these_facts_is_still_read() -> None:
    old = {name: value for name, value in msgspec.to_builtins(notice()).items() if name in Notice.__struct_fields__[:23]}
    read = msgspec.json.decode(msgspec.json.encode(old | {"delayed": True}), type=Notice)
    assert (read.people, read.decided_ms, read.purpose, read.delayed) == ((), 0.0, "fire", True)
    assert msgspec.json.decode(msgspec.json.encode(full_notice()), type=Notice) == full_notice()


@pytest.mark.parametrize(
    ("here", "there", "metres"),
    [
        ((21.0278, 105.8342), (10.8231, 106.6297), 1_137_900.0),  # Hà Nội to Hồ Chí Minh City
        ((0.0, 0.0), (0.0, 1.0), 111_195.0),
        ((89.99, 0.0), (89.99, 180.0), 2_223.9),  # over the pole
    ],
)
def test_distances_are_those_of_a_great_circle(here: tuple[float, float], there: tuple[float, float], metres: float) -> None:
    assert landmarks.metres(*here, *there) == pytest.approx(metres, rel=2e-3)


def near_the_edge(away: list[float]) -> bool:
    """Whether a distance is so close to the limit that a flat map may take it for the other side."""
    return any(abs(metres - 3_000.0) < 1.0 for metres in away)


places = st.tuples(st.floats(19.7, 19.9), st.floats(105.6, 105.8))


@given(here=places, around=st.lists(places, max_size=40))
def test_the_squares_find_what_a_search_of_everything_finds(here: tuple[float, float], around: list[tuple[float, float]]) -> None:
    every = [Landmark(f"s{i:02d}", "", "traffic_signal", *at) for i, at in enumerate(around)]
    known = landmarks.cells(every)
    found = landmarks.near(known, *here, "traffic_signal", within_m=3_000.0, most=5)
    away = sorted(landmarks.metres(*here, one.latitude, one.longitude) for one in every)
    nearest = [metres for metres in away if metres <= 3_000.0][:5]
    assert [one.metres for one in found] == pytest.approx(nearest, rel=1e-4, abs=0.01) or near_the_edge(away)
    assert landmarks.moved(known, {one.device for one in every}, ()) == {}
    assert landmarks.moved({}, (), every) == known


@given(latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
def test_to_look_around_is_bounded_anywhere_on_earth(latitude: float, longitude: float) -> None:
    known = landmarks.cells([Landmark("s", "", "air_station", 0.0, 0.001)])
    found = landmarks.near(known, latitude, longitude, "air_station", within_m=5_000.0, most=3)
    assert all(math.isfinite(one.metres) for one in found)

"""Dynamic groups: what a query asks, the order of versions, and who comes and goes as the city changes."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotcore.errors import ConfigError, Refused
from iotcore.registry import group_query, groups
from iotcore.registry.directory import Area, Binding, Directory, Premises
from iotcore.registry.group_query import MAX_DEPTH, MAX_PARTS, GroupDocument, version_key
from iotcore.registry.groups import Group, Groups, Moved
from iotcore.wire.topics import DOMAIN_OF_CLASS
from tests.support.shipped import SPECS

AREAS = {
    one.id: one
    for one in (
        Area("th", "province", "Thanh Hóa"),
        Area("tp", "city", "Thành phố", "th"),
        Area("w1", "ward", "Hạc Thành", "tp"),
        Area("w2", "ward", "Hàm Rồng", "tp"),
        Area("na", "province", "Nghệ An"),
    )
}
PREMISES = {
    one.id: one
    for one in (
        Premises("school", "Trường", "x", 19.8, 105.7, "1001", key_site=True, area="w1"),
        Premises("market", "Chợ", "x", 19.8, 105.7, "1002", area="w2"),
    )
}


def device(name: str, model: str = "iotcore-smoke-heat", premises: str = "", **more: Any) -> Binding:
    spec = SPECS[model]
    return Binding(
        name, name, spec, DOMAIN_OF_CLASS[spec.device_class], **{"publisher": name, "state": "active"} | more, premises=premises
    )


CITY = Directory(
    {
        one.device: one
        for one in (
            device("gw", "iotcore-modbus-gateway"),
            device("air", "vaisala-aqt530", publisher="gw"),
            device("s1", premises="school", labels=MappingProxyType({"line": "2"})),
            device("s2", premises="market", state="suspended", labels=MappingProxyType({"line": "3", "old": ""})),
            device("c1", "iotcore-call-point", premises="school"),
        )
    },
    PREMISES,
    {},
    AREAS,
)
FIRMWARE = {"s1": "2.0.1", "s2": "v2.1", "gw": "2.1.0-rc1"}


def group(query: dict[str, Any], version: int = 1) -> Group:
    return Group("g", group_query.read({"title": "G", "query": query}), version, "tester", 0)


def found(query: dict[str, Any], directory: Directory = CITY) -> set[str]:
    made = Groups()
    made.follow({"g": group(query)}, directory, FIRMWARE)
    return set(made.members("g"))


@pytest.mark.parametrize(
    ("query", "members"),
    [
        ({"kind": "class", "is": ["fire_detector"]}, {"s1", "s2", "c1"}),
        ({"kind": "class", "is": ["gateway", "air_station"]}, {"gw", "air"}),
        ({"kind": "model", "is": ["iotcore-call-point"]}, {"c1"}),
        ({"kind": "area", "is": ["w1"]}, {"s1", "c1"}),
        ({"kind": "area", "is": ["th"]}, {"s1", "s2", "c1"}),
        ({"kind": "area", "is": ["na"]}, set()),
        ({"kind": "premises", "is": ["market"]}, {"s2"}),
        ({"kind": "state", "is": ["suspended"]}, {"s2"}),
        ({"kind": "parent", "is": ["gw"]}, {"air"}),
        ({"kind": "key_site"}, {"s1", "c1"}),
        ({"kind": "key_site", "is": False}, {"s2"}),
        ({"kind": "label", "name": "line"}, {"s1", "s2"}),
        ({"kind": "label", "name": "line", "is": ["3"]}, {"s2"}),
        ({"kind": "label", "name": "old", "is": [""]}, {"s2"}),
        ({"kind": "firmware", "is": ["2.0.1"]}, {"s1"}),
        ({"kind": "firmware", "below": "2.1"}, {"s1", "gw"}),
        ({"kind": "firmware", "at_least": "2.1.0"}, {"s2"}),
        ({"kind": "firmware", "at_least": "2.0.1", "below": "2.1.0-rc1"}, {"s1"}),
        ({"kind": "not", "of": {"kind": "firmware", "below": "2.1"}}, {"s2", "c1", "air"}),
        ({"kind": "all", "of": [{"kind": "key_site"}, {"kind": "label", "name": "line"}]}, {"s1"}),
        ({"kind": "any", "of": [{"kind": "state", "is": ["suspended"]}, {"kind": "parent", "is": ["gw"]}]}, {"s2", "air"}),
    ],
)
def test_a_query_finds_the_devices_that_it_asks_for(query: dict[str, Any], members: set[str]) -> None:
    assert found(query) == members


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("1.9", "1.10"),
        ("2.1-rc1", "2.1"),
        ("2.1-rc1", "2.1-rc2"),
        ("2.1", "2.1.1"),
        ("2.0.0-rc1", "2"),
        ("v1.2", "V1.3"),
        ("9", "10"),
    ],
)
def test_versions_are_ordered_as_people_count_them(earlier: str, later: str) -> None:
    assert version_key(earlier) < version_key(later)


@pytest.mark.parametrize("same", ["2.1.0", "v2.1", "2.1.0.0", "2.1+build7", "2_1"])
def test_versions_that_differ_in_writing_only_are_one(same: str) -> None:
    assert version_key(same) == version_key("2.1")


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_two_versions_can_be_compared(one: str, other: str) -> None:
    assert (version_key(one) < version_key(other)) + (version_key(one) == version_key(other)) + (
        version_key(one) > version_key(other)
    ) == 1


def problems(document: Any, name: str = "g") -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        groups.check(name, document, CITY, SPECS)
    return {problem.path: problem.reason for problem in refused.value.problems}


def test_everything_that_is_wrong_with_a_group_is_said_at_once() -> None:
    document = {
        "title": "",
        "querry": {},
        "query": {"kind": "all", "of": [{"kind": "class", "is": ["smoke"]}, {"kind": "area"}, {"kind": "state", "is": []}]},
    }
    assert set(problems(document, "Bad Name")) == {"id", "title", "querry", "query.of[0].is", "query.of[1].is", "query.of[2].is"}


def test_what_a_query_names_and_nobody_knows_is_said_with_its_place() -> None:
    of = [
        {"kind": "model", "is": ["iotcore-smoke-heat", "acme"]},
        {"kind": "not", "of": {"kind": "area", "is": ["nowhere"]}},
        {"kind": "premises", "is": ["p9"]},
        {"kind": "parent", "is": ["gw9"]},
    ]
    assert problems({"title": "G", "query": {"kind": "any", "of": of}}) == {
        "query.of[0]": "no model 'acme'",
        "query.of[1].of": "no area 'nowhere'",
        "query.of[2]": "no premises 'p9'",
        "query.of[3]": "no device 'gw9'",
    }


def nested(depth: int) -> dict[str, Any]:
    query: dict[str, Any] = {"kind": "key_site"}
    for _ in range(depth):
        query = {"kind": "not", "of": query}
    return query


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"kind": "all", "of": []}, "query.of"),
        ({"kind": "firmware"}, "query"),
        ({"kind": "any", "of": [{"kind": "key_site"}] * MAX_PARTS}, "query"),
        (nested(MAX_DEPTH + 1), "query" + ".of" * MAX_DEPTH),
        (nested(100_000), "query"),
        ({"kind": "python", "of": "1 == 1"}, "query"),
        ("class = fire_detector", "query"),
    ],
)
def test_a_query_is_bounded_and_no_language(query: Any, path: str) -> None:
    assert list(problems({"title": "G", "query": query})) == [path]


def test_a_query_may_be_nested_to_the_limit_and_is_kept_as_it_was_written() -> None:
    document = {"title": "G", "query": nested(MAX_DEPTH)}
    assert msgspec.to_builtins(groups.check("g", document, CITY, SPECS).query)["of"]["kind"] == "not"


def test_members_come_and_go_with_what_changes() -> None:
    made = Groups()
    known = {"g": group({"kind": "all", "of": [{"kind": "key_site"}, {"kind": "firmware", "below": "2.1"}]})}
    assert made.follow(known, CITY, FIRMWARE) == {"g": Moved(frozenset({"s1"}), frozenset())}
    assert made.of("s1") == {"g"}
    assert made.follow(known, CITY, dict(FIRMWARE)) == {}
    assert made.follow(known, CITY, {**FIRMWARE, "c1": "1.0"}) == {"g": Moved(frozenset({"c1"}), frozenset())}
    firmware = {**FIRMWARE, "c1": "1.0", "s1": "2.1"}
    assert made.follow(known, CITY, firmware) == {"g": Moved(frozenset(), frozenset({"s1"}))}
    assert made.of("s1") == frozenset()

    closed = replace(CITY, premises={**PREMISES, "school": replace(PREMISES["school"], key_site=False)})
    assert made.follow(known, closed, firmware) == {"g": Moved(frozenset(), frozenset({"c1"}))}
    without = replace(CITY, devices={name: one for name, one in CITY.devices.items() if name != "c1"})
    made.follow(known, CITY, firmware)
    assert made.follow(known, without, firmware) == {"g": Moved(frozenset(), frozenset({"c1"}))}


def test_a_new_version_or_a_new_area_asks_everybody_anew_and_a_group_that_is_gone_has_nobody() -> None:
    made = Groups()
    made.follow({"g": group({"kind": "area", "is": ["na"]})}, CITY, {})
    assert made.members("g") == frozenset()
    moved_ward = replace(CITY, areas={**AREAS, "w2": replace(AREAS["w2"], parent="na")})
    assert made.follow({"g": group({"kind": "area", "is": ["na"]})}, moved_ward, {}) == {
        "g": Moved(frozenset({"s2"}), frozenset())
    }
    again = {"g": group({"kind": "area", "is": ["w1"]}, 2)}
    assert made.follow(again, moved_ward, {}) == {"g": Moved(frozenset({"s1", "c1"}), frozenset({"s2"}))}
    assert made.follow({}, moved_ward, {}) == {"g": Moved(frozenset(), frozenset({"s1", "c1"}))}
    assert made.of("s1") == frozenset()
    with pytest.raises(Refused, match="unknown_group"):
        made.members("g")


QUERIES: list[dict[str, Any]] = [
    {"kind": "class", "is": ["fire_detector"]},
    {"kind": "area", "is": ["tp"]},
    {"kind": "not", "of": {"kind": "state", "is": ["suspended"]}},
    {"kind": "firmware", "below": "2.0"},
    {"kind": "label", "name": "line", "is": ["2"]},
]
STEP = st.tuples(
    st.sampled_from(sorted(CITY.devices)),
    st.sampled_from(["active", "suspended"]),
    st.sampled_from(["", "school", "market"]),
    st.sampled_from(["", "1.9", "2.0"]),
    st.booleans(),
)


@settings(max_examples=60)
@given(st.lists(STEP, max_size=12))
def test_whoever_follows_knows_the_same_as_whoever_asks_anew(steps: list[tuple[str, str, str, str, bool]]) -> None:
    known = {f"g{i}": replace(group(query), id=f"g{i}") for i, query in enumerate(QUERIES)}
    made, directory, firmware = Groups(), CITY, dict(FIRMWARE)
    for name, state, premises, version, stays in steps:
        devices = dict(directory.devices)
        devices.pop(name, None)
        if stays:
            devices[name] = replace(CITY.devices[name], state=state, premises=premises)
        directory, firmware = replace(directory, devices=devices), {**firmware, name: version}
        made.follow(known, directory, firmware)
    fresh = Groups()
    fresh.follow(known, directory, firmware)
    made.follow(known, directory, firmware)
    for name in known:
        assert made.members(name) == fresh.members(name)
    for device_name in CITY.devices:
        assert made.of(device_name) == fresh.of(device_name)


def test_a_stored_query_reads_back_as_it_was() -> None:
    document = GroupDocument("G", group_query.read({"title": "G", "query": nested(2)}).query)
    assert msgspec.json.decode(msgspec.json.encode(document.query), type=group_query.Query) == document.query

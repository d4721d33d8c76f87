"""Groups, days of coverage and what the directory carries for them, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
from iotcore.process.follow import Follower
from iotcore.registry import groups
from iotcore.registry.commissioning import Commissioning, LastTest
from iotcore.registry.coverage import Coverage, Figure, Signs, assess
from iotcore.registry.coverage_days import CoverageDays
from iotcore.registry.directory import NO_LABELS, Area, Directory
from iotcore.registry.groups import Groups, GroupStore
from iotcore.registry.places import Places
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.units import Another
from tests.support.covered import CITY, activate
from tests.support.shipped import SPECS

pytestmark = pytest.mark.timeout(60)
DAY = date(2026, 11, 26)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(registry_url: str, clock: ManualClock) -> AsyncIterator[Registry]:
    async with await open_registry(registry_url, clock) as opened:
        await opened.import_city(CITY, SPECS, "tester")
        yield opened


def document(query: dict[str, Any], title: str = "G") -> dict[str, Any]:
    return {"title": title, "query": query}


async def test_the_directory_carries_areas_labels_and_last_tests_and_whoever_follows_has_what_changed(
    registry: Registry, clock: ManualClock
) -> None:
    follower = Follower(registry, SPECS)
    await follower.refresh()
    first = follower.directory
    assert first.areas["w1"] == Area("w1", "ward", "Phường Hạc Thành", "tp")
    assert first.premises["school"].area == "w1"
    assert list(first.upwards("w1")) == ["w1", "tp", "th"]
    assert first.devices["s1"].labels == {"line": "2"}
    assert first.devices["c1"].labels is NO_LABELS
    assert first.devices["s1"].tested_ms is None
    assert first.devices["s1"].premises is first.devices["c1"].premises  # equal texts are one object

    other = copy.deepcopy(CITY)
    next(area for area in other["areas"] if area["id"] == "w1")["name"] = "Phường khác"
    next(one for one in other["devices"] if one["id"] == "s1")["labels"] = {"line": "3"}
    await registry.import_city(other, SPECS, "tester")
    tested_ms = int(clock.wall_ms()) - 1000
    await Commissioning(registry.database).record_test(LastTest("s1", tested_ms, 120.0, "lan"), {})
    assert await follower.refresh()
    now = follower.directory
    assert now.areas["w1"].name == "Phường khác"
    assert (now.devices["s1"].labels, now.devices["s1"].tested_ms) == ({"line": "3"}, tested_ms)
    assert now.devices["c1"] is first.devices["c1"]
    assert now == await registry.directory(SPECS)


async def test_a_test_of_the_unit_before_proves_nothing_of_the_one_that_is_there(registry: Registry, clock: ManualClock) -> None:
    follower = Follower(registry, SPECS)
    await follower.refresh()
    commissioning, places = Commissioning(registry.database), Places(registry.database)
    await activate(registry, "s1")
    clock.advance(10.0)
    await commissioning.record_test(LastTest("s1", int(clock.wall_ms()), 120.0, "lan"), {})
    await follower.refresh()
    assert lacking(follower.directory, clock) == []

    clock.advance(10.0)
    await places.replace("s1", Another("SN-2", "", "vỏ vỡ"), SPECS, "minh", token_s=60.0)
    await activate(registry, "s1")
    assert await follower.refresh()
    assert follower.directory.devices["s1"].tested_ms is None
    assert lacking(follower.directory, clock) == ["never_tested"]
    assert follower.directory == await registry.directory(SPECS)

    await commissioning.record_test(LastTest("s1", int(clock.wall_ms()) + 1, 90.0, "lan"), {})
    await follower.refresh()
    assert lacking(follower.directory, clock) == []


def lacking(directory: Directory, clock: ManualClock) -> list[str]:
    """Why the detector s1, which has just spoken, does not count."""
    alone = replace(directory, devices={"s1": directory.devices["s1"]})
    found = assess(alone, Signs({"s1": clock.wall_ms()}, frozenset()), clock.wall_ms())
    return [lack.reason for lack in found.sites[directory.devices["s1"].premises].lacks]


async def test_a_group_has_versions_each_whole_in_the_audit_and_the_same_again_is_none(registry: Registry) -> None:
    store, directory = GroupStore(registry.database), await registry.directory(SPECS)
    first = groups.check("old", document({"kind": "firmware", "below": "2.1"}), directory, SPECS)
    assert (await store.save("old", first, "lan")).version == 1
    assert (await store.save("old", first, "minh")).by == "lan"
    changed = groups.check("old", document({"kind": "firmware", "below": "2.2"}), directory, SPECS)
    assert (await store.save("old", changed, "minh")).version == 2
    kept = (await store.all())["old"]
    assert (kept.document, kept.version, kept.by) == (changed, 2, "minh")
    assert await store.remove("old", "lan")
    assert not await store.remove("old", "lan")
    assert await store.all() == {}
    told = [
        (one.deed.by, one.deed.action, one.deed.detail) for one in await registry.audit_entries() if "group" in one.deed.action
    ]
    assert told == [
        ("lan", "group.save", '{"query":{"below":"2.1","kind":"firmware"},"title":"G","version":1}'),
        ("minh", "group.save", '{"query":{"below":"2.2","kind":"firmware"},"title":"G","version":2}'),
        ("lan", "group.remove", "{}"),
    ]
    assert await registry.verify_audit() == []


async def test_who_saves_over_a_version_that_he_has_not_seen_is_told(registry: Registry) -> None:
    store, directory = GroupStore(registry.database), await registry.directory(SPECS)
    one = groups.check("g", document({"kind": "key_site"}), directory, SPECS)
    other = groups.check("g", document({"kind": "key_site", "is": False}), directory, SPECS)
    await store.save("g", one, "lan", 0)
    with pytest.raises(Refused, match=r"conflict.*version 1, not 0"):
        await store.save("g", other, "minh", 0)
    assert (await store.save("g", other, "minh", 1)).version == 2


async def test_groups_follow_the_registry(registry: Registry) -> None:
    store, follower, made = GroupStore(registry.database), Follower(registry, SPECS), Groups()
    await follower.refresh()
    query = {"kind": "all", "of": [{"kind": "area", "is": ["tp"]}, {"kind": "state", "is": ["active"]}]}
    await store.save("town", groups.check("town", document(query), follower.directory, SPECS), "lan")
    made.follow(await store.all(), follower.directory, {})
    assert made.members("town") == frozenset()
    await registry.set_state("s1", "provisioned", "tester")
    await registry.set_state("s1", "active", "tester")
    await follower.refresh()
    assert made.follow(await store.all(), follower.directory, {})["town"].joined == {"s1"}
    assert made.of("s1") == {"town"}


async def test_a_day_of_coverage_is_kept_once_and_the_newest_look_of_it_counts(registry: Registry, clock: ManualClock) -> None:
    days = CoverageDays(registry.database)
    await days.keep(DAY, Coverage(0.0, {}, {"": Figure(4, 2, 1), "w1": Figure(2, 2, 1), "w2": Figure()}), "keeper")
    clock.advance(60.0)
    await days.keep(DAY, Coverage(0.0, {}, {"": Figure(4, 3, 2), "w2": Figure(1, 1, 1)}), "keeper")
    await days.keep(DAY + timedelta(days=1), Coverage(0.0, {}, {"": Figure(4, 4, 4)}), "keeper")
    found = await days.between(DAY, DAY + timedelta(days=1), ["", "w1", "w2"])
    assert [(one.day, one.area, one.figure) for one in found] == [
        (DAY, "", Figure(4, 3, 2)),
        (DAY, "w2", Figure(1, 1, 1)),
        (DAY + timedelta(days=1), "", Figure(4, 4, 4)),
    ]
    assert found[0].at_ms == int(clock.wall_ms())
    assert [one.day for one in await days.between(DAY + timedelta(days=1), DAY + timedelta(days=9))] == [DAY + timedelta(days=1)]
    last = (await registry.audit_entries())[-1].deed
    assert (last.by, last.action, last.subject) == ("keeper", "coverage.day", "2026-11-27")


async def test_cells_add_up_what_they_watch_of_the_same_key_sites(registry: Registry) -> None:
    days = CoverageDays(registry.database)
    await days.keep(DAY, Coverage(0.0, {}, {"": Figure(4, 2, 1)}), "keeper", "north")
    await days.keep(DAY, Coverage(0.0, {}, {"": Figure(4, 1, 1)}), "keeper", "south")
    (found,) = await days.between(DAY, DAY)
    assert found.figure == Figure(4, 3, 2)

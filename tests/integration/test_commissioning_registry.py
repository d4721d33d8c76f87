"""Test modes, last tests and technicians' entries, in the registry on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
from iotcore.process.follow import Follower
from iotcore.registry.commissioning import LONGEST_TEST_MS, MINUTE_MS, Commissioning, LastTest, Told
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.tables_places import UnitRow
from tests.support.registered import SPECS, city

pytestmark = pytest.mark.timeout(60)
POEM = Told("c", "d1", "poem", 1)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(registry_url: str, clock: ManualClock) -> AsyncIterator[Registry]:
    async with await open_registry(registry_url, clock) as opened:
        await opened.import_city(city(), SPECS, "tester")
        yield opened


@pytest.fixture
def made(registry: Registry) -> Commissioning:
    return Commissioning(registry.database)


async def deeds(registry: Registry) -> list[tuple[str, str, str]]:
    return [(one.deed.by, one.deed.action, one.deed.subject) for one in await registry.audit_entries()]


async def test_a_test_mode_travels_to_whoever_follows_and_is_over_by_the_clock_alone(
    registry: Registry, made: Commissioning, clock: ManualClock
) -> None:
    follower = Follower(registry, SPECS)
    await follower.refresh()
    follower.directory.routes["a topic"] = "what a driver made of it"
    begun = await made.start_test("d1", 10 * MINUTE_MS, "lan")
    assert await follower.refresh()
    assert follower.directory.routes, "a lane keeps what it knows of its topics"
    here = follower.directory.in_test["d1"]
    assert here == begun
    assert here.covers(clock.wall_ms())
    clock.advance(600.0)
    assert not here.covers(clock.wall_ms())
    assert await made.test_mode("d1") is None
    assert (await deeds(registry))[-1] == ("lan", "test_mode.start", "d1")


async def test_its_end_is_written_down_once_also_by_who_was_not_there(
    registry: Registry, made: Commissioning, clock: ManualClock
) -> None:
    await made.start_test("d1", MINUTE_MS, "lan")
    await made.start_test("d2", 2 * MINUTE_MS, "lan")
    assert await made.end_overdue() == []
    clock.advance(60.0)
    assert await made.end_overdue() == ["d1"]
    assert await made.end_overdue() == []
    assert await made.end_test("d2", "minh")
    assert not await made.end_test("d2", "minh")
    assert (await deeds(registry))[-2:] == [("clock", "test_mode.end", "d1"), ("minh", "test_mode.end", "d2")]
    assert (await registry.directory(SPECS)).in_test == {}


async def test_it_is_bounded_and_only_for_devices_that_may_speak(registry: Registry, made: Commissioning) -> None:
    for wrong_ms in (0, -1, LONGEST_TEST_MS + 1):
        with pytest.raises(Refused, match="too_long"):
            await made.start_test("d1", wrong_ms, "lan")
    with pytest.raises(Refused, match="unknown_device"):
        await made.start_test("nobody", MINUTE_MS, "lan")
    await registry.set_state("d1", "provisioned", "t")
    await registry.set_state("d1", "active", "t")
    await registry.set_state("d1", "suspended", "t")
    with pytest.raises(Refused, match="not_testable"):
        await made.start_test("d1", MINUTE_MS, "lan")


async def test_started_again_it_lasts_from_then_on(made: Commissioning, clock: ManualClock) -> None:
    await made.start_test("d1", LONGEST_TEST_MS, "lan")
    clock.advance(60.0)
    again = await made.start_test("d1", MINUTE_MS, "minh")
    assert again.until_ms == clock.wall_ms() + MINUTE_MS
    assert await made.test_mode("d1") == again


async def test_the_last_test_counts_whatever_comes_late_or_twice(registry: Registry, made: Commissioning) -> None:
    assert await made.record_test(LastTest("d1", 5_000, 12.5, "lan"), {"received_ms": 5_001.0})
    assert not await made.record_test(LastTest("d1", 5_000, 12.5, "lan"), {})
    assert not await made.record_test(LastTest("d1", 4_000, 99.0, "lan"), {})
    assert await made.record_test(LastTest("d1", 6_000, 8.0, "minh"), {})
    assert await made.record_test(LastTest("d2", 1_000, 7.0, "lan"), {})
    assert await made.last_tests() == {"d1": LastTest("d1", 6_000, 8.0, "minh"), "d2": LastTest("d2", 1_000, 7.0, "lan")}
    assert await made.last_tests("d2") == {"d2": LastTest("d2", 1_000, 7.0, "lan")}
    assert [action for _, action, _ in await deeds(registry)].count("device.test") == 3


async def test_an_entry_told_twice_is_one_entry(registry: Registry, made: Commissioning) -> None:
    told = Told("c-1", "d1", "remark", 1_000, {"text": "Trần bê tông"})
    first, is_new = await made.add(told, "lan")
    again, is_new_again = await made.add(told, "lan")
    assert (is_new, is_new_again) == (True, False)
    assert first == again
    assert first.received_ms != first.at_ms  # the phone's time beside ours
    with pytest.raises(Refused, match="taken"):
        await made.add(Told("c-1", "d1", "remark", 1_000, {"text": "something else"}), "lan")
    assert [action for _, action, _ in await deeds(registry)].count("commissioning.remark") == 1


async def test_of_a_place_only_one_counts_and_nobody_overwrites_what_he_has_not_seen(made: Commissioning) -> None:
    here, there = {"latitude": 19.8, "longitude": 105.7}, {"latitude": 19.9, "longitude": 105.8}
    first, _ = await made.add(Told("c-1", "d1", "location", 1_000, here), "lan")
    with pytest.raises(Refused, match="conflict: lan told location 1"):
        await made.add(Told("c-2", "d1", "location", 2_000, there), "minh")
    second, _ = await made.add(Told("c-2", "d1", "location", 2_000, there, seen=first.number), "minh")
    await made.add(Told("c-3", "d1", "remark", 3_000, {"text": "1"}), "lan")
    await made.add(Told("c-4", "d1", "remark", 3_000, {"text": "2"}), "minh")
    await made.add(Told("c-5", "d2", "location", 2_000, there), "minh")
    assert [(one.id, one.number) for one in await made.entries("d1")] == [
        ("c-1", 1),
        ("c-2", second.number),
        ("c-3", 3),
        ("c-4", 4),
    ]


@pytest.mark.parametrize("told", [Told("", "d1", "remark", 1), POEM, Told("c", "d1", "remark", 1, {"text": "x" * 20_001})])
async def test_a_senseless_entry_is_refused(made: Commissioning, told: Told) -> None:
    with pytest.raises(Refused, match="bad_entry"):
        await made.add(told, "lan")
    assert await made.entries("d1") == []


async def test_a_unit_is_there_since_the_last_one_went(registry: Registry, made: Commissioning) -> None:
    assert await made.unit_since("d1") == 0
    async with registry.database.writing() as work:
        await UnitRow.create(
            using_db=work.db, device_id="d1", serial="a", model="smoke-heat", from_ms=1_000, to_ms=5_000, why="x"
        )
        await UnitRow.create(using_db=work.db, device_id="d1", serial="b", model="smoke-heat", from_ms=5_000)
        work.note("tester", "device.replace", "d1")
    assert await made.unit_since("d1") == 5_000
    assert await made.unit_since("d2") == 0

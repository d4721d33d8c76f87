"""Response plans, disablements and walk tests in the registry, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
from iotcore.process.follow import Follower
from iotcore.registry.directory import Target
from iotcore.registry.disablements import ASK_LASTS_MS, DAY_MS, LONGEST_MS, MINUTE_MS, Disablements
from iotcore.registry.response import DEFAULT, Drills, Response
from iotcore.registry.responses import Responses
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.tables_acts import ResponseRow
from iotcore.registry.walks import LONGEST_MS as LONGEST_WALK_MS
from iotcore.registry.walks import Walks
from tests.support.registered import SPECS, city

pytestmark = pytest.mark.timeout(60)
PLAN = Response(profile="verified", asked_by="CV 12/PCCC", receivers=("arc",))
POINT = Target("point", "d1", "smoke")
WHOLE = Target("premises", "p1")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(registry_url: str, clock: ManualClock) -> AsyncIterator[Registry]:
    async with await open_registry(registry_url, clock) as opened:
        await opened.import_city(city(), SPECS, "tester")
        yield opened


async def deeds(registry: Registry) -> list[tuple[str, str, str]]:
    return [(one.deed.by, one.deed.action, one.deed.subject) for one in await registry.audit_entries()]


async def test_a_plan_has_versions_and_travels_to_whoever_follows(registry: Registry) -> None:
    plans, follower = Responses(registry.database), Follower(registry, SPECS)
    await follower.refresh()
    assert await plans.get("p1") is None
    assert follower.directory.response("p1") == DEFAULT
    assert (await plans.save("p1", PLAN, "lan", 0)).version == 1
    assert (await plans.save("p1", PLAN, "minh")).version == 1, "the same again is no new version"
    await follower.refresh()
    assert follower.directory.response("p1") == PLAN
    assert follower.directory.response("p2") == DEFAULT
    later = msgspec.structs.replace(PLAN, drills=Drills(every_days=30))
    with pytest.raises(Refused, match="conflict"):
        await plans.save("p1", later, "minh", 7)
    assert (await plans.save("p1", later, "minh", 1)).version == 2
    assert await plans.remove("p1", "lan", 2)
    assert not await plans.remove("p1", "lan")
    await follower.refresh()
    assert follower.directory.responses == {}
    assert (await plans.save("p1", PLAN, "lan", 0)).version == 4, "versions count on over a removal"
    history = [(one.version, one.by, one.removed) for one in await plans.history("p1")]
    assert history == [(4, "lan", False), (3, "lan", True), (2, "minh", False), (1, "lan", False)]
    assert [deed[1] for deed in await deeds(registry)][-4:] == [
        "response.save",
        "response.save",
        "response.remove",
        "response.save",
    ]
    assert (await registry.directory(SPECS)).responses == {"p1": PLAN}
    assert await registry.verify_audit() == []


async def test_a_plan_of_no_premises_or_one_that_cannot_be_read_weakens_nothing(registry: Registry) -> None:
    plans = Responses(registry.database)
    with pytest.raises(Refused, match="unknown_premises"):
        await plans.save("nowhere", PLAN, "lan")
    await plans.save("p1", PLAN, "lan")
    async with registry.database.writing() as work:
        await ResponseRow.filter(premises_id="p1").using_db(work.db).update(document='{"profile": "asleep"}')
        work.note("tester", "tampered", "p1")
    kept = await plans.get("p1")
    assert kept is not None
    assert kept.response is None
    assert not kept.removed
    assert (await registry.directory(SPECS)).response("p1") == DEFAULT


async def test_a_disablement_begins_at_once_is_bounded_and_ends_by_the_clock_alone(
    registry: Registry, clock: ManualClock
) -> None:
    out, follower = Disablements(registry.database), Follower(registry, SPECS)
    await follower.refresh()
    made = await out.disable(POINT, 10 * MINUTE_MS, "  sơn trần ", "lan", SPECS)
    assert (made.reason, made.premises, made.started_ms) == ("sơn trần", "p2", made.asked_ms)
    await follower.refresh()
    here = follower.directory.disablements[made.id]
    assert here == made
    assert here.covers(clock.wall_ms())
    with pytest.raises(Refused, match="disabled"):
        await out.disable(POINT, MINUTE_MS, "again", "lan", SPECS)
    clock.advance(600.0)
    assert not here.covers(clock.wall_ms())
    assert await out.end_overdue() == [made.id]
    assert await out.end_overdue() == []
    await follower.refresh()
    assert follower.directory.disablements == {}
    again = await out.disable(POINT, MINUTE_MS, "again", "lan", SPECS)
    assert await out.lift(again.id, "minh")
    assert not await out.lift(again.id, "minh")
    assert [deed[:2] for deed in await deeds(registry)][-4:] == [
        ("lan", "disable"), ("clock", "enable"), ("lan", "disable"), ("minh", "enable")]  # fmt: skip
    assert [one.ended_by for one in await out.all(ended=True)] == ["minh", "clock"]


@pytest.mark.parametrize(
    ("target", "for_ms", "reason", "why"),
    [
        (POINT, 0, "x", "too_long"),
        (POINT, LONGEST_MS + 1, "x", "too_long"),
        (POINT, MINUTE_MS, "  ", "no_reason"),
        (Target("point", "d1", "nose"), MINUTE_MS, "x", "unknown_point"),
        (Target("device", "nobody"), MINUTE_MS, "x", "unknown_device"),
        (Target("device", "air-1"), MINUTE_MS, "x", "not_fire"),
        (Target("zone", "nowhere"), MINUTE_MS, "x", "unknown_zone"),
        (Target("premises", "nowhere"), MINUTE_MS, "x", "unknown_premises"),
    ],
)
async def test_what_cannot_be_disabled_is_refused_by_name(
    registry: Registry, target: Target, for_ms: int, reason: str, why: str
) -> None:
    before = len(await deeds(registry))
    with pytest.raises(Refused) as refused:
        await Disablements(registry.database).disable(target, for_ms, reason, "lan", SPECS)
    assert refused.value.reason == why
    assert len(await deeds(registry)) == before


async def test_a_whole_premises_waits_for_a_second_person_who_is_somebody_else(registry: Registry, clock: ManualClock) -> None:
    out = Disablements(registry.database)
    asked = await out.disable(WHOLE, DAY_MS, "thay tủ", "lan/web", SPECS, second_person=True)
    assert asked.started_ms is None
    assert not asked.covers(clock.wall_ms()), "until then every fire is live"
    with pytest.raises(Refused, match="same_person"):
        await out.confirm(asked.id, "lan", "lan")
    clock.advance(60.0)
    begun = await out.confirm(asked.id, "minh", "minh")
    assert (begun.started_ms, begun.confirmed_by) == (int(clock.wall_ms()), "minh")
    assert begun.covers(clock.wall_ms())
    with pytest.raises(Refused, match="decided"):
        await out.confirm(asked.id, "an", "an")
    assert [deed[:2] for deed in await deeds(registry)][-2:] == [("lan/web", "disable.ask"), ("minh", "disable")]
    late = await out.disable(Target("premises", "p2"), 2 * DAY_MS, "x", "lan", SPECS, second_person=True)
    clock.advance(ASK_LASTS_MS / 1000.0)
    with pytest.raises(Refused, match="expired"):
        await out.confirm(late.id, "minh", "minh")
    assert set(await out.end_overdue()) == {asked.id, late.id}
    with pytest.raises(Refused, match="unknown_disablement"):
        await out.confirm("D0", "minh", "minh")


async def test_a_walk_test_is_of_one_technician_and_ends_by_itself(registry: Registry, clock: ManualClock) -> None:
    walks, follower = Walks(registry.database), Follower(registry, SPECS)
    await follower.refresh()
    begun = await walks.start("p1", "p1-z1", 30 * MINUTE_MS, "lan")
    for zone in ("", "p1-z1"):
        with pytest.raises(Refused, match="in_walk"):
            await walks.start("p1", zone, MINUTE_MS, "minh")
    await follower.refresh()
    directory = follower.directory
    inside = next(b for b in directory.devices.values() if b.zone == "p1-z1")
    outside = next(b for b in directory.devices.values() if b.zone == "p2-z1")
    assert directory.walked(inside, clock.wall_ms()) == begun
    assert directory.walked(outside, clock.wall_ms()) is None
    clock.advance(1800.0)
    assert directory.walked(inside, clock.wall_ms()) is None
    assert await walks.end_overdue() == [begun.id]
    assert not await walks.end(begun.id, "lan")
    whole = await walks.start("p2", "", LONGEST_WALK_MS, "minh")
    assert await walks.end(whole.id, "minh")
    for premises, zone, for_ms, why in (
        ("p1", "", LONGEST_WALK_MS + 1, "too_long"), ("nowhere", "", MINUTE_MS, "unknown_premises"),
        ("p1", "p2-z1", MINUTE_MS, "unknown_zone")):  # fmt: skip
        with pytest.raises(Refused, match=why):
            await walks.start(premises, zone, for_ms, "lan")
    assert [one.ended_by for one in await walks.all(ended=True)] == ["minh", "clock"]
    assert await walks.get(whole.id) == (await walks.all(ended=True))[0]

"""Units of makers' batches on SQLite and on a real PostgreSQL: told of, bound to a place, enrolled once, released."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import EnrolmentError, Refused
from iotcore.registry import asked as words
from iotcore.registry.claims import UnitEntry
from iotcore.registry.tables import DeviceRow
from iotcore.registry.tokens import hash_of
from tests.support.enrolling import BY, CITY, DAY_S, LOT, Book, asking, book, said, whys
from tests.support.registered import SPECS

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def kept(registry_url: str, clock: ManualClock) -> AsyncIterator[Book]:
    async with book(registry_url, CITY, clock) as opened:
        yield opened


async def test_a_unit_waits_for_its_place_and_then_enrols_once(kept: Book) -> None:
    assert await kept.enrolments.tell("lot", LOT, DAY_S, "maker") == (2, 0)
    assert await kept.enrolments.tell("lot", LOT, DAY_S, "maker") == (0, 2)
    with pytest.raises(EnrolmentError) as waits:
        await kept.admissions.admit(asking("SN1", "secret 1"))
    assert (waits.value.reason, waits.value.retry_s) == (words.UNBOUND, words.POLL_S)
    assert await said(kept, asking("SN1", "secret 2")) == words.TOKEN
    assert await kept.enrolments.bind("SN1", "d1", "technician")
    assert not await kept.enrolments.bind("SN1", "d1", "technician")
    assert (await kept.admissions.admit(asking("SN1", "secret 1"))).cn == "d1"
    assert await said(kept, asking("SN1", "secret 1", "another key")) == words.TOKEN
    assert [(unit.serial, unit.state, unit.device) for unit in await kept.enrolments.units("lot")] == [
        ("SN1", "enrolled", "d1"),
        ("SN2", "known", ""),
    ]
    assert (await kept.states())["d1"] == "provisioned"


@pytest.mark.parametrize(
    ("serial", "place", "reason"),
    [("SN1", "d2", "bound"), ("SN2", "d1", "taken"), ("SN9", "d2", "unknown_unit"), ("SN2", "s1", "unknown_unit"),
     ("SN2", "nowhere", "unknown_device")],
)  # fmt: skip
async def test_one_unit_has_one_place(kept: Book, serial: str, place: str, reason: str) -> None:
    await kept.enrolments.tell("lot", LOT, DAY_S, "maker")
    await kept.enrolments.bind("SN1", "d1", BY)
    with pytest.raises(Refused, match=reason):
        await kept.enrolments.bind(serial, place, BY)


async def test_a_unit_that_is_enrolled_again_keeps_its_place_and_never_makes_a_second_device(kept: Book) -> None:
    await kept.enrolments.tell("lot", [UnitEntry("smoke-heat", "SN1", hash_of("secret 1"))], DAY_S, "maker")
    await kept.enrolments.bind("SN1", "child-1", BY)
    before = (await kept.registry.directory(SPECS)).devices
    first = await kept.admissions.admit(asking("SN1", "secret 1", "k1"))
    assert await kept.enrolments.release("SN1", BY) == "child-1"
    assert {one.serial: one.revoked_ms is not None for one in await kept.recorded()} == {first.serial: True}
    assert await said(kept, asking("SN1", "secret 1", "k2")) == words.UNBOUND
    await kept.enrolments.bind("SN1", "child-1", BY)
    assert (await kept.admissions.admit(asking("SN1", "secret 1", "k2"))).cn == "child-1"
    after = (await kept.registry.directory(SPECS)).devices
    assert set(after) == set(before)
    assert [unit.device for unit in await kept.enrolments.units()] == ["child-1"]
    assert (after["child-1"].publisher, after["child-1"].premises, after["child-1"].zone) == ("gw-1", "p1", "p1-z1")
    await kept.give("new", "child-1")  # and the same by a token
    assert (await kept.admissions.admit(asking("child-1", "new", "k3"))).cn == "child-1"
    assert set((await kept.registry.directory(SPECS)).devices) == set(before)


async def test_a_unit_in_whose_place_another_was_registered_does_not_enrol_and_its_release_revokes_nothing(kept: Book) -> None:
    await kept.enrolments.tell("lot", LOT, DAY_S, "maker")
    await kept.enrolments.bind("SN1", "d1", BY)
    await kept.give("t1", "d1")
    async with kept.registry.database.writing() as work:
        await DeviceRow.filter(id="d1").using_db(work.db).update(serial="SN7")
        work.note(BY, "device.replace", "d1")
    assert await said(kept, asking("SN1", "secret 1")) == words.TOKEN
    assert await whys(kept) == ["another unit stands there now"]
    assert await said(kept, asking("d1", "t1")) == "fire"
    await kept.enrolments.release("SN1", BY)
    assert [one.revoked_ms for one in await kept.recorded()] == [None]
    with pytest.raises(Refused, match="other_unit"):
        await kept.enrolments.bind("SN2", "d1", BY)


async def test_a_unit_may_be_named_like_its_device_but_not_like_another(kept: Book) -> None:
    await kept.enrolments.tell("lot", [UnitEntry("smoke-heat", n, hash_of(f"secret {n}")) for n in ("d1", "d2")], DAY_S, "maker")
    await kept.enrolments.bind("d1", "d1", BY)
    assert (await kept.admissions.admit(asking("d1", "secret d1"))).cn == "d1"
    with pytest.raises(Refused, match="other_device"):
        await kept.enrolments.bind("d2", "child-1", BY)


async def test_a_unit_that_is_lost_or_too_old_never_enrols(kept: Book, clock: ManualClock) -> None:
    await kept.enrolments.tell("lot", [UnitEntry("smoke-heat", f"SN{n}", hash_of(f"s{n}")) for n in (1, 2)], DAY_S, "maker")
    for serial, place in (("SN1", "d1"), ("SN2", "d2")):
        await kept.enrolments.bind(serial, place, BY)
    await kept.enrolments.revoke_unit("SN1", BY)
    assert await said(kept, asking("SN1", "s1")) == words.TOKEN
    clock.advance(DAY_S + 1)
    assert await said(kept, asking("SN2", "s2")) == words.TOKEN
    assert await whys(kept) == ["revoked", "expired"]


async def test_a_token_of_a_batch_is_good_for_so_many_of_its_units_each_once(kept: Book) -> None:
    units = [UnitEntry("smoke-heat", f"SN{n}", "") for n in range(1, 4)]
    await kept.enrolments.tell("lot", units, DAY_S, "maker")
    await kept.enrolments.tell("other", [UnitEntry("smoke-heat", "SN9", "")], DAY_S, "maker")
    for serial, place in (("SN1", "d1"), ("SN2", "d2"), ("SN3", "child-1")):
        await kept.enrolments.bind(serial, place, BY)
    token = await kept.enrolments.create_batch_token("lot", 2, DAY_S, BY)
    with pytest.raises(Refused, match="unknown_batch"):
        await kept.enrolments.create_batch_token("nothing", 2, DAY_S, BY)
    assert await said(kept, asking("SN9", token)) == words.TOKEN
    outcomes = await asyncio.gather(*(said(kept, asking(f"SN{n}", token, f"k{n}{i}")) for n in (1, 2, 3) for i in range(3)))
    assert sorted(outcomes) == ["fire", "fire", *[words.TOKEN] * 7]
    (shown_,) = [one for one in await kept.enrolments.tokens() if one.batch]
    assert (shown_.used, shown_.uses, shown_.is_open(0.0)) == (2, 2, False)

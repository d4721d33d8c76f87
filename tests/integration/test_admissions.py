"""Admissions on SQLite and on a real PostgreSQL: who gets a certificate, in one commit, whatever comes at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from iotcore.app.common import anchors_of
from iotcore.clock import ManualClock
from iotcore.errors import EnrolmentError, Refused, StartError
from iotcore.registry import asked as words
from iotcore.registry import migrations
from iotcore.registry.admissions import BATCH, QUEUE, Admissions, Refusal
from iotcore.registry.asked import Asked, ByCertificate, BySecret
from iotcore.registry.database import bare
from iotcore.registry.judge import MAX_WAITING_OF_DEVICE
from iotcore.registry.migrations import STEPS
from iotcore.registry.records import Certificate
from iotcore.registry.requests import LIFETIME_MS
from iotcore.registry.store import open_registry
from iotcore.registry.tokens import hash_of
from tests.support.enrolling import BY, CITY, DAY_S, LOT, UNTIL_MS, Book, asking, book, said, signs, whys
from tests.support.registered import SPECS

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def kept(registry_url: str, clock: ManualClock) -> AsyncIterator[Book]:
    async with book(registry_url, CITY, clock) as opened:
        yield opened


async def test_right_certificate_state_and_audit_are_one_commit(kept: Book) -> None:
    await kept.registry.keep_credential("d1", "$7$one", BY)
    await kept.give("t1", "d1")
    before = len(await kept.actions())
    certificate = await kept.admissions.admit(asking("d1", "t1", "k1"))
    assert (certificate.cn, certificate.anchor) == ("d1", "fire")
    assert (await kept.actions())[before:] == ["token.use", "certificate.issue", "credential.revoke"]
    (recorded,) = await kept.recorded()
    assert (recorded.serial, recorded.cn, recorded.issued_ms) == (certificate.serial, "d1", kept.registry.database.now_ms())
    await kept.give("t2", "d2")
    await kept.admissions.admit(asking("d2", "t2"))
    assert (await kept.actions())[-3:] == ["token.use", "certificate.issue", "device.state"]
    assert {name: (await kept.states())[name] for name in ("d1", "d2")} == {"d1": "provisioned", "d2": "provisioned"}
    assert await kept.registry.credentials() == {}
    assert await kept.registry.verify_audit() == []


async def test_a_token_is_kept_hashed_and_good_for_its_own_device_once_and_in_time(kept: Book, clock: ManualClock) -> None:
    token = await kept.registry.create_token("d1", ttl_s=60)
    assert len(token) >= 22  # 128 bits in base64
    late = await kept.registry.create_token("d1", ttl_s=60)
    assert await said(kept, asking("d2", token)) == words.TOKEN
    assert await said(kept, asking("d1", "guess")) == words.TOKEN
    assert await said(kept, asking("d1", token)) == "fire"
    assert await said(kept, asking("d1", token)) == words.TOKEN
    clock.advance(61.0)
    assert await said(kept, asking("d1", late)) == words.TOKEN
    assert await whys(kept) == ["wrong_device", "unknown", "used", "expired"]
    entries = await kept.registry.audit_entries()
    assert all(token not in entry.deed.detail for entry in entries)


async def test_fifty_uses_of_a_token_at_once_in_two_processes_make_one_certificate(
    kept: Book, registry_url: str, clock: ManualClock
) -> None:
    token = await kept.registry.create_token("d1", 60)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(await open_registry(registry_url, clock))
        beside = await stack.enter_async_context(Admissions(other.database, lambda model: anchors_of(SPECS, model)))
        asks = [(kept.admissions, beside)[i % 2].admit(asking("d1", token, f"k{i}")) for i in range(50)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
    won = [one for one in outcomes if isinstance(one, Certificate)]
    lost = [one.reason for one in outcomes if isinstance(one, EnrolmentError)]
    assert (len(won), lost) == (1, [words.TOKEN] * 49)
    assert [one.serial for one in await kept.recorded()] == [won[0].serial]
    assert await kept.registry.verify_audit() == []


async def test_many_at_once_share_commits_and_a_bad_one_harms_no_neighbour(kept: Book) -> None:
    for number in range(8):
        await kept.give(f"t{number}", "d1")
    asks = [asking("d1", f"t{number}" if number % 2 else "wrong", f"k{number}") for number in range(8)]
    last = await kept.registry.last_change()
    outcomes = await asyncio.gather(*(kept.admissions.admit(one) for one in asks), return_exceptions=True)
    assert [isinstance(one, Certificate) for one in outcomes] == [False, True] * 4
    changes = await kept.registry.changes_after(last)
    assert [change.kind for change in changes].count("certificate") == 4
    entries = await kept.registry.audit_entries(limit=10_000)
    assert len({entry.deed.at_ms for entry in entries if entry.deed.action == "certificate.issue"}) == 1


async def test_a_row_that_the_database_refuses_is_found_and_its_neighbours_are_kept(kept: Book) -> None:
    for number in range(3):
        await kept.give(f"t{number}", "d1")
    taken = Certificate("0a", "d1", "fire", UNTIL_MS, "ff")
    await kept.registry.record_certificate(taken, BY)
    good = [asking("d1", "t0", "k0"), asking("d1", "t2", "k2")]
    bad = Asked("d1", hash_of("k1"), BySecret(hash_of("t1")), lambda *_: taken)
    outcomes = await asyncio.gather(*(kept.admissions.admit(one) for one in [good[0], bad, good[1]]), return_exceptions=True)
    assert [type(one).__name__ for one in outcomes] == ["Certificate", "StoreError", "Certificate"]
    assert await kept.open_tokens() == ["d1"]


async def test_a_key_that_cannot_sign_spends_nothing(kept: Book) -> None:
    await kept.give("t1", "d1")
    await kept.give("t2", "d2")

    def gone(*_: str) -> Certificate:
        raise StartError("the security module does not answer", "Plug it in.")

    broken = Asked("d1", hash_of("k1"), BySecret(hash_of("t1")), gone)
    outcomes = await asyncio.gather(
        kept.admissions.admit(broken), kept.admissions.admit(asking("d2", "t2")), return_exceptions=True
    )
    assert [type(one).__name__ for one in outcomes] == ["StartError", "Certificate"]
    assert await kept.open_tokens() == ["d1"]
    assert await said(kept, asking("d1", "t1")) == "fire"


async def test_a_full_queue_says_so_and_counts(kept: Book) -> None:
    async with kept.registry.database.writing() as work:  # nobody else can write now
        asks = [asyncio.ensure_future(kept.admissions.admit(asking("d1", f"x{i}"))) for i in range(QUEUE + BATCH + 10)]
        await asyncio.sleep(0)
        assert kept.admissions.busy >= 10
        work.note(BY, "test", "queue")
    outcomes = await asyncio.gather(*asks, return_exceptions=True)
    busy = [one for one in outcomes if isinstance(one, EnrolmentError) and one.reason == words.BUSY]
    assert len(busy) == kept.admissions.busy >= 10
    assert {one.retry_s for one in busy} == {words.BUSY_S}
    assert await kept.registry.verify_audit() == []


async def test_whoever_waits_hears_that_the_listener_stops(registry_url: str, clock: ManualClock) -> None:
    async with book(registry_url, CITY, clock) as opened:
        async with Admissions(opened.registry.database, lambda _: ()) as ending:
            ask = asyncio.ensure_future(ending.refuse(Refusal("enrolment_refused", "d1", "x", "")))
            others = [asyncio.ensure_future(ending.admit(asking("d1", f"x{i}"))) for i in range(40)]
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(ask, *others, return_exceptions=True)
    assert {getattr(one, "reason", None) for one in outcomes} <= {None, words.BUSY, words.TOKEN}


async def test_suspended_retired_and_unknown_devices_and_foreign_anchors(kept: Book) -> None:
    await kept.give("t1", "d1")
    await kept.give("t2", "d2")
    await kept.give("g1", "gw-1")
    await kept.give("g2", "gw-1")
    await kept.put_out("d1")
    assert await said(kept, asking("d1", "t1")) == words.TOKEN
    assert await said(kept, asking("d2", "t2", anchor="field")) == words.ANCHOR
    assert await said(kept, asking("d2", "t2")) == "fire"
    assert [await said(kept, asking("gw-1", "g1", anchor="fire")), await said(kept, asking("gw-1", "g2"))] == ["fire", "field"]
    assert (await whys(kept))[0] == "device is suspended"


async def test_a_key_of_another_device_is_refused_and_audited_and_ones_own_is_not(kept: Book) -> None:
    for token, name in (("t1", "d1"), ("t2", "d2"), ("t3", "d1"), ("t4", "d1")):
        await kept.give(token, name)
    certificate = await kept.admissions.admit(asking("d1", "t1", "shared"))
    assert await said(kept, asking("d2", "t2", "shared")) == words.KEY_ELSEWHERE
    assert await whys(kept) == ["of d1"]
    again = Asked("d1", hash_of("shared"), BySecret(hash_of("t3")), lambda *_: Certificate("0b", "d1", "fire", 1, "ff"))
    assert await said(kept, again) == "fire"
    for serial in (certificate.serial, "0b"):
        await kept.registry.revoke_certificate(serial, BY)
    assert await said(kept, asking("d1", "t4", "shared")) == words.KEY_REVOKED
    assert await said(kept, asking("d1", "t4", "fresh")) == "fire"


async def test_two_devices_with_one_key_in_the_same_batch_get_one_certificate(kept: Book) -> None:
    await kept.give("t1", "d1")
    await kept.give("t2", "d2")
    outcomes = await asyncio.gather(said(kept, asking("d1", "t1", "k")), said(kept, asking("d2", "t2", "k")))
    assert sorted(outcomes) == ["fire", words.KEY_ELSEWHERE]


def shown(name: str, holder: str, serial: str = "aa") -> Asked:
    key = hash_of(f"key of {name} {serial}")
    return Asked(name, key, ByCertificate(holder, serial), signs(key))


async def test_a_gateway_enrols_its_own_children_and_nobody_else(kept: Book) -> None:
    await kept.registry.record_certificate(Certificate("aa", "gw-1", "field", UNTIL_MS, "ff"), BY)
    assert await said(kept, shown("child-1", "gw-1")) == "fire"
    entry = next(
        e for e in await kept.registry.audit_entries() if e.deed.subject == "child-1" and e.deed.action == "certificate.issue"
    )
    assert entry.deed.by == "gw-1"
    assert await said(kept, shown("d1", "gw-1")) == words.NOT_A_CHILD
    assert await said(kept, shown("nobody", "gw-1")) == words.NOT_A_CHILD
    assert await said(kept, shown("child-1", "d1")) == words.NOT_A_CHILD
    await kept.registry.revoke_certificate("aa", BY)
    assert await said(kept, shown("child-1", "gw-1")) == words.CERTIFICATE
    await kept.put_out("gw-1")
    assert await said(kept, shown("child-1", "gw-1", "bb")) == words.CERTIFICATE


async def test_a_token_that_was_taken_back_is_worth_nothing(kept: Book) -> None:
    token = await kept.enrolments.create_token("d1", 60, BY)
    (one,) = await kept.enrolments.tokens("d1")
    assert await kept.enrolments.revoke_token(one.id, BY) == "d1"
    for id_, reason in ((one.id, "used"), ("ff" * 8, "unknown_token"), ("", "unknown_token")):
        with pytest.raises(Refused, match=reason):
            await kept.enrolments.revoke_token(id_, BY)
    assert await said(kept, asking("d1", token)) == words.TOKEN
    approved = await kept.enrolments.create_token("d2", 60, BY, approval=True)
    assert await said(kept, asking("d2", approved)) == words.PENDING
    (request,) = await kept.enrolments.requests()
    await kept.enrolments.decide(request.id, "an", approve=True)
    (open_,) = [shown_ for shown_ in await kept.enrolments.tokens("d2") if shown_.revoked_ms is None]
    await kept.enrolments.revoke_token(open_.id, BY)
    assert await said(kept, asking("d2", approved)) == words.TOKEN  # also after its approval
    assert await whys(kept) == ["revoked", "revoked"]


async def test_a_person_approves_one_key_and_another_key_is_another_request(kept: Book, clock: ManualClock) -> None:
    token = await kept.enrolments.create_token("d1", 3_600, BY, approval=True)
    mine, strangers = asking("d1", token, "mine"), asking("d1", token, "a stranger's")
    assert [await said(kept, one) for one in (mine, mine, strangers)] == [words.PENDING] * 3
    first, second = await kept.enrolments.requests()
    assert (first.device, first.key, first.anchor, first.address, first.state) == ("d1", mine.key, "fire", "192.0.2.7", "waiting")
    assert await kept.enrolments.decide(first.id, "an", approve=True) == "d1"
    await kept.enrolments.decide(second.id, "an", approve=False, reason="not ours")
    with pytest.raises(Refused, match="decided"):
        await kept.enrolments.decide(second.id, "an", approve=True)
    with pytest.raises(EnrolmentError, match="rejected: not ours"):
        await kept.admissions.admit(strangers)
    clock.advance(7_200.0)  # the token's own time is over; the approval counts
    assert await said(kept, mine) == "fire"
    assert await said(kept, mine) == words.TOKEN
    assert [one.state for one in await kept.enrolments.requests()] == ["issued", "rejected"]
    actions = await kept.actions()
    assert [actions.count(f"enrolment.{verb}") for verb in ("ask", "approve", "reject")] == [2, 1, 1]
    assert await kept.registry.verify_audit() == []


async def test_requests_that_wait_are_few_and_not_for_ever(kept: Book, clock: ManualClock) -> None:
    token = await kept.enrolments.create_token("d1", 10 * DAY_S, BY, approval=True)
    outcomes = [await said(kept, asking("d1", token, f"k{n}")) for n in range(MAX_WAITING_OF_DEVICE + 1)]
    assert outcomes == [*[words.PENDING] * MAX_WAITING_OF_DEVICE, words.BUSY]
    clock.advance(LIFETIME_MS / 1000.0)
    assert await kept.enrolments.requests() == []
    assert await said(kept, asking("d1", token, "k9")) == words.PENDING
    assert len(await kept.enrolments.requests()) == 1


async def test_everybody_is_approved_where_the_settings_say_so(registry_url: str, clock: ManualClock) -> None:
    async with book(registry_url, CITY, clock, approval=True) as strict:
        await strict.give("t1", "d1")
        await strict.enrolments.tell("lot", LOT, DAY_S, "maker")
        await strict.enrolments.bind("SN1", "d2", BY)
        assert [await said(strict, asking("d1", "t1")), await said(strict, asking("SN1", "secret 1"))] == [words.PENDING] * 2
        for one in await strict.enrolments.requests():
            await strict.enrolments.decide(one.id, "an", approve=True)
        assert [await said(strict, asking("d1", "t1")), await said(strict, asking("SN1", "secret 1"))] == ["fire", "fire"]
        assert await said(strict, shown("gw-1", "gw-1")) == "field"  # a renewal needs nobody


async def test_a_token_that_was_taken_back_stays_so_on_the_way_to_the_schema_before_and_back(
    registry_url: str, clock: ManualClock
) -> None:
    async with book(registry_url, CITY, clock) as first:
        taken, waiting, good = [await first.enrolments.create_token("d1", DAY_S, BY, approval=n == 1) for n in range(3)]
        (one,) = [shown_ for shown_ in await first.enrolments.tokens() if shown_.id == hash_of(taken)[:12]]
        await first.enrolments.revoke_token(one.id, BY)
    async with bare(registry_url) as (db, schema):
        await migrations.revert(db, schema, int(clock.wall_ms()), STEPS, 2, lose_data=True)
    async with book(registry_url, (), clock) as second:
        outcomes = [await said(second, asking("d1", token, f"k{token}")) for token in (taken, waiting, good)]
    assert outcomes == [words.TOKEN, words.TOKEN, "fire"]

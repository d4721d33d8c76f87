"""Users, sessions, links, API tokens and approvals in the registry, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
from iotcore.registry import passwords
from iotcore.registry.accounts import Accounts, accounts
from iotcore.registry.rights import Grant, Right, Role
from iotcore.registry.sessions import SESSIONS_OF_A_USER, From, hashed
from iotcore.registry.store import Registry, open_registry
from tests.support.registered import SPECS

pytestmark = pytest.mark.timeout(60)
HERE = From("10.0.0.9", "a browser")
AREAS = {"areas": [{"id": "thanh-hoa", "kind": "province", "name": "Thanh Hóa"}]}
ADMIN, VIEWER = Grant(Role.ADMIN), Grant(Role.VIEWER)
IDLE_S, ABSOLUTE_S = 3600.0, 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(registry_url: str, clock: ManualClock) -> AsyncIterator[Registry]:
    async with await open_registry(registry_url, clock) as opened:
        await opened.import_city(AREAS, SPECS, "tester")
        yield opened


@pytest.fixture
async def people(registry: Registry) -> Accounts:
    made = accounts(registry.database, IDLE_S, ABSOLUTE_S)
    await made.people.add("lan", [ADMIN], "tester")
    return made


async def actions(registry: Registry) -> list[tuple[str, str, str]]:
    assert await registry.verify_audit() == []
    return [(one.deed.by, one.deed.action, one.deed.subject) for one in await registry.audit_entries()]


async def reason(refused: object) -> str:
    with pytest.raises(Refused) as caught:
        await refused  # type: ignore[misc]
    return caught.value.reason


async def test_a_user_gets_roles_and_loses_them_and_each_change_is_audited(registry: Registry, people: Accounts) -> None:
    province = Grant(Role.DISPATCHER, "thanh-hoa")
    await people.people.add("minh", [province], "lan", full_name="Lê Minh")
    assert await people.people.grant("minh", VIEWER, "lan")
    assert not await people.people.grant("minh", VIEWER, "lan")
    assert (await people.people.person("minh")).grants == {province, VIEWER}
    assert await people.people.revoke("minh", province, "lan")
    assert not await people.people.revoke("minh", province, "lan")
    assert [(one.name, one.is_admin) for one in await people.people.everybody()] == [("lan", True), ("minh", False)]
    assert await reason(people.people.grant("minh", Grant(Role.VIEWER, "mars"), "lan")) == "unknown_area"
    assert await reason(people.people.grant("nobody", VIEWER, "lan")) == "unknown_user"
    assert await reason(people.people.add("minh", [], "lan")) == "known_user"
    for bad in ("", "Minh", "a b", "-a", "a" * 41, "a/b", "a\0"):
        assert await reason(people.people.add(bad, [], "lan")) == "bad_name"
    done = [entry for entry in await actions(registry) if entry[2] == "minh"]
    assert done == [("lan", f"user.{verb}", "minh") for verb in ("add", "grant", "grant", "revoke")]


async def test_the_last_admin_stays(people: Accounts) -> None:
    assert await reason(people.people.disable("lan", "lan")) == "last_admin"
    assert await reason(people.people.revoke("lan", ADMIN, "lan")) == "last_admin"
    await people.people.add("minh", [ADMIN], "lan")
    assert await people.people.disable("lan", "minh")
    assert await reason(people.people.revoke("minh", ADMIN, "minh")) == "last_admin"
    assert await people.people.admins() == ["minh"]


async def test_a_session_ends_unused_after_its_time_and_at_once_when_it_is_ended(people: Accounts, clock: ManualClock) -> None:
    opened = await people.sessions.open("lan", "password", HERE)
    visitor = await people.sessions.visitor(opened.session)
    assert visitor is not None
    assert (visitor.user, visitor.by, visitor.grants) == ("lan", "lan", frozenset({ADMIN}))
    for _ in range(20):
        clock.advance(IDLE_S * 0.9)
        if clock.elapsed_s < ABSOLUTE_S:
            assert await people.sessions.visitor(opened.session) is not None, "it is used"
    assert clock.elapsed_s < ABSOLUTE_S
    clock.advance(IDLE_S)
    assert await people.sessions.visitor(opened.session) is None
    second = await people.sessions.open("lan", "password", HERE)
    while clock.elapsed_s < 2 * ABSOLUTE_S:
        clock.advance(IDLE_S * 0.9)
        lasts = await people.sessions.visitor(second.session) is not None
    assert not lasts, "used or not, it ends"
    third = await people.sessions.open("lan", "password", HERE)
    assert await people.sessions.end("lan", "lan", only=hashed(third.session)[:12]) == 1
    assert await people.sessions.visitor(third.session) is None


async def test_what_is_stored_signs_nobody_in(registry: Registry, people: Accounts) -> None:
    opened = await people.sessions.open("lan", "password", HERE)
    token = await people.tokens.create("lan", "ci", [VIEWER], 3600.0, "lan")
    link = await people.sessions.make_link("lan", 3600.0, "lan")
    for secret in (opened.session, token, link):
        assert await people.sessions.visitor(hashed(secret)) is None
        assert await people.tokens.visitor(f"iotcore_{hashed(secret)}") is None
        assert await people.sessions.link(hashed(secret)) is None
    async with registry.database.reading() as db:
        for table in ("person", "session", "api_token", "sign_in_link", "audit", "change"):
            stored = str(await db.execute_query_dict(f"SELECT * FROM {table}"))
            assert [one for one in (opened.session, opened.browser, token, link) if one in stored] == []


async def test_a_new_password_ends_every_other_session_and_links_and_is_kept_as_argon2id(people: Accounts) -> None:
    here, there = [await people.sessions.open("lan", "password", HERE) for _ in range(2)]
    link = await people.sessions.make_link("lan", 3600.0, "lan")
    stored = passwords.hashed("a horse that counts to ten")
    await people.people.keep_password("lan", stored, "lan", spare=hashed(here.session))
    assert await people.sessions.visitor(here.session) is not None
    assert await people.sessions.visitor(there.session) is None
    assert await people.sessions.link(link) is None
    kept = await people.people.password_of("lan")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.verify(kept, "a horse that counts to ten")
    assert not passwords.verify(kept, "a horse that counts to nine")


async def test_a_disabled_user_is_out_at_once(people: Accounts) -> None:
    await people.people.add("minh", [VIEWER], "lan")
    await people.people.keep_password("minh", "a hash", "minh")
    opened = await people.sessions.open("minh", "password", HERE)
    token = await people.tokens.create("minh", "ci", [VIEWER], 3600.0, "minh")
    link = await people.sessions.make_link("minh", 3600.0, "lan")
    assert await people.people.disable("minh", "lan")
    assert not await people.people.disable("minh", "lan")
    assert await people.sessions.visitor(opened.session) is None
    assert await people.tokens.visitor(token) is None
    assert await people.people.password_of("minh") == ""
    assert await reason(people.sessions.use_link(link, HERE)) == "bad_link"
    assert await reason(people.sessions.open("minh", "password", HERE)) == "unknown_user"
    assert await people.people.enable("minh", "lan")
    assert await people.sessions.visitor(opened.session) is None, "what has ended stays ended"
    assert await people.tokens.visitor(token) is None


async def test_a_browser_is_known_again_by_its_own_cookie_and_for_its_own_user(people: Accounts, clock: ManualClock) -> None:
    opened = await people.sessions.open("lan", "password", HERE)
    await people.sessions.end("lan", "lan")
    assert await people.sessions.knows(opened.browser, "lan")
    assert not await people.sessions.knows(opened.browser, "minh")
    assert not await people.sessions.knows("", "lan")
    assert not await people.sessions.knows(opened.session, "lan")
    clock.advance(91 * 86_400)
    assert not await people.sessions.knows(opened.browser, "lan")


async def test_sessions_of_a_user_are_bounded(people: Accounts, clock: ManualClock) -> None:
    first = await people.sessions.open("lan", "password", HERE)
    for _ in range(SESSIONS_OF_A_USER):
        clock.advance(1.0)
        last = await people.sessions.open("lan", "password", HERE)
    assert len(await people.sessions.of("lan")) == SESSIONS_OF_A_USER
    assert await people.sessions.visitor(first.session) is None
    assert await people.sessions.visitor(last.session) is not None


async def test_the_first_link_makes_one_admin_however_many_use_it_at_once(registry: Registry) -> None:
    people = accounts(registry.database, IDLE_S, ABSOLUTE_S)
    assert not await people.people.anybody()
    old = await people.sessions.make_link("", 3600.0, "tester")
    link = await people.sessions.make_link("", 3600.0, "tester")
    assert await people.sessions.link(old) is None, "a new one makes the old one worth nothing"
    assert await people.sessions.link(link) == ""
    assert await reason(people.sessions.use_link(link, HERE)) == "bad_link", "it signs nobody in"
    uses = [people.sessions.use_first(link, f"user-{n}", "a hash", HERE) for n in range(20)]
    ended = await asyncio.gather(*uses, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in ended) == 1
    (person,) = await people.people.everybody()
    assert person.is_admin
    assert await reason(people.sessions.make_link("", 3600.0, "tester")) == "not_first"
    assert await people.sessions.link(link) is None


async def test_a_link_signs_in_once_and_not_after_its_time(people: Accounts, clock: ManualClock) -> None:
    link = await people.sessions.make_link("lan", 60.0, "lan")
    ended = await asyncio.gather(*(people.sessions.use_link(link, HERE) for _ in range(20)), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in ended) == 1
    late = await people.sessions.make_link("lan", 60.0, "lan")
    clock.advance(61.0)
    assert await people.sessions.link(late) is None
    assert await reason(people.sessions.use_link(late, HERE)) == "bad_link"
    assert await reason(people.sessions.use_link("guessed", HERE)) == "bad_link"


async def test_a_token_gives_a_part_of_what_its_owner_may_for_a_time(people: Accounts, clock: ManualClock) -> None:
    await people.people.add("minh", [Grant(Role.DISPATCHER, "thanh-hoa")], "lan")
    assert await reason(people.tokens.create("minh", "ci", [ADMIN], 60.0, "lan")) == "not_held"
    assert await reason(people.tokens.create("minh", "ci", [], 60.0, "lan")) == "no_grant"
    assert await reason(people.tokens.create("minh", "c i", [VIEWER], 60.0, "lan")) == "bad_name"
    token = await people.tokens.create("minh", "ci", [Grant(Role.DISPATCHER, "thanh-hoa")], 60.0, "lan")
    assert await reason(people.tokens.create("minh", "ci", [Grant(Role.DISPATCHER, "thanh-hoa")], 60.0, "lan")) == "known_token"
    visitor = await people.tokens.visitor(token)
    assert visitor is not None
    assert (visitor.user, visitor.by, visitor.session) == ("minh", "minh/ci", "")
    assert visitor.may(Right.RESET, {"thanh-hoa"})
    await people.people.revoke("minh", Grant(Role.DISPATCHER, "thanh-hoa"), "lan")
    visitor = await people.tokens.visitor(token)
    assert visitor is not None
    assert not visitor.may_somewhere(Right.SEE), "its owner may no longer"
    clock.advance(61.0)
    assert await people.tokens.visitor(token) is None
    gone = await people.tokens.create("lan", "gone", [VIEWER], 60.0, "lan")
    assert await people.tokens.revoke("lan", "gone", "lan")
    assert not await people.tokens.revoke("lan", "gone", "lan")
    assert await people.tokens.visitor(gone) is None


async def test_two_persons_one_asks_another_approves_and_it_is_done_once(people: Accounts, registry: Registry) -> None:
    await people.people.add("minh", [ADMIN], "lan")
    await people.people.add("viewer", [VIEWER], "lan")
    rotate, arguments = "ca.rotate", {"anchor": "fire"}
    asked = await people.approvals.ask(rotate, arguments, "lan")
    assert await people.approvals.ask(rotate, arguments, "lan") == asked
    assert await people.approvals.take(rotate, arguments, "lan") is None
    assert await reason(people.approvals.decide(asked.id, "lan", approve=True)) == "same_person"
    assert await reason(people.approvals.decide(asked.id, "viewer", approve=True)) == "no_admin"
    assert await reason(people.approvals.decide(999, "minh", approve=True)) == "unknown_approval"
    await people.approvals.decide(asked.id, "minh", approve=True)
    assert await reason(people.approvals.decide(asked.id, "minh", approve=False)) == "decided"
    assert await people.approvals.take(rotate, {"anchor": "field"}, "lan") is None, "another authority"
    assert await people.approvals.take("ca.announce", arguments, "lan") is None
    assert await people.approvals.take(rotate, arguments, "minh") is None, "it was given to the one who asked"
    taken = await asyncio.gather(*(people.approvals.take(rotate, arguments, "lan") for _ in range(10)))
    assert sorted(one for one in taken if one) == [asked.id]
    done = [entry for entry in await actions(registry) if entry[1].startswith("approval.")]
    assert done == [("lan", "approval.ask", "1"), ("minh", "approval.approved", "1"), ("lan", "approval.used", "1")]


async def test_an_approval_that_is_rejected_too_old_or_of_a_disabled_admin_is_none(people: Accounts, clock: ManualClock) -> None:
    await people.people.add("minh", [ADMIN], "lan")
    first = await people.approvals.ask("x", {}, "lan")
    await people.approvals.decide(first.id, "minh", approve=False)
    assert await people.approvals.take("x", {}, "lan") is None
    second = await people.approvals.ask("x", {}, "lan")
    assert second.id != first.id
    await people.approvals.decide(second.id, "minh", approve=True)
    clock.advance(86_401.0)
    assert await people.approvals.take("x", {}, "lan") is None
    third = await people.approvals.ask("x", {}, "lan")
    clock.advance(86_401.0)
    assert await reason(people.approvals.decide(third.id, "minh", approve=True)) == "expired"
    assert [one.state for one in await people.approvals.all()] == ["expired", "expired", "rejected"]
    fourth = await people.approvals.ask("x", {}, "lan")
    assert await people.approvals.all(waiting=True) == [fourth]
    await people.approvals.decide(fourth.id, "minh", approve=True)
    await people.people.disable("lan", "minh")
    assert await reason(people.approvals.take("x", {}, "lan")) == "no_admin"


def test_a_password_that_is_guessed_first_is_refused_and_old_parameters_are_seen() -> None:
    for weak in ("short", "a" * 11, "a" * 201, "aaaaaaaaaaaaaaa", "abababababababab", "lan-lan-lan", "lan123456789"):
        with pytest.raises(Refused, match="weak_password"):
            passwords.check(weak, "lan")
    passwords.check("ba con mèo trắng", "lan")
    assert not passwords.is_old(passwords.NOBODY)
    assert passwords.is_old(passwords.NOBODY.replace("t=3", "t=2"))
    stored = passwords.hashed("mật khẩu ế dài")
    assert passwords.verify(stored, "mật khẩu ế dài"), "composed and decomposed letters are the same"
    assert not passwords.verify("", "anything")
    assert not passwords.verify("no hash", "anything")

"""Signing in over HTTP, as browsers and strangers do it: forms, cookies, brakes, one-time links, sessions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iotcore.registry import passwords
from iotcore.registry.rights import Grant, Role
from iotcore.settings import People
from iotcore.web import cookies
from iotcore.web.passwords import AT_ONCE, WAITING, Busy, Passwords
from iotcore.web.throttle import BRAKES
from tests.support.console import Console, console
from tests.support.visits import BROWSER, PASSWORD, PROGRAM, STORED, audited, cookies_of, signing_in, status


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    """A console, and a user with a password."""
    async with console(tmp_path, {"fire": {}}) as one, one.app.test_app():
        await one.people.people.add("lan", [Grant(Role.DISPATCHER)], "tester")
        await one.people.people.keep_password("lan", STORED, "tester")
        yield one


async def test_a_name_and_a_password_open_the_page_that_was_asked_for(made: Console) -> None:
    client = made.app.test_client()
    form = await (await client.get("/sign-in?to=/devices/d1", headers=BROWSER)).get_data(as_text=True)
    for attribute in ('autocomplete="username"', 'autocomplete="current-password"', 'type="password"', 'value="/devices/d1"'):
        assert attribute in form
    response = await signing_in(client, to="/devices/d1")
    assert (response.status_code, response.headers["Location"]) == (303, "/devices/d1")
    page = await (await client.get("/", headers=BROWSER)).get_data(as_text=True)
    assert 'href="/account">lan' in page
    me = await (await client.get("/api/v1/me", headers=PROGRAM)).get_json()
    assert me == {"user": "lan", "by": "lan", "roles": [{"role": "dispatcher", "area": ""}]}
    assert {"subject": "lan", "way": "password", "address": "<local>"} in await audited(made, "session.open")


async def test_cookies_are_for_no_script_and_no_other_site_and_under_tls_for_this_host_alone(made: Console) -> None:
    plain = cookies_of(await signing_in(made.app.test_client()))
    assert plain.keys() == {"session", "browser"}
    for line in plain.values():
        assert re.search("HttpOnly.*SameSite=Strict", line)
        assert "Secure" not in line
        assert "Domain" not in line
    tls = await made.app.test_client().post(
        "/sign-in", form={"name": "lan", "password": PASSWORD}, headers={**BROWSER, "Origin": "https://localhost"}, scheme="https"
    )
    lines = cookies_of(tls)
    assert lines.keys() == {"__Host-session", "__Host-browser"}
    for line in lines.values():
        for flag in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
            assert flag in line
    assert "max-age" in tls.headers["Strict-Transport-Security"]
    assert len(re.search(r"session=([\w-]+)", plain["session"])[1]) == 43  # type: ignore[index]  # 256 bits in base64


async def test_over_a_line_that_can_be_read_nobody_is_signed_in(tmp_path: Path) -> None:
    async with console(tmp_path, hosts=["city.example"]) as made, made.app.test_app():
        await made.people.people.add("lan", [Grant(Role.VIEWER)], "tester")
        await made.people.people.keep_password("lan", STORED, "tester")
        there = {"Host": "city.example", "Origin": "http://city.example"}
        response = await signing_in(made.app.test_client(), **there)
        assert response.status_code == 403
        assert "https://" in await response.get_data(as_text=True)
        assert cookies_of(response) == {}
        cookie = await made.sign_in("lan")
        assert await status(made.app.test_client(), "/", **there, Cookie=cookie) == 401
        secure = await made.app.test_client().get("/", headers={**there, "Cookie": f"__Host-{cookie}"}, scheme="https")
        assert secure.status_code == 200


async def test_an_id_that_was_planted_is_not_taken_over_and_the_old_session_ends(made: Console) -> None:
    client = made.app.test_client()
    client.set_cookie("localhost", "session", "planted")
    first = cookies_of(await signing_in(client))["session"]
    assert "planted" not in first
    second = cookies_of(await signing_in(client))["session"]
    assert first.split(";")[0] != second.split(";")[0]
    assert await status(made.app.test_client(), "/", Cookie=first.split(";")[0]) == 401, "the session before it has ended"
    assert await status(made.app.test_client(), "/", Cookie=second.split(";")[0]) == 200


async def test_signing_out_ends_the_session_for_whoever_kept_its_cookie(made: Console) -> None:
    client = made.app.test_client()
    cookie = cookies_of(await signing_in(client))["session"].split(";")[0]
    response = await client.post("/sign-out", headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in")
    assert await status(made.app.test_client(), "/", Cookie=cookie) == 401
    assert (await client.post("/sign-out", headers={"Host": "localhost", "Origin": "http://evil.example"})).status_code == 403


async def test_wrong_unknown_and_disabled_look_alike_and_cost_alike(made: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    await made.people.people.add("old", [Grant(Role.VIEWER)], "tester")
    await made.people.people.keep_password("old", STORED, "tester")
    await made.people.people.disable("old", "tester")
    asked: list[str] = []
    really = passwords.verify

    def verify(stored: str, password: str) -> bool:
        asked.append(stored)
        return really(stored, password)

    monkeypatch.setattr(passwords, "verify", verify)
    told = []
    for name, password in (("lan", "wrong"), ("nobody", "wrong"), ("old", PASSWORD), ("nobody", PASSWORD)):
        response = await signing_in(made.app.test_client(), name, password)
        text = await response.get_data(as_text=True)
        told.append((response.status_code, text.replace(f'value="{name}"', "")))
    assert {code for code, _ in told} == {401}
    assert len({text for _, text in told}) == 1
    assert asked == [STORED, "", "", ""], "one verification each; what is missing is compared with nobody's"
    subjects = {entry["subject"] for entry in await audited(made, "session.refuse")}
    assert subjects == {"lan", "an unknown name", "old"}, "what was typed for a name may be a password"


async def test_guessing_is_braked_told_when_to_come_back_counted_and_audited_once(made: Console) -> None:
    guesser = made.app.test_client()
    codes = [(await signing_in(guesser, password=f"guess {n}")).status_code for n in range(BRAKES["account"].tries + 5)]
    assert codes == [401] * BRAKES["account"].tries + [429] * 5
    response = await signing_in(guesser)
    assert response.status_code == 429, "nor with the right one"
    assert 0 < int(response.headers["Retry-After"]) <= BRAKES["account"].every_s
    assert f"{response.headers['Retry-After']} giây" in await response.get_data(as_text=True)
    refusals = [entry["reason"] for entry in await audited(made, "session.refuse")]
    assert refusals == ["wrong"] * BRAKES["account"].tries + ["throttled_account"]


async def test_a_stranger_who_guesses_locks_nobody_out_who_was_here_before(made: Console) -> None:
    mine = made.app.test_client()
    assert (await signing_in(mine)).status_code == 303
    await mine.post("/sign-out", headers=BROWSER)
    stranger = made.app.test_client()
    for n in range(BRAKES["account"].tries + 1):
        last = await signing_in(stranger, password=f"guess {n}")
    assert last.status_code == 429
    assert (await signing_in(mine)).status_code == 303, "this browser has a brake of its own"
    link = await made.people.sessions.make_link("lan", 60.0, "tester")
    assert (await stranger.post(f"/link/{link}", headers=BROWSER)).status_code == 303, "and a link asks none"


async def test_one_address_cannot_try_many_accounts(made: Console) -> None:
    for _ in range(BRAKES["address"].tries - 2):
        made.throttle.take("address", "<local>")
    client = made.app.test_client()
    assert [(await signing_in(client, f"user-{n}", "123456")).status_code for n in range(4)] == [401, 401, 429, 429]
    made.clock.advance(BRAKES["address"].every_s)
    assert (await signing_in(client, "user-9", "123456")).status_code == 401


async def test_of_many_passwords_at_once_so_many_wait_and_no_more() -> None:
    hasher = Passwords()
    ended = await asyncio.gather(*(hasher.verify("", "x") for _ in range(30)), return_exceptions=True)
    assert [one for one in ended if one is False] == [False] * (AT_ONCE + WAITING)
    assert sum(isinstance(one, Busy) for one in ended) == 30 - AT_ONCE - WAITING
    assert not await hasher.verify("", "x"), "room again"


@pytest.mark.parametrize("evil", [
    "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "/\n/evil.example", "\\\\evil.example",
    "javascript:alert(1)", "/ok\r\nSet-Cookie: a=b", " //evil.example", "", "/a b", "/%0d%0a\x00",
])  # fmt: skip
def test_what_leads_to_another_site_or_header_leads_to_the_first_page(evil: str) -> None:
    assert cookies.local(evil) == "/"


@pytest.mark.parametrize("evil", ["//evil.example", "/\t/evil.example", "https://evil.example"])
async def test_nobody_is_sent_to_another_site(made: Console, evil: str) -> None:
    response = await signing_in(made.app.test_client(), to=evil)
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    form = await (await made.app.test_client().get("/sign-in", query_string={"to": evil}, headers=BROWSER)).get_data(as_text=True)
    assert 'name="to" value="/"' in form


async def test_parameters_that_grew_old_are_renewed_when_the_password_is_at_hand(made: Console) -> None:
    from argon2 import PasswordHasher  # noqa: PLC0415 - only to make a hash of other parameters

    await made.people.people.keep_password(
        "lan", PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD), "x"
    )
    assert (await signing_in(made.app.test_client())).status_code == 303
    assert not passwords.is_old(await made.people.people.password_of("lan"))
    assert (await signing_in(made.app.test_client())).status_code == 303


async def test_the_first_link_makes_the_first_admin_on_the_page(tmp_path: Path) -> None:
    used = []
    async with console(tmp_path, first_used=lambda: used.append(1)) as made, made.app.test_app():
        link = await made.people.sessions.make_link("", 3600.0, "tester")
        client = made.app.test_client()
        assert 'autocomplete="new-password"' in await (await client.get(f"/first/{link}", headers=BROWSER)).get_data(as_text=True)
        weak = await client.post(f"/first/{link}", form={"name": "lan", "password": "short"}, headers=BROWSER)
        assert weak.status_code == 422
        assert not await made.people.people.anybody()
        done = await client.post(f"/first/{link}", form={"name": "Lan", "password": PASSWORD}, headers=BROWSER)
        assert (done.status_code, used) == (303, [1])
        assert await status(client, "/") == 200
        again = await made.app.test_client().post(f"/first/{link}", form={"name": "eve", "password": PASSWORD}, headers=BROWSER)
        assert again.status_code == 410
        assert await made.people.people.admins() == ["lan"]
        assert (await signing_in(made.app.test_client())).status_code == 303


async def test_a_link_is_not_used_up_by_looking_and_lets_its_user_set_a_password(made: Console) -> None:
    link = await made.people.sessions.make_link("lan", 60.0, "tester")
    client = made.app.test_client()
    for _ in range(3):
        assert "lan" in await (await client.get(f"/link/{link}", headers=BROWSER)).get_data(as_text=True)
    assert (await client.post(f"/link/{link}", headers=BROWSER)).status_code == 303
    assert (await made.app.test_client().post(f"/link/{link}", headers=BROWSER)).status_code == 410
    other = await made.client("lan")
    response = await client.post("/account/password", form={"new": "năm con chó vàng"}, headers=BROWSER)
    assert response.status_code == 200
    assert await status(client, "/") == 200
    assert await status(other, "/") == 401, "every other session has ended"
    assert (await signing_in(made.app.test_client(), password="năm con chó vàng")).status_code == 303


async def test_a_password_is_changed_with_the_old_one_only_and_sessions_are_listed_and_ended(made: Console) -> None:
    client, other = await made.client("lan"), await made.client("lan")
    form = {"current": "wrong", "new": "năm con chó vàng"}
    assert (await client.post("/account/password", form=form, headers=BROWSER)).status_code == 401
    assert (
        await client.post("/account/password", form={**form, "current": PASSWORD, "new": "lan"}, headers=BROWSER)
    ).status_code == 422
    assert await status(other, "/") == 200
    page = await (await client.get("/account", headers=BROWSER)).get_data(as_text=True)
    (one,) = re.findall(r"/account/sessions/([0-9a-f]{12})/end", page)
    stranger = await made.client("minh", Grant(Role.ADMIN))
    assert (await stranger.post(f"/account/sessions/{one}/end", headers=BROWSER)).status_code == 404, "another's session"
    assert (await client.post(f"/account/sessions/{one}/end", headers=BROWSER)).status_code == 303
    assert await status(other, "/") == 401
    third = await made.client("lan")
    assert (await client.post("/account/sessions/others/end", headers=BROWSER)).status_code == 303
    assert (await status(third, "/"), await status(client, "/")) == (401, 200)


async def test_where_passwords_are_off_the_right_one_lets_nobody_in(tmp_path: Path) -> None:
    async with console(tmp_path, people=People(passwords=False)) as made, made.app.test_app():
        await made.people.people.add("lan", [Grant(Role.VIEWER)], "tester")
        await made.people.people.keep_password("lan", STORED, "tester")
        response = await signing_in(made.app.test_client())
        assert response.status_code == 403
        assert cookies_of(response) == {}
        client = await made.client("lan")
        form = {"current": PASSWORD, "new": "năm con chó vàng"}
        assert (await client.post("/account/password", form=form, headers=BROWSER)).status_code == 401

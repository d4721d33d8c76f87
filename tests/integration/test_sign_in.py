"""Signing in over HTTP, as browsers and strangers do it: forms, cookies, brakes, areas, tokens, the right of every route."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from iotcore.errors import StoreError
from iotcore.registry import passwords
from iotcore.registry.rights import Grant, Right, Role, Visitor
from iotcore.web import cookies
from iotcore.web.door import Door
from iotcore.web.passwords import AT_ONCE, WAITING, Busy, Passwords
from iotcore.web.throttle import BRAKES
from tests.support.console import Console, console

PASSWORD = "ba con mèo trắng"
BROWSER = {"Host": "localhost", "Origin": "http://localhost", "Accept": "text/html"}
PROGRAM = {"Host": "localhost"}
AREAS = [
    {"id": "thanh-hoa", "kind": "province", "name": "Thanh Hóa"},
    {"id": "city", "kind": "city", "name": "Thành phố Thanh Hóa", "parent": "thanh-hoa"},
    {"id": "hac-thanh", "kind": "ward", "name": "Hạc Thành", "parent": "city"},
    {"id": "dong-quang", "kind": "ward", "name": "Đông Quang", "parent": "city"},
]
OPEN = {
    "GET /commissioning/worker-js",
    "GET /sign-in", "POST /sign-in", "POST /sign-out", "GET /link/<secret>", "POST /link/<secret>", "GET /first/<secret>",
    "POST /first/<secret>", "GET /language/<wanted>", "GET /healthz", "static",
}  # fmt: skip
ARGUMENTS = {"entry": "c-1", "file": "0", "name": "d1", "point": "smoke", "incident": "nobody", "one": "others", "number": "1"}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    """The console's city with its two buildings in two wards, and a user with a password."""
    area_of = {"p1": "hac-thanh", "p2": "dong-quang"}
    async with console(tmp_path, {"fire": {}}, areas=AREAS, area_of=area_of) as one, one.app.test_app():
        await one.people.people.add("lan", [Grant(Role.DISPATCHER)], "tester")
        await one.people.people.keep_password("lan", STORED, "tester")
        yield one


STORED = passwords.hashed(PASSWORD)


def door_of(made: Console) -> Door:
    door: Door = made.app.extensions["iotcore.door"]
    return door


async def signing_in(client: Client, name: str = "lan", password: str = PASSWORD, to: str = "/", **headers: str) -> Any:
    form = {"name": name, "password": password, "to": to}
    return await client.post("/sign-in", form=form, headers={**BROWSER, **headers})


async def status(client: Client, path: str, **headers: str) -> int:
    return int((await client.get(path, headers={**PROGRAM, **headers})).status_code)


def cookies_of(response: Any) -> dict[str, str]:
    """Name → the whole Set-Cookie line."""
    return {line.partition("=")[0]: line for line in response.headers.getlist("Set-Cookie")}


async def once_known(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, once the page knows the incident that is asked about."""
    async with asyncio.timeout(10.0):
        while True:
            response = await ask()
            if response.status_code != 404:
                return response
            await asyncio.sleep(0.05)


async def audited(made: Console, action: str) -> list[dict[str, Any]]:
    entries = await made.registry.audit_entries()
    return [{"subject": one.deed.subject, **json.loads(one.deed.detail)} for one in entries if one.deed.action == action]


async def test_every_route_declares_its_right_or_is_open_on_purpose(made: Console) -> None:
    door = door_of(made)
    endpoints = {rule.endpoint for rule in made.app.url_map.iter_rules()}
    assert endpoints == set(door.rules) | door.open_to_all
    assert door.open_to_all <= OPEN
    assert not set(door.rules) & door.open_to_all
    own = {"GET /account", "POST /account/password", "POST /account/sessions/<one>/end", "GET /api/v1/me"}
    assert {name for name, rule in door.rules.items() if rule.right is None} == own


async def test_nothing_but_what_is_open_answers_a_stranger(made: Console) -> None:
    client, door = made.app.test_client(), door_of(made)
    tried = 0
    for rule in made.app.url_map.iter_rules():
        if rule.endpoint in door.open_to_all:
            continue
        path = re.sub(r"<(?:int:)?(\w+)>", lambda found: ARGUMENTS[found[1]], rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            for headers in (PROGRAM, {**PROGRAM, "Authorization": "Bearer iotcore_guessed"}, {**PROGRAM, "Cookie": "session=x"}):
                response = await getattr(client, method.lower())(path, headers={**headers, "Origin": "http://localhost"})
                assert response.status_code == 401, (method, path)
                assert response.headers["Content-Type"] == "application/problem+json"
            tried += 1
    assert tried >= 10
    response = await client.get("/devices/d1?x=1", headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in?to=/devices/d1%3Fx%3D1")


async def test_a_route_without_a_right_is_closed_to_admins_too(made: Console) -> None:
    async def forgotten() -> str:
        return "a page that somebody forgot to guard"

    made.app.add_url_rule("/forgotten", "forgotten", forgotten)
    response = await (await made.client()).get("/forgotten", headers=PROGRAM)
    assert response.status_code == 403


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
    client = made.app.test_client()
    codes = [(await signing_in(client, f"user-{n}", "123456")).status_code for n in range(BRAKES["address"].tries + 3)]
    assert codes == [401] * BRAKES["address"].tries + [429] * 3


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
async def test_nobody_is_sent_to_another_site(made: Console, evil: str) -> None:
    assert cookies.local(evil) == "/"
    response = await signing_in(made.app.test_client(), to=evil)
    assert (response.status_code, response.headers["Location"]) == (303, "/")


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


async def test_a_program_comes_with_a_token_and_needs_no_origin(made: Console) -> None:
    incident = made.fire.burn()
    token = await made.people.tokens.create("lan", "ci", [Grant(Role.DISPATCHER)], 60.0, "lan")
    program = {**PROGRAM, "Authorization": f"Bearer {token}"}
    client = made.app.test_client()
    response = await once_known(lambda: client.post(f"/incidents/{incident}/acknowledge", headers=program))
    assert response.status_code in {202, 303}
    (intent,) = await made.registry.intents_after(0)
    assert intent.by == "lan/ci"
    assert await audited(made, "incident.acknowledge") == [{"subject": incident, "address": "<local>"}]
    assert (await client.post("/account/password", form={"new": "năm con chó vàng"}, headers=program)).status_code == 403
    await made.people.tokens.revoke("lan", "ci", "lan")
    assert await status(client, "/", **program) == 401


@pytest.mark.parametrize("role", Role)
async def test_each_role_takes_and_ends_incidents_as_the_table_says(made: Console, role: Role) -> None:
    incident = made.fire.burn()
    client = await made.client("an", Grant(role))
    own = {**BROWSER, "Accept": "application/json"}
    taken = await once_known(lambda: client.post(f"/incidents/{incident}/acknowledge", headers=own))
    may = Visitor("an", frozenset({Grant(role)}), "an").may(Right.ACKNOWLEDGE)
    assert taken.status_code == (202 if may else 403)
    assert [intent.by for intent in await made.registry.intents_after(0)] == (["an"] if may else [])
    if not may:
        assert (await taken.get_json(force=True))["type"] == "urn:iotcore:problem:forbidden"
        page = await client.post(f"/incidents/{incident}/reset", headers=BROWSER)
        assert page.status_code == 403
        assert "kết thúc sự cố" in await page.get_data(as_text=True)


async def test_everybody_sees_their_areas_and_nothing_of_the_rest(made: Console) -> None:
    ours, theirs = made.fire.burn("p1", "d1"), made.fire.burn("p2", "d2")
    client = await made.client("an", Grant(Role.DISPATCHER, "hac-thanh"))
    admin = await made.client("minh", Grant(Role.ADMIN))
    json_wanted = {**BROWSER, "Accept": "application/json"}
    taken = await once_known(lambda: admin.post(f"/incidents/{theirs}/acknowledge", headers=json_wanted))
    assert taken.status_code == 202
    everything = await (await admin.get("/", headers=BROWSER)).get_data(as_text=True)
    for shown in (ours, theirs, "device-d2", "device-air-1"):
        assert shown in everything
    page = await (await client.get("/", headers=BROWSER)).get_data(as_text=True)
    assert ours in page
    for hidden in (theirs, "device-d2", "Chợ Vườn Hoa", "device-air-1", "device-modbus-1"):
        assert hidden not in page
    samples = "/api/v1/devices/{}/points/smoke/samples"
    for path, code in {
        "/devices/d1": 200, "/devices/d2": 404, "/devices/nobody": 404, "/devices/air-1": 404, "/devices/d1/details": 200,
        "/devices/d2/details": 404, samples.format("d1"): 200, samples.format("d2"): 404,
    }.items():  # fmt: skip
        assert await status(client, path) == code, path
    post = json_wanted
    assert (await client.post(f"/incidents/{theirs}/acknowledge", headers=post)).status_code == 404
    assert (await client.post(f"/incidents/{theirs}/reset", headers=post)).status_code == 404
    assert (await client.post(f"/incidents/{ours}/acknowledge", headers=post)).status_code == 202
    both = await made.client("chi", Grant(Role.VIEWER), Grant(Role.DISPATCHER, "hac-thanh"))
    assert (await both.post(f"/incidents/{theirs}/acknowledge", headers=post)).status_code == 403, "seen, but not theirs to take"
    nobody = await made.client("dung", Grant(Role.VIEWER, "thanh-hoa"))
    assert await status(nobody, "/devices/d2") == 200, "a province holds its wards"
    await made.people.people.add("em", [], "tester")
    assert await status(await made.client("em"), "/") == 403, "without any role"


async def test_the_live_stream_tells_each_what_they_may_see_and_ends_with_the_session(made: Console) -> None:
    client = await made.client("an", Grant(Role.DISPATCHER, "hac-thanh"))
    async with client.request("/events", headers=PROGRAM) as connection:
        heard = b""

        async def until(text: str) -> None:
            nonlocal heard
            while text.encode() not in heard:
                heard += await asyncio.wait_for(connection.receive(), 15.0)

        await until("event: everything")
        assert b'"d1"' in heard
        assert b'"d2"' not in heard
        theirs, ours = made.fire.burn("p2", "d2"), made.fire.burn("p1", "d1")
        await until(ours)
        assert theirs.encode() not in heard
        assert "Chợ Vườn Hoa".encode() not in heard
        assert (await (await client.get("/healthz", headers=PROGRAM)).get_json())["watching"] == 1
        await made.people.sessions.end("an", "tester")
        async with asyncio.timeout(12.0):
            while (await (await client.get("/healthz", headers=PROGRAM)).get_json())["watching"]:  # noqa: ASYNC110 polled as by a browser
                await asyncio.sleep(0.05)
    assert await status(client, "/events") == 401


async def test_a_registry_that_is_down_signs_nobody_out_nor_in(made: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await made.client("lan")
    assert await status(client, "/") == 200

    async def down(*_: object) -> None:
        raise StoreError("down")

    monkeypatch.setattr(type(made.people.sessions), "visitor", down)
    assert await status(client, "/") == 200
    assert await status(made.app.test_client(), "/", Cookie="session=guessed") == 503


async def test_another_admin_approves_on_the_page_and_nobody_else(made: Console) -> None:
    lan, minh = await made.client("lan-admin", Grant(Role.ADMIN)), await made.client("minh", Grant(Role.ADMIN))
    asked = await made.people.approvals.ask("ca.rotate", {"anchor": "<b>fire</b>"}, "lan-admin")
    approve = f"/approvals/{asked.id}/approve"
    for client, code in (
        (lan, 409),
        (await made.client("viewer", Grant(Role.VIEWER)), 403),
        (await made.client("of-a-ward", Grant(Role.ADMIN, "hac-thanh")), 403),
        (made.app.test_client(), 401),
    ):
        assert (await client.post(approve, headers=BROWSER)).status_code == code
    own = await (await lan.get("/approvals", headers=BROWSER)).get_data(as_text=True)
    assert approve not in own
    page = await (await minh.get("/approvals", headers=BROWSER)).get_data(as_text=True)
    assert approve in page
    assert "anchor: &lt;b&gt;fire" in page
    assert (await minh.post(approve, headers=BROWSER)).status_code == 303
    assert (await minh.post("/approvals/99/approve", headers=BROWSER)).status_code == 409
    assert await made.people.approvals.take("ca.rotate", {"anchor": "<b>fire</b>"}, "lan-admin") == asked.id
    second = await made.people.approvals.ask("ca.rotate", {}, "lan-admin")
    assert (await lan.post(f"/approvals/{second.id}/reject", headers=BROWSER)).status_code == 303, "one's own may be taken back"
    assert [one.state for one in await made.people.approvals.all()] == ["rejected", "used"]

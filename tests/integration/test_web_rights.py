"""Who may what over HTTP: the right of every route, areas on pages and in the stream, tokens of programs, approvals."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from iotcore.errors import StoreError
from iotcore.registry.rights import Grant, Right, Role, Visitor
from iotcore.web.door import Door
from tests.support.console import Console, console
from tests.support.visits import BROWSER, PROGRAM, audited, status

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
    "POST /api/v1/receivers/<name>/updates", "GET POST /api/v1/receivers/<name>/calls/<token>",
    "GET /owner/<incident>/<token>", "POST /owner/<incident>/<token>",  # whoever has the link
}  # fmt: skip


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    """The console's city with its two buildings in two wards, and a dispatcher of both."""
    area_of = {"p1": "hac-thanh", "p2": "dong-quang"}
    async with console(tmp_path, {"fire": {}}, areas=AREAS, area_of=area_of) as one, one.app.test_app():
        await one.people.people.add("lan", [Grant(Role.DISPATCHER)], "tester")
        yield one


def door_of(made: Console) -> Door:
    door: Door = made.app.extensions["iotcore.door"]
    return door


async def once_known(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, once the page knows the incident that is asked about."""
    async with asyncio.timeout(10.0):
        while True:
            response = await ask()
            if response.status_code != 404:
                return response
            await asyncio.sleep(0.05)


async def test_every_route_declares_its_right_or_is_open_on_purpose(made: Console) -> None:
    door = door_of(made)
    endpoints = {rule.endpoint for rule in made.app.url_map.iter_rules()}
    assert endpoints == set(door.rules) | door.open_to_all
    assert door.open_to_all <= OPEN
    assert not set(door.rules) & door.open_to_all
    own = {"GET /account", "POST /account/password", "POST /account/sessions/<one>/end", "GET /api/v1/me"}
    assert {name for name, rule in door.rules.items() if rule.right is None} == own, (
        "what is everybody's own, and no page of the city"
    )


async def test_nothing_but_what_is_open_answers_a_stranger(made: Console) -> None:
    client, door = made.app.test_client(), door_of(made)
    tried = 0
    for rule in made.app.url_map.iter_rules():
        if rule.endpoint in door.open_to_all:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: "d1" if found[1] in {"name", "device"} else "1", rule.rule)
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
    page = await made.app.test_client().get("/", headers={**BROWSER, "Cookie": "session=guessed"})
    assert (page.status_code, page.mimetype) == (503, "text/html")
    assert "telephone" in await page.get_data(as_text=True)


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
    assert "anchor: &#34;&lt;b&gt;fire" in page
    assert (await minh.post(approve, headers=BROWSER)).status_code == 303
    assert (await minh.post("/approvals/99/approve", headers=BROWSER)).status_code == 409
    assert await made.people.approvals.take("ca.rotate", {"anchor": "<b>fire</b>"}, "lan-admin") == asked.id
    second = await made.people.approvals.ask("ca.rotate", {}, "lan-admin")
    assert (await lan.post(f"/approvals/{second.id}/reject", headers=BROWSER)).status_code == 303, "one's own may be taken back"
    assert [one.state for one in await made.people.approvals.all()] == ["rejected", "used"]

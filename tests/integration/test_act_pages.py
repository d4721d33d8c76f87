"""Pages and REST of what people decide: rights and areas, second persons, plans with versions, the owner's link, denials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from iotcore.app.intents import apply
from iotcore.registry import owner_links
from iotcore.registry.disablements import Disablements
from iotcore.registry.owner_links import OwnerLinks
from iotcore.registry.rights import Grant, Role
from tests.integration.test_web_rights import AREAS, once_known
from tests.support.console import Console, console
from tests.support.shipped import SPECS
from tests.support.visits import BROWSER, PROGRAM, audited

API = {"Host": "localhost", "Origin": "http://localhost", "Accept": "application/json"}
HERE, THERE = "hac-thanh", "dong-quang"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}, areas=AREAS, area_of={"p1": HERE, "p2": THERE}) as one, one.app.test_app():
        yield one


async def follow(made: Console) -> None:
    made.directory = await made.registry.directory(SPECS)


async def text(client: Any, path: str) -> str:
    response = await client.get(path, headers=BROWSER)
    assert response.status_code == 200, path
    return str(await response.get_data(as_text=True))


async def post(client: Any, path: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    response = await client.post(path, json=fields, headers=API)
    return response.status_code, json.loads(await response.get_data(as_text=True))


async def applied(made: Console) -> None:
    for intent in await made.registry.intents_after(0):
        apply(made.fire.journal, intent)


async def test_an_incident_whole_is_shown_and_told(made: Console) -> None:
    incident = made.fire.burn()
    made.fire.deliver("arc")
    client = await made.client()
    assert (await once_known(lambda: client.post(f"/incidents/{incident}/acknowledge?to=case", headers=API))).status_code == 202
    assert (await post(client, f"/api/v1/incidents/{incident}/silence"))[0] == 202
    await applied(made)
    shown = await text(client, f"/incidents/{incident}")
    for said in ("Trường Tiểu học Lê Lợi", "Đã tiếp nhận", "đã tắt âm bởi an", "Mở sự cố", "arc", "Kết thúc và khôi phục"):
        assert said in shown, said
    document = json.loads(await (await client.get(f"/api/v1/incidents/{incident}", headers=PROGRAM)).get_data())
    assert document["acknowledged_by"] == document["silenced_by"] == "an"
    assert document["story"][0]["kind"] == "opened"
    assert document["alarms"][0]["state"] == "acknowledged-active"
    assert (await client.get("/api/v1/incidents/F20200101-000000-ABCDEF", headers=PROGRAM)).status_code == 404


async def test_what_nobody_has_acknowledged_is_not_reset_and_one_alarm_is_taken_alone(made: Console) -> None:
    incident = made.fire.burn()
    client = await made.client()
    status, problem = await post(client, f"/api/v1/incidents/{incident}/reset")
    assert (status, problem["type"]) == (409, "urn:iotcore:problem:not_acknowledged")
    number = json.loads(await (await client.get(f"/api/v1/incidents/{incident}", headers=PROGRAM)).get_data())["alarms"][0]["id"]
    assert (await post(client, f"/api/v1/incidents/{incident}/alarms/{number}/acknowledge"))[0] == 202
    assert (await post(client, f"/api/v1/incidents/{incident}/alarms/{number + 1}/acknowledge"))[0] == 404
    assert [one.key for one in await made.registry.intents_after(0)] == [f"{incident}/{number}"]


@pytest.mark.parametrize(
    ("role", "area", "status"), [(Role.VIEWER, "", 403), (Role.TECHNICIAN, HERE, 403), (Role.DISPATCHER, THERE, 404)]
)
async def test_acts_without_the_right_or_of_another_area_are_denied_and_audited(
    made: Console, role: Role, area: str, status: int
) -> None:
    incident = made.fire.burn()
    client = await made.client("ky", Grant(role, area))
    for act in ("acknowledge", "silence", "reset"):
        for _ in range(3):
            assert (await post(client, f"/api/v1/incidents/{incident}/{act}"))[0] == status
    assert await made.registry.intents_after(0) == []
    denied = await audited(made, "denied")
    assert [one["subject"] for one in denied] == [incident] * 3, "the first of each, not every try"
    assert all(("not in their area" if status == 404 else "without the right") in one["detail"] for one in denied)
    assert (await post(client, "/api/v1/devices/d2/disablements", minutes=10, reason="x"))[0] in {403, 404}
    assert await Disablements(made.registry.database).all(ended=True) == []


async def test_a_device_is_disabled_from_its_page_shown_everywhere_and_lifted(made: Console) -> None:
    client = await made.client("ky", Grant(Role.TECHNICIAN, HERE))
    form = {"minutes": "30", "reason": "sơn trần", "point": ""}
    response = await client.post("/devices/d1/disablements", form=form, headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, "/devices/d1")
    await follow(made)
    for path in ("/", "/devices/d1", "/premises/p1", "/outages", "/outages/banner"):
        shown = await text(client, path)
        assert "Đã vô hiệu hóa" in shown, path
        assert "sơn trần" in shown, path
    assert "sơn trần" not in await text(await made.client("xa", Grant(Role.VIEWER, THERE)), "/outages")
    (one,) = json.loads(await (await client.get("/api/v1/disablements", headers=PROGRAM)).get_data())["disablements"]
    assert (one["kind"], one["what"], one["by"]) == ("device", "d1", "ky")
    assert (await post(client, "/api/v1/devices/d1/disablements", minutes=5, reason="x"))[0] == 409
    assert (await post(client, "/api/v1/devices/d1/disablements", minutes="x", reason="x", point="smoke"))[0] == 422
    assert (await post(client, "/api/v1/devices/d1/disablements", minutes=5, reason="x", point="nose"))[0] == 404
    assert await post(client, f"/api/v1/disablements/{one['id']}/lift") == (200, {"lifted": True})


async def test_a_whole_premises_waits_for_a_second_person(made: Console) -> None:
    lan = await made.client("lan", Grant(Role.ADMIN))
    minh = await made.client("minh", Grant(Role.TECHNICIAN))
    status, asked = await post(lan, "/api/v1/premises/p1/disablements", minutes=60, reason="thay tủ")
    assert (status, asked["started_ms"]) == (201, None)
    await follow(made)
    assert "Chờ người thứ hai" in await text(minh, "/outages")
    status, problem = await post(lan, f"/api/v1/disablements/{asked['id']}/confirm")
    assert (status, problem["type"]) == (409, "urn:iotcore:problem:same_person")
    status, begun = await post(minh, f"/api/v1/disablements/{asked['id']}/confirm")
    assert (status, begun["confirmed_by"]) == (200, "minh")
    assert (await post(lan, "/api/v1/premises/p1/disablements", minutes=60, reason="x", zone="p2-z1"))[0] == 404
    assert (await post(lan, "/api/v1/premises/p1/disablements", minutes=60, reason="x", zone="p1-z1"))[0] == 201


async def test_a_walk_test_says_what_nobody_has_seen_yet(made: Console) -> None:
    client = await made.client("ky", Grant(Role.TECHNICIAN, HERE))
    for state in ("provisioned", "active"):
        await made.registry.set_state("d1", state, "tester")
    status, walk = await post(client, "/api/v1/premises/p1/walks", minutes=30)
    assert status == 201
    await follow(made)
    progress = json.loads(await (await client.get(f"/api/v1/walks/{walk['id']}", headers=PROGRAM)).get_data())
    assert (progress["seen"], progress["missing"]) == ([], ["d1"])
    assert "Chưa kiểm tra" in await text(client, "/premises/p1")
    assert (await post(client, "/api/v1/premises/p2/walks", minutes=30))[0] == 404
    assert (await post(client, "/api/v1/premises/p1/walks", minutes=241))[0] == 422
    assert await post(client, f"/api/v1/walks/{walk['id']}/end") == (200, {"ended": True})


async def test_a_plan_is_read_and_changed_by_version_and_weakened_by_two(made: Console) -> None:
    lan, path = await made.client("lan", Grant(Role.ADMIN)), "/api/v1/premises/p1/response"
    await made.people.people.add("minh", [Grant(Role.ADMIN)], "tester")
    first = await lan.get(path, headers=PROGRAM)
    assert first.headers["ETag"] == '"0"'

    async def put(body: str, match: str) -> tuple[int, dict[str, Any]]:
        response = await lan.put(path, data=body, headers={**API, **({"If-Match": match} if match else {})})
        return response.status_code, json.loads(await response.get_data(as_text=True))

    assert (await put("drills: {every_days: 30}", ""))[0] == 428
    assert (await put("drills: {every_days: 30}", '"0"'))[1]["version"] == 1
    assert (await put("drills: {every_days: 30}", '"0"'))[0] == 409
    status, wrong = await put('{"profile": "verified", "receivers": ["fax"]}', '"1"')
    assert (status, [one["path"] for one in wrong["errors"]]) == (422, ["asked_by", "receivers[0]"])
    weaker = json.dumps({"profile": "verified", "asked_by": "CV 12", "drills": {"every_days": 30}})
    status, problem = await put(weaker, '"1"')
    assert (status, problem["type"]) == (409, "urn:iotcore:problem:second_person")
    (asked,) = await made.people.approvals.all(waiting=True)
    await made.people.approvals.decide(asked.id, "minh", approve=True)
    assert (await put(weaker, '"1"'))[1]["version"] == 2
    history = json.loads(await (await lan.get(f"{path}/history", headers=PROGRAM)).get_data())["versions"]
    assert [one["version"] for one in history] == [2, 1]
    await follow(made)
    assert "có xác minh" in await text(lan, "/premises/p1")
    dispatcher = await made.client("an", Grant(Role.DISPATCHER))
    assert (await dispatcher.put(path, data=weaker, headers={**API, "If-Match": "*"})).status_code == 403


async def test_the_owner_answers_once_by_a_signed_link_without_signing_in(made: Console) -> None:
    incident, stranger = made.fire.burn(), made.app.test_client()
    key = await OwnerLinks(made.registry.database).key()
    assert await OwnerLinks(made.registry.database).key() == key
    path = owner_links.path(key, incident)
    assert "Có cháy thật không" in await text(stranger, path)
    assert (await stranger.get(path[:-1] + "_", headers=BROWSER)).status_code == 404
    assert (await stranger.post(path, form={"said": "maybe"}, headers=BROWSER)).status_code == 422
    assert (await stranger.post(path, form={"said": "denied"}, headers={**BROWSER, "Origin": "http://evil"})).status_code == 403
    assert (await stranger.post(path, form={"said": "denied"}, headers=BROWSER)).status_code == 303
    await applied(made)
    assert (await stranger.post(path, form={"said": "confirmed"}, headers=BROWSER)).status_code == 303
    assert [json.loads(one.body)["said"] for one in await made.registry.intents_after(0)] == ["denied"], "one answer"
    assert "chủ cơ sở báo không có cháy" in await text(stranger, path)
    client = await made.client()
    assert "chủ cơ sở báo không có cháy" in await text(client, f"/incidents/{incident}")
    document = json.loads(await (await client.get(f"/api/v1/incidents/{incident}", headers=PROGRAM)).get_data())
    assert (document["state"], document["owner_said"]) == ("open", "denied")
    made.clock.advance(86_401.0)
    assert (await stranger.get(path, headers=BROWSER)).status_code == 404


async def test_a_fire_is_never_shelved_and_a_trouble_is_with_a_reason(made: Console) -> None:
    made.fire.burn()
    client = await made.client("an", Grant(Role.DISPATCHER))
    fire = made.fire.journal.connection.execute("SELECT id FROM alarm").fetchone()[0]
    status, problem = await post(client, f"/api/v1/alarms/{fire}/shelve", hours=1, reason="x")
    assert (status, problem["type"]) == (409, "urn:iotcore:problem:fire")
    made.fire.journal.connection.execute("UPDATE alarm SET severity = 'trouble', incident = NULL WHERE id = ?", (fire,))
    assert (await post(client, f"/api/v1/alarms/{fire}/shelve", hours=25, reason="x"))[0] == 422
    assert (await post(client, f"/api/v1/alarms/{fire}/shelve", hours=1, reason=" "))[0] == 422
    assert (await post(client, f"/api/v1/alarms/{fire}/shelve", hours=1, reason="pin mới"))[0] == 202
    await applied(made)
    assert "pin mới" in await text(client, "/alarms")
    (one,) = json.loads(await (await client.get("/api/v1/alarms", headers=PROGRAM)).get_data())["alarms"]
    assert (one["state"], one["shelved_by"]) == ("shelved", "an")

"""Fire rules on the page and over the API, over a real registry and a real telemetry store."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from quart.typing import TestClientProtocol as Client

from iotcore.reading import Reading, Value
from iotcore.registry.rights import Grant, Role
from iotcore.registry.rule_documents import RuleStore
from iotcore.settings import People
from tests.support.console import Console, console
from tests.support.registry_sql import sql
from tests.support.ruling import BASE, advisory, level
from tests.support.visits import BROWSER, PROGRAM, audited

AREAS = [{"id": "hac-thanh", "kind": "ward", "name": "Hạc Thành"}]


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    """The console's city; its first building in a ward, its second in none. One admin, who needs nobody else."""
    people = People(two_person=False)
    async with (
        console(tmp_path, {"fire": {}}, areas=AREAS, area_of={"p1": "hac-thanh"}, people=people) as one,
        one.app.test_app(),
    ):
        yield one


async def text_of(client: Client, path: str, status: int = 200) -> str:
    response = await client.get(path, headers=BROWSER)
    assert response.status_code == status
    return await response.get_data(as_text=True)


async def sent(client: Client, path: str, text: str, status: int, **fields: str) -> str:
    response = await client.post(path, form={"text": text, **fields}, headers=BROWSER)
    assert response.status_code == status
    return await response.get_data(as_text=True)


async def asked(client: Client, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """A program's request: status, JSON, headers."""
    raw = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    origin = {"Origin": "http://localhost"}
    response = await getattr(client, method)(f"/api/v1/rules{path}", data=raw, headers={**PROGRAM, **origin, **named})
    return (
        response.status_code,
        json.loads(await response.get_data(as_text=True)),
        {name.lower(): value for name, value in response.headers.items()},
    )


async def record(made: Console) -> None:
    """Three hours ago, 100 readings of d1, with smoke in the second half."""
    start_ms = made.clock.wall_ms() - 3 * 3_600_000.0
    binding = made.directory.devices["d1"]
    readings = [
        Reading("d1", "b", n, "reading", at, at, (Value("smoke", 0.5 if n >= 50 else 0.0),))
        for n in range(100)
        for at in (start_ms + n * 2_000.0,)
    ]
    await made.store.write(b"\n".join(made.store.record(one, binding) for one in readings), len(readings))


async def test_the_page_shows_what_is_in_use_and_a_person_edits_tries_and_saves_it(made: Console) -> None:
    await record(made)
    client = await made.client()
    listed = await text_of(client, "/rules")
    assert '<a href="/rules/smoke-level"><b>smoke-level</b></a>' in listed
    assert "kèm theo hoặc trong tệp" in listed
    assert 'href="/rules"' in await text_of(client, "/")
    shown = await text_of(client, "/rules/smoke-level")
    assert "above: 0.25" in shown
    edited = yaml.safe_dump(level(0.6))
    tried = await sent(client, "/rules/try", edited, 200, rule="smoke-level", version="0")
    assert "Đang dùng: lẽ ra đã báo 1 lần trong 7 ngày qua" in tried
    assert "Bản sửa: lẽ ra đã báo 0 lần trong 7 ngày qua" in tried
    assert "100 bản tin của 1 thiết bị, trong số 2 thiết bị" in tried
    assert "Một số thiết bị không có dữ liệu" in tried
    assert made.rules.in_use["smoke-level"].origin == "base"  # nothing was saved
    wrong = yaml.safe_dump({**level(0.6), "colour": "red", "hazard": "steam"})
    refused = await sent(client, "/rules/save", wrong, 422, rule="smoke-level", version="0")
    assert "Chưa lưu: có 2 lỗi" in refused
    assert "<code>colour</code>: unknown key" in refused
    assert "<code>hazard</code>: Invalid enum value" in refused
    assert "colour: red" in refused  # what was typed is still there
    await sent(client, "/rules/save", edited, 303, rule="smoke-level", version="0")
    assert made.rules.in_use["smoke-level"].version == 1
    later = await sent(client, "/rules/save", yaml.safe_dump(level(0.7)), 409, rule="smoke-level", version="0")
    assert "Đã có người khác sửa; chưa lưu gì." in later
    await sent(client, "/rules/save", yaml.safe_dump(level(0.7)), 303, rule="smoke-level", version="1")
    shown = await text_of(client, "/rules/smoke-level")
    assert "-  above: 0.6\n+  above: 0.7" in shown
    assert "Phiên bản 2, do an" in shown
    await sent(client, "/rules/save", yaml.safe_dump(level(0.5, premises="p2")), 303, rule="smoke-level", version="2")
    assert made.rules.in_use["smoke-level@premises:p2"].version == 1
    await sent(client, "/rules/smoke-level/remove", "", 303, version="2")
    assert made.rules.in_use["smoke-level"].origin == "base"
    assert [one["subject"] for one in await audited(made, "rule.save")] == [
        "smoke-level",
        "smoke-level",
        "smoke-level@premises:p2",
    ]
    assert "not YAML" in await sent(client, "/rules/try", "a: [", 422, rule="smoke-level", version="0")


async def test_the_page_reads_in_english_too(made: Console) -> None:
    client = await made.client()
    client.set_cookie("localhost", "language", "en")
    shown = await sent(client, "/rules/try", yaml.safe_dump(level(0.6)), 200, rule="smoke-level", version="0")
    assert "Edited: would have fired 0 times in the last 7 days" in shown
    assert "Save: in use within a second" in shown
    assert 'name="viewport"' in shown


async def test_a_rule_that_cannot_be_used_is_loud_on_the_page(made: Console, tmp_path: Path) -> None:
    await RuleStore(made.registry.database).save({"smoke-level": level(0.31)}, "lan")
    await made.rules.refresh()
    await sql(f"sqlite://{tmp_path / 'registry.db'}", "UPDATE rule_document SET body = '[1]', version = 2")
    await RuleStore(made.registry.database).save({"early": advisory("early")}, "lan")  # what makes it look again
    await made.rules.refresh()
    client = await made.client()
    for path in ("/rules", "/rules/smoke-level"):
        shown = await text_of(client, path)
        assert "Một phiên bản của quy tắc này không dùng được." in shown
        assert "version 1 stays in use" in shown
    _, found, headers = await asked(client, "get", "/smoke-level")
    assert (found["version"], headers["etag"]) == (1, '"2"')


async def test_who_may_see_and_who_may_change(made: Console) -> None:
    store = RuleStore(made.registry.database)
    await store.save({f"early@premises:{p}": advisory("early", premises=p) for p in ("p1", "p2")}, "lan")
    await made.rules.refresh()
    viewer = await made.client("binh", Grant(Role.VIEWER, "hac-thanh"))
    _, listed, _ = await asked(viewer, "get", "")
    keys = {row["rule"] for row in listed["rules"]}
    assert {"smoke-level", "early@premises:p1"} <= keys
    assert "early@premises:p2" not in keys
    for path in ("/early@premises:p2", "/early@premises:p2/history"):
        assert (await asked(viewer, "get", path))[0] == 404
    assert "textarea" not in await text_of(viewer, "/rules/early@premises:p1")
    await text_of(viewer, "/rules/early@premises:p2", 404)
    for role in (Role.VIEWER, Role.DISPATCHER, Role.TECHNICIAN):
        client = await made.client(f"user-{role.value}", Grant(role))
        await sent(client, "/rules/save", yaml.safe_dump(level(0.6)), 403, rule="smoke-level", version="0")
        assert (await asked(client, "put", "/smoke-level", level(0.6), If_Match='"0"'))[0] == 403
    area_admin = await made.client("chi", Grant(Role.ADMIN, "hac-thanh"))
    assert (await asked(area_admin, "put", "/smoke-level", level(0.6), If_Match='"0"'))[0] == 403


async def test_programs_read_save_and_remove_with_the_version_that_they_have_seen(made: Console) -> None:
    client = await made.client()
    code, found, headers = await asked(client, "get", "/smoke-level")
    assert (code, headers["etag"], found["document"]["when"]["above"]) == (200, '"0"', 0.25)
    assert len((await asked(client, "get", ""))[1]["rules"]) == len(BASE)
    code, wrong, headers = await asked(client, "put", "/smoke-level", level(0.6))
    assert (code, wrong["title"], headers["content-type"]) == (428, "precondition required", "application/problem+json")
    dry = await asked(client, "put", "/smoke-level?dry_run=true", level(0.6), If_Match='"0"')
    assert dry[:2] == (200, {"rule": "smoke-level", "saved": False, "takes_two": True})
    code, done, headers = await asked(client, "put", "/smoke-level", level(0.6), If_None_Match="*")
    assert (code, done, headers["etag"]) == (201, {"rule": "smoke-level", "saved": True, "version": 1}, '"1"')
    assert (await asked(client, "put", "/smoke-level", level(0.6), If_Match='"1"'))[:2] == (
        200, {"rule": "smoke-level", "saved": False, "version": 1},
    )  # fmt: skip
    code, wrong, _ = await asked(client, "put", "/smoke-level", level(0.7), If_Match='"0"')
    assert (code, wrong["title"]) == (412, "conflict")
    as_yaml = yaml.safe_dump(level(0.7))
    assert (await asked(client, "put", "/smoke-level", as_yaml, If_Match='"1"', Content_Type="application/yaml"))[0] == 200
    _, history, _ = await asked(client, "get", "/smoke-level/history")
    assert [(one["version"], one["document"]["when"]["above"]) for one in history["versions"]] == [(2, 0.7), (1, 0.6)]
    assert [one["version"] for one in (await asked(client, "get", "/smoke-level/history?before=2"))[1]["versions"]] == [1]
    assert (await asked(client, "delete", "/smoke-level", If_Match='"1"'))[0] == 412
    assert (await asked(client, "delete", "/smoke-level?dry_run=1", If_Match='"2"'))[1]["removed"] is False
    assert (await asked(client, "delete", "/smoke-level", If_Match='"2"'))[:2] == (
        200, {"rule": "smoke-level", "removed": True, "version": 3},
    )  # fmt: skip
    assert (await asked(client, "delete", "/smoke-level", If_Match='"0"'))[0] == 422  # the base's own
    assert (await asked(client, "delete", "/nothing", If_Match='"0"'))[0] == 404
    assert (await asked(client, "get", "/nothing"))[0] == 404
    assert (await asked(client, "put", "/smoke-level", level(), If_Match="3"))[0] == 400


async def test_everything_that_is_wrong_with_a_document_is_listed_with_its_path(made: Console) -> None:
    client = await made.client()
    body = {**level(above="much"), "colour": "red", "latched": 3}
    code, wrong, _ = await asked(client, "put", "/smoke-level", body, If_Match='"0"')
    assert (code, wrong["type"]) == (422, "urn:iotcore:problem:invalid_rule")
    assert [one["path"] for one in wrong["errors"]] == ["colour", "when.above", "latched"]
    for sent_body, path in (
        (level(premises="p9"), "premises"),
        (level(device="d9"), "device"),
        (level(group="none"), "group"),
        (level(models=["nothing"]), "models"),
    ):
        key = re.sub(r"^", "smoke-level@", "models:nothing" if path == "models" else f"{path}:{sent_body[path]}")
        code, wrong, _ = await asked(client, "put", f"/{key}", sent_body, If_Match='"0"')
        assert (code, [one["path"] for one in wrong["errors"]]) == (422, [path])
    assert (await asked(client, "put", "/another", level(), If_Match='"0"'))[1]["errors"][0]["path"] == "id"
    for raw, kind in (("{", "application/json"), ("a: [", "application/yaml"), ("- {id: a}\n- {id: b}", "application/yaml")):
        assert (await asked(client, "put", "/smoke-level", raw, If_Match='"0"', Content_Type=kind))[0] == 422
    assert not await RuleStore(made.registry.database).all()


async def test_programs_try_a_rule_on_the_past(made: Console) -> None:
    await record(made)
    client = await made.client()
    code, found, _ = await asked(client, "post", "/smoke-level/trial", level(0.6))
    assert (code, found["in_use"]["fires"], found["edited"]["fires"]) == (200, 1, 0)
    assert found["in_use"]["premises"] == {"p1": 1}
    assert found["in_use"]["firings"][0]["device"] == "d1"
    assert found["judged"] == {"devices": 2, "with_data": 1, "readings": 100}
    assert {"coalesced", "no_data"} <= set(found["cannot_tell"])
    assert (await asked(client, "post", "/smoke-level/trial?days=0.05"))[1]["in_use"]["fires"] == 0
    assert (await asked(client, "post", "/smoke-level/trial?days=400"))[0] == 400
    assert (await asked(client, "post", "/nothing/trial"))[0] == 404


async def test_what_lowers_protection_takes_a_second_admin(tmp_path: Path) -> None:
    async with console(tmp_path, {"fire": {}}) as made, made.app.test_app():
        lan, an = await made.client("lan"), await made.client("an")
        code, wrong, _ = await asked(lan, "put", "/smoke-level", level(0.9), If_Match='"0"')
        assert (code, wrong["title"]) == (409, "second person")
        form = {"rule": "smoke-level", "version": "0"}
        said = await sent(lan, "/rules/save", yaml.safe_dump(level(0.9)), 409, **form)
        assert "Chưa thay đổi gì: cần quản trị viên thứ hai đồng ý." in said
        assert made.rules.in_use["smoke-level"].origin == "base"
        (waiting,) = await made.people.approvals.all(waiting=True)
        assert "+  above: 0.9" in json.loads(waiting.arguments)["changes"]
        await an.post(f"/approvals/{waiting.id}/approve", headers=BROWSER)
        await sent(lan, "/rules/save", yaml.safe_dump(level(0.9)), 303, **form)
        assert made.rules.in_use["smoke-level"].version == 1
        code, _, _ = await asked(lan, "put", "/early", advisory("early"), If_Match='"0"')
        assert code == 201  # it only adds
        assert (await asked(lan, "delete", "/early", If_Match='"1"'))[0] == 409

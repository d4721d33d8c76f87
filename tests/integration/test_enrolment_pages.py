"""The page of requests that wait for a person, over a real registry: who may answer, and what the device then gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

from iotcore.app.common import anchors_of
from iotcore.errors import EnrolmentError
from iotcore.registry.admissions import Admissions
from iotcore.registry.asked import Asked
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.rights import Grant, Role
from tests.support.console import Console, console
from tests.support.enrolling import asking
from tests.support.shipped import SPECS
from tests.support.visits import BROWSER, PROGRAM, audited

AREAS = [
    {"id": "thanh-hoa", "kind": "province", "name": "Thanh Hóa"},
    {"id": "hac-thanh", "kind": "ward", "name": "Hạc Thành", "parent": "thanh-hoa"},
    {"id": "dong-quang", "kind": "ward", "name": "Đông Quang", "parent": "thanh-hoa"},
]
WHERE = {"p1": "hac-thanh", "p2": "dong-quang"}


class Waiting:
    """A console whose two detectors wait, each in its ward."""

    def __init__(self, made: Console, admissions: Admissions) -> None:
        self.made = made
        self.admissions = admissions
        self.asked: dict[str, Asked] = {}
        self.number: dict[str, int] = {}

    async def begin(self) -> None:
        enrolments = Enrolments(self.made.registry.database)
        for device in ("d1", "d2"):
            self.asked[device] = asking(device, await enrolments.create_token(device, 600.0, "test", approval=True))
            assert await self.says(device) == "pending"
        self.number = {one.device: one.id for one in await enrolments.requests()}

    async def says(self, device: str) -> str:
        """What a device hears that asks again: its anchor, or why it has none yet."""
        try:
            return (await self.admissions.admit(self.asked[device])).anchor
        except EnrolmentError as error:
            return f"{error.reason}" if error.reason == "pending" else f"{error.reason} {error}"


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Waiting]:
    async with (
        console(tmp_path, {"fire": {}}, areas=AREAS, area_of=WHERE) as made,
        made.app.test_app(),
        Admissions(made.registry.database, lambda model: anchors_of(SPECS, model), poll_s=0.01) as admissions,
    ):
        one = Waiting(made, admissions)
        await one.begin()
        yield one


async def text_of(client: Client, path: str = "/enrolments", language: str = "en") -> str:
    client.set_cookie("localhost", "language", language)
    response = await client.get(path, headers=BROWSER)
    assert response.status_code == 200
    return await response.get_data(as_text=True)


async def answer(client: Client, number: int, verb: str, reason: str = "", **headers: str) -> Any:
    return await client.post(f"/enrolments/{number}/{verb}", form={"reason": reason}, headers={**BROWSER, **headers})


async def test_an_approved_device_gets_its_certificate_and_the_audit_names_the_person(waiting: Waiting) -> None:
    client = await waiting.made.client()
    page = await text_of(client)
    for text in ("Đầu báo bếp ăn", "Đầu báo dãy hàng vải", waiting.asked["d1"].key, "asked from 192.0.2.7"):
        assert text in page, text
    assert "Yêu cầu cấp chứng chỉ" in await text_of(client, language="vi")
    assert 'href="/enrolments"' in await text_of(client, "/")
    assert (await answer(client, waiting.number["d1"], "approve")).status_code == 303
    assert await waiting.says("d1") == "fire"
    assert await waiting.says("d2") == "pending"
    (deed,) = [one.deed for one in await waiting.made.registry.audit_entries() if one.deed.action == "enrolment.approve"]
    assert (deed.by, deed.subject) == ("an", "d1")
    again = await answer(client, waiting.number["d1"], "reject", "too late")
    assert again.status_code == 409
    assert "It was decided already." in await again.get_data(as_text=True)


async def test_a_rejection_needs_a_reason_that_the_device_hears_and_people_see_escaped(waiting: Waiting) -> None:
    client = await waiting.made.client()
    client.set_cookie("localhost", "language", "en")
    silent = await answer(client, waiting.number["d2"], "reject", "  ")
    assert silent.status_code == 409
    assert "Say why it is rejected." in await silent.get_data(as_text=True)
    assert await waiting.says("d2") == "pending"
    assert (await answer(client, waiting.number["d2"], "reject", "<b>not mine</b>")).status_code == 303
    assert "not mine" in await waiting.says("d2")
    assert "&lt;b&gt;not mine&lt;/b&gt;" in await text_of(client)
    (said,) = await audited(waiting.made, "enrolment.reject")
    assert said["reason"] == "<b>not mine</b>"


async def test_a_technician_answers_for_their_area_and_sees_no_other(waiting: Waiting) -> None:
    client = await waiting.made.client("lan", Grant(Role.TECHNICIAN, "hac-thanh"))
    page = await text_of(client)
    assert "Đầu báo bếp ăn" in page
    assert "Đầu báo dãy hàng vải" not in page
    hidden = await answer(client, waiting.number["d2"], "approve", **PROGRAM, Accept="application/json")
    absent = await answer(client, 9_999, "approve", **PROGRAM, Accept="application/json")
    for refused, number in ((hidden, waiting.number["d2"]), (absent, 9_999)):
        assert refused.status_code == 409
        document = await refused.get_json(force=True)
        assert document["detail"] == f"there is no request {number}, or its time is over"
    assert await waiting.says("d2") == "pending"
    assert (await answer(client, waiting.number["d1"], "approve")).status_code == 303
    assert await waiting.says("d1") == "fire"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.DISPATCHER, Role.AUDITOR])
async def test_others_may_not(waiting: Waiting, role: Role) -> None:
    client = await waiting.made.client("minh", Grant(role))
    assert (await client.get("/enrolments", headers=BROWSER)).status_code == 403
    assert (await answer(client, waiting.number["d1"], "approve")).status_code == 403
    assert "/enrolments" not in await text_of(client, "/")
    assert await waiting.says("d1") == "pending"


async def test_a_strange_page_cannot_make_a_browser_approve(waiting: Waiting) -> None:
    client = await waiting.made.client()
    assert (await answer(client, waiting.number["d1"], "approve", Origin="https://evil.example")).status_code == 403
    assert await waiting.says("d1") == "pending"

"""A technician's page over HTTP: what he tells, twice and over others, what is refused, and the record that comes of it."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader
from quart.typing import TestClientProtocol as Client

from iotcore.provision.ca import Anchor
from iotcore.registry.commissioning import MINUTE_MS, Commissioning, LastTest
from iotcore.registry.rights import Grant, Role
from iotcore.web.commissioning import TEST_MINUTES
from tests.integration.test_paper_record import picture
from tests.support.console import Console, authority_of, console
from tests.support.papers import judged

pytestmark = pytest.mark.timeout(60)
HOST = {"Host": "localhost:8080"}
OURS = {**HOST, "Origin": "http://localhost:8080"}
PHONE_MS = 1_795_312_700_000


@dataclass(slots=True)
class Phone:
    """A technician's phone."""

    client: Client
    made: Console
    folder: Path
    told: int = field(default=0)

    async def tell(
        self, kind: str, body: Any, *, device: str = "d1", seen: int = 0, name: str = ""
    ) -> tuple[int, dict[str, Any]]:
        self.told += 1
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = f"/commissioning/{device}/entries/{name or f'c-{self.told}'}?kind={kind}&at_ms={PHONE_MS}&seen={seen}"
        response = await self.client.put(path, headers=OURS, data=content)
        return response.status_code, json.loads(await response.get_data(as_text=True))

    async def page(self, path: str = "/commissioning/d1", language: str = "en") -> str:
        self.client.set_cookie("localhost", "language", language)
        response = await self.client.get(path, headers={**HOST, "Accept": "text/html"})
        assert response.status_code == 200
        return str(await response.get_data(as_text=True))

    async def file(self, name: str, device: str = "d1") -> tuple[int, bytes]:
        response = await self.client.get(f"/commissioning/{device}/files/{name}", headers=HOST)
        return response.status_code, await response.get_data(as_text=False)

    @property
    def registry(self) -> Commissioning:
        return Commissioning(self.made.registry.database)


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[Phone]:
    async with console(tmp_path, {"fire": {}}) as made, made.app.test_app():
        yield Phone(await made.client("lan", Grant(Role.TECHNICIAN)), made, tmp_path)


HERE = {"latitude": 19.807, "longitude": 105.776, "accuracy_m": 8.0, "text": "Trên tủ bếp"}


async def finish(phone: Phone) -> None:
    """Everything that d1 needs, but the signature."""
    await phone.made.report("d1", *(phone.made.all_good("d1")))
    await phone.registry.record_test(LastTest("d1", int(phone.made.clock.wall_ms()), 12.5, "lan"), {})
    assert (await phone.tell("photo", picture()))[0] == 200
    assert (await phone.tell("location", HERE))[0] == 200


async def test_the_page_says_of_each_step_what_to_do_now(phone: Phone) -> None:
    shown = await phone.page()
    for text in (
        "Enrolled</b> – done",
        "Test alarm received</b> – not yet",
        "Start the test mode",
        "Take a photo",
        "Not told yet",
    ):
        assert text in shown, text
    vietnamese = await phone.page(language="vi")
    assert "Bật chế độ thử" in vietnamese
    assert "<script>" not in shown


async def test_test_mode_is_begun_and_ended_on_the_page_and_only_for_fire_devices(phone: Phone) -> None:
    response = await phone.client.post("/commissioning/d1/test", headers=OURS)
    assert response.status_code == 200
    assert "In test mode until" in await phone.page()
    said = json.loads(await response.get_data(as_text=True))
    assert said["until_ms"] - said["started_ms"] == TEST_MINUTES * MINUTE_MS
    assert said["by"] == "lan"
    for path, status in (("d1/test?minutes=31", 422), ("air-1/test", 422), ("nobody/test", 404), ("d1/test/end", 200)):
        assert (await phone.client.post(f"/commissioning/{path}", headers=OURS)).status_code == status, path
    assert (await phone.client.post("/commissioning/d1/test", headers=HOST)).status_code == 403, "not from our own page"


async def test_what_is_told_twice_is_kept_once(phone: Phone) -> None:
    first = await phone.tell("remark", {"text": "Trần bê tông"}, name="c-7")
    again = await phone.tell("remark", {"text": "Trần bê tông"}, name="c-7")
    assert (first[0], first[1]["new"], again[0], again[1]["new"]) == (200, True, 200, False)
    photo = picture()
    assert (await phone.tell("photo", photo, name="c-8"))[1]["file"] == (await phone.tell("photo", photo, name="c-8"))[1]["file"]
    assert len(await phone.registry.entries("d1")) == 2
    assert "Trần bê tông" in await phone.page()


async def test_a_place_that_somebody_else_gave_meanwhile_is_a_conflict_that_is_told(phone: Phone) -> None:
    status, first = await phone.tell("location", HERE)
    assert status == 200
    status, said = await phone.tell("location", {"text": "Trên cửa"}, name="c-other")
    assert (status, said["reason"]) == (409, "conflict")
    assert "location 1" in said["detail"]
    assert (await phone.tell("location", {"text": "Trên cửa"}, seen=first["number"]))[0] == 200


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("photo", b"MZ not a picture", 422, "no_photo"),
        ("poem", {"text": "x"}, 422, "bad_entry"),
        ("remark", b"{", 422, "bad_entry"),
        ("remark", {"text": ""}, 422, "bad_entry"),
        ("remark", {"text": "x", "html": "y"}, 422, "bad_entry"),
        ("location", {"latitude": 91, "longitude": 0}, 422, "bad_entry"),
        ("location", {"latitude": 19.8}, 422, "bad_entry"),
        ("location", {"text": " "}, 422, "bad_entry"),
        ("sign", {"name": " "}, 422, "bad_entry"),
        ("modbus", {"identity": {}}, 422, "bad_entry"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_said(phone: Phone, kind: str, body: Any, status: int, reason: str) -> None:
    answer = await phone.tell(kind, body)
    assert (answer[0], answer[1]["reason"]) == (status, reason)
    assert await phone.registry.entries("d1") == []


async def test_only_a_photo_may_be_large(phone: Phone) -> None:
    response = await phone.client.put("/commissioning/d1/entries/c?kind=photo&at_ms=1", headers=OURS, data=bytes(9 * 1024 * 1024))
    assert response.status_code == 413
    response = await phone.client.post("/commissioning/d1/test", headers=OURS, data=bytes(20_000))
    assert response.status_code in {200, 413}
    assert await phone.registry.entries("d1") == []


async def test_a_record_is_signed_by_a_person_and_by_the_platform_and_tells_it_all(phone: Phone) -> None:
    await finish(phone)
    await phone.tell("remark", {"text": "Trần bê tông"})
    status, said = await phone.tell("sign", {"name": "Kỹ thuật viên A"})
    assert (status, said["new"]) == (200, True), said
    status, pdf = await phone.file(said["file"])
    assert status == 200
    verdict = await judged(pdf, authority_of(phone.folder).root_pem(Anchor.SERVICE))
    assert (verdict.intact, verdict.trusted, verdict.covers_all) == (True, True, True)
    paper = PdfReader(io.BytesIO(pdf))
    text = "\n".join(page.extract_text() for page in paper.pages)
    for wanted in (
        "Biên bản nghiệm thu", "Acceptance record", "d1 – Đầu báo bếp ăn", "Bếp ăn", "19.807000, 105.776000 (± 8 m)",
        "12 ms từ đầu báo", "Test alarm received", "Trần bê tông", "Kỹ thuật viên A",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert "open points" not in text
    assert sum(len(page.images) for page in paper.pages) == 1
    details = [one.deed for one in await phone.made.registry.audit_entries() if one.deed.action == "attachment.record"]
    assert [json.loads(deed.detail)["sha256"] for deed in details] == [said["file"]]
    assert "Kỹ thuật viên A" in await phone.page()


async def test_a_signature_names_what_is_open_or_is_not_taken(phone: Phone) -> None:
    await finish(phone)
    await phone.made.report("d1", *phone.made.all_good("d1", battery=5.0))
    status, said = await phone.tell("sign", {"name": "A"})
    assert (status, said) == (409, {"reason": "open_steps", "detail": "battery"})
    status, said = await phone.tell("sign", {"name": "A", "open": ["battery"]})
    assert status == 200
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO((await phone.file(said["file"]))[1])).pages)
    assert "Acceptance record with open points" in text


async def test_a_second_signature_needs_to_have_seen_the_first(phone: Phone) -> None:
    await finish(phone)
    first = await phone.tell("sign", {"name": "A"}, name="s-1")
    assert first[0] == 200
    again = await phone.tell("sign", {"name": "A"}, name="s-1")
    assert (again[0], again[1]["new"], again[1]["file"]) == (200, False, first[1]["file"])
    status, said = await phone.tell("sign", {"name": "B"}, name="s-2")
    assert (status, said["reason"]) == (409, "conflict")
    assert "as A" in said["detail"]
    assert (await phone.tell("sign", {"name": "B"}, name="s-2", seen=first[1]["number"]))[0] == 200


async def test_a_photo_that_was_taken_away_is_said_on_the_record(phone: Phone) -> None:
    await finish(phone)
    (photo,) = [one.file for one in await phone.registry.entries("d1") if one.kind == "photo"]
    (phone.folder / "files" / photo).unlink()
    status, said = await phone.tell("sign", {"name": "A"})
    assert status == 200
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO((await phone.file(said["file"]))[1])).pages)
    bare = "".join(text.split())
    assert "Aphotothatisnolongerthere" in bare
    assert photo in bare


async def test_files_are_given_out_for_their_device_only(phone: Phone) -> None:
    _, said = await phone.tell("photo", picture())
    assert (await phone.file(said["file"]))[1].startswith(b"\xff\xd8")
    assert (await phone.file(said["file"], "d2"))[0] == 404
    assert (await phone.file("../registry.db"))[0] == 404
    (phone.folder / "files" / said["file"]).write_bytes(b"another")
    assert (await phone.file(said["file"]))[0] == 500


async def test_an_alarm_without_the_mark_is_shown_loudly(phone: Phone) -> None:
    mode = await phone.registry.start_test("d1", TEST_MINUTES * MINUTE_MS, "lan")
    incident = phone.made.fire.burn(in_test=mode)
    shown = await phone.page()
    assert "A real alarm went out!" in shown
    assert incident in shown
    assert "was dispatched: incident" in shown


WARD = [{"id": "w1", "kind": "ward", "name": "Hạc Thành"}, {"id": "w2", "kind": "ward", "name": "Đông Vệ"}]


@pytest.mark.parametrize(
    ("grant", "device", "seen", "told"),
    [
        (Grant(Role.TECHNICIAN, "w1"), "d1", 200, 200),
        (Grant(Role.TECHNICIAN, "w1"), "d2", 404, 404),
        (Grant(Role.VIEWER), "d1", 403, 403),
        (Grant(Role.DISPATCHER), "d1", 403, 403),
        (None, "d1", 401, 401),
    ],
)
async def test_only_a_technician_of_the_area_may(tmp_path: Path, grant: Grant | None, device: str, seen: int, told: int) -> None:
    async with console(tmp_path, areas=WARD, area_of={"p1": "w1", "p2": "w2"}) as made, made.app.test_app():
        client = made.app.test_client() if grant is None else await made.client("minh", grant)
        phone = Phone(client, made, tmp_path)
        for path in ("", "/steps"):
            assert (await client.get(f"/commissioning/{device}{path}", headers=HOST)).status_code == seen
        assert (await phone.tell("remark", {"text": "x"}, device=device))[0] == told
        assert (await client.post(f"/commissioning/{device}/test", headers=OURS)).status_code == told
        assert (await phone.file("0" * 64, device))[0] == (404 if seen == 200 else seen)
        assert len(await phone.registry.entries(device)) == (told == 200)
        assert (await client.get("/commissioning/worker.js", headers=HOST)).status_code == 200, "the worker tells nothing"

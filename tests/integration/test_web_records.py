"""What the registry knows of a device, on its page; and files, which are never taken for pages."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from iotcore.provision.file_folder import FileFolder
from iotcore.registry import attachments
from iotcore.registry.attachments import Content
from iotcore.registry.places import Places
from iotcore.registry.rights import Grant, Role
from iotcore.registry.subjects import Subject
from iotcore.registry.units import Another
from tests.support.console import Console, console
from tests.support.shipped import SPECS

HOST = {"Host": "localhost"}
D1 = Subject("device", "d1")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
PDF = b"%PDF-1.7\n<script>alert(1)</script>"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}) as one, one.app.test_app():
        yield one


async def shown(made: Console, path: str, language: str = "en") -> str:
    client = await made.client()
    client.set_cookie("localhost", "language", language)
    response = await client.get(path, headers=HOST)
    assert response.status_code == 200
    return await response.get_data(as_text=True)


async def filed(places: Places, folder: Path, content: bytes, kind: Any, title: str) -> str:
    name = await asyncio.to_thread(FileFolder(folder / "files").keep, content)
    media = attachments.media_type(content, kind)
    return await places.attach(D1, Content(kind, title, media, len(content), name), "minh")


async def test_the_page_of_a_device_shows_what_is_known_of_it(made: Console, tmp_path: Path) -> None:
    places = Places(made.registry.database)
    page = await shown(made, "/devices/d1")
    assert "No note yet." in page
    await places.change(
        "devices", "d1", {"serial": "SN-1", "location": "Trần", "labels": {"room": "101"}}, specs=SPECS, by="minh"
    )
    await places.replace("d1", Another("SN-2", "", "vỏ vỡ"), SPECS, "minh", token_s=60.0)
    await places.note(D1, "<script>alert(1)</script> ẩm", "minh")
    await places.desire("d1", {"interval_s": 5}, "minh")
    photo = await filed(places, tmp_path, PNG, "photo", "Cửa <b>")
    plan = await filed(places, tmp_path, PDF, "floor_plan", "Tầng 1")
    page = await shown(made, "/devices/d1")
    for text in (
        "<code>SN-2</code>",
        "<code>SN-1</code>",
        "vỏ vỡ",
        "room=101",
        "version 1 wanted",
        "has not reported its own yet",
        "&lt;script&gt;alert(1)&lt;/script&gt; ẩm",
        f'<img src="/devices/d1/files/{photo}" alt="Cửa &lt;b&gt;"',
        f'<a href="/devices/d1/files/{plan}">Tầng 1</a>',
    ):
        assert text in page, text
    assert "<script>alert" not in page
    assert "Số sê-ri" in await shown(made, "/devices/d1/details", "vi")


async def test_a_file_is_given_as_what_it_is_and_never_as_a_page(made: Console, tmp_path: Path) -> None:
    places = Places(made.registry.database)
    photo = await filed(places, tmp_path, PNG, "photo", "Cửa")
    plan = await filed(places, tmp_path, PDF, "floor_plan", 'x"\r\nSet-Cookie: a=b')
    client = await made.client()
    picture = await client.get(f"/devices/d1/files/{photo}", headers=HOST)
    assert (picture.status_code, picture.content_type, await picture.get_data(as_text=False)) == (200, "image/png", PNG)
    assert picture.headers["X-Content-Type-Options"] == "nosniff"
    assert picture.headers["Content-Security-Policy"].startswith("default-src 'none'")
    document = await client.get(f"/devices/d1/files/{plan}", headers=HOST)
    assert document.content_type == "application/pdf"
    assert document.headers["Content-Disposition"] == "attachment; filename*=UTF-8''x%22%0D%0ASet-Cookie%3A%20a%3Db.pdf"
    assert "Set-Cookie" not in document.headers


async def test_a_file_is_for_those_who_may_see_its_device(made: Console, tmp_path: Path) -> None:
    photo = await filed(Places(made.registry.database), tmp_path, PNG, "photo", "Cửa")
    stranger = await made.app.test_client().get(f"/devices/d1/files/{photo}", headers=HOST)
    assert stranger.status_code == 401
    await made.registry.import_city({"areas": [{"id": "phuong-9", "kind": "ward", "name": "Phường 9"}]}, SPECS, "tester")
    elsewhere = await made.client("binh", Grant(Role.TECHNICIAN, "phuong-9"))
    assert (await elsewhere.get(f"/devices/d1/files/{photo}", headers=HOST)).status_code == 404
    viewer = await made.client("chi", Grant(Role.VIEWER))
    assert (await viewer.get(f"/devices/d1/files/{photo}", headers=HOST)).status_code == 200


async def test_a_file_that_is_unknown_or_damaged_is_not_given(made: Console, tmp_path: Path) -> None:
    photo = await filed(Places(made.registry.database), tmp_path, PNG, "photo", "Cửa")
    client = await made.client()
    for path in (
        "d1/files/unknown",
        f"d2/files/{photo}",
        f"d1/files/{hashlib.sha256(PNG).hexdigest()}",
        "d1/files/..%2fregistry.db",
    ):
        assert (await client.get(f"/devices/{path}", headers=HOST)).status_code == 404, path
    (tmp_path / "files" / hashlib.sha256(PNG).hexdigest()).write_bytes(PNG + b"x")
    damaged = await client.get(f"/devices/d1/files/{photo}", headers=HOST)
    assert damaged.status_code == 410
    assert str(tmp_path) not in await damaged.get_data(as_text=True)

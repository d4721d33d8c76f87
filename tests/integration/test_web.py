"""The console over a real registry, a real journal and a real telemetry file."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from quart import typing as quart_typing

from iotcore.errors import StartError
from iotcore.reading import Value
from iotcore.registry.commissioning import Commissioning, LastTest
from iotcore.registry.rights import Grant, Role
from iotcore.web.server import serve
from tests.support.console import Console, console
from tests.support.ports import free_port

HOST = {"Host": "localhost"}
OWN = {"Host": "localhost", "Origin": "http://localhost", "Accept": "application/json"}
LIMIT_S = 10.0
Client = quart_typing.TestClientProtocol


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}) as one, one.app.test_app():
        yield one


@pytest.fixture
async def client(made: Console) -> Client:
    return await made.client()


async def page(client: Client, path: str = "/", **headers: str) -> str:
    response = await client.get(path, headers={**HOST, **headers})
    assert response.status_code == 200
    return await response.get_data(as_text=True)


async def until(client: Client, *texts: str, path: str = "/") -> str:
    """The page, once it shows all of `texts`."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            shown = await page(client, path)
            if all(text in shown for text in texts):
                return shown
            await asyncio.sleep(0.02)


@asynccontextmanager
async def stream(client: Client, **headers: str) -> AsyncIterator[Any]:
    async with client.request("/events", headers={**HOST, **headers}) as connection:
        yield _events(connection)
        await connection.disconnect()


async def _events(connection: quart_typing.TestHTTPConnectionProtocol) -> AsyncIterator[tuple[str, str, Any]]:
    """(kind, id, data) of each server-sent event."""
    buffer = b""
    while True:
        while b"\n\n" not in buffer:
            buffer += await asyncio.wait_for(connection.receive(), LIMIT_S)
        frame, _, buffer = buffer.partition(b"\n\n")
        fields = dict(line.split(": ", 1) for line in frame.decode().split("\n"))
        if "event" in fields:
            yield fields["event"], fields.get("id", ""), json.loads(fields["data"])


async def test_a_quiet_city_is_calm_and_shows_its_devices_values_and_faults(client: Client) -> None:
    shown = await page(client)
    assert '<p id="calm" class="calm" >' in shown
    assert "Không có sự cố cháy nào đang mở" in shown
    assert "Đầu báo bếp ăn" in shown
    assert "0,02 dB/m" in shown
    assert "18,4 µg/m³" in shown
    assert "Số đo Nitơ đioxit NO2 hỏng: quá thời gian chờ" in shown


async def test_a_fire_is_on_the_page_with_everything_a_crew_asks_for(made: Console, client: Client) -> None:
    incident = made.fire.burn()
    made.fire.deliver("arc")
    made.fire.fail("cad", "connection refused")
    shown = await until(client, incident, "connection refused")
    for text in (
        "Cháy: khói", "Trường Tiểu học Lê Lợi", "12 Lê Lợi, phường Hạc Thành", "Tầng 2", "Khu vực 3 – Bếp ăn", "0,52 dB/m",
        "vượt ngưỡng", "Chưa ai tiếp nhận", "+12 ms", "+24 ms", "đã xác nhận", "lỗi, đang gửi lại (lần 1)", "Tiếp nhận sự cố",
    ):  # fmt: skip
        assert text in shown, text
    assert 'class="calm" hidden' in shown


async def test_acknowledge_writes_one_intent_however_often_it_is_pressed(made: Console, client: Client) -> None:
    incident = made.fire.burn()
    await until(client, incident)
    for _ in range(3):
        response = await client.post(f"/incidents/{incident}/acknowledge", headers=OWN)
        assert response.status_code == 202
    (intent,) = await made.registry.intents_after(0)
    assert (intent.kind, intent.key) == ("acknowledge", incident)
    assert await (await client.post(f"/incidents/{incident}/reset", headers=OWN)).get_data(as_text=True)
    assert len(await made.registry.intents_after(0)) == 1, "nobody may reset what nobody has acknowledged"


async def test_after_an_acknowledgement_comes_reset_and_then_calm(made: Console, client: Client) -> None:
    incident = made.fire.burn()
    made.fire.journal.acknowledge(incident, "duty officer", made.clock.wall_ms())
    await until(client, "duty officer", "Kết thúc và khôi phục")
    response = await client.post(f"/incidents/{incident}/reset", headers={**OWN, "Accept": "text/html"})
    assert response.status_code == 303
    assert [intent.kind for intent in await made.registry.intents_after(0)] == ["reset"]
    made.fire.journal.reset(incident, ["d1"], "duty officer", made.clock.wall_ms())
    shown = await until(client, "Sự cố vừa kết thúc", '<p id="calm" class="calm" >')
    assert "Tiếp nhận sự cố" not in shown


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
        ({"Host": "localhost", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost:8081"}, 403),
        ({"Host": "localhost", "Origin": "ftp://localhost"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
    ],
)
async def test_a_foreign_page_cannot_acknowledge(made: Console, client: Client, headers: dict[str, str], status: int) -> None:
    incident = made.fire.burn()
    await until(client, incident)
    response = await client.post(f"/incidents/{incident}/acknowledge", headers=headers)
    assert response.status_code == status
    assert await made.registry.intents_after(0) == []


async def test_an_unknown_incident_or_device_is_not_found_and_a_get_changes_nothing(client: Client) -> None:
    assert (await client.post("/incidents/F1/acknowledge", headers=OWN)).status_code == 404
    assert (await client.get("/incidents/F1/acknowledge", headers=HOST)).status_code == 405
    assert (await client.get("/devices/nobody", headers=HOST)).status_code == 404
    assert (await client.get("/devices/..%2f..%2fetc", headers=HOST)).status_code == 404


async def test_the_stream_sends_everything_first_and_then_each_change(made: Console, client: Client) -> None:
    async with stream(client) as events:
        kind, cursor, data = await anext(events)
        assert kind == "everything"
        assert {piece["id"] for piece in data["devices"]} == {"d1", "d2", "air-1", "modbus-1"}
        assert data["incidents"] == []
        incident = made.fire.burn()
        while True:
            kind, cursor, data = await anext(events)
            if kind == "incidents":
                break
        assert data["set"][0]["id"] == incident
        assert "Trường Tiểu học Lê Lợi" in data["set"][0]["html"]
    await made.report("d1", Value("smoke", 0.77))
    async with stream(client, **{"Last-Event-ID": cursor}) as events:
        while True:
            kind, _, data = await anext(events)
            assert kind != "everything"
            if kind == "devices" and "0,77 dB/m" in data["set"][0]["html"]:
                break
        assert [piece["id"] for piece in data["set"]] == ["d1"]


async def test_refused_messages_are_counted_by_reason_and_their_device_shows_it(made: Console, client: Client) -> None:
    for _ in range(3):
        made.fire.refuse("schema", "d2")
    shown = await until(client, "<b>3</b> sai cấu trúc", "Tin bị từ chối: sai cấu trúc")
    assert 'id="device-d2" class="device fault"' in shown


async def test_each_language_is_chosen_by_a_cookie_that_stays_on_this_site(client: Client) -> None:
    response = await client.get("/language/en?to=/devices/d1", headers=HOST)
    assert (response.status_code, response.headers["Location"]) == (303, "/devices/d1")
    cookie = response.headers["Set-Cookie"]
    assert "SameSite=Strict" in cookie
    assert "HttpOnly" in cookie
    assert "No open fire incident" in await page(client)
    for outside in ("//evil.example", "https://evil.example", "/\\evil.example"):
        response = await client.get("/language/vi", query_string={"to": outside}, headers=HOST)
        assert response.headers["Location"] == "/"
    assert (await client.get("/language/xx", headers=HOST)).status_code == 404


async def test_the_policy_forbids_inline_code_and_the_page_has_none(client: Client) -> None:
    response = await client.get("/", headers=HOST)
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy
    text = await response.get_data(as_text=True)
    for inline in ("<style", " style=", "onclick=", "javascript:", "<script>"):
        assert inline not in text


async def test_what_a_device_says_is_never_markup(made: Console, client: Client) -> None:
    await made.report("d1", Value("smoke", "<script>alert(1)</script>"))
    shown = await until(client, "&lt;script&gt;alert(1)")
    assert "<script>alert" not in shown


async def test_a_technician_sees_what_is_done_and_how_fast_the_test_alarm_was(made: Console, client: Client) -> None:
    before = await page(client, "/devices/d1")
    assert "<b>Đã cấp chứng thư</b> – xong" in before
    assert "<b>Đã nhận báo động thử</b> – chưa" in before
    tests = Commissioning(made.registry.database)
    await tests.record_test(LastTest("d1", int(made.clock.wall_ms()), 12.0, "lan"), {})
    after = await until(client, "<b>Đã nhận báo động thử</b> – xong", path="/devices/d1")
    assert "12 ms từ đầu báo đến khi được lưu bền" in after
    assert "<b>Đã cấp chứng thư</b> – chưa" in await page(client, "/devices/d2")
    assert "báo động thử" not in await page(client, "/devices/air-1")


async def test_a_page_that_cannot_see_the_journal_does_not_look_calm(tmp_path: Path) -> None:
    async with console(tmp_path, {"telemetry": {}}) as made, made.app.test_app():
        shown = await page(await made.client())
    assert 'id="blind" class="banner" role="alert" >' in shown
    assert 'class="calm" hidden' in shown


async def test_health_says_whether_the_page_follows(client: Client) -> None:
    response = await client.get("/healthz", headers=HOST)
    said = await response.get_json()
    assert (response.status_code, said["follows"], said["readable"]) == (200, True, {"journal": True, "telemetry": True})


async def test_a_taken_port_is_one_clear_line(made: Console) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=f"Port {port} on 127.0.0.1 is taken"):
            await serve(made.app, "127.0.0.1", port)
    with pytest.raises(StartError, match="cannot listen on 203"):
        await serve(made.app, "203.0.113.7", free_port())


async def test_the_server_stops_soon_with_a_stream_open(tmp_path: Path) -> None:
    async with console(tmp_path) as made:
        port = free_port()
        serving = asyncio.create_task(serve(made.app, "127.0.0.1", port))
        async with asyncio.timeout(LIMIT_S):
            while True:
                with suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                await asyncio.sleep(0.02)
            cookie = await made.sign_in("an", Grant(Role.VIEWER))
            writer.write(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n".encode())
            await reader.readuntil(b"event: everything")
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

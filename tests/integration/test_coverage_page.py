"""The coverage page over a real registry and telemetry.db: what it says, as JSON and CSV, and in a real browser on a phone."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from datetime import date, timedelta
from pathlib import Path

import pytest
from quart.typing import TestClientProtocol as Client

from iotcore.registry.coverage import Coverage, Figure
from iotcore.registry.coverage_days import CoverageDays
from iotcore.registry.rights import Grant, Role
from iotcore.web.server import serve
from tests.support.chromium import Chromium
from tests.support.console import Console, console
from tests.support.covered import CITY, activate, pass_test
from tests.support.ports import free_port
from tests.support.shipped import SPECS

pytestmark = pytest.mark.timeout(90)
TODAY = date(2026, 11, 22)  # of the console's clock, in Vietnam


async def _fill(one: Console, folder: Path) -> None:
    await one.registry.import_city(CITY, SPECS, "tester")
    await activate(one.registry, "s1", "s2", "s3")
    await pass_test(one.registry, "s1", one.clock.wall_ms())
    with closing(sqlite3.connect(folder / "telemetry.db")) as file, file:
        for name, ago_ms in (("s1", 1000.0), ("s2", 3_600_000.0), ("s3", 1000.0)):
            file.execute("INSERT INTO presence VALUES (?, 'online', 0, ?, '')", (name, one.clock.wall_ms() - ago_ms))
    days = CoverageDays(one.registry.database)
    for back in (40, 20, 0):
        figures = {"": Figure(100, 60, 50 - back), "w1": Figure(1, 1, 1), "w2": Figure(2, 1, 0)}
        await days.keep(TODAY - timedelta(days=back), Coverage(0.0, {}, figures), "keeper")
    one.directory = await one.registry.directory(SPECS)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path, {"fire": {}}) as one:
        await _fill(one, tmp_path)
        yield one


@pytest.fixture
async def client(made: Console) -> AsyncIterator[Client]:
    async with made.app.test_app():
        yield await made.client()


async def text_of(client: Client, path: str, status: int = 200) -> str:
    response = await client.get(path, headers={"Host": "localhost"})
    assert response.status_code == status
    return await response.get_data(as_text=True)


async def test_the_page_says_how_much_is_covered_where_and_what_is_missing(client: Client) -> None:
    shown = await text_of(client, "/coverage")
    for text in (
        "1 trên 4 cơ sở trọng điểm được bảo vệ; 2 cơ sở có thiết bị báo cháy",
        'value="25.0"',
        "33,3 %",
        "Phường Hạc Thành",
        "Chưa có địa bàn",
        "Bệnh viện Đa khoa tỉnh",
        "không có thiết bị báo cháy",
        "lần cuối 22/11/2026 ",
        "Đúng tiến độ 100 % vào cuối năm 2030",
    ):
        assert text in shown, text
    assert "Phường Đông Tiến" not in shown
    client.set_cookie("localhost", "language", "en")
    english = await text_of(client, "/coverage")
    assert "1 of 4 key sites are covered" in english
    assert "It reaches 100 % on 11/01/2027." in english
    assert 'href="/coverage"' in await text_of(client, "/")


async def test_one_area_shows_only_what_lies_in_it(client: Client) -> None:
    client.set_cookie("localhost", "language", "en")
    shown = await text_of(client, "/coverage?area=w2")
    assert "0 of 2 key sites are covered" in shown
    assert "Chợ Vườn Hoa" in shown
    assert "Trường Tiểu học" not in shown
    assert json.loads(await text_of(client, "/api/v1/coverage?area=w9", 404))["title"] == "unknown area"


async def test_programs_get_the_same_as_json(client: Client) -> None:
    found = json.loads(await text_of(client, "/api/v1/coverage"))
    assert [(row["area"], row["covered"], row["key_sites"]) for row in found["areas"]][:2] == [("", 1, 4), ("th", 1, 3)]
    assert found["trend"]["per_year"] == pytest.approx(365.25)
    missing = json.loads(await text_of(client, "/api/v1/coverage/missing?area=w2"))["missing"]
    assert [row["premises"] for row in missing] == ["hospital", "market"]
    days = json.loads(await text_of(client, "/api/v1/coverage/history?from=2026-11-02&to=2026-11-21"))["days"]
    assert [(day["day"], day["covered"]) for day in days] == [("2026-11-02", 30)]
    assert json.loads(await text_of(client, "/api/v1/coverage/history?from=yesterday", 400))["title"] == "bad parameter"


async def test_a_spreadsheet_gets_them_as_csv(client: Client) -> None:
    response = await client.get("/coverage/missing.csv", headers={"Host": "localhost"})
    assert response.headers["Content-Disposition"] == 'attachment; filename="missing.csv"'
    rows = list(csv.DictReader(io.StringIO((await response.get_data(as_text=True)).removeprefix("\ufeff"))))
    assert [(row["premises"], row["reason"]) for row in rows] == [
        ("depot", "no_device"),
        ("hospital", "no_device"),
        ("market", "silent"),
        ("market", "never_tested"),
    ]
    assert rows[0]["name"] == "'=Kho xăng"
    assert (await text_of(client, "/coverage/history.csv?area=w2")).count(",w2,2,1,0,0.0,") == 3
    assert (await text_of(client, "/coverage/areas.csv")).splitlines()[1].startswith(",,whole,0,4,2,1,25.0")


async def test_a_page_that_cannot_see_who_is_there_says_so_and_no_figure(client: Client, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "telemetry.db")) as file, file:
        file.execute("DROP TABLE presence")
    assert json.loads(await text_of(client, "/coverage", 503))["title"] == "unreadable"


async def test_whoever_may_see_some_areas_is_told_of_nothing_else(tmp_path: Path) -> None:
    async with console(tmp_path) as one:
        await _fill(one, tmp_path)
        async with one.app.test_app():
            client = await one.client("lan", Grant(Role.VIEWER, "w1"), Grant(Role.TECHNICIAN, "w2"))
            found = json.loads(await text_of(client, "/api/v1/coverage"))
            assert [(row["area"], row["covered"], row["key_sites"]) for row in found["areas"]] == [
                ("", 1, 3),
                ("w1", 1, 1),
                ("w2", 0, 2),
            ]
            missing = json.loads(await text_of(client, "/api/v1/coverage/missing"))["missing"]
            assert [row["premises"] for row in missing] == ["hospital", "market"]
            days = json.loads(await text_of(client, "/api/v1/coverage/history?from=2026-11-22"))["days"]
            assert [(day["covered"], day["key_sites"]) for day in days] == [(1, 3)]
            for path in ("/coverage?area=tp", "/coverage/history.csv?area=tp", "/coverage?area=th"):
                assert json.loads(await text_of(client, path, 404))["title"] == "unknown area"
            shown = await text_of(client, "/coverage")
            assert "Kho xăng" not in shown
            assert "Chợ Vườn Hoa" in shown


async def test_whoever_may_see_no_key_site_is_told_of_none_and_a_stranger_of_nothing(tmp_path: Path) -> None:
    async with console(tmp_path) as one:
        await _fill(one, tmp_path)
        async with one.app.test_app():
            client = await one.client("lan", Grant(Role.VIEWER, "w3"))
            found = json.loads(await text_of(client, "/api/v1/coverage"))
            assert [(row["area"], row["key_sites"]) for row in found["areas"]] == [("", 0)]
            assert json.loads(await text_of(client, "/api/v1/coverage/history"))["days"] == []
            for path in ("/coverage", "/coverage/missing.csv", "/api/v1/coverage"):
                response = await one.app.test_client().get(path, headers={"Host": "localhost", "Accept": "application/json"})
                assert response.status_code == 401


async def test_a_phone_of_360_pixels_shows_it_without_scrolling_sideways(made: Console, tmp_path: Path) -> None:
    port = free_port()
    async with Chromium(tmp_path) as browser:
        serving = asyncio.create_task(serve(made.app, "127.0.0.1", port))
        try:
            async with asyncio.timeout(10.0):
                while True:
                    with suppress(OSError):
                        (await asyncio.open_connection("127.0.0.1", port))[1].close()
                        break
                    await asyncio.sleep(0.02)
            name, _, value = (await made.sign_in("an", Grant(Role.VIEWER))).partition("=")
            await browser.call("Network.setCookie", name=name, value=value, url=f"http://127.0.0.1:{port}/", sameSite="Strict")
            await browser.open(f"http://127.0.0.1:{port}/coverage", width=360, height=740)
            await browser.wait_for("document.querySelectorAll('.areas meter').length == 6")
            assert await browser.evaluate("document.documentElement.scrollWidth") == 360
            assert await browser.evaluate("document.querySelector('.chart polyline, .chart circle') !== null")
            await browser.evaluate("document.querySelector('.areas a[href*=w2]').click()")
            await browser.wait_for("document.querySelector('h1 small')?.innerText == 'Phường Hàm Rồng'")
            await browser.wait_for("document.getElementById('stale').hidden")
            assert browser.complaints == []
            assert len(await browser.screenshot()) > 10_000
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

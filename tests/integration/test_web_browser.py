"""The console in a real Chromium: what people see and press."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from iotcore.app.common import anchors_of
from iotcore.errors import EnrolmentError
from iotcore.provision.file_folder import FileFolder
from iotcore.registry.admissions import Admissions
from iotcore.registry.attachments import Content
from iotcore.registry.directory import Target
from iotcore.registry.disablements import Disablements
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.places import Places
from iotcore.registry.records import Intent
from iotcore.registry.rights import Grant, Role
from iotcore.registry.subjects import Subject
from iotcore.web.server import serve
from tests.support.chromium import Chromium
from tests.support.console import Console, console
from tests.support.enrolling import asking
from tests.support.ports import free_port
from tests.support.shipped import SPECS
from tests.support.visits import PASSWORD, STORED

pytestmark = pytest.mark.timeout(90)
CALM_SHOWN = "!document.getElementById('calm').hidden"


@dataclass(slots=True)
class Desk:
    """A console that is served, and a browser in front of it."""

    made: Console
    browser: Chromium
    url: str
    serving: asyncio.Task[None]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with console(tmp_path, {"fire": {}}) as made, Chromium(tmp_path) as browser:
        port = free_port()
        serving = asyncio.create_task(serve(made.app, "127.0.0.1", port))
        async with asyncio.timeout(10.0):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    break
                await asyncio.sleep(0.02)
        name, _, value = (await made.sign_in("an", Grant(Role.DISPATCHER))).partition("=")
        await browser.call("Network.setCookie", name=name, value=value, url=f"http://127.0.0.1:{port}/", sameSite="Strict")
        yield Desk(made, browser, f"http://127.0.0.1:{port}/", serving)
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def intents(made: Console, count: int) -> list[Intent]:
    """The intents, once there are as many."""
    async with asyncio.timeout(10.0):
        while True:
            found = await made.registry.intents_after(0)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_a_fire_appears_by_itself_and_is_acknowledged_and_reset_by_hand(desk: Desk) -> None:
    made, browser = desk.made, desk.browser
    await browser.open(desk.url)
    await browser.wait_for(CALM_SHOWN)
    incident = made.fire.burn()
    made.fire.deliver()
    await browser.wait_for("document.querySelector('.burning')")
    assert not await browser.evaluate(CALM_SHOWN)
    shown = await browser.evaluate("document.querySelector('.burning').innerText")
    for text in ("Trường Tiểu học Lê Lợi", "12 Lê Lợi", "Tầng 2", "0,52 dB/m", "+12 ms", "arc đã xác nhận"):
        assert text in shown, text
    assert (await browser.evaluate("document.title")).startswith("(1)")
    assert len(await browser.screenshot()) > 20_000

    await browser.evaluate("document.querySelector('.act button').click()")
    asked = await intents(made, 1)
    made.fire.journal.acknowledge(incident, asked[0].by, made.clock.wall_ms())
    await browser.wait_for("document.querySelector('.acknowledged')")

    await browser.evaluate("document.querySelector('.act button').click()")
    await browser.wait_for("document.querySelector('.act button').innerText.includes('lần nữa')")
    assert len(await made.registry.intents_after(0)) == 1, "one press does not end an incident"
    await browser.evaluate("document.querySelector('.act button').click()")
    assert [intent.kind for intent in await intents(made, 2)] == ["acknowledge", "reset"]
    made.fire.journal.reset(incident, ["d1"], "console", made.clock.wall_ms())
    await browser.wait_for(CALM_SHOWN)
    await browser.wait_for("document.querySelector('#closed .closed')")
    assert browser.complaints == []


@pytest.mark.parametrize("path", ["", "devices/d1"])
async def test_a_phone_of_360_pixels_shows_it_without_scrolling_sideways(desk: Desk, path: str) -> None:
    desk.made.fire.burn()
    desk.made.fire.fail("cad", "connection refused by a receiver with a very long name and no spaces_" + "x" * 60)
    await desk.browser.open(desk.url + path, width=360, height=740)
    await desk.browser.wait_for("document.querySelector('.burning, .checklist')")
    assert await desk.browser.evaluate("document.documentElement.scrollWidth") == 360
    if not path:
        bottom = await desk.browser.evaluate("document.querySelector('.burning button').getBoundingClientRect().bottom")
        assert bottom < 740, "the button is on the first screen"


@pytest.mark.parametrize("path", ["incidents/{incident}", "premises/p1", "outages", "alarms"])
async def test_a_phone_shows_the_pages_of_acts_without_scrolling_sideways(desk: Desk, path: str) -> None:
    made, browser = desk.made, desk.browser
    incident = made.fire.burn()
    out = Disablements(made.registry.database)
    await out.disable(Target("zone", "p1-z1"), 3_600_000, "lý do " * 30, "lan", SPECS)
    made.directory = await made.registry.directory(SPECS)
    await browser.open(desk.url + path.format(incident=incident), width=360, height=740)
    await browser.wait_for("document.querySelector('#incidents-title')")
    assert await browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.complaints == []


async def test_an_incident_is_taken_and_ended_on_its_own_page(desk: Desk) -> None:
    made, browser = desk.made, desk.browser
    incident = made.fire.burn()
    await browser.open(f"{desk.url}incidents/{incident}", width=360, height=740)
    await browser.wait_for("document.querySelector('.burning .acts button')")
    await browser.evaluate("window.pressed = true, document.querySelector('.burning .acts button.main').click()")
    asked = await intents(made, 1)
    made.fire.journal.acknowledge(incident, asked[0].by, made.clock.wall_ms())
    await browser.wait_for("!window.pressed && document.querySelector('[data-twice] button:not([disabled])')")
    await browser.evaluate("document.querySelector('[data-twice] button').click()")
    assert len(await made.registry.intents_after(0)) == 1, "one press does not end an incident"
    await browser.evaluate("document.querySelector('[data-twice] button').click()")
    assert [intent.kind for intent in await intents(made, 2)] == ["acknowledge", "reset"]
    assert browser.complaints == []


def png(side: int) -> bytes:
    """A white picture."""
    rows = zlib.compress((b"\0" + b"\xff" * side * 3) * side)
    size = struct.pack(">II", side, side) + b"\x08\x02\0\0\0"
    parts = [(b"IHDR", size), (b"IDAT", rows), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


async def test_a_phone_shows_what_is_known_of_a_device_and_its_photo(desk: Desk, tmp_path: Path) -> None:
    places, subject, photo = Places(desk.made.registry.database), Subject("device", "d1"), png(400)
    details = {"serial": "S" * 64, "location": "L" * 200, "labels": {"n" * 32: "v" * 64}}
    await places.change("devices", "d1", details, specs=SPECS, by="minh")
    await places.note(subject, "ẩ" * 500, "minh")
    name = await asyncio.to_thread(FileFolder(tmp_path / "files").keep, photo)
    await places.attach(subject, Content("photo", "T" * 200, "image/png", len(photo), name), "minh")
    await desk.browser.open(desk.url + "devices/d1", width=360, height=740)
    await desk.browser.wait_for("document.querySelector('.photos img')")
    await desk.browser.evaluate("document.querySelector('.photos img').scrollIntoView()")
    await desk.browser.wait_for("document.querySelector('.photos img').naturalWidth == 400")
    assert await desk.browser.evaluate("document.documentElement.scrollWidth") == 360


async def test_a_phone_answers_a_request_to_enrol(desk: Desk) -> None:
    browser, database = desk.browser, desk.made.registry.database
    asked = asking("d1", await Enrolments(database).create_token("d1", 600.0, "test", approval=True))
    async with Admissions(database, lambda model: anchors_of(SPECS, model)) as admissions:
        with pytest.raises(EnrolmentError):
            await admissions.admit(asked)
        name, _, value = (await desk.made.sign_in("ky", Grant(Role.TECHNICIAN))).partition("=")
        await browser.call("Network.setCookie", name=name, value=value, url=desk.url, sameSite="Strict")
        await browser.open(desk.url + "enrolments", width=360, height=740)
        await browser.wait_for("document.querySelector('.approvals form')")
        assert await browser.evaluate("document.documentElement.scrollWidth") == 360
        await browser.evaluate("document.querySelector('.approvals .go').click()")
        await browser.wait_for("document.querySelector('.approvals') && !document.querySelector('.approvals form')")
        assert (await admissions.admit(asked)).anchor == "fire"
    assert browser.complaints == []


async def test_the_class_filter_leaves_only_that_class(desk: Desk) -> None:
    await desk.browser.open(desk.url)
    await desk.browser.evaluate("document.querySelector('input[value=air_station]').click()")
    visible = "[...document.querySelectorAll('.device:not([hidden])')].map((row) => row.id).join()"
    await desk.browser.wait_for(f"{visible} == 'device-air-1'")
    await desk.browser.evaluate("document.querySelector('input[value=\"\"]').click()")
    await desk.browser.evaluate("document.querySelector('input[name=faults]').click()")
    await desk.browser.wait_for(f"{visible} == 'device-air-1'")


async def test_a_page_that_hears_nothing_for_ten_seconds_says_so_and_is_not_calm(desk: Desk) -> None:
    await desk.browser.open(desk.url)
    await desk.browser.wait_for(CALM_SHOWN)
    desk.serving.cancel()
    await desk.browser.wait_for("!document.getElementById('stale').hidden")
    assert not await desk.browser.evaluate(CALM_SHOWN)


async def test_a_person_signs_in_with_a_phone_changes_the_password_and_signs_out(desk: Desk) -> None:
    await desk.made.people.people.keep_password("an", STORED, "tester")
    browser = desk.browser
    await browser.call("Network.clearBrowserCookies")
    await browser.open(desk.url + "devices/d1", width=360, height=740)
    await browser.wait_for("location.pathname == '/sign-in'")
    assert await browser.evaluate("document.documentElement.scrollWidth") == 360
    bottom = await browser.evaluate("document.querySelector('button.go').getBoundingClientRect().bottom")
    assert bottom < 740, "the button is on the first screen"
    await browser.evaluate("document.querySelector('[name=name]').value = 'an'")
    await browser.evaluate(f"document.querySelector('[name=password]').value = {PASSWORD!r}")
    await browser.evaluate("document.querySelector('button.go').click()")
    await browser.wait_for("location.pathname == '/devices/d1'")
    assert "session" not in await browser.evaluate("document.cookie"), "no script sees it"
    await browser.open(desk.url + "account", width=360, height=740)
    assert await browser.evaluate("document.documentElement.scrollWidth") == 360
    new = "năm con chó vàng"
    await browser.evaluate(f"document.querySelector('[name=current]').value = {PASSWORD!r}")
    await browser.evaluate(f"document.querySelector('[name=new]').value = {new!r}")
    await browser.evaluate("document.querySelector('button.go').click()")
    await browser.wait_for("document.querySelector('.done')")
    await browser.evaluate("document.querySelector('.me button').click()")
    await browser.wait_for("location.pathname == '/sign-in'")
    assert browser.complaints == []


async def test_a_page_whose_session_has_ended_goes_to_the_sign_in_by_itself(desk: Desk) -> None:
    await desk.browser.open(desk.url)
    await desk.browser.wait_for(CALM_SHOWN)
    await desk.made.people.sessions.end("an", "tester")
    await desk.browser.wait_for("location.pathname == '/sign-in'")


async def test_whoever_may_only_look_sees_no_button(desk: Desk) -> None:
    browser = desk.browser
    cookie = await desk.made.sign_in("viewer", Grant(Role.VIEWER))
    await browser.call(
        "Network.setCookie", name="session", value=cookie.removeprefix("session="), url=desk.url, sameSite="Strict"
    )
    desk.made.fire.burn()
    await browser.open(desk.url)
    await browser.wait_for("document.querySelector('.burning')")
    assert await browser.evaluate("getComputedStyle(document.querySelector('.burning .act')).display") == "none"
    await browser.open(desk.url + "approvals")
    assert "Không được phép" in await browser.evaluate("document.body.innerText")

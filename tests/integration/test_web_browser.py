"""The console in a real Chromium: what people see and press."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from iotcore.registry.records import Intent
from iotcore.registry.rights import Grant, Role
from iotcore.web.server import serve
from tests.support.chromium import Chromium
from tests.support.console import Console, console
from tests.support.ports import free_port

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

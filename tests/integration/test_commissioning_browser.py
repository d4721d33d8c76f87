"""The technician's page in a real Chromium on a phone's width: in a cellar without a network, and out of it again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import SystemClock
from iotcore.registry.commissioning import MINUTE_MS, Commissioning, EntryKind, LastTest, Told
from iotcore.registry.records import Certificate
from iotcore.registry.rights import Grant, Role
from iotcore.web.server import serve
from tests.integration.test_paper_record import picture
from tests.support.chromium import Chromium
from tests.support.console import Console, console
from tests.support.ports import free_port
from tests.support.stalling_proxy import StallingProxy
from tests.support.until import until

pytestmark = pytest.mark.timeout(120)
READY = "document.body.dataset.ready == 'yes'"
OFFLINE = "!document.getElementById('offline').hidden"
WAITING = "document.querySelectorAll('#queue .waiting').length"


@dataclass(slots=True)
class Cellar:
    """A console that can be cut off, and a phone in front of it."""

    made: Console
    browser: Chromium
    folder: Path
    proxy: StallingProxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}/commissioning/d1"

    @property
    def registry(self) -> Commissioning:
        return Commissioning(self.made.registry.database)

    async def network(self, *, there: bool) -> None:
        """Cut the network: the browser is told, and every connection is reset, those of its workers too; or bring it back."""
        self.proxy.mend() if there else self.proxy.cut()
        conditions = {"offline": not there, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.browser.call("Network.emulateNetworkConditions", **conditions)

    async def submit(self, kind: str, **values: str) -> None:
        """Fill in a form and press its button."""
        form = f"document.querySelector('form[data-kind={kind}]')"
        for name, value in values.items():
            await self.browser.evaluate(f"{form}.elements.{name}.value = {value!r}")
        await self.browser.evaluate(f"{form}.requestSubmit()")

    async def photo(self) -> None:
        """Take a photo."""
        file = self.folder / "photo.jpg"
        await asyncio.to_thread(file.write_bytes, picture(2400, 1800))
        await self.browser.call("DOM.enable")
        document = await self.browser.call("DOM.getDocument")
        field = await self.browser.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector="input[type=file]")
        await self.browser.call("DOM.setFileInputFiles", files=[str(file)], nodeId=field["nodeId"])
        await self.submit("photo")

    async def entries(self, *kinds: str) -> list[Any]:
        """What the registry has, once it has these kinds in this order."""
        async with asyncio.timeout(15.0):
            while True:
                found = await self.registry.entries("d1")
                if [one.kind for one in found] == list(kinds):
                    return found
                await asyncio.sleep(0.05)


@pytest.fixture
async def cellar(tmp_path: Path) -> AsyncIterator[Cellar]:
    port = free_port()
    async with console(tmp_path, {"fire": {}}) as made, StallingProxy(port) as proxy, Chromium(tmp_path) as browser:
        made.clock.advance((SystemClock().wall_ms() - made.clock.wall_ms()) / 1000.0)  # the phone's clock is the machine's
        until_ms = int(made.clock.wall_ms()) + 86_400_000
        await made.registry.record_certificate(Certificate("0a1c", "d1", "fire", until_ms, "fe"), "ca")
        serving = asyncio.create_task(serve(made.app, "127.0.0.1", port))
        await until(lambda: can_connect(port), 10.0)
        await browser.call("Network.enable")
        await signed_in(made, browser, "lan")
        yield Cellar(made, browser, tmp_path, proxy)
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def signed_in(made: Console, browser: Chromium, name: str) -> None:
    cookie, _, value = (await made.sign_in(name, Grant(Role.TECHNICIAN))).partition("=")
    await browser.call("Network.setCookie", name=cookie, value=value, url="http://127.0.0.1/", sameSite="Strict")


def can_connect(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


async def test_what_is_told_in_a_cellar_arrives_once_when_the_network_is_back(cellar: Cellar) -> None:
    browser = cellar.browser
    await cellar.made.report("d1", *cellar.made.all_good("d1"))
    await cellar.registry.record_test(LastTest("d1", int(cellar.made.clock.wall_ms()), 12.5, "lan"), {})
    await browser.open(cellar.url, width=360, height=740)
    await browser.wait_for(READY)

    await cellar.network(there=False)
    await browser.call("Page.reload")
    await browser.wait_for(f"document.readyState == 'complete' && {OFFLINE}")
    assert "Đầu báo bếp ăn" in await browser.evaluate("document.querySelector('h1').textContent")
    await cellar.photo()
    await browser.wait_for(f"{WAITING} == 1")
    await cellar.submit("location", latitude="19,807", longitude="105,776", text="Trên tủ bếp")
    await cellar.submit("remark", text="Trần bê tông")
    await browser.wait_for(f"{WAITING} == 3")
    await browser.evaluate("document.querySelector('[name=accept]').checked = true")
    await cellar.submit("sign", name="Kỹ thuật viên A")
    await browser.wait_for(f"{WAITING} == 4")
    assert await browser.evaluate("document.documentElement.scrollWidth") == 360
    assert await cellar.registry.entries("d1") == []
    await browser.call("Page.reload")  # the phone was put away, and the browser forgot the page
    await browser.wait_for(f"document.readyState == 'complete' && {WAITING} == 4")

    await cellar.network(there=True)
    photo, place, remark, sign = await cellar.entries("photo", "location", "remark", "sign")
    await browser.wait_for("document.getElementById('queue-part').hidden")
    await browser.wait_for("document.querySelector('a[href*=files]')")
    assert (place.body["latitude"], place.body["longitude"], place.body["text"]) == (19.807, 105.776, "Trên tủ bếp")
    assert (photo.body["width"], photo.body["height"]) == (1600, 1200)
    assert remark.at_ms < remark.received_ms, "the phone's own time stays beside ours"
    assert sign.file
    assert (await browser.evaluate("indexedDB.databases().then((all) => all.map((one) => one.name).join())")) == "iotcore"


async def test_two_technicians_and_one_place_the_phone_asks(cellar: Cellar) -> None:
    browser = cellar.browser
    await browser.open(cellar.url, width=360, height=740)
    await browser.wait_for(READY)
    await cellar.network(there=False)
    await cellar.submit("location", text="Trên cửa")
    await browser.wait_for(f"{WAITING} == 1")
    other = Told(
        "another-phone", "d1", "location", 1_000, {"latitude": None, "longitude": None, "accuracy_m": None, "text": "Tủ"}
    )
    await cellar.registry.add(other, "minh")
    await cellar.network(there=True)
    await browser.wait_for("document.querySelector('#queue .failing')")
    assert "minh" in await browser.evaluate("document.querySelector('#queue .failing').innerText")
    assert len(await cellar.registry.entries("d1")) == 1, "nobody's place was overwritten"
    await browser.evaluate("document.querySelector('#queue .failing button').click()")
    _, mine = await cellar.entries("location", "location")
    assert mine.body["text"] == "Trên cửa"


async def test_test_mode_begins_with_a_button_and_the_alarm_shows_by_itself(cellar: Cellar) -> None:
    browser = cellar.browser
    await browser.open(cellar.url, width=360, height=740)
    await browser.wait_for(READY)
    await browser.evaluate("document.querySelector('.mode button').click()")
    await browser.wait_for("document.querySelector('.in-test')")
    mode = await cellar.registry.test_mode("d1")
    assert mode is not None
    assert 9 * MINUTE_MS < mode.until_ms - mode.started_ms <= 10 * MINUTE_MS
    cellar.made.fire.burn(test=True, in_test=mode)
    await cellar.registry.record_test(LastTest("d1", mode.started_ms + 1, 13.6, "lan"), {})
    await browser.wait_for("document.querySelector('[data-step=alarm].done')")
    assert "+12 ms" in await browser.evaluate("document.querySelector('.moments').innerText")
    cellar.made.fire.burn(in_test=mode)
    await browser.wait_for("document.querySelector('.unmarked')")
    await browser.evaluate("document.querySelector('.mode button').click()")
    await browser.wait_for("!document.querySelector('.in-test')")
    assert await cellar.registry.test_mode("d1") is None
    assert await browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.complaints == []


async def test_the_phone_gives_its_position(cellar: Cellar) -> None:
    browser = cellar.browser
    await browser.open(cellar.url, width=360, height=740)
    await browser.call("Browser.grantPermissions", permissions=["geolocation"])
    await browser.call("Emulation.setGeolocationOverride", latitude=19.807, longitude=105.776, accuracy=8)
    await browser.wait_for(READY)
    await browser.evaluate("document.getElementById('locate').click()")
    await browser.wait_for("document.querySelector('[name=latitude]').value == '19.807000'")
    await cellar.submit("location")
    (place,) = await cellar.entries("location")
    assert place.body["accuracy_m"] == 8.0
    kind: EntryKind = place.kind
    assert kind == "location"


async def test_who_is_signed_out_meanwhile_loses_nothing_and_nobody_else_sends_it(cellar: Cellar) -> None:
    browser = cellar.browser
    await browser.open(cellar.url, width=360, height=740)
    await browser.wait_for(READY)
    await cellar.made.people.sessions.end("lan", "an")
    await cellar.submit("remark", text="Trần bê tông")
    await browser.wait_for(f"{WAITING} == 1 && !document.getElementById('signed-out').hidden")
    await signed_in(cellar.made, browser, "minh")
    await browser.call("Page.reload")
    await browser.wait_for(f"document.readyState == 'complete' && {WAITING} == 1")
    assert "lan" in await browser.evaluate("document.querySelector('#queue').innerText")
    await asyncio.sleep(0.5)
    assert await cellar.registry.entries("d1") == []
    await signed_in(cellar.made, browser, "lan")
    await browser.call("Page.reload")
    (remark,) = await cellar.entries("remark")
    assert remark.by == "lan"

"""Signs of life to an outside monitor: given while all is well, withheld with a reason, and only where they may go."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from iotcore.clock import ManualClock
from iotcore.dispatch.deadman import DeadmanSwitch
from iotcore.dispatch.egress import CheckedResolver, Egress
from iotcore.settings_deadman import Deadman
from tests.support.ports import free_port


class Monitor:
    """What watches from outside: a real HTTP server that counts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.signs = 0
        self.status = 200
        self.url = f"http://127.0.0.1:{self.port}/ping/abc"

    async def take(self, request: web.Request) -> web.Response:
        if request.path != "/ping/abc":
            return web.Response(status=404)
        if self.status == 302:
            raise web.HTTPFound("/elsewhere")
        self.signs += self.status < 400
        return web.Response(status=self.status)


@pytest.fixture
async def monitor() -> AsyncIterator[Monitor]:
    made = Monitor()
    application = web.Application()
    application.router.add_route("POST", "/{rest:.*}", made.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    yield made
    await runner.cleanup()


async def signed(deadman: Deadman, reasons: list[str]) -> tuple[bool, DeadmanSwitch]:
    switch = DeadmanSwitch(deadman, lambda: reasons, ManualClock())
    egress = Egress(deadman.allow_http, deadman.allow_private)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=CheckedResolver(egress))) as session:
        return await switch.sign(session), switch


async def test_a_sign_is_given_while_all_is_well(monitor: Monitor) -> None:
    taken, switch = await signed(Deadman(monitor.url, allow_http=True, allow_private=True), [])
    assert taken
    assert monitor.signs == 1
    assert switch.age_s() == 0.0


async def test_it_is_withheld_aloud_when_a_fire_would_not_be_told(monitor: Monitor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        taken, switch = await signed(
            Deadman(monitor.url, allow_http=True, allow_private=True), ["no fire process hears its broker"]
        )
    assert not taken
    assert monitor.signs == 0
    assert switch.age_s() == float("inf")
    assert "no fire process hears its broker" in caplog.text


@pytest.mark.parametrize("status", [500, 404])
async def test_what_the_monitor_does_not_take_is_no_sign(monitor: Monitor, status: int) -> None:
    monitor.status = status
    taken, switch = await signed(Deadman(monitor.url, allow_http=True, allow_private=True), [])
    assert not taken
    assert str(status) in switch.failed


@pytest.mark.parametrize("deadman", [{"allow_http": True}, {"allow_private": True}], ids=["private", "without TLS"])
async def test_it_goes_only_where_the_settings_allow(monitor: Monitor, deadman: dict[str, bool]) -> None:
    taken, switch = await signed(Deadman(monitor.url, **deadman), [])
    assert not taken
    assert monitor.signs == 0
    assert switch.failed


async def test_the_address_is_shown_nowhere(monitor: Monitor) -> None:
    assert "abc" not in repr(Deadman(monitor.url))

"""Revocation on real Mosquittos: the session is cut, the list keeps the device out, a hold is lifted, the rest is final."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iotcore.provision import revoke, session_cut
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, refresh_crl
from iotcore.provision.ca import Anchor
from iotcore.provision.revoke import Reason
from tests.support.brokers import accepted
from tests.support.revoking import CUT_LIMIT_S, Cell, cell, cut, stays
from tests.support.until import until

FIRE, FIELD = BrokerName.FIRE, BrokerName.FIELD
UP = "iot/v1/fire/{0}/up/reading/{0}"


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[Cell]:
    async with cell(tmp_path) as made:
        yield made


async def test_a_suspended_device_is_cut_kept_out_and_back_after_resume_and_its_neighbour_notices_nothing(city: Cell) -> None:
    (tls, issued), (other, _) = await city.device("d1"), await city.device("d2")
    async with city.kept(), city.site.client(FIRE, tls) as device, city.site.client(FIRE, other) as neighbour:
        began_s = time.monotonic()
        await city.becomes("d1", "suspended")
        assert "Administrative action" in await cut(device)
        assert time.monotonic() - began_s < CUT_LIMIT_S
        assert not await accepted(city.site, FIRE, tls)
        assert revoke.listed(city.authority)[issued.serial].reason is Reason.certificate_hold
        await city.becomes("d1", "active")
        assert await city.let_in(tls)
        assert issued.serial not in revoke.listed(city.authority)
        async with city.site.client(FIRE, tls) as back, city.site.client(FIRE, city.site.service("svc.fire.1.in")) as lane:
            await lane.listen("iot/v1/fire/+/up/#")
            await back.say(UP.format("d1"), UP.format("d2"))  # the plugin has not loosened the acl
            await lane.until(bool)
            assert await stays(back)
            assert lane.topics == [UP.format("d1")]
        await city.becomes("d1", "suspended")
        assert await city.let_in(tls, wanted=False)
        assert await stays(neighbour)


async def test_a_device_that_comes_back_at_once_again_and_again_is_never_let_in_after_the_cut(city: Cell) -> None:
    tls, _ = await city.device("d1")
    async with city.kept(), city.site.client(FIRE, tls) as device:
        await city.becomes("d1", "suspended")
        await cut(device)
        assert [await accepted(city.site, FIRE, tls) for _ in range(50)] == [False] * 50


async def test_a_lost_key_is_out_for_good_and_the_device_comes_back_with_a_new_one(city: Cell) -> None:
    tls, issued = await city.device("d1")
    async with city.kept():
        async with city.site.client(FIRE, tls) as device:
            await city.registry.revoke_certificate(issued.serial, "test")
            await cut(device)
        assert revoke.listed(city.authority)[issued.serial].reason is Reason.key_compromise
        await city.becomes("d1", "suspended", "active")
        assert not await accepted(city.site, FIRE, tls)
        anew, _ = await city.device("d1")
        async with city.site.client(FIRE, anew) as device:
            assert await stays(device)
        assert not await accepted(city.site, FIRE, tls)


async def test_what_was_on_hold_becomes_final_when_the_device_is_retired(city: Cell) -> None:
    tls, issued = await city.device("d1")
    async with city.kept():
        await city.becomes("d1", "suspended")
        assert await city.let_in(tls, wanted=False)
        await city.becomes("d1", "retired")
        await until(lambda: revoke.listed(city.authority)[issued.serial].reason is Reason.cessation_of_operation, 10.0)
        city.authority.lift(Anchor.FIRE, issued.serial)
        assert city.authority.is_revoked(Anchor.FIRE, issued.serial)
        assert not await accepted(city.site, FIRE, tls)


async def test_a_gateway_is_cut_at_both_brokers_and_a_suspended_child_does_not_cut_its_gateway(city: Cell) -> None:
    (field, _), (fire, _) = await city.device("gw-1", Anchor.FIELD), await city.device("gw-1", Anchor.FIRE)
    child, _ = await city.device("air-1", Anchor.FIELD)
    async with city.kept(), city.site.client(FIELD, field) as on_field, city.site.client(FIRE, fire) as on_fire:
        async with city.site.client(FIELD, child) as own_link:  # it has a certificate of its own as well
            await city.becomes("air-1", "suspended")
            await cut(own_link)
        assert await stays(on_field)
        assert await stays(on_fire, 0.1)
        await city.becomes("gw-1", "suspended")
        await cut(on_field)
        await cut(on_fire)
        assert not await accepted(city.site, FIELD, field)
        assert not await accepted(city.site, FIRE, fire)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_a_keeper_that_is_killed_between_two_steps_goes_on_at_its_next_start(city: Cell, steps: int) -> None:
    """What is on the disks after each step, as a kill leaves it; then a new keeper starts."""
    tls, issued = await city.device("d1")
    async with city.site.client(FIRE, tls) as device:
        await city.becomes("d1", "suspended")
        home: BrokerHome = city.site.homes[FIRE]
        if steps > 0:
            city.authority.revoke(Anchor.FIRE, issued.serial, Reason.certificate_hold)
        if steps > 1:
            refresh_crl(city.authority, home)
        if steps > 2:
            (home.folder / f".{session_cut.CUTS}.0123").write_bytes(b'{"half')  # cut off while it was written
        assert await stays(device)
        async with city.kept():
            await cut(device)
            assert not await accepted(city.site, FIRE, tls)


async def test_a_broker_that_is_killed_lets_nobody_in_who_was_put_out_meanwhile(city: Cell) -> None:
    tls, _ = await city.device("d1")
    async with city.kept():
        home = city.site.homes[FIRE]
        broker = int((home.folder / "mosquitto.pid").read_text())
        async with city.site.client(FIRE, tls) as device:
            await asyncio.sleep(5.0)  # what lived so long is started again at once
            os.kill(broker, signal.SIGKILL)
            await city.becomes("d1", "suspended")
            await cut(device)
        await until(lambda: int((home.folder / "mosquitto.pid").read_text() or broker) != broker, 10.0)
        assert await city.let_in(city.site.device("somebody"))
        assert await city.let_in(tls, wanted=False)  # it may be up before the list is


async def test_the_embedded_broker_says_loudly_that_it_cannot_cut_and_refuses_the_next_connection(tmp_path: Path) -> None:
    async with cell(tmp_path, "amqtt", [FIRE]) as city, city.kept():
        tls, _ = await city.device("d1")
        async with city.site.client(FIRE, tls) as device:
            await city.becomes("d1", "suspended")
            await until(lambda: any("NOT CUT" in line and "d1" in line for line in city.said), 10.0)
            assert await stays(device)
        assert await city.let_in(tls, wanted=False)
        await city.becomes("d1", "active")
        assert await city.let_in(tls)


async def test_nobody_cuts_a_session_without_the_password_that_was_drawn_for_this_start(city: Cell) -> None:
    home = city.site.homes[FIRE]
    found = re.search(r"^listener (\d+)", (home.folder / "admin" / "admin.conf").read_text(), re.MULTILINE)
    assert found is not None
    port = int(found[1])
    with pytest.raises(session_cut.CutError, match="does not know us"):
        await session_cut.cut(session_cut.Door(port, "guessed"), ["d1"])
    assert (home.folder / "admin" / "sessions.json").stat().st_mode & 0o077 == 0

"""A device put out by a person's command, as it is done: `iotcore device …` against a running platform with real Mosquittos."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from iotcore.errors import EnrolmentError
from iotcore.provision.ca import Anchor
from iotcore.provision.est_client import EstServer
from simulators.enrol import enrol
from simulators.mqtt_device import MqttDevice
from tests.support.pki import run
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.requests import request
from tests.support.road import DETECTOR, QUIET, enrolled, town
from tests.support.services import require
from tests.support.shipped import SPECS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
CUT_LIMIT_S = 10.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    require("mosquitto")
    made = Platform(tmp_path_factory.mktemp("revocation"), arc_port=free_port())
    made.settings["web"]["crl_port"] = free_port()
    made.configure()
    made.import_city(town(3))
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def live(platform: Platform, device: MqttDevice) -> None:
    """Connected, heard, and active by it."""
    await platform.until(lambda: device.connected, 10.0, f"{device.device} is in: {device.last_error}")
    await device.report(QUIET)
    active = "SELECT id FROM device WHERE id = ? AND state = 'active'"
    while not platform.rows("registry.db", active, device.device):
        await device.report(QUIET)
        await asyncio.sleep(0.2)
    await platform.until(lambda: device.held == 0, 10.0, f"{device.device} has its receipts")


async def put_out(platform: Platform, device: MqttDevice, verb: str) -> float:
    """Say so, and wait until its session ends: in seconds from the command's begin."""
    began_s = time.monotonic()
    await asyncio.to_thread(platform.iotcore, "device", verb, device.device)
    await platform.until(lambda: not device.connected, CUT_LIMIT_S - (time.monotonic() - began_s), f"{device.device} is cut")
    return time.monotonic() - began_s


async def stays_out(device: MqttDevice, for_s: float = 3.0) -> bool:
    """Whether it is never let in, though it tries again and again."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        if device.connected:
            return False
        await asyncio.sleep(0.005)
    return True


async def test_a_suspended_device_is_cut_in_time_kept_out_and_heard_again_after_resume(platform: Platform) -> None:
    async with await enrolled(platform, "sd-1") as device, await enrolled(platform, "sd-2") as neighbour:
        await live(platform, device)
        await live(platform, neighbour)
        connections = neighbour.counters.connections
        assert await put_out(platform, device, "suspend") < CUT_LIMIT_S
        assert await stays_out(device)
        await device.report(QUIET)
        await asyncio.to_thread(platform.iotcore, "device", "resume", "sd-1")
        await platform.until(lambda: device.connected and device.held == 0, 30.0, "what it kept is receipted after its return")
        assert neighbour.counters.connections == connections


async def test_a_keeper_that_is_killed_as_it_is_told_cuts_the_session_when_it_is_back(platform: Platform) -> None:
    async with await enrolled(platform, "sd-2") as device:
        await live(platform, device)
        os.kill(platform.pid("keeper"), signal.SIGKILL)
        assert await put_out(platform, device, "suspend") < CUT_LIMIT_S
        assert await stays_out(device)
        await asyncio.to_thread(platform.iotcore, "device", "retire", "sd-2", "--why", "lost", "--anyway")
        refused = await asyncio.to_thread(platform.iotcore, "device", "resume", "sd-2", code=1)
        assert refused == ""
        assert await stays_out(device)


async def test_a_lost_key_cannot_be_renewed_while_the_keeper_has_not_yet_put_it_on_the_list(platform: Platform) -> None:
    files = platform.folder / "devices"
    identity = platform.folder / "stolen.pem"
    identity.write_bytes((files / "sd-1.pem").read_bytes() + (files / "sd-1.key").read_bytes())
    est = EstServer(f"https://localhost:{platform.est_port}", platform.data / "certs" / "service-root.pem")
    assert await asyncio.to_thread(est.renew, request("sd-1"), Anchor.FIRE, identity)
    os.kill(keeper := platform.pid("keeper"), signal.SIGSTOP)
    try:
        await asyncio.to_thread(platform.iotcore, "device", "revoke", "sd-1")
        with pytest.raises(EnrolmentError, match="it is revoked"):
            await asyncio.to_thread(est.renew, request("sd-1"), Anchor.FIRE, identity)
    finally:
        os.kill(keeper, signal.SIGCONT)
    async with asyncio.timeout(CUT_LIMIT_S):
        while "keyCompromise" not in await ocsp(platform, files / "sd-1.pem"):  # noqa: ASYNC110 - another program
            await asyncio.sleep(0.2)


async def ocsp(platform: Platform, certificate: Path) -> str:
    """What OpenSSL hears of a certificate from the platform's own responder."""
    home = platform.data / "ca" / "fire" / "1"
    issuer, trust = home / "issuing.pem", platform.data / "fire-trust.pem"
    trust.write_bytes((home / "root.pem").read_bytes() + issuer.read_bytes())
    url = f"http://127.0.0.1:{platform.settings['web']['crl_port']}/ocsp"
    code, out, err = await run("openssl", "ocsp", "-issuer", issuer, "-cert", certificate, "-CAfile", trust, "-url", url)
    assert code == 0, err
    return out.decode()


async def test_a_lost_key_is_out_for_good_and_a_new_token_brings_the_device_back(platform: Platform) -> None:
    async with await enrolled(platform, "sd-3") as device:
        await live(platform, device)
        assert await put_out(platform, device, "revoke") < CUT_LIMIT_S
        assert await stays_out(device)
        await platform.kill("mosquitto fire", "keeper")
        token = await asyncio.to_thread(platform.iotcore, "token", "create", "sd-3")
        service = platform.data / "certs" / "service-root.pem"
        url = f"https://127.0.0.1:{platform.est_port}"
        identity = await enrol(url, token, "sd-3", service, platform.folder / "anew")
        async with MqttDevice("sd-3", SPECS[DETECTOR], identity.endpoint("127.0.0.1", platform.fire_port)) as anew:
            await platform.until(lambda: anew.connected, 10.0, f"the new key is let in: {anew.last_error}")
            assert await stays_out(device)
            assert anew.connected
    again = await asyncio.to_thread(platform.iotcore, "device", "revoke", "sd-9", code=1)
    assert again == ""

"""Detectors whose MQTT does not work find the other way: real Mosquitto, real processes, pysiaalarm as the receiver."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from iotcore.wire.arrival import Endpoint
from simulators.fail_over import FAIL_OVER_S
from simulators.mqtt_device import MqttDevice
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.road import DETECTOR, QUIET, Receivers, receivers, town
from tests.support.services import require
from tests.support.shipped import SPECS
from tests.support.stalling_proxy import StallingProxy

pytestmark = [pytest.mark.soak, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
FIRE = {**QUIET, "alarm": True}
SLACK_S = 1.5  # for a post, a commit and a frame on a machine that others use too


@dataclass(frozen=True, slots=True)
class Site:
    """A platform with the alternate path, and its receivers."""

    platform: Platform
    receivers: Receivers
    https_port: int

    async def device(self, name: str, stack: AsyncExitStack, *, by: int = 0) -> MqttDevice:
        """A detector that has said something by MQTT; `by` is the port where it finds the broker."""
        identity = await self.platform.enrol(name, "fire")
        device = await stack.enter_async_context(self.client(name, replace(identity, port=by or identity.port)))
        await self.platform.until(lambda: device.connected, 15.0, f"{name} is connected")
        await device.report(QUIET)
        await self.platform.until(lambda: device.held == 0, 10.0, f"{name} has its receipt")
        assert not device.over_https
        return device

    def client(self, name: str, endpoint: Endpoint) -> MqttDevice:
        way = replace(endpoint, port=self.https_port)
        return MqttDevice(name, SPECS[DETECTOR], endpoint, mqtt=self.platform.mqtt, resend_s=3.0, alternate=way)

    def incidents(self, device: str) -> list[str]:
        premises = f"p{device.removeprefix('sd-')}"
        return [name for (name,) in self.platform.rows("journal.db", "SELECT id FROM incident WHERE premises = ?", premises)]

    async def dispatched(self, device: str, since_s: float) -> float:
        """How long until the receiving centre had the frame."""

        def there() -> bool:
            incidents = self.incidents(device)
            return bool(incidents) and incidents[0] in self.receivers.arc_incidents()

        await self.platform.until(there, 20.0, f"the receiver has the fire of {device}")
        return time.monotonic() - since_s

    async def once(self, device: MqttDevice, seq: int) -> None:
        """MQTT is used again, and the fire was one reading, one incident, one frame's worth of it."""
        async with asyncio.timeout(30.0):
            while device.held or device.over_https:  # what the device says next by both ways: the receipt by MQTT ends it
                await device.report(QUIET)
                await asyncio.sleep(0.5)
        stored = self.platform.rows("journal.db", "SELECT seq FROM reading WHERE device = ? ORDER BY seq", device.device)
        assert stored.count((seq,)) == 1
        assert len(self.incidents(device.device)) == 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    require("mosquitto")
    async with AsyncExitStack() as stack:
        ends = await stack.enter_async_context(receivers())
        made = Platform(tmp_path_factory.mktemp("fail-over"), arc_port=ends.arc_port)
        port = free_port()
        made.configure(fire={"https_port": port})
        made.import_city(town(3))
        stack.push_async_callback(made.stop)
        await made.start()
        yield Site(made, ends, port)


async def test_smoke_while_the_fire_broker_is_dead_is_with_the_fire_service_in_three_seconds_and_a_little(site: Site) -> None:
    async with AsyncExitStack() as stack:
        device = await site.device("sd-1", stack)
        keeps = site.platform.pid("broker fire")
        os.kill(keeps, signal.SIGSTOP)  # whoever would start it again
        stack.callback(os.kill, keeps, signal.SIGCONT)
        os.kill(site.platform.pid("mosquitto fire"), signal.SIGKILL)
        began_s = time.monotonic()
        seq = await device.report(FIRE, kind="event")
        took_s = await site.dispatched("sd-1", began_s)
        assert FAIL_OVER_S - 0.5 <= took_s <= FAIL_OVER_S + SLACK_S
        assert device.over_https
        assert device.counters.fail_overs == 1
        again_s = time.monotonic()
        await device.report(FIRE)
        await site.platform.until(lambda: device.held == 0, 5.0, "what follows goes at once")
        assert time.monotonic() - again_s < FAIL_OVER_S
        os.kill(keeps, signal.SIGCONT)
        await site.once(device, seq)


async def test_a_broker_that_only_swallows_is_left_after_three_seconds_too(site: Site) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(StallingProxy(site.platform.fire_port))
        device = await site.device("sd-2", stack, by=proxy.port)
        proxy.stall()
        began_s = time.monotonic()
        seq = await device.report(FIRE, kind="event")
        took_s = await site.dispatched("sd-2", began_s)
        assert FAIL_OVER_S - 0.5 <= took_s <= FAIL_OVER_S + SLACK_S
        proxy.resume()
        await site.once(device, seq)


async def test_the_same_by_both_paths_at_once_is_one(site: Site) -> None:
    async with AsyncExitStack() as stack:
        device = await site.device("sd-3", stack)
        assert device._fail_over is not None
        device._fail_over.after_s = 0.0
        seqs = [await device.report(FIRE, kind="event") for _ in range(5)]
        await site.platform.until(lambda: device.held == 0, 10.0, "everything is receipted")
        await asyncio.sleep(0.5)
        stored = site.platform.rows("journal.db", "SELECT seq FROM reading WHERE device = 'sd-3' ORDER BY seq")
        assert [seq for (seq,) in stored] == [1, *seqs]
        assert len(site.incidents("sd-3")) == 1
        assert device.counters.posted > 0

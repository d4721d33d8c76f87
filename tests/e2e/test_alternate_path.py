"""The alternate path in a whole platform: real Mosquitto, real processes, pysiaalarm as the receiver."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass

import pytest
import pytest_asyncio

from iotcore.app.common import recorded
from iotcore.clock import ManualClock
from iotcore.errors import DeliveryError
from iotcore.provision import custody
from iotcore.provision.ca import Anchor, Authority
from iotcore.reading import Scalar
from iotcore.registry.store import open_registry
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage
from simulators.https_alarm import Answer, post
from simulators.mqtt_device import MqttDevice
from tests.support.pki import device_files
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.road import DETECTOR, QUIET, Receivers, enrolled, receivers, town
from tests.support.services import require
from tests.support.shipped import SPECS

UNAVAILABLE = 503
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
LONG_AGO_MS = 200 * 86_400_000.0
FIRE: Mapping[str, Scalar] = {**QUIET, "alarm": True}
DETECTORS = 6


@dataclass(frozen=True, slots=True)
class Site:
    """A platform with the alternate path, and its receivers."""

    platform: Platform
    receivers: Receivers
    port: int

    async def expired(self, device: str) -> Endpoint:
        """A certificate that has run out, made and recorded by the platform's own authority: where to post with it."""
        data = self.platform.data
        then = ManualClock(now_ms=self.platform.now_ms() - LONG_AGO_MS)
        ours = Authority.open(data / "ca", custody.passphrase(data / "ca", {}), then)
        cert_file, key_file, issued = device_files(ours, self.platform.folder / "expired", Anchor.FIRE, device)
        async with await open_registry(f"sqlite://{data / 'registry.db'}") as registry:
            await registry.record_certificate(recorded(issued), "test")
            await registry.activate(device, "test")
        return Endpoint("127.0.0.1", self.port, data / "certs" / "service-root.pem", cert_file, key_file)

    async def until_taken(self, at: Endpoint, device: str, message: ReadingMessage) -> Answer:
        """As a device does: the same again until it is answered with 200."""
        async with asyncio.timeout(40.0):
            while True:
                try:
                    answer = await post(at, device, message, kind="events")
                except DeliveryError:
                    answer = None
                if answer is not None and answer.taken:
                    return answer
                await asyncio.sleep(0.2)

    def incidents(self, device: str) -> list[str]:
        """What the journal has opened for the building of a detector."""
        number = device.removeprefix("sd-")
        return [name for (name,) in self.platform.rows("journal.db", "SELECT id FROM incident WHERE premises = ?", f"p{number}")]

    async def received(self, device: str) -> None:
        """Its one incident is at the receiver, once."""
        (incident,) = self.incidents(device)
        await self.platform.until(
            lambda: incident in self.receivers.arc_incidents(), 10.0, f"the receiver has the incident of {device}"
        )
        assert self.receivers.arc_incidents().count(incident) == 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    require("mosquitto")
    async with AsyncExitStack() as stack:
        ends = await stack.enter_async_context(receivers())
        made = Platform(tmp_path_factory.mktemp("alternate"), arc_port=ends.arc_port)
        port = free_port()
        made.configure(fire={"https_port": port})
        made.import_city(town(DETECTORS))
        stack.push_async_callback(made.stop)
        await made.start()
        yield Site(made, ends, port)


def message(values: Mapping[str, Scalar], seq: int = 1) -> ReadingMessage:
    return ReadingMessage(boot=secrets.token_hex(4), seq=seq, values=dict(values))


async def test_an_expired_detector_is_kept_out_by_the_broker_and_its_alarm_arrives_once_all_the_same(site: Site) -> None:
    at = await site.expired("sd-1")
    mqtt = Endpoint("127.0.0.1", site.platform.fire_port, at.ca_file, at.cert_file, at.key_file)
    async with MqttDevice("sd-1", SPECS[DETECTOR], mqtt) as device:
        await device.report(FIRE)
        await site.platform.until(lambda: bool(device.last_error), 10.0, "the broker refuses it")
        assert "CERTIFICATE_EXPIRED" in device.last_error
        assert not device.connected
        assert site.incidents("sd-1") == []
    plain = await post(at, "sd-1", message(QUIET))
    assert (plain.status, plain.reason) == (403, "expired")
    fire = message(FIRE)
    for _ in range(3):
        assert (await post(at, "sd-1", fire, kind="events")).taken == 1
    await site.received("sd-1")
    found = {one["name"]: one for one in await site.platform.said("doctor", code=1)}
    assert found["alternate path"]["well"], found["alternate path"]
    assert "expired certificates deliver alarms only" in found["alternate path"]["said"]
    assert not found["device certificates"]["well"]


async def test_the_same_alarm_by_mqtt_and_by_https_is_one_incident(site: Site) -> None:
    async with await enrolled(site.platform, "sd-2") as device:
        await site.platform.until(lambda: device.connected, 10.0, f"it is in: {device.last_error}")
        number = await device.report(FIRE, kind="event")
        own = site.platform.folder / "devices" / "sd-2"
        trusted = site.platform.data / "certs" / "service-root.pem"
        at = Endpoint("127.0.0.1", site.port, trusted, own.with_suffix(".pem"), own.with_suffix(".key"))
        answer = await post(at, "sd-2", ReadingMessage(boot=device.boot, seq=number, values=dict(FIRE)), kind="events")
        assert (answer.taken, answer.up_to) == (1, {device.boot: number})
        await site.platform.until(lambda: device.held == 0, 10.0, "it has its receipt by MQTT too")
    await site.received("sd-2")


async def test_who_was_put_out_is_refused_though_the_list_no_longer_needs_to_name_what_has_run_out(site: Site) -> None:
    suspended, revoked = await site.expired("sd-3"), await site.expired("sd-4")
    await asyncio.to_thread(site.platform.iotcore, "device", "suspend", "sd-3")
    await asyncio.to_thread(site.platform.iotcore, "device", "revoke", "sd-4")
    async with asyncio.timeout(10.0):  # the lanes follow the registry within a second
        while (await post(suspended, "sd-3", message(QUIET))).reason == "expired":  # noqa: ASYNC110 - each round asks
            await asyncio.sleep(0.1)
    put_out = await post(suspended, "sd-3", message(FIRE))
    assert (put_out.status, put_out.reason) == (403, "not_accepted")
    stolen = await post(revoked, "sd-4", message(FIRE))
    assert (stolen.status, stolen.reason) == (403, "revoked")
    assert site.incidents("sd-3") == site.incidents("sd-4") == []


@pytest.mark.parametrize("device", ["sd-5", "sd-6"])
async def test_a_fire_process_that_is_killed_between_post_and_answer_ends_in_one_incident(site: Site, device: str) -> None:
    """sd-5: before the commit, which somebody else's lock holds up; sd-6: right after it."""
    at, fire = await site.expired(device), message(FIRE)
    pid = site.platform.pid("fire")
    with closing(sqlite3.connect(site.platform.data / "journal.db", isolation_level=None)) as other:
        if device == "sd-5":
            other.execute("BEGIN IMMEDIATE")
        asked = asyncio.create_task(post(at, device, fire, kind="events"))
        if device == "sd-5":  # the emergency log has it meanwhile; what is not in the journal is not answered with 200
            await asyncio.sleep(1.0)
            assert not asked.done() or (await asked).status == UNAVAILABLE
        else:
            await site.platform.until(lambda: bool(site.incidents(device)), 10.0, "it is committed")
        os.kill(pid, signal.SIGKILL)
        if device == "sd-5":
            await asyncio.wait({asked})
            assert site.incidents(device) == []
            other.execute("ROLLBACK")
        else:
            await asyncio.wait({asked})
    await site.until_taken(at, device, fire)
    await site.platform.until(site.platform.ready, 40.0, "all is connected again")
    await site.received(device)

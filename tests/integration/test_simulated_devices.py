"""The simulated devices keep the wire contract on real brokers with our own certificates and rights."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from pymodbus.client import AsyncModbusTcpClient

from drivers.outbox import Outbox
from drivers.uplink import Uplink
from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import EnrolmentError, StartError
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Anchor, Authority
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import StatusMessage
from simulators.enrol import enrol
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.mqtt_device import MqttDevice
from simulators.mqtt_faults import ExpiredCertificate
from tests.support import enrolling
from tests.support.brokers import Kind, Site, site
from tests.support.core_stand_in import CoreStandIn, until
from tests.support.pki import PASSPHRASE, authority, device_files, service_files, trust_file
from tests.support.shipped import SPECS

SMOKE = SPECS["iotcore-smoke-heat"]
CALM = {"smoke": 0.01, "temperature": 27.0, "alarm": False, "button": False, "battery": 98.0}
CLOCK = SystemClock()


@pytest.fixture(params=["mosquitto", "amqtt"])
async def fire_site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    kind: Kind = request.param
    async with site(tmp_path, kind, [BrokerName.FIRE]) as running:
        yield running


@pytest.fixture
async def mosquitto_site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, "mosquitto", [BrokerName.FIRE]) as running:
        yield running


def _mqtt(site: Site) -> Literal["5", "3.1.1"]:
    return "5" if site.kind == "mosquitto" else "3.1.1"


def _endpoint(site: Site, files: tuple[Path, Path]) -> Endpoint:
    return Endpoint("127.0.0.1", site.homes[BrokerName.FIRE].port, trust_file(site.authority, site.folder), *files)


def _core(site: Site, *, receipting: bool = True) -> CoreStandIn:
    name = "svc.fire.1.in"
    endpoint = _endpoint(site, service_files(site.authority, site.folder, name))
    return CoreStandIn(endpoint, receipting=receipting, name=name, topic_filter="iot/v1/fire/+/up/#", protocol=_mqtt(site))


def _device(site: Site, name: str, *, resend_s: float = 30.0, memory_limit: int = 1_000) -> MqttDevice:
    cert_file, key_file, _ = device_files(site.authority, site.folder / "devices", Anchor.FIRE, name)
    endpoint = _endpoint(site, (cert_file, key_file))
    return MqttDevice(name, SMOKE, endpoint, mqtt=_mqtt(site), resend_s=resend_s, memory_limit=memory_limit)


async def test_a_report_is_held_until_its_receipt(fire_site: Site) -> None:
    async with _core(fire_site) as core, _device(fire_site, "sd-1") as device:
        await until(lambda: device.connected, "connected")
        numbers = [await device.report(CALM), await device.report({"alarm": True}, kind="event", test=True)]
        await until(lambda: device.held == 0, "both receipted")
        assert numbers == [1, 2]
        first, second = core.readings
        assert (str(first.topic), dict(first.message.values)) == ("iot/v1/fire/sd-1/up/reading/sd-1", CALM)
        assert first.message.ts is not None
        assert abs(first.message.ts - time.time() * 1000.0) < 20_000
        assert (second.topic.kind, second.message.test, second.message.backlog) == ("event", True, False)
        assert (device.counters.receipted, device.counters.resent) == (2, 0)


async def test_birth_is_announced_and_leaving_too(fire_site: Site) -> None:
    async with _core(fire_site) as core:
        async with _device(fire_site, "sd-1") as device:
            await until(lambda: core.taken, "birth")
        await until(lambda: len(core.taken) >= 2, "goodbye")
        said = [msgspec.json.decode(taken.payload, type=StatusMessage) for taken in core.taken]
        assert said[0] == StatusMessage(state="online", boot=device.boot, fw="sim-1")
        assert said[-1] == StatusMessage(state="offline")


async def test_without_receipts_a_report_comes_again_as_backlog_with_its_age(fire_site: Site) -> None:
    async with _core(fire_site, receipting=False) as core, _device(fire_site, "sd-1", resend_s=0.5) as device:
        await until(lambda: device.connected, "connected")
        await device.report(CALM)
        await until(lambda: len(core.readings) >= 2, "sent again")
        live, again = core.readings[0].message, core.readings[1].message
        assert not live.backlog
        assert again == msgspec.structs.replace(live, backlog=True, age_ms=again.age_ms)
        assert 400 <= again.age_ms < 10_000
        core.receipting = True
        await until(lambda: device.held == 0, "receipted after all")
        assert device.counters.resent >= 1


async def test_a_report_that_nobody_subscribes_to_is_not_accepted_and_comes_again_soon(mosquitto_site: Site) -> None:
    async with _device(mosquitto_site, "sd-1") as device:
        await until(lambda: device.connected, "connected")
        await device.report(CALM)
        await until(lambda: device.counters.unmatched > 0, "the broker says 0x10")
        async with _core(mosquitto_site) as core:
            await until(lambda: device.counters.receipted == 1, "long before the 30 s of a lost receipt", 10.0)
            assert [taken.message.backlog for taken in core.readings] == [True]


async def test_reports_made_while_the_broker_is_away_arrive_marked_when_it_is_back(mosquitto_site: Site) -> None:
    broker = mosquitto_site.running[BrokerName.FIRE]
    assert isinstance(broker, BrokerProcess)
    async with _core(mosquitto_site) as core, _device(mosquitto_site, "sd-1", resend_s=2.0) as device:
        await until(lambda: device.connected, "connected")
        await device.report(CALM)
        await until(lambda: device.held == 0, "receipted")
        await asyncio.to_thread(broker.stop)
        await until(lambda: not device.connected, "the link is lost")
        for _ in range(20):
            await device.report(CALM)
        await asyncio.to_thread(broker.start)
        await until(lambda: device.held == 0, "all receipted", 30.0)
        assert core.stored("sd-1", device.boot) == set(range(1, 22))
        assert device.counters.connections == 2
        late = [taken.message for taken in core.readings if taken.message.seq > 1]
        assert all(message.backlog and message.age_ms > 0 for message in late)


async def test_a_full_memory_drops_the_oldest_report_and_counts_it(mosquitto_site: Site) -> None:
    device = _device(mosquitto_site, "sd-1", memory_limit=3)  # not connected: nothing leaves
    for _ in range(5):
        await device.report(CALM)
    assert (device.held, device.counters.dropped) == (3, 2)
    async with _core(mosquitto_site, receipting=False) as core, device:
        await until(lambda: len(core.readings) >= 3, "what is left")
        assert [taken.message.seq for taken in core.readings[:3]] == [3, 4, 5]


async def test_a_faulty_device_can_say_anything(mosquitto_site: Site) -> None:
    async with _core(mosquitto_site, receipting=False) as core, _device(mosquitto_site, "sd-1") as device:
        await until(lambda: device.connected, "connected")
        device.send_as_is(b'{"boot":"x","seq":1,"values":{"smoke":NaN}}')
        device.send_as_is(b"\xff\x00", kind="event", retain=True)
        await until(lambda: len(core.readings) >= 2, "both arrive as they are")
        assert [taken.payload for taken in core.readings] == [b'{"boot":"x","seq":1,"values":{"smoke":NaN}}', b"\xff\x00"]


async def test_250_devices_run_in_one_process(mosquitto_site: Site) -> None:
    async with _core(mosquitto_site) as core, contextlib.AsyncExitStack() as stack:
        devices = [_device(mosquitto_site, f"sd-{number}") for number in range(250)]
        for device in devices:
            await stack.enter_async_context(device)
        await until(lambda: all(device.connected for device in devices), "all connected", 60.0)
        for device in devices:
            await device.report(CALM)
        await until(lambda: all(device.held == 0 for device in devices), "all receipted", 30.0)
        assert len({taken.topic.device for taken in core.readings}) == 250
        assert sum(device.counters.connections for device in devices) == 250


async def test_a_gateway_s_uplink_works_on_the_embedded_broker_too(tmp_path: Path) -> None:
    async with site(tmp_path, "amqtt", [BrokerName.FIRE]) as running:
        files = device_files(running.authority, tmp_path / "devices", Anchor.FIRE, "gw-1")[:2]
        async with _core(running) as core, Outbox(tmp_path / "o.db", CLOCK) as outbox:
            uplink = Uplink(_endpoint(running, files), "gw-1", outbox, CLOCK, protocol="3.1.1", resend_s=1.0)
            task = asyncio.create_task(uplink.run())
            try:
                await until(lambda: uplink.connected, "connected")
                for _ in range(10):
                    await outbox.put("fire", "panel-1", {"alarm": True})
                await until(lambda: outbox.rows == 0, "all receipted")
                assert core.stored("panel-1", outbox.boot) == set(range(1, 11))
            finally:
                task.cancel()
                await asyncio.wait([task])


async def test_enrolment_gives_a_key_of_ones_own_and_a_certificate_that_opens_the_broker(fire_site: Site) -> None:
    ours = fire_site.authority
    trust = trust_file(ours, fire_site.folder)
    folder = fire_site.folder / "sd-9"
    detectors = [enrolling.device("sd-9", "smoke-heat")]
    async with (
        enrolling.book(fire_site.folder, detectors, CLOCK) as kept,
        enrolling.listening(kept, ours, fire_site.folder, CLOCK) as est,
    ):
        await kept.give("one-time", "sd-9")
        url = f"https://127.0.0.1:{est.port}"
        with pytest.raises(EnrolmentError, match="http_401"):
            await enrol(url, "wrong", "sd-9", trust, folder)
        identity = await enrol(url, "one-time", "sd-9", trust, folder)
    assert identity.key_file.stat().st_mode & 0o777 == 0o600
    assert await enrol(url, "used up", "sd-9", trust, folder) == identity  # the listener is gone and is not asked
    port = fire_site.homes[BrokerName.FIRE].port
    async with _core(fire_site), MqttDevice("sd-9", SMOKE, identity.endpoint("127.0.0.1", port), mqtt=_mqtt(fire_site)) as device:
        await device.report(CALM)
        await until(lambda: device.counters.receipted == 1, "receipted")


async def test_enrolment_trusts_only_the_given_authority(tmp_path: Path) -> None:
    ours, stranger = authority(tmp_path / "ours"), authority(tmp_path / "stranger")
    (tmp_path / "trust").mkdir()
    detectors = [enrolling.device("sd-9", "smoke-heat")]
    async with (
        enrolling.book(tmp_path, detectors, CLOCK) as kept,
        enrolling.listening(kept, stranger, tmp_path, CLOCK) as est,
    ):
        await kept.give("one-time", "sd-9")
        with pytest.raises(EnrolmentError, match="unreachable"):
            await enrol(
                f"https://127.0.0.1:{est.port}", "one-time", "sd-9", trust_file(ours, tmp_path / "trust"), tmp_path / "sd-9"
            )
        assert await kept.open_tokens() == ["sd-9"]
        assert await kept.refused() == []  # the token never left the device


async def test_a_simulated_unit_refuses_writes_and_counts_them() -> None:
    unit = ModbusDevice(SPECS["vaisala-aqt530"], {"no2": 21.0})
    async with ModbusServer({1: unit}) as server:
        client = AsyncModbusTcpClient("127.0.0.1", port=server.port, reconnect_delay=0)
        await client.connect()
        try:
            assert (await client.write_register(0, 7)).isError()
            assert (await client.read_holding_registers(0, count=1)).registers == [21]
        finally:
            client.close()
    assert unit.writes_refused == 1


async def test_a_simulated_unit_takes_no_value_that_its_registers_cannot_hold() -> None:
    unit = ModbusDevice(SPECS["vaisala-aqt530"], {"no2": 21.0})
    before = dict(unit.words)
    with pytest.raises(ValueError, match="no2"):
        unit.set("no2", 1e6)
    unit.set("so2", 3.0)
    assert unit.words == {**before, ("holding", 1): 3}


async def test_a_taken_port_is_named() -> None:
    unit = ModbusDevice(SPECS["vaisala-aqt530"])
    async with ModbusServer({1: unit}) as server:
        with pytest.raises(StartError, match=f"Port {server.port}"):
            await ModbusServer({1: unit}, port=server.port).start()


async def test_an_expired_certificate_is_refused_at_tls_and_the_device_says_so(mosquitto_site: Site) -> None:
    long_ago = ManualClock(now_ms=(time.time() - 4 * 365 * 86_400) * 1000.0)
    then = Authority.open(mosquitto_site.folder / "ca", PASSPHRASE, long_ago)
    certificate, key, _ = device_files(then, mosquitto_site.folder / "old", Anchor.FIRE, "sd-1")
    async with _core(mosquitto_site), _device(mosquitto_site, "sd-1") as device:
        await device.report(CALM)
        await until(lambda: device.held == 0, "receipted")
        fault = ExpiredCertificate(str(certificate), str(key))
        device.begin(fault)
        await until(lambda: "CERTIFICATE_EXPIRED" in device.last_error, f"refused, but says {device.last_error}")
        await device.report(CALM)
        device.end(fault)
        await until(lambda: device.held == 0, "receipted with its own certificate")
        assert device.counters.connections == 2

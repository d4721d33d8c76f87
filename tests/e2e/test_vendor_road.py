"""Vendors' devices the whole way: password over TLS, real Mosquitto, `iotcore up`; a value in the store, a fire at the centre."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from simulators.arc_receiver import ArcReceiver
from simulators.mqtt_device import MqttDevice
from simulators.mqtt_link import MqttLink
from simulators.vendor_device import VendorDevice
from tests.support.platform import ARC_KEY, Platform
from tests.support.ports import free_port
from tests.support.services import require
from tests.support.shipped import SPECS

pytestmark = [pytest.mark.timeout(240)]
together = pytest.mark.asyncio(loop_scope="module")
Running = tuple[Platform, ArcReceiver]
PLACE = {"id": "kitchen", "name": "Kitchen", "address": "Bench 1", "latitude": 19.8, "longitude": 105.77, "account": "2C01"}
CITY: dict[str, Any] = {
    "premises": [PLACE],
    "zones": [{"id": "kitchen-1", "premises": "kitchen", "number": 1, "floor": "1", "name": "Stove"}],
    "devices": [
        {"id": "z2m", "title": "Zigbee", "model": "zigbee2mqtt-bridge", "connection": "zigbee2mqtt"},
        {
            "id": "smoke-1",
            "title": "Smoke",
            "model": "aqara-smoke-zigbee2mqtt",
            "parent": "z2m",
            "premises": "kitchen",
            "zone": "kitchen-1",
            "connection": "Bếp",
        },
        {"id": "air-1", "title": "Air", "model": "airgradient-one"},
        {"id": "sc-1", "title": "Signal", "model": "iotcore-mqtt-signal"},
    ],
}
SCENARIO = """
starts: "07:00"
lasts: 16min
premises: [{id: flat, name: Flat, address: Bench 2, latitude: 19.8, longitude: 105.77, account: "2C02"}]
zones: [{id: flat-1, premises: flat, number: 1, floor: "1", name: Hall}]
devices:
  hall-smoke:
    model: heiman-smoke-zigbee2mqtt
    premises: flat
    zone: flat-1
    points: {alarm: {kind: steps, steps: [[0, false], [3min, true]]}, battery: 90}
  balcony: {model: airgradient-one, points: {pm25: 21, temperature: 24}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    require("mosquitto")
    async with ArcReceiver(key=ARC_KEY) as arc:
        platform = Platform(tmp_path_factory.mktemp("vendor-road"), arc_port=arc.port)
        for broker in ("fire", "field"):
            platform.settings["brokers"][broker]["password_port"] = free_port()
        platform.configure()
        try:
            await platform.start()
            await asyncio.to_thread(platform.import_city, CITY)
            yield platform, arc
        finally:
            await platform.stop()


async def ours(platform: Platform, *arguments: str) -> str:
    return await asyncio.to_thread(platform.iotcore, *arguments)


def vendor(platform: Platform, device: str, user: str, password: str, name: str = "") -> VendorDevice:
    model = {"smoke-1": "aqara-smoke-zigbee2mqtt"}.get(device, "airgradient-one")
    spec: DeviceSpec = SPECS[model]
    broker = platform.settings["brokers"]["fire" if spec.device_class == "fire_detector" else "field"]
    there = Endpoint("127.0.0.1", broker["password_port"], platform.data / "certs" / "service-root.pem", Path(), Path())
    return VendorDevice(device, spec, there, name=name, qos=1, user=user, password=password)


def latest(platform: Platform, device: str) -> dict[str, Any]:
    return dict(platform.rows("telemetry.db", "SELECT point, value FROM latest WHERE device = ? AND quality = 'good'", device))


async def becomes_active(platform: Platform, device: MqttLink) -> None:
    """The first reading may come while the lane is a poll behind the registry: the next one makes the device active."""
    active = "SELECT id FROM device WHERE id = ? AND state = 'active'"
    while not platform.rows("registry.db", active, device.device):
        await device.report(device.told or {"plan": 1})
        await asyncio.sleep(0.2)


def fires(arc: ArcReceiver, account: str) -> int:
    return len([event for event in arc.received if event.code == "FA" and event.account == account])


@together
async def test_an_air_station_with_a_password_ends_in_the_store_until_it_is_suspended(running: Running) -> None:
    platform, _ = running
    password = await ours(platform, "device", "credential", "air-1")
    async with vendor(platform, "air-1", "air-1", password) as device:
        await platform.until(lambda: device.connected, 5.0, f"in by password: {device.last_error}")
        await device.report({"pm25": 12.0})
        await platform.until(lambda: latest(platform, "air-1").get("pm25") == 12.0, 5.0, "in the store")
        await becomes_active(platform, device)
        (shown,) = [one for one in await platform.said("devices") if one["device"] == "air-1"]
        assert (shown["identity"], shown["state"]) == ("unproven, no receipt", "active")
        assert "unproven identity · no receipt" in await platform.page("/devices/air-1")
        lines = platform.rows("spool-1.db", "SELECT count(*) FROM progress WHERE device = 'air-1'")
        assert lines == [(1,)]
        await ours(platform, "device", "suspend", "air-1")
        await platform.until(lambda: not device.connected, 1.0, "put out within a second")
        await asyncio.sleep(0.5)
        assert not device.connected
        await ours(platform, "device", "resume", "air-1")
        await platform.until(lambda: device.connected, 30.0, "let in again, after the pause that the device makes by itself")
        await device.report({"pm25": 14.0})
        await platform.until(lambda: latest(platform, "air-1").get("pm25") == 14.0, 5.0, "in the store again")
    assert await ours(platform, "device", "credential", "air-1", "--revoke") == "air-1 has no password any more"


@together
async def test_a_smoke_detector_behind_zigbee2mqtt_is_one_incident_at_the_centre(running: Running) -> None:
    platform, arc = running
    password = await ours(platform, "device", "credential", "z2m")
    async with vendor(platform, "smoke-1", "z2m", password, "Bếp") as device:
        await platform.until(lambda: device.connected, 5.0, f"in by its gateway's password: {device.last_error}")
        await device.report({"alarm": False})
        await platform.until(lambda: latest(platform, "smoke-1").get("alarm") == 0.0, 5.0, "heard")
        for _ in range(3):
            await device.report({"alarm": True})
        await platform.until(lambda: fires(arc, "2C01") > 0, 5.0, "at the centre")
        await platform.until(lambda: latest(platform, "smoke-1").get("alarm") == 1.0, 5.0, "in the store too")
    incidents = [one for one in await platform.said("incidents") if one["premises"] == "kitchen"]
    assert [one["notice"]["device"] for one in incidents] == ["smoke-1"]
    assert fires(arc, "2C01") == 1


@together
async def test_a_device_that_is_added_is_heard_within_a_second_or_so_without_a_restart(running: Running) -> None:
    platform, _ = running
    document = {"devices": [{"id": "air-2", "title": "Air 2", "model": "airgradient-one", "connection": "84fce612f5b8"}]}
    await asyncio.to_thread(platform.import_city, document)
    password = await ours(platform, "device", "credential", "air-2")
    given_s = time.monotonic()
    async with vendor(platform, "air-2", "air-2", password, "84fce612f5b8") as device:
        await platform.until(lambda: device.connected, 5.0, "in")
        await device.report({"pm25": 33.0})
        await platform.until(lambda: latest(platform, "air-2").get("pm25") == 33.0, 5.0, "in the store")
    assert time.monotonic() - given_s < 5.0


@together
async def test_a_proven_device_that_is_suspended_is_refused_within_a_second_without_a_restart(running: Running) -> None:
    platform, _ = running
    endpoint = await platform.enrol("sc-1", "traffic")
    async with MqttDevice("sc-1", SPECS["iotcore-mqtt-signal"], endpoint) as device:
        await becomes_active(platform, device)
        await platform.until(lambda: device.held == 0, 10.0, "receipted")
        await ours(platform, "device", "suspend", "sc-1")
        await asyncio.sleep(1.0)
        await device.report({"plan": 2})
        refused = "SELECT count(*) FROM quarantine WHERE reason = 'not_accepted:suspended' AND device = 'sc-1'"
        put_out = device.counters.connections
        await platform.until(
            lambda: (
                platform.rows("spool-1.db", refused)[0][0] > 0 or not device.connected or device.counters.connections > put_out
            ),
            5.0,
            "refused, or put out by the broker before it could say so",
        )
    assert latest(platform, "sc-1")["plan"] == 1.0


@together
async def test_a_device_of_ours_gets_no_password_and_neither_does_a_child(running: Running) -> None:
    platform, _ = running
    for device in ("sc-1", "smoke-1", "nobody"):
        await asyncio.to_thread(platform.iotcore, "device", "credential", device, code=1)


@together
async def test_a_scenario_s_vendor_devices_come_in_by_password(running: Running, tmp_path: Path) -> None:
    platform, arc = running
    path = tmp_path / "vendors.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    said = await ours(platform, "sim", "run", str(path), "--speed", "240")
    assert "hall-smoke  heiman-smoke-zigbee2mqtt  connected" in said
    assert latest(platform, "balcony")["pm25"] == 21.0
    assert fires(arc, "2C02") == 1


@together
async def test_the_doctor_shows_the_listeners(running: Running) -> None:
    platform, _ = running
    findings = {one["name"]: one for one in await platform.said("doctor", code=0)}
    for broker in ("fire", "field"):
        port = platform.settings["brokers"][broker]["password_port"]
        assert f"port {port} takes vendors' devices by password" in findings[f"{broker} broker"]["said"]

"""The road on real servers: `iotcore up` with two Mosquitto (mTLS), InfluxDB 1.x by v1 writes, SQLite, independent receivers.

The same road once with the embedded brokers (amqtt). Devices get their certificates as in the field (token, CSR, EST). A platform
serves all tests of this file, in their order.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.mqtt_device import MqttDevice
from tests.support.influx import Influxd
from tests.support.platform import Platform
from tests.support.road import (
    QUIET,
    SIGNAL_REPORT,
    SMOKE,
    STATION,
    Receivers,
    enrolled,
    last_values,
    receivers,
    stored_numbers,
    town,
)
from tests.support.shipped import SPECS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

AIR = {
    "no2": 23, "so2": 4, "co": 412, "h2s": 1, "o3": 31, "no": 7, "pm25": 38.4, "pm10": 61.2, "temperature": 27.3,
    "humidity": 81.5, "pressure": 1008.7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Road:
    """Everything that runs."""

    platform: Platform
    influx: Influxd
    receivers: Receivers
    detector: MqttDevice
    signal: MqttDevice


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["mosquitto", "amqtt"])
async def road(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Road]:
    folder: Path = tmp_path_factory.mktemp("road")
    async with AsyncExitStack() as stack:
        influx = stack.enter_context(Influxd(folder))
        told = await stack.enter_async_context(receivers())
        station = await stack.enter_async_context(ModbusServer({1: ModbusDevice(SPECS[STATION], AIR)}))
        store = {"kind": "influx1", "url": influx.url}
        platform = Platform(folder, arc_port=told.arc_port, cad_url=told.cad.url, store=store, brokers=request.param)
        platform.import_city(town(1, signals=1, station=station.connection()))
        stack.push_async_callback(platform.stop)
        await platform.start()
        detector = await stack.enter_async_context(await enrolled(platform, "sd-1"))
        signal = await stack.enter_async_context(await enrolled(platform, "ts-1"))
        yield Road(platform, influx, told, detector, signal)


async def test_what_devices_say_can_be_read_in_influxdb_and_is_receipted(road: Road) -> None:
    platform, influx = road.platform, road.influx
    for i in range(3):
        await road.detector.report({**QUIET, "temperature": 24.0 + i})
    await road.signal.report(SIGNAL_REPORT)
    fire = {"smoke": 0.01, "temperature": 26.0, "alarm": 0, "button": 0, "battery": 97}
    await platform.until(lambda: last_values(influx, "fire_detector", "sd-1", *fire) == fire, 15.0, "the detector's values")
    await platform.until(lambda: last_values(influx, "air_station", "air-1", *AIR) == AIR, 15.0, "the station's values")
    traffic = {**SIGNAL_REPORT, "lamp_fault": 0}
    await platform.until(lambda: last_values(influx, "traffic_signal", "ts-1", *traffic) == traffic, 5.0, "the signal's values")
    await platform.until(lambda: road.detector.held == road.signal.held == 0, 5.0, "all is receipted")
    assert stored_numbers(influx, "fire_detector", "sd-1") == [1, 2, 3]
    ((up_to, above, lost),) = platform.rows("spool-1.db", "SELECT up_to, above, lost FROM progress WHERE device = 'air-1'")
    assert (
        up_to + len(json.loads(above)) >= 1
    )  # amqtt throws away what came before anybody subscribed; the gateway sends it again
    assert lost == 0


async def test_smoke_makes_one_incident_durable_before_it_is_sent_and_both_receivers_take_it_once(road: Road) -> None:
    platform, told = road.platform, road.receivers
    for _ in range(3):
        await road.detector.report(SMOKE)
    await platform.until(lambda: bool(told.frames and told.cad.taken), 10.0, "both receivers have it")
    await platform.until(lambda: road.detector.held == 0, 5.0, "all is receipted")
    (incident,) = await platform.said("incidents")
    assert told.arc_incidents() == told.cad_incidents() == [incident["incident"]]
    assert (told.frames[0].account, told.frames[0].encrypted) == ("1001", True)
    assert not told.cad.refused
    assert {delivery["channel"] for delivery in incident["deliveries"] if delivery["acknowledged_ms"]} == {"arc", "cad"}
    steps = ["detector_ms", "received_ms", "decided_ms", "durable_ms"]
    moments = [incident[step] for step in steps]
    assert moments == sorted(moments)
    assert all(moments[-1] <= delivery["sent_ms"] <= delivery["acknowledged_ms"] for delivery in incident["deliveries"])
    steps_told = "SELECT count(since_detector_ms) FROM incident WHERE premises = 'p1' GROUP BY step"
    told_of = {"opened": 1, "durable": 1, "sent": 2, "receiver_acknowledged": 2}
    await platform.until(
        lambda: {one["tags"]["step"]: one["values"][0][1] for one in road.influx.query(steps_told)} == told_of,
        10.0, "the incident's steps are a series",
    )  # fmt: skip
    (devices,) = road.influx.query("SELECT sum(devices) FROM coverage WHERE scope = 'devices'")
    assert devices["values"][0][1] > 0

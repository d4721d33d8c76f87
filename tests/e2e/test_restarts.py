"""Every process and every server killed while readings flow and a building burns: nothing receipted is lost, one incident.

The short form kills each once, in a fixed order; the long one (`make soak`) several rounds in random order, its seed printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.process.serve import beats
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.mqtt_device import MqttDevice
from tests.support.influx import Influxd
from tests.support.platform import PARTS, Platform
from tests.support.road import (
    QUIET,
    SIGNAL_REPORT,
    SMOKE,
    STATION,
    Receivers,
    enrolled,
    receivers,
    stored_numbers,
    stored_times,
    town,
    waiting_times,
)
from tests.support.shipped import SPECS

VICTIMS = (*PARTS, "mosquitto fire", "mosquitto field", "influxd", "telemetry + mosquitto fire")
MORE_VICTIMS = (*VICTIMS, "broker fire", "broker field")
DETECTORS, SIGNALS = 4, 2
REPORT_EVERY_S = 0.1
SETTLE_S = 75.0  # a receipt that was lost is asked for again by the gateway after 30 s
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Town:
    """Everything that runs. `devices` speak MQTT; air-1 is polled behind modbus-1."""

    platform: Platform
    influx: Influxd
    receivers: Receivers
    devices: Sequence[MqttDevice]

    async def kill(self, victim: str) -> float:
        """kill -9 of one process, or of two at once; how long until everything was connected again, s."""
        if victim != "influxd":
            return await self.platform.kill(*victim.split(" + "))
        await asyncio.to_thread(self.influx.kill)
        await asyncio.to_thread(self.influx.start)
        return 0.0


@asynccontextmanager
async def running_town(folder: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        influx = stack.enter_context(Influxd(folder))
        told = await stack.enter_async_context(receivers())
        station = await stack.enter_async_context(ModbusServer({1: ModbusDevice(SPECS[STATION])}))
        store = {"kind": "influx1", "url": influx.url}
        platform = Platform(folder, arc_port=told.arc_port, cad_url=told.cad.url, store=store)
        platform.import_city(town(DETECTORS, signals=SIGNALS, station=station.connection()))
        stack.push_async_callback(platform.stop)
        await platform.start()
        names = [*(f"sd-{i}" for i in range(1, DETECTORS + 1)), *(f"ts-{i}" for i in range(1, SIGNALS + 1))]
        devices = [await stack.enter_async_context(await enrolled(platform, name)) for name in names]
        yield Town(platform, influx, told, devices)


async def _flow(device: MqttDevice) -> None:
    """Reports without end; the first detector burns."""
    fire = device.device.startswith("sd-")
    values = SMOKE if device.device == "sd-1" else QUIET if fire else SIGNAL_REPORT
    while True:
        await device.report(values)
        await asyncio.sleep(REPORT_EVERY_S)


async def _storm(running: Town, victims: Sequence[str]) -> None:
    """Kill each victim in turn while everything reports."""
    flows = [asyncio.create_task(_flow(device)) for device in running.devices]
    try:
        told = running.receivers
        await running.platform.until(lambda: bool(told.frames and told.cad.taken), 15.0, "both receivers have the alarm")
        for victim in victims:
            print(f"{victim}: all connected again after {await running.kill(victim):.1f} s")  # noqa: T201 - a soak's log
    finally:
        for flow in flows:
            flow.cancel()
        await asyncio.wait(flows)


async def _expect_every_reading_once(running: Town) -> None:
    """Each device's every report is receipted, and one point in InfluxDB."""
    platform, influx = running.platform, running.influx
    await platform.until(lambda: not any(device.held for device in running.devices), SETTLE_S, "all is receipted")
    for device in running.devices:
        reported = device.counters.reported
        assert (device.counters.receipted, device.counters.dropped) == (reported, 0)
        measurement = "fire_detector" if device.device.startswith("sd-") else "traffic_signal"
        whole = list(range(1, reported + 1))
        for _ in range(200):
            stored = sorted(stored_numbers(influx, measurement, device.device))
            if stored == whole:
                break
            await asyncio.sleep(0.1)
        missing, extra = sorted(set(whole) - set(stored)), len(stored) - len(set(stored))
        assert stored == whole, f"{device.device}: of {reported} receipted, not in InfluxDB: {missing}; twice: {extra}"


async def _expect_receipts(running: Town) -> None:
    """A new report is receipted at once, on both brokers."""
    for device in running.devices:
        await device.report(QUIET if device.device.startswith("sd-") else SIGNAL_REPORT)
    await running.platform.until(lambda: not any(device.held for device in running.devices), 5.0, "receipts for both domains")


async def _expect_one_incident(running: Town) -> None:
    (incident,) = await running.platform.said("incidents")
    told = running.receivers
    assert set(told.arc_incidents()) == set(told.cad_incidents()) == {incident["incident"]}
    assert len({event.sequence for event in told.frames if event.code == "FA"}) == 1
    assert all(delivery["acknowledged_ms"] for delivery in incident["deliveries"])


async def _expect_all_of_the_gateway(running: Town) -> None:
    """Its outbox has numbered so many readings, ever; those that it no longer holds were receipted. Ends the platform."""
    platform = running.platform
    await platform.until(lambda: _kept(platform) == 0, SETTLE_S, "the gateway's outbox is receipted")
    await platform.stop()
    with closing(sqlite3.connect(platform.data / "outbox-modbus.db")) as outbox:
        ((numbered,),) = outbox.execute("SELECT seq FROM sqlite_sequence WHERE name = 'held'").fetchall()
        ((held,),) = outbox.execute("SELECT count(*) FROM held").fetchall()
    stored = _stored(platform, "air-1")
    points, waiting = stored_times(running.influx, "air_station", "air-1"), waiting_times(platform, "air-1")
    assert (len(set(points)), len(set(waiting))) == (len(points), len(waiting)), "a reading is in InfluxDB or in the spool twice"
    assert len({*points, *waiting}) == stored, "what is in both was written, and the platform stopped before the spool forgot it"
    assert numbered - held <= stored + _stored(platform, "modbus-1") <= numbered  # its units' readings, and its own


def _stored(platform: Platform, device: str) -> int:
    """How many readings of a device behind the gateway the core has; none is lost, although the gateway had several lives."""
    tracks = platform.rows("spool-1.db", "SELECT up_to, above, lost FROM progress WHERE device = ?", device)
    assert sum(lost for *_, lost in tracks) == 0
    assert len(tracks) > 1
    return sum(up_to + len(json.loads(above)) for up_to, above, _ in tracks)


def _kept(platform: Platform) -> int:
    """How many readings the gateway's outbox holds, as it says itself."""
    return int(beats(platform.data, SystemClock()).get("modbus", {}).get("kept", -1))


async def _survive(folder: Path, victims: Sequence[str]) -> None:
    async with running_town(folder) as running:
        await _storm(running, victims)
        await _expect_every_reading_once(running)
        await _expect_receipts(running)
        await _expect_one_incident(running)
        await _expect_all_of_the_gateway(running)


@pytest.mark.timeout(240)
async def test_any_process_or_server_killed_loses_nothing_receipted_and_makes_no_second_incident(tmp_path: Path) -> None:
    await _survive(tmp_path, VICTIMS)


@pytest.mark.soak
async def test_rounds_of_kills_in_random_order_lose_nothing_receipted_and_make_no_second_incident(tmp_path: Path) -> None:
    seed = os.environ.get("IOTCORE_SEED") or secrets.token_hex(4)
    print(f"IOTCORE_SEED={seed}")  # noqa: T201 - to repeat it
    order = random.Random(seed)
    await _survive(tmp_path, [victim for _ in range(ROUNDS) for victim in order.sample(MORE_VICTIMS, len(MORE_VICTIMS))])

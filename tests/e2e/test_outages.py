"""The fire lane does not notice when the store, the field broker or the web is gone; telemetry waits on disk and loses nothing.

One platform serves the tests of this file, in their order; it starts while InfluxDB is down. In each, another premises burns.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.mqtt_device import MqttDevice
from tests.support.influx import Influxd
from tests.support.platform import Platform
from tests.support.road import QUIET, SIGNAL_REPORT, SMOKE, STATION, Receivers, enrolled, receivers, stored_numbers, town
from tests.support.shipped import SPECS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

REPORT_EVERY_S = 0.1
ALARM_LIMIT_S = 3.0  # from the report to both receivers' own acknowledgements; some ten ms on an idle machine
SHORT_S, LONG_S = 5.0, 60.0


@dataclass(frozen=True, slots=True)
class City:
    """Everything that runs; all devices but the one that burns report all the time."""

    platform: Platform
    influx: Influxd
    receivers: Receivers
    detectors: Mapping[str, MqttDevice]
    signal: MqttDevice

    async def burn(self, name: str) -> None:
        """Smoke at one detector must reach both receivers at once, as an incident of its own."""
        before = set(self.receivers.arc_incidents())
        for _ in range(2):
            await self.detectors[name].report(SMOKE)
        await self.platform.until(
            lambda: (
                len(set(self.receivers.arc_incidents()) - before) == 1
                and set(self.receivers.cad_incidents()) == set(self.receivers.arc_incidents())
            ),
            ALARM_LIMIT_S,
            f"the fire at {name} is known to both receivers",
        )
        await self.platform.until(lambda: self.detectors[name].held == 0, ALARM_LIMIT_S, f"{name} has its receipts")

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """The detector sd-1 and the signal report without end."""
        flows = [
            asyncio.create_task(_flow(self.detectors["sd-1"], QUIET)),
            asyncio.create_task(_flow(self.signal, SIGNAL_REPORT)),
        ]
        try:
            yield
        finally:
            for flow in flows:
                flow.cancel()
            await asyncio.wait(flows)

    def waiting_lines(self) -> int:
        """Lines that wait on disk for the store."""
        return int(self.platform.rows("spool-1.db", "SELECT coalesce(sum(line_count), 0) FROM batch")[0][0])

    async def expect_all_stored(self, within_s: float = 20.0) -> None:
        """Whatever any device has reported is receipted, and one point in InfluxDB."""
        devices: Sequence[MqttDevice] = [*self.detectors.values(), self.signal]
        await self.platform.until(lambda: not any(device.held for device in devices), within_s, "all is receipted")
        for device in devices:
            measurement = "traffic_signal" if device is self.signal else "fire_detector"
            whole = list(range(1, device.counters.reported + 1))
            await self.platform.until(
                lambda m=measurement, d=device.device, w=whole: sorted(stored_numbers(self.influx, m, d)) == w,  # type: ignore[misc]
                within_s,
                f"{device.device}: {len(whole)} points",
            )


async def _flow(device: MqttDevice, values: Mapping[str, float | bool | str]) -> None:
    while True:
        await device.report(values)
        await asyncio.sleep(REPORT_EVERY_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    folder: Path = tmp_path_factory.mktemp("outages")
    async with AsyncExitStack() as stack:
        influx = stack.enter_context(Influxd(folder))
        influx.stop()
        told = await stack.enter_async_context(receivers())
        station = await stack.enter_async_context(ModbusServer({1: ModbusDevice(SPECS[STATION])}))
        platform = Platform(folder, arc_port=told.arc_port, cad_url=told.cad.url, store={"kind": "influx1", "url": influx.url})
        platform.import_city(town(7, signals=1, station=station.connection()))
        stack.push_async_callback(platform.stop)
        await platform.start()
        detectors = {f"sd-{i}": await stack.enter_async_context(await enrolled(platform, f"sd-{i}")) for i in range(1, 8)}
        signal = await stack.enter_async_context(await enrolled(platform, "ts-1"))
        yield City(platform, influx, told, detectors, signal)


async def test_influxdb_down_at_start_delays_no_fire_and_loses_no_reading(city: City) -> None:
    async with city.flowing():
        await city.burn("sd-2")
        await city.platform.until(lambda: city.signal.counters.receipted >= 5, 10.0, "readings are receipted without a store")
        assert city.waiting_lines() >= 5
        await asyncio.to_thread(city.influx.start)
        await city.platform.until(lambda: city.waiting_lines() == 0, 15.0, "the spool is drained")
    await city.expect_all_stored()


async def _influxdb_gone_for(city: City, seconds: float, victim: str) -> None:
    async with city.flowing():
        await asyncio.to_thread(city.influx.kill)
        await city.burn(victim)
        loop = asyncio.get_running_loop()
        deadline, deepest = loop.time() + seconds, 0
        while loop.time() < deadline:
            deepest = max(deepest, city.waiting_lines())
            await asyncio.sleep(REPORT_EVERY_S)
        assert deepest >= seconds / REPORT_EVERY_S  # two devices report so often
        await asyncio.to_thread(city.influx.start)
        await city.platform.until(lambda: city.waiting_lines() <= 10, 15.0, "the spool is drained while readings flow")
    await city.expect_all_stored()


async def test_influxdb_gone_for_a_while_delays_no_fire_and_loses_no_reading(city: City) -> None:
    await _influxdb_gone_for(city, SHORT_S, "sd-3")


@pytest.mark.soak
async def test_influxdb_gone_for_a_minute_delays_no_fire_and_loses_no_reading(city: City) -> None:
    await asyncio.to_thread(city.influx.start)
    await _influxdb_gone_for(city, LONG_S, "sd-3")


@asynccontextmanager
async def _field_broker_gone(platform: Platform) -> AsyncIterator[None]:
    """It dies, and somebody else's program takes its port before it can come back."""
    runner, mosquitto = (psutil.Process(platform.pid(part)) for part in ("broker field", "mosquitto field"))
    runner.suspend()
    try:
        mosquitto.kill()
        await platform.until(lambda: not _serves(platform.field_port), 5.0, "its port is free")
        with socket.create_server(("127.0.0.1", platform.field_port)):
            runner.resume()
            yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            runner.resume()


async def test_a_field_broker_that_cannot_come_back_delays_no_fire_and_loses_no_reading(city: City) -> None:
    platform = city.platform
    async with city.flowing():
        async with _field_broker_gone(platform):
            await platform.until(lambda: not city.signal.connected, 5.0, "the signal has lost its broker")
            await city.burn("sd-4")
            held = city.signal.held
            await platform.until(lambda: city.signal.held > held, 5.0, "the signal keeps what it cannot say")
        await platform.until(lambda: platform.ready(since_ms=platform.now_ms() - 1500.0), 30.0, "the field broker is back")
    await city.expect_all_stored(within_s=40.0)


async def test_a_field_broker_that_hangs_delays_no_fire_and_loses_no_reading(city: City) -> None:
    mosquitto = psutil.Process(city.platform.pid("mosquitto field"))
    async with city.flowing():
        mosquitto.suspend()
        try:
            await city.burn("sd-5")
            held = city.signal.held
            await city.platform.until(lambda: city.signal.held > held, 5.0, "the signal gets no receipt")
        finally:
            mosquitto.resume()
    await city.expect_all_stored(within_s=40.0)


async def test_a_web_process_that_hangs_or_dies_delays_no_fire(city: City) -> None:
    web = psutil.Process(city.platform.pid("web"))
    web.suspend()
    await city.burn("sd-6")
    web.kill()
    await city.burn("sd-7")
    await city.platform.until(lambda: city.platform._replaced("web", web.pid), 20.0, "the web is back")
    await city.platform.until(lambda: _serves(city.platform.web_port), 10.0, "it serves")
    page = await city.platform.page()
    assert "Nhà 6" in page
    assert "Nhà 7" in page


def _serves(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


async def test_each_fire_was_one_incident_for_each_receiver(city: City) -> None:
    incidents = [row["incident"] for row in await city.platform.said("incidents")]
    assert sorted(city.receivers.arc_incidents()) == sorted(city.receivers.cad_incidents()) == sorted(incidents)
    assert len(incidents) == 6

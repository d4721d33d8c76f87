"""Every fault of a simulated MQTT device against the whole platform, on the fire lane and on the telemetry lane.

A neighbour reports on beside each faulty device and loses nothing. One platform serves the tests of this file, a premises and a
junction for each.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from iotcore.reading import Scalar
from simulators import mqtt_faults
from simulators.enrol import enrol
from simulators.mqtt_device import MqttDevice
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.road import DETECTOR, QUIET, SIGNAL, SIGNAL_REPORT, town
from tests.support.shipped import SPECS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
PLACES = 20  # a premises and a junction for each test
ALARM = {**QUIET, "alarm": True}
_unused = itertools.count(2)  # place 1 belongs to the neighbours


@dataclass(slots=True)
class Bench:
    """The platform, and a neighbour on each lane that must never notice anything."""

    platform: Platform
    tokens: dict[str, str]
    detector: MqttDevice
    signal: MqttDevice

    @asynccontextmanager
    async def device(self, lane: str) -> AsyncIterator[MqttDevice]:
        """A fresh device of a lane, connected and known; afterwards both neighbours still have every report receipted."""
        name = f"{'sd' if lane == 'fire' else 'ts'}-{next(_unused)}"
        async with await enrolled(self.platform, name, self.tokens[name]) as device:
            await self.platform.until(lambda: device.connected, 10.0, f"{device.device} is connected")
            yield device
        for neighbour, values in ((self.detector, QUIET), (self.signal, SIGNAL_REPORT)):
            await neighbour.report(values)
            await receipted(self.platform, neighbour)
            assert neighbour.counters.connections == 1
            assert neighbour.counters.resent == 0

    def incidents(self, device: MqttDevice) -> list[dict[str, object]]:
        """The notices of every incident at the device's premises."""
        premises = "p" + device.device.partition("-")[2]
        rows = self.platform.rows("journal.db", "SELECT notice FROM incident WHERE premises = ?", premises)
        return [json.loads(notice) for (notice,) in rows]

    def stored(self, device: MqttDevice, point: str) -> int:
        """Values of a point in the store."""
        query = "SELECT count(*) FROM value JOIN series ON id = series WHERE device = ? AND point = ?"
        return int(self.platform.rows("telemetry.db", query, device.device, point)[0][0])

    def standing(self, device: MqttDevice) -> set[str]:
        """Faults that stand against a device, on its lane's own table."""
        file = "journal.db" if device.device.startswith("sd-") else "telemetry.db"
        query = "SELECT reason FROM fault WHERE device = ? AND cleared_ms IS NULL"
        return {reason for (reason,) in self.platform.rows(file, query, device.device)}

    def duplicates(self, lane: str) -> int:
        """Messages that a lane knew already, since it started."""
        return int(json.loads((self.platform.data / "run" / f"{lane}.json").read_text())["duplicates"])


async def enrolled(platform: Platform, name: str, token: str) -> MqttDevice:
    """A detector ("sd-…") or a traffic signal ("ts-…") with a certificate of its own; enter it to connect."""
    model, port = (DETECTOR, platform.fire_port) if name.startswith("sd-") else (SIGNAL, platform.field_port)
    service = platform.data / "certs" / "service-root.pem"
    identity = await enrol(f"https://127.0.0.1:{platform.est_port}", token, name, service, platform.folder / "devices")
    return MqttDevice(name, SPECS[model], identity.endpoint("127.0.0.1", port), resend_s=3.0)


async def receipted(platform: Platform, device: MqttDevice) -> None:
    await platform.until(lambda: device.held == 0, 15.0, f"{device.device} has its receipts")


def report_of(lane: str) -> dict[str, Scalar]:
    return dict(QUIET if lane == "fire" else SIGNAL_REPORT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        platform = Platform(tmp_path_factory.mktemp("mqtt-faults"), arc_port=free_port())
        platform.import_city(town(PLACES, signals=PLACES))
        stack.push_async_callback(platform.stop)
        await platform.start()
        names = [f"{kind}-{place}" for kind in ("sd", "ts") for place in range(1, PLACES + 1)]
        said = await asyncio.to_thread(
            platform.iotcore, "token", "create", *names
        )  # one start of the command line, not one for each
        tokens = dict(zip(names, said.split(), strict=True))
        detector, signal = [await stack.enter_async_context(await enrolled(platform, n, tokens[n])) for n in ("sd-1", "ts-1")]
        await platform.until(lambda: detector.connected and signal.connected, 10.0, "the neighbours are connected")
        yield Bench(platform, tokens, detector, signal)


@pytest.mark.parametrize(("lane", "point"), [("fire", "smoke"), ("telemetry", "cycle_s")])
async def test_what_comes_three_times_is_one_reading(bench: Bench, lane: str, point: str) -> None:
    before = bench.duplicates(lane)
    async with bench.device(lane) as device:
        device.begin(mqtt_faults.Duplicate(copies=3))
        for _ in range(4):
            await device.report(report_of(lane))
            await asyncio.sleep(0.01)
        await receipted(bench.platform, device)
        await bench.platform.until(lambda: bench.stored(device, point) >= 4, 10.0, "stored")
        await bench.platform.until(lambda: bench.duplicates(lane) >= before + 8, 5.0, "the copies are counted")
        assert bench.stored(device, point) == 4


async def test_an_alarm_that_comes_twice_is_one_incident(bench: Bench) -> None:
    async with bench.device("fire") as device:
        device.begin(mqtt_faults.Duplicate(copies=5))
        await device.report(ALARM, kind="event")
        await receipted(bench.platform, device)
        assert len(bench.incidents(device)) == 1


async def test_a_clear_that_overtakes_its_alarm_does_not_lose_the_fire(bench: Bench) -> None:
    async with bench.device("fire") as device:
        await device.report(QUIET)
        await receipted(bench.platform, device)
        device.begin(mqtt_faults.Reorder(window=2))
        alarm = await device.report(ALARM, kind="event")
        clear = await device.report(QUIET, kind="event")
        await receipted(bench.platform, device)
        query = "SELECT seq FROM reading WHERE device = ? AND seq >= ? ORDER BY rowid"
        assert bench.platform.rows("journal.db", query, device.device, alarm) == [(clear,), (alarm,)]
        (notice,) = bench.incidents(device)
        assert notice.get("delayed", False) is False


async def test_readings_of_the_bulk_lane_are_all_there_whatever_their_order(bench: Bench) -> None:
    async with bench.device("telemetry") as device:
        device.begin(mqtt_faults.Reorder(window=6))
        for cycle_s in range(60, 66):
            await device.report({**SIGNAL_REPORT, "cycle_s": cycle_s})
            await asyncio.sleep(0.002)
        await receipted(bench.platform, device)
        await bench.platform.until(lambda: bench.stored(device, "cycle_s") == 6, 10.0, "all six are stored")


@pytest.mark.parametrize(("by_s", "trouble"), [(3600.0, "clock_future"), (-30 * 86_400.0, "clock_past")])
async def test_a_fire_of_a_detector_with_a_wrong_clock_is_live_and_the_clock_a_trouble(
    bench: Bench, by_s: float, trouble: str
) -> None:
    async with bench.device("fire") as device:
        skew = mqtt_faults.ClockSkew(by_s)
        device.begin(skew)
        now_ms = bench.platform.now_ms()
        await device.report(ALARM, kind="event")
        await receipted(bench.platform, device)
        (notice,) = bench.incidents(device)
        assert notice.get("delayed", False) is False
        occurred_ms = notice["occurred_ms"]
        assert isinstance(occurred_ms, float)
        assert now_ms - 1000.0 <= occurred_ms <= bench.platform.now_ms() + 1000.0
        assert trouble in bench.standing(device)
        device.end(skew)
        await device.report(QUIET)
        await receipted(bench.platform, device)
        assert trouble not in bench.standing(device)


async def test_a_flapping_detector_is_one_incident(bench: Bench) -> None:
    async with bench.device("fire") as device:
        await device.report(QUIET)
        flap = mqtt_faults.Flap("alarm", every_s=0.1)
        device.begin(flap)
        await bench.platform.until(lambda: device.counters.reported > 12, 10.0, "it has flapped")
        device.end(flap)
        await receipted(bench.platform, device)
        assert len(bench.incidents(device)) == 1
        query = "SELECT count(*) FROM reading WHERE device = ?"
        assert bench.platform.rows("journal.db", query, device.device) == [(device.counters.reported,)]


@pytest.mark.parametrize("lane", ["fire", "telemetry"])
async def test_a_pulled_cable_is_a_trouble_and_nothing_reported_meanwhile_is_lost(bench: Bench, lane: str) -> None:
    async with bench.device(lane) as device:
        await device.report(report_of(lane))
        await receipted(bench.platform, device)
        cut = mqtt_faults.Disconnect()
        device.begin(cut)
        if lane == "fire":
            await bench.platform.until(lambda: bench.standing(device) == {"offline"}, 10.0, "its will is a trouble")
        else:
            query = "SELECT state FROM presence WHERE device = ?"
            offline = [("offline",)]
            await bench.platform.until(
                lambda: bench.platform.rows("telemetry.db", query, device.device) == offline, 10.0, "its will is told"
            )
        for _ in range(5):
            await device.report(report_of(lane))
            await asyncio.sleep(0.01)
        device.end(cut)
        await receipted(bench.platform, device)
        await bench.platform.until(lambda: not bench.standing(device), 5.0, "it is well again")
        point = "smoke" if lane == "fire" else "cycle_s"
        await bench.platform.until(lambda: bench.stored(device, point) == 6, 10.0, "all six are stored")


async def test_a_loose_contact_loses_no_alarm_and_raises_it_once(bench: Bench) -> None:
    async with bench.device("fire") as device:
        loose = mqtt_faults.FlapLink(every_s=0.4)
        device.begin(loose)
        for n in range(10):
            await device.report(
                ALARM if n >= 4 else QUIET
            )  # what a device has called off meanwhile is a record (wire contract, Time)
            await asyncio.sleep(0.2)
        device.end(loose)
        await receipted(bench.platform, device)
        assert device.counters.connections >= 2
        assert len(bench.incidents(device)) == 1
        query = "SELECT count(*) FROM reading WHERE device = ?"
        assert bench.platform.rows("journal.db", query, device.device) == [(10,)]


@pytest.mark.parametrize(("lane", "file"), [("fire", "journal.db"), ("telemetry", "spool-1.db")])
async def test_an_oversized_payload_is_refused_and_counted(bench: Bench, lane: str, file: str) -> None:
    query = "SELECT count FROM quarantine_count WHERE reason = 'oversized'"
    before = sum(count for (count,) in bench.platform.rows(file, query))
    async with bench.device(lane) as device:
        device.begin(mqtt_faults.Oversized())
        await bench.platform.until(lambda: "refused:oversized" in bench.standing(device), 10.0, "shown as its fault")
        ((count,),) = bench.platform.rows(file, query)
        assert count == before + 1
        await device.report(report_of(lane))
        await receipted(bench.platform, device)
        await bench.platform.until(lambda: not bench.standing(device), 5.0, "it is well again")


async def test_a_deaf_device_sends_again_and_is_one_reading(bench: Bench) -> None:
    async with bench.device("fire") as device:
        deaf = mqtt_faults.Deaf()
        device.begin(deaf)
        await device.report(ALARM, kind="event")
        await bench.platform.until(lambda: device.counters.resent >= 1, 10.0, "sent again, 3 s later")
        device.end(deaf)
        await receipted(bench.platform, device)
        assert len(bench.incidents(device)) == 1


async def test_a_certificate_of_its_own_making_is_refused_and_the_device_says_why(bench: Bench) -> None:
    async with bench.device("telemetry") as device:
        fault = mqtt_faults.ExpiredCertificate()
        device.begin(fault)
        await bench.platform.until(lambda: "ALERT" in device.last_error.upper(), 15.0, f"refused: {device.last_error}")
        assert not device.connected
        device.end(fault)
        await bench.platform.until(lambda: device.connected, 15.0, "with its own certificate it is let in")

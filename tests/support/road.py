"""The ends of the road for tests of the whole platform: a small town, the receivers of its alarms, what the store must hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pysiaalarm.account import SIAAccount
from pysiaalarm.aio.client import SIAClient
from pysiaalarm.event import SIAEvent
from pysiaalarm.utils.enums import MessageTypes

from iotcore.reading import Scalar
from simulators.cad_receiver import CadReceiver
from simulators.mqtt_device import MqttDevice
from tests.support.influx import Influxd
from tests.support.platform import ARC_KEY, SECRET, Platform
from tests.support.ports import free_port
from tests.support.shipped import SPECS

DETECTOR, SIGNAL, STATION, GATEWAY = "iotcore-smoke-heat", "iotcore-mqtt-signal", "vaisala-aqt530", "iotcore-modbus-gateway"
QUIET: Mapping[str, Scalar] = {"smoke": 0.01, "temperature": 24.5, "alarm": False, "button": False, "battery": 97.0}
SMOKE: Mapping[str, Scalar] = {**QUIET, "smoke": 0.62, "temperature": 31.0}
SIGNAL_REPORT: Mapping[str, Scalar] = {
    "plan": 4,
    "mode": "auto",
    "cycle_s": 90,
    "offset_s": 12,
    "groups": "GgRr",
    "lamp_fault": False,
}
NS_PER_MS = 1_000_000


@dataclass(slots=True)
class Receivers:
    """pysiaalarm, which shares nothing with us, and a dispatch system that checks signatures; what each has taken."""

    arc_port: int
    cad: CadReceiver
    frames: list[SIAEvent] = field(default_factory=list)

    def arc_incidents(self, code: str = "FA") -> list[str]:
        """The incident named in each frame of a code, repeats included."""
        return [_incident(event) for event in self.frames if event.code == code]

    def cad_incidents(self, event: str = "alarm") -> list[str]:
        """The incident named in each signed report of an event, repeats included."""
        return [taken.report["incident"] for taken in self.cad.taken if taken.report["event"] == event]


@asynccontextmanager
async def receivers() -> AsyncIterator[Receivers]:
    """Both, listening. Not pysiaalarm's own context manager: that one swallows a failed assertion."""
    async with CadReceiver(SECRET) as cad:
        found = Receivers(free_port(), cad)

        async def take(event: SIAEvent) -> None:
            if event.message_type is not MessageTypes.NULL:
                found.frames.append(event)

        accounts = [SIAAccount(f"{1000 + i}", ARC_KEY, allowed_timeband=(40, 20)) for i in range(1, 10)]
        client = SIAClient("127.0.0.1", found.arc_port, accounts, function=take)  # type: ignore[abstract] # its __new__ takes the TCP one
        await client.async_start()
        try:
            yield found
        finally:
            await client.async_stop()
            await asyncio.sleep(0.01)  # its connections end by themselves


def town(detectors: int, *, signals: int = 0, station: str = "") -> dict[str, Any]:
    """A city document: premises p1, p2 … (accounts 1001, 1002 …) with a detector sd-1, sd-2 … each, and field devices."""
    each = range(1, detectors + 1)
    premises = [
        {
            "id": f"p{i}",
            "name": f"Nhà {i}",
            "address": f"{i} Lê Hoàn",
            "latitude": 19.8,
            "longitude": 105.7,
            "account": f"{1000 + i}",
        }
        for i in each
    ]
    zones = [{"id": f"p{i}-z1", "premises": f"p{i}", "number": 1, "floor": "1", "name": "Gian hàng"} for i in each]
    devices = [
        {"id": f"sd-{i}", "title": f"Đầu báo {i}", "model": DETECTOR, "premises": f"p{i}", "zone": f"p{i}-z1"} for i in each
    ]
    devices += [{"id": f"ts-{i}", "title": f"Nút {i}", "model": SIGNAL} for i in range(1, signals + 1)]
    if station:
        devices.append({"id": "modbus-1", "title": "Modbus", "model": GATEWAY})
        devices.append({"id": "air-1", "title": "Trạm khí", "model": STATION, "parent": "modbus-1", "connection": station})
    return {"premises": premises, "zones": zones, "devices": devices}


async def enrolled(platform: Platform, name: str, *, resend_s: float = 3.0) -> MqttDevice:
    """A detector ("sd-…") or a traffic signal ("ts-…") with the certificate that it got by its own token; enter it to connect."""
    domain, model = ("fire", DETECTOR) if name.startswith("sd-") else ("traffic", SIGNAL)
    endpoint = await platform.enrol(name, domain)
    return MqttDevice(name, SPECS[model], endpoint, resend_s=resend_s, mqtt=platform.mqtt)


def stored_times(influx: Influxd, measurement: str, device: str) -> list[int]:
    """The time of every point of a device in InfluxDB, ns; no two readings of a device have the same."""
    if not influx.databases():
        return []
    found = influx.query(f"SELECT quality FROM \"{measurement}\" WHERE device = '{device}'")
    return [time_ns for time_ns, _ in found[0]["values"]] if found else []


def stored_numbers(influx: Influxd, measurement: str, device: str) -> list[int]:
    """The sequence number of every point of a device in InfluxDB: the digits of its time below the millisecond."""
    return [time_ns % NS_PER_MS for time_ns in stored_times(influx, measurement, device)]


def waiting_times(platform: Platform, device: str) -> list[int]:
    """The time of every line of a device in the spool, ns; InfluxDB may have some already, when a stop came before `done`."""
    batches = platform.rows("spool-1.db", "SELECT lines FROM batch")
    lines = [line for (body,) in batches for line in body.split(b"\n") if b",device=%s," % device.encode() in line]
    return [int(line.rpartition(b" ")[2]) for line in lines]


def last_values(influx: Influxd, measurement: str, device: str, *points: str) -> dict[str, Any]:
    """The last value of each point of a device, asked for in InfluxQL."""
    if not influx.databases():
        return {}
    wanted = ", ".join(f'last("{point}") AS "{point}"' for point in points)
    found = influx.query(f"SELECT {wanted} FROM \"{measurement}\" WHERE device = '{device}'")
    if not found:
        return {}
    values = dict(zip(found[0]["columns"], found[0]["values"][0], strict=True))
    return {point: values[point] for point in points}


def _incident(event: SIAEvent) -> str:
    text = next((str(block.value) for block in event.extended_data or [] if block.identifier == "I"), "")
    return text.split(" ", 1)[0]

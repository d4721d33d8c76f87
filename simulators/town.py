"""The town: every device of a city document as a real client or server on loopback, all in one process.

Fire devices and signal controllers are MQTT clients with keys and certificates of their own; air and water stations are
Modbus/TCP servers. What they measure comes from a scenario; a measured fire can be played over one detector.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from iotcore.errors import StartError
from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import Scalar
from iotcore.wire.topics import DOMAIN_OF_CLASS
from simulators.enrol import Identity, enrol
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.mqtt_device import MqttDevice
from simulators.mqtt_link import MqttLink
from simulators.replay import Sample, play
from simulators.vendor_device import VendorDevice

ENROL_AT_ONCE = 8  # a technician team, not a flood
CONNECT_AT_ONCE = 32  # TLS handshakes under way
CONNECT_POLL_S = 0.02
DESCRIPTORS_PER_CLIENT = 2  # its socket, and the next one while it connects again
SPARE_DESCRIPTORS = 256
LOOK_S = 0.5  # how often a fire detector samples its chamber
REFRESH_S = 2.0  # how often a Modbus station's registers change
DEADBANDS = {"smoke": 0.02, "temperature": 1.0}  # dB/m, °C: a detector tells at once what changed by more than this

Values = dict[str, Scalar | None]
Broker = tuple[str, int]


class Story(Protocol):
    """What the devices measure: a `Scenario` of the city, or a timeline that plays."""

    def values(self, device: str, now_s: float) -> Mapping[str, Scalar | None]:
        """The points of a device at a moment, s UTC since 1970."""


S = TypeVar("S", bound=Story)


class Town(Generic[S]):
    """An async context manager: opens the Modbus stations at once; `enrol`, then `live`.

    `seats` puts Modbus units on buses: device → (bus, unit); those of one bus share a port, any other has its own. They listen on
    `host`, on any free port or on `first_port` and those after it. `hurry`: periodic reports come so many times as often as the
    specs say, for a story that is told faster than life, though not more than one each half second.
    """

    def __init__(
        self,
        document: Mapping[str, Sequence[Mapping[str, Any]]],
        specs: Mapping[str, DeviceSpec],
        scenario: S,
        folder: Path,
        *,
        seats: Mapping[str, tuple[str, int]] | None = None,
        host: str = "127.0.0.1",
        first_port: int = 0,
        hurry: float = 1.0,
    ) -> None:
        self.scenario = scenario
        self.devices: dict[str, MqttDevice] = {}
        self.vendors: dict[str, VendorDevice] = {}
        self._specs = {str(entry["id"]): specs[str(entry["model"])] for entry in document["devices"]}
        self._folder = folder
        self.identities: dict[str, Identity] = {}
        self.stations: dict[str, ModbusDevice] = {}
        self._servers: dict[str, ModbusServer] = {}
        self._seats = dict(seats or {})
        self._host, self._next_port = host, first_port
        self._hurry = hurry
        self._overrides: dict[str, Values] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        buses: dict[str, dict[int, str]] = {}
        for device, spec in self._specs.items():
            if spec.protocol == "modbus":
                self.stations[device] = ModbusDevice(spec, self._values(device))
                bus, unit = self._seats.get(device, ("", 1))
                buses.setdefault(bus or f"only {device}", {})[unit] = device
        for units in buses.values():
            stations = {unit: self.stations[device] for unit, device in units.items()}
            server = ModbusServer(stations, host=self._host, port=self._next_port)
            self._next_port += 1 if self._next_port else 0
            await self._stack.enter_async_context(server)
            self._servers |= dict.fromkeys(units.values(), server)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    def connection(self, device: str) -> str:
        """Where a Modbus station listens, as the registry writes it."""
        return self._servers[device].connection(self._seats.get(device, ("", 1))[1])

    @property
    def mqtt_devices(self) -> list[str]:
        """The devices that speak MQTT for themselves; gateways of ours are not simulated."""
        return [d for d, spec in self._specs.items() if spec.protocol == "canonical" and spec.device_class != "gateway"]

    @property
    def vendor_devices(self) -> list[str]:
        """The devices that speak MQTT in their maker's own words."""
        return [d for d, spec in self._specs.items() if spec.protocol in {"json", "bytes"}]

    @property
    def connected(self) -> int:
        """How many of them are connected."""
        return sum(device.connected for device in (*self.devices.values(), *self.vendors.values()))

    async def enrol(self, est_url: str, ca_file: Path, token: Callable[[str], Awaitable[str]], done: Callable[[], None]) -> None:
        """Give every MQTT device a certificate by a one-time token, unless it has one; `done` is called for each.

        Raises:
            EnrolmentError: the listener refused one.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        waiting = iter(self.mqtt_devices)

        async def worker() -> None:
            for device in waiting:
                fresh = "" if (self._folder / f"{device}.pem").exists() else await token(device)
                self.identities[device] = await enrol(est_url, fresh, device, ca_file, self._folder)
                done()

        async with asyncio.TaskGroup() as group:
            for _ in range(ENROL_AT_ONCE):
                group.create_task(worker())

    async def connect(
        self,
        fire: Broker,
        field: Broker,
        mqtt: Literal["5", "3.1.1"],
        only: Mapping[str, Identity] | None = None,
        *,
        alternate: Broker | None = None,
    ) -> None:
        """Connect every enrolled MQTT device (or `only` these) to its broker; each goes on trying by itself.

        `alternate` is where fire devices post what MQTT does not answer.
        """
        for device, identity in (self.identities if only is None else only).items():
            spec = self._specs[device]
            is_fire = DOMAIN_OF_CLASS[spec.device_class] == "fire"
            way = identity.endpoint(*alternate) if is_fire and alternate is not None else None
            client = MqttDevice(device, spec, identity.endpoint(*(fire if is_fire else field)), mqtt=mqtt, alternate=way)
            self.devices[device] = await self._stack.enter_async_context(client)

    async def connect_vendors(self, broker: Endpoint, user: str | None = None, password: str | None = None) -> None:
        """Connect every vendor's device to a broker of the vendor's side."""
        for device in self.vendor_devices:
            client = VendorDevice(device, self._specs[device], broker, user=user, password=password)
            self.vendors[device] = await self._stack.enter_async_context(client)

    async def connect_vendor(self, device: str, broker: Endpoint, password: str) -> None:
        """Connect one of them to the platform's own listener for passwords, under its own name."""
        client = VendorDevice(device, self._specs[device], broker, user=device, password=password)
        self.vendors[device] = await self._stack.enter_async_context(client)

    async def live(self) -> None:
        """Let every device measure and report until cancelled."""
        async with asyncio.TaskGroup() as group:
            for device, client in (*self.devices.items(), *self.vendors.items()):
                group.create_task(self._report(device, client), name=device)
            group.create_task(self._refresh())

    async def replay(self, device: str, samples: Sequence[Sample], speed: float) -> None:
        """Play a measured fire over one detector; afterwards the scenario has it again."""
        async for sample in play(samples, speed):
            self._overrides[device] = {"smoke": sample.smoke, "temperature": sample.temperature}
        del self._overrides[device]

    def _values(self, device: str) -> Values:
        return {**self.scenario.values(device, time.time()), **self._overrides.get(device, {})}

    async def _report(self, device: str, client: MqttLink) -> None:
        """A reading each interval; a fire device also tells at once what changed, as its maker wants it."""
        spec = self._specs[device]
        is_fire = DOMAIN_OF_CLASS[spec.device_class] == "fire"
        interval_s = max(spec.interval_s / self._hurry, min(LOOK_S, spec.interval_s))
        look_s = min(LOOK_S, interval_s) if is_fire else interval_s
        loop = asyncio.get_running_loop()
        told: Values = {}
        told_s = loop.time() - random.uniform(0.0, interval_s)
        await asyncio.sleep(random.uniform(0.0, look_s))
        while True:
            values = self._values(device)
            due = loop.time() - told_s >= interval_s
            # A vendor's detector that reports once a day tells how it stands when it joins, as Zigbee devices do.
            news = is_fire and (_changed(told, values, spec) if told else isinstance(client, VendorDevice))
            if due or news:
                await client.report(values, kind="event" if news and not due else "reading")
                told, told_s = values, loop.time()
            await asyncio.sleep(look_s)

    async def _refresh(self) -> None:
        while True:
            for device, station in self.stations.items():
                for point, value in self._values(device).items():
                    station.set(point, value)
            await asyncio.sleep(REFRESH_S)


async def connected_all(clients: Sequence[MqttDevice], stack: AsyncExitStack, limit_s: float) -> None:
    """Enter clients with `stack` and wait until all are connected, a few handshakes at a time: thousands at once would time out.

    Raises:
        TimeoutError: some are not, after `limit_s`.
    """
    async with asyncio.timeout(limit_s):
        for first in range(0, len(clients), CONNECT_AT_ONCE):
            batch = clients[first : first + CONNECT_AT_ONCE]
            for client in batch:
                await stack.enter_async_context(client)
            while not all(client.connected for client in batch):  # noqa: ASYNC110 - each goes on trying by itself
                await asyncio.sleep(CONNECT_POLL_S)


def room_for(clients: int) -> None:
    """Raise this process's soft limit of open files, as far as it may be, so that so many clients fit.

    Raises:
        StartError: the hard limit is too low.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - Windows has none, and no such limit

    wanted = clients * DESCRIPTORS_PER_CLIENT + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise StartError(f"{clients} clients need {wanted} open files, the limit is {hard}", "Raise it: ulimit -Hn.")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _changed(told: Values, values: Values, spec: DeviceSpec) -> bool:
    """Whether a state is another, or a number has moved by more than its deadband."""
    for point, value in values.items():
        before = told.get(point)
        if isinstance(value, bool) or isinstance(before, bool):
            different = value is not before
        elif isinstance(value, float | int) and isinstance(before, float | int):
            band = spec.points[point].deadband
            different = abs(value - before) > (DEADBANDS.get(point, float("inf")) if band is None else band)
        else:
            different = False
        if different:
            return True
    return False

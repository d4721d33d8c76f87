"""What a test holds in its hands: a device, a bus and a city, simulated on a background loop and used without async.

They are the clients and servers as everywhere (`MqttDevice`, `ModbusServer`, `Town`); `client`, `server` and `town` give
them to whoever needs more, on the background's loop.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from iotcore.errors import StartError
from iotcore.reading import Scalar
from iotcore.specs.model import DeviceSpec
from iotcore.wire.topics import DOMAIN_OF_CLASS
from simulators import city, modbus_faults, mqtt_faults
from simulators.background import Background
from simulators.fire_growth import Fire, Growth
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.mqtt_device import MqttDevice
from simulators.platform_process import GATEWAY, GATEWAY_MODEL, NotInTime, PlatformProcess
from simulators.scenario import Scenario
from simulators.town import Town

CONNECT_LIMIT_S = 20.0
POLL_S = 0.01
FIRST_ACCOUNT = 0x2001
PLACE = {"address": "Simulated premises of a test", "latitude": 19.807, "longitude": 105.776}

_numbers = itertools.count(1)  # names are never used twice in a run: the platform outlives a test


class SimulatedDevice:
    """A canonical MQTT device with a certificate of its own, connected."""

    def __init__(self, name: str, premises: str, client: MqttDevice, background: Background) -> None:
        self.name = name
        self.premises = premises
        self.client = client
        self._background = background

    def report(self, **values: Scalar | None) -> int:
        """Say these points now, as a periodic reading; the report's number."""
        return self._background.call(self.client.report(values))

    def event(self, **values: Scalar | None) -> int:
        """The same as an event: something changed."""
        return self._background.call(self.client.report(values, kind="event"))

    def test_press(self, **values: Scalar | None) -> int:
        """The same, marked as made by a test button: no fire service hears of it."""
        return self._background.call(self.client.report(values, kind="event", test=True))

    def send_as_is(self, payload: bytes, **topic: Any) -> None:
        """Publish any bytes once; `kind`, `domain`, `device`, `retain` as in `MqttDevice.send_as_is`."""
        self._background.run(lambda: self.client.send_as_is(payload, **topic))

    def begin(self, fault: str, **args: Any) -> mqtt_faults.Fault:
        """Misbehave until `end`: a fault of docs/simulators.md by its name, such as "duplicate", copies=3.

        Raises:
            ValueError, ConfigError: there is no such fault, or it has no such argument.
        """
        parsed = mqtt_faults.parse(fault, args)
        self._background.run(lambda: self.client.begin(parsed))
        return parsed

    def end(self, fault: mqtt_faults.Fault) -> None:
        """Behave again."""
        self._background.run(lambda: self.client.end(fault))

    @property
    def connected(self) -> bool:
        """Whether it has its broker now."""
        return self.client.connected

    @property
    def over_https(self) -> bool:
        """Whether it has given up MQTT for now (only where the platform has an alternate path)."""
        return self.client.over_https

    @property
    def unreceipted(self) -> int:
        """Reports that the platform has not taken yet."""
        return self.client.held

    def wait_connected(self, within_s: float = CONNECT_LIMIT_S) -> None:
        """Until it has its broker.

        Raises:
            NotInTime: it has not; with what it was told.
        """
        _until(lambda: self.client.connected, within_s, lambda: f"{self.name} is not connected: {self.client.last_error}")

    def wait_receipted(self, within_s: float = 10.0) -> None:
        """Until the platform has a durable copy of every report.

        Raises:
            NotInTime: it has not.
        """
        _until(lambda: self.client.held == 0, within_s, lambda: f"{self.name}: {self.client.held} reports without a receipt")


class ModbusBus:
    """One TCP port with several units behind it, by device id (1–247)."""

    def __init__(self, server: ModbusServer, units: Mapping[int, ModbusDevice], background: Background) -> None:
        self.server = server
        self.units = dict(units)
        self.names: dict[int, str] = {}  # as `register` has told the platform
        self._background = background

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self.server.port

    def connection(self, unit: int = 1) -> str:
        """As the registry writes where a unit is: tcp://host:port?device_id=n."""
        return self.server.connection(unit)

    def set(self, unit: int, quality: str | None = None, **values: Scalar | None) -> None:
        """Write points of a unit; `quality` is one of the states that its spec knows.

        Raises:
            ValueError: a value that its registers cannot hold, or a point that it does not have.
        """

        def write() -> None:
            for point, value in values.items():
                self.units[unit].set(point, value, quality)

        self._background.run(write)

    def begin(self, unit: int, fault: str, **args: Any) -> None:
        """Let a unit misbehave until `end`, by the name of a Modbus fault such as "exception:6" or "slow".

        Raises:
            ValueError, ConfigError: there is no such fault, or it has no such argument.
        """
        self.units[unit].fault = modbus_faults.parse(fault, args)

    def end(self, unit: int) -> None:
        """Behave again."""
        self.units[unit].fault = None

    def unplug(self) -> None:
        """Close every connection and refuse new ones."""
        self._background.call(self.server.stop())

    def plug_in(self) -> None:
        """Listen again, on the same port."""
        self._background.call(self.server.start())

    def register(self, platform: PlatformProcess) -> dict[int, str]:
        """Let a platform poll the units; their device names by id."""
        if not self.names:
            number = next(_numbers)
            self.names = {unit: f"unit-{number}-{unit}" for unit in self.units}
        devices = [
            {
                "id": name,
                "title": f"Simulated {self.units[unit].spec.title}",
                "model": self.units[unit].spec.model,
                "parent": GATEWAY,
                "connection": self.connection(unit),
            }
            for unit, name in self.names.items()
        ]
        gateway = {"id": GATEWAY, "title": "Modbus", "model": GATEWAY_MODEL}
        platform.register({"premises": [], "zones": [], "devices": [gateway, *devices]})
        return self.names


class SimulatedCity:
    """Some premises, stations and junctions of the simulated town, enrolled, connected and alive."""

    def __init__(self, document: Mapping[str, Sequence[Mapping[str, Any]]], town: Town[Scenario], background: Background) -> None:
        self.document = document
        self.town = town
        self._background = background

    @property
    def premises(self) -> list[str]:
        """Ids of the premises."""
        return [str(one["id"]) for one in self.document["premises"]]

    @property
    def devices(self) -> list[str]:
        """Ids of all devices."""
        return [str(one["id"]) for one in self.document["devices"]]

    def ignite(self, premises: str, growth: Growth = "ultra-fast") -> float:
        """Set a premises on fire; the moment, ms UTC. One burns at a time."""
        now_s = time.time()
        self._background.run(lambda: self.town.scenario.ignite(premises, now_s, Fire(growth)))
        return now_s * 1000.0

    def put_out(self) -> None:
        """No fire any more."""

        def out() -> None:
            self.town.scenario.burning = None

        self._background.run(out)


class Bench:
    """Makes them for one test, and takes them away at its end (`close`)."""

    def __init__(self, background: Background, specs: Mapping[str, DeviceSpec]) -> None:
        self._background = background
        self._specs = specs
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    def device(self, platform: PlatformProcess, model: str, *, name: str = "", premises: str = "") -> SimulatedDevice:
        """Register, enrol and connect a device; a fire device gets a premises and a zone of its own, or stands in `premises`.

        Raises:
            StartError: the model is unknown or no canonical MQTT device, or it could not enrol.
            NotInTime: it could not connect.
        """
        spec = self._spec(model)
        if spec.protocol != "canonical":
            raise StartError(f"{model} speaks {spec.protocol}", "Put a Modbus unit on a `modbus_bus`.")
        domain = DOMAIN_OF_CLASS[spec.device_class]
        number = next(_numbers)
        name = name or f"dev-{number}"
        place = (premises or f"place-{number}") if domain == "fire" else ""
        platform.register(_entry(name, spec, place, number, new=not premises))
        endpoint = platform.endpoint(name, domain)
        way = replace(endpoint, host=platform.https[0], port=platform.https[1]) if domain == "fire" and platform.https else None
        client = MqttDevice(name, spec, endpoint, mqtt=platform.mqtt, alternate=way)
        device = SimulatedDevice(name, place, self._background.enter(client, self._stack), self._background)
        device.wait_connected()
        return device

    def bus(self, units: Mapping[int, str], *, host: str = "127.0.0.1", port: int = 0) -> ModbusBus:
        """A port with a unit of each model.

        Raises:
            StartError: a model is unknown or no Modbus device, or the port is taken.
        """
        for model in units.values():
            if self._spec(model).protocol != "modbus":
                raise StartError(f"{model} is no Modbus device", "A bus carries Modbus units only.")
        made = {unit: ModbusDevice(self._spec(model)) for unit, model in units.items()}
        server = self._background.enter(ModbusServer(made, host=host, port=port), self._stack)
        return ModbusBus(server, made, self._background)

    def city(
        self, platform: PlatformProcess, *, premises: int = 1, air: int = 1, water: int = 1, signals: int = 1, seed: int = 1
    ) -> SimulatedCity:
        """Register, enrol and connect a part of the town, and let it live."""
        document = city.part(city.document(seed), premises=premises, air=air, water=water, signals=signals)
        town = Town(document, self._specs, Scenario(document, seed), platform.folder / "devices")
        self._background.enter(town, self._stack)
        connected = {"connection": town.connection}
        devices = [
            {**one, "connection": connected["connection"](one["id"])} if "connection" in one else one
            for one in document["devices"]
        ]
        platform.register({**document, "devices": devices})
        folder = platform.folder / "devices"
        tokens = platform.tokens(one for one in town.mqtt_devices if not (folder / f"{one}.pem").exists())

        async def token(device: str) -> str:
            return tokens[device]

        self._background.call(town.enrol(platform.est_url, platform.trust, token, lambda: None))
        brokers = platform.broker("fire"), platform.broker("field")
        self._background.call(town.connect(*brokers, platform.mqtt, alternate=platform.https))
        _until(lambda: town.connected == len(town.mqtt_devices), CONNECT_LIMIT_S, lambda: f"only {town.connected} are connected")
        self._background.run(lambda: self._tasks.append(asyncio.get_running_loop().create_task(town.live())))
        return SimulatedCity(document, town, self._background)

    def close(self) -> None:
        """Everything that was made here ends, last first."""

        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._background.call(end())
        self._background.close(self._stack)

    def _spec(self, model: str) -> DeviceSpec:
        try:
            return self._specs[model]
        except KeyError:
            raise StartError(f"There is no model {model!r}", f"Known are: {', '.join(sorted(self._specs))}.") from None


def _entry(name: str, spec: DeviceSpec, place: str, number: int, *, new: bool) -> dict[str, Any]:
    device = {"id": name, "title": f"Simulated {spec.title}", "model": spec.model}
    if not place:
        return {"premises": [], "zones": [], "devices": [device]}
    site = {"id": place, "name": f"Test {number}", "account": f"{FIRST_ACCOUNT + number:04X}", **PLACE}
    zone = {"id": f"{place}-z1", "premises": place, "number": 1, "floor": "1", "name": "Room 1"}
    return {
        "premises": [site] if new else [],
        "zones": [zone] if new else [],
        "devices": [{**device, "premises": place, "zone": zone["id"]}],
    }


def _until(condition: Any, within_s: float, what: Any) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {within_s:g} s: {what()}")
        time.sleep(POLL_S)

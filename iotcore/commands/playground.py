"""Simulated devices from the command line: enrol one as it would itself, or play a measured fire through one."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iotcore.alarms.engine import Engine
from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.errors import EnrolmentError, StartError
from iotcore.journal.database import connect_readonly
from iotcore.journal.timeline import incidents
from iotcore.process import home
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import choose
from iotcore.provision.files import make_folder
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.registry.store import open_registry
from iotcore.settings import Settings
from iotcore.specs.load import load_folder, shipped_folder
from simulators import button
from simulators.city import DETECTOR_MODEL
from simulators.enrol import Identity, claim, enrol
from simulators.local_page import LocalPage, Platform
from simulators.mqtt_device import MqttDevice
from simulators.replay import Sample, load, play, source_ms, with_baseline

TOKEN_TTL_S = 600.0
CONNECT_LIMIT_S = 20.0
DELIVERY_LIMIT_S = 10.0
REPLAY_PREMISES = {
    "id": "replay",
    "name": "Phòng thử nghiệm",
    "address": "Simulated premises for replays",
    "latitude": 19.807,
    "longitude": 105.776,
    "account": "FFFE",
}
REPLAY_ZONE = {"id": "replay-z1", "premises": "replay", "number": 1, "floor": "Tầng 1", "name": "Phòng thử"}


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured fire, ready to play. Times in s on its own timeline, smoke in dB/m, temperature in °C."""

    name: str
    samples: tuple[Sample, ...]
    speed: float

    @property
    def lasts_s(self) -> float:
        """How long it plays."""
        return (self.samples[-1].at_s - self.samples[0].at_s) / self.speed


def measured_from(options: argparse.Namespace, file: Path | None = None) -> Measured:
    """Read what the command line names.

    Raises:
        ConfigError: the file, a column or a number in it is wrong.
        StartError: the speed is not greater than 0.
    """
    path: Path = file or options.file
    if not options.speed > 0.0:
        raise StartError(f"--speed {options.speed} is not greater than 0", "1 is as fast as life, 10 ten times faster.")
    samples = load(path, options.time, options.smoke, options.temperature, options.smoke_unit)
    if options.baseline > 0.0:
        samples = with_baseline(samples, options.baseline, seed=1)
    return Measured(f"{path.name}, {options.smoke}", samples, options.speed)


def replay_offline(measured: Measured) -> int:
    """Ask the default rules when they would alarm on it, on the measured time; 0 when they do."""
    settings = Settings(data="")
    specs = load_folder(shipped_folder())
    engine = Engine(common.rules_of(settings, specs))
    binding = Binding("replay", "replay", specs[DETECTOR_MODEL], "fire", "replay", "active")
    for number, sample in enumerate(measured.samples, start=1):
        at_ms = sample.at_s * 1000.0
        values = (Value("smoke", sample.smoke), Value("temperature", sample.temperature))
        reading = Reading("replay", "b1", number, "reading", at_ms, at_ms, values)
        for decision in engine.evaluate(reading, binding, now_s=sample.at_s):
            if decision.severity == "alarm":
                _say(f"alarm at {sample.at_s:.1f} s by {decision.rule} ({decision.reason.value}): "
                     f"{decision.point} {decision.value} {decision.unit}")  # fmt: skip
                return 0
    _say("no alarm")
    return 1


async def replay(settings: Settings, measured: Measured, device: str) -> int:
    """Play it through a simulated detector of a running platform; 0 when a receiver acknowledged an incident of it."""
    identity = await _identity(settings, device)
    broker = home.broker_settings(settings, BrokerName.FIRE)
    spec = common.specs_of(settings)[DETECTOR_MODEL]
    mqtt: Literal["5", "3.1.1"] = "3.1.1" if choose(broker.run) == "amqtt" else "5"
    started_ms = SystemClock().wall_ms()
    async with MqttDevice(device, spec, identity.endpoint(broker.host, broker.port), mqtt=mqtt) as client:
        await _connected(client)
        _say(f"{measured.name} plays at {device} for {measured.lasts_s:.0f} s")
        if measured.speed != 1.0:
            _say(f"{measured.speed:g} times as fast as life; its time stamps keep the measured pace, so they begin in the past")
        played_ms = time.time_ns() / 1e6
        async for sample in play(measured.samples, measured.speed):
            stamp = int(source_ms(sample, measured.samples, played_ms, measured.speed))
            await client.report({"smoke": sample.smoke, "temperature": sample.temperature}, ts=stamp)
        deadline = time.monotonic() + DELIVERY_LIMIT_S
        while time.monotonic() < deadline:
            if _told(settings, device, started_ms):
                return 0
            await asyncio.sleep(0.1)
    _say("no receiver has acknowledged an incident of this device")
    return 1


async def enrol_device(settings: Settings, device: str, token: str, folder: Path) -> str:
    """Key, CSR, token, certificate: what a device does at its first start."""
    make_folder(folder)
    identity = await _enrol(settings, device, token, folder)
    return f"{identity.cert_file} and {identity.key_file}; trust {identity.ca_file}"


async def press(settings: Settings, device: str, token: str, folder: Path, *, marked: bool) -> str:
    """Press the test button of a simulated fire device that is registered; how long its receipt took.

    Raises:
        StartError: it is not registered, not enrolled (and there is no token), or cannot connect.
        IotError: no receipt came.
    """
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        binding = (await registry.directory(common.specs_of(settings))).devices.get(device)
    if binding is None:
        raise StartError(f"{device} is not registered", "`iotcore devices` lists all that are.")
    identity = await _enrol(settings, device, token, make_folder(folder))
    broker = home.broker_settings(settings, BrokerName.FIRE)
    mqtt: Literal["5", "3.1.1"] = "3.1.1" if choose(broker.run) == "amqtt" else "5"
    async with MqttDevice(device, binding.spec, identity.endpoint(broker.host, broker.port), mqtt=mqtt) as client:
        await _connected(client)
        took_s = await button.press(client, marked=marked)
    return f"{device}: {'a marked test alarm' if marked else 'an alarm'}, receipted after {took_s * 1000.0:.0f} ms"


async def _connected(client: MqttDevice) -> None:
    deadline = time.monotonic() + CONNECT_LIMIT_S
    while not client.connected:
        if time.monotonic() > deadline:
            raise StartError(f"{client.device} cannot connect: {client.last_error}", "Is the platform up? Ask `iotcore doctor`.")
        await asyncio.sleep(0.05)


async def claim_unit(settings: Settings, serial: str, secret: str, folder: Path, wait_s: float) -> str:
    """What a unit does at its first start: it asks with its serial until it was bound, for so long."""
    make_folder(folder)
    device, identity = await claim(_est_url(settings), serial, secret, _trusted(settings), folder, limit_s=wait_s)
    return f"{serial} is {device}: {identity.cert_file} and {identity.key_file}; trust {identity.ca_file}"


async def local_page(settings: Settings, device: str, folder: Path, host: str, port: int) -> None:
    """Serve a device's own page until cancelled."""
    platform = Platform(_est_url(settings), _trusted(settings))
    async with LocalPage(device, platform, make_folder(folder), host=host, port=port) as page:
        _say(f"{device} takes its token at http://{page.host}:{page.port}/")
        await asyncio.Event().wait()


async def _identity(settings: Settings, device: str) -> Identity:
    """The device's certificate; the device is registered and enrolled when it is not."""
    _trusted(settings)
    folder = make_folder(settings.folder / "devices")
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        specs = common.specs_of(settings)
        known = (await registry.directory(specs)).devices
        if device not in known:
            entry = {"id": device, "title": "Replay", "model": DETECTOR_MODEL, "premises": "replay", "zone": "replay-z1"}
            document = {"premises": [REPLAY_PREMISES], "zones": [REPLAY_ZONE], "devices": [entry]}
            await registry.import_city(document, specs, "replay")
        token = "" if (folder / f"{device}.pem").exists() else await registry.create_token(device, TOKEN_TTL_S, "replay")
    return await _enrol(settings, device, token, folder)


async def _enrol(settings: Settings, device: str, token: str, folder: Path) -> Identity:
    url = _est_url(settings)
    try:
        return await enrol(url, token, device, _trusted(settings), folder)
    except EnrolmentError as error:
        if error.reason == "unreachable":
            raise StartError(f"Nobody enrols devices at {url}", "Is the platform up? Ask `iotcore doctor`.") from error
        raise


def _est_url(settings: Settings) -> str:
    return f"https://{settings.web.est_names[0]}:{settings.web.est_port}"


def _trusted(settings: Settings) -> Path:
    """The anchor of the platform's own services, as a device must know it.

    Raises:
        StartError: no platform was ever started with these settings.
    """
    service = settings.folder / "certs" / "service-root.pem"
    if not service.exists():
        raise StartError(f"There is no platform in {settings.folder}", "Start `iotcore up` or `make demo` first; check --config.")
    return service


def _told(settings: Settings, device: str, since_ms: float) -> bool:
    """Print the incident that this device opened or joined, once a receiver has it."""
    connection = connect_readonly(settings.journal_place)
    try:
        for story in incidents(connection):
            mine = connection.execute(
                "SELECT 1 FROM alarm WHERE incident = ? AND device = ? AND raised_ms >= ?", (story.incident, device, since_ms)
            ).fetchone()
            if mine and story.delivered_ms is not None:
                _say(f"{story.incident} ({story.notice.rule}): {story.latencies_ms()}")
                return True
    finally:
        connection.close()
    return False


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

"""`iotcore sim run`: a scenario's devices against a running platform, or its Modbus units alone.

read and check ─► Modbus units listen ─► register ─► enrol (tokens, CSR) ─► connect ─► play ─► what became of each report
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.errors import EnrolmentError, StartError
from iotcore.process import home
from iotcore.provision import vendor_access
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import choose
from iotcore.provision.files import make_folder
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from iotcore.specs.load import load_folder, shipped_folder
from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from iotcore.wire.topics import DOMAIN_OF_CLASS, FIRE_DOMAIN
from simulators import timeline
from simulators.city import GATEWAY_MODEL
from simulators.player import GATEWAY, Player, Turn

TOKEN_TTL_S = 600.0
CONNECT_LIMIT_S = 30.0
LAST_RECEIPTS_S = 5.0
BY = "iotcore sim run"  # who stands in the audit


async def run(settings: Settings | None, options: argparse.Namespace, vendor_password: str | None = None) -> None:
    """Play until its end or Ctrl-C; without `settings` only what needs no platform: Modbus units, vendors' devices.

    Raises:
        ConfigError: with every problem of the scenario.
        StartError: nothing to do without a platform, a taken port, no platform there, or a device that it does not let in.
    """
    if not options.speed > 0.0:
        raise StartError(f"--speed {options.speed} is not greater than 0", "1 is as fast as life, 60 an hour in a minute.")
    specs = load_folder(shipped_folder()) if settings is None else common.specs_of(settings)
    story = timeline.load(timeline.find(options.scenario), specs)
    vendor = _vendor_broker(story, options.vendor_broker, settings)
    if settings is None and vendor is None and all(spec.protocol != "modbus" for spec in story.specs.values()):
        raise StartError("This scenario has no Modbus unit", "MQTT devices need a platform: leave out --standalone.")
    place: dict[str, Any] = {"host": options.host, "first_port": options.port, "speed": options.speed, "told": _tell}
    with TemporaryDirectory() as nowhere:
        folder = Path(nowhere) if settings is None else make_folder(settings.folder / "devices")
        gateway = GATEWAY if settings is None else settings.modbus_gateway
        async with Player(story, folder, gateway=gateway, **place) as player:
            if settings is not None:
                await _let_in(settings, player, vendors=vendor is None)
            if vendor is not None:
                await player.town.connect_vendors(vendor, options.vendor_user, vendor_password)
            await _all_connected(player)
            _list(player)
            try:
                await player.play()
                await _last_receipts(player)
            finally:
                _sum_up(player)


def _vendor_broker(story: timeline.Timeline, address: str, settings: Settings | None) -> Endpoint | None:
    """Where the vendors' devices publish; None where there are none, or the platform lets them in by password."""
    host, _, port = address.rpartition(":")
    if address and (not host or not port.isdecimal()):
        raise StartError(f"--vendor-broker {address!r} is not HOST:PORT", "For example 127.0.0.1:1883.")
    vendors = sorted(name for name, spec in story.specs.items() if spec.protocol in {"json", "bytes"})
    if address or not vendors:
        return Endpoint(host, int(port), Path(), Path(), Path()) if vendors else None
    shut = [name for name in vendors if settings is None or not _password_endpoint(settings, story.specs[name]).port]
    if shut:
        raise StartError(
            f"{', '.join(shut)} speak their makers' own MQTT and have no certificate",
            "Say where they publish: --vendor-broker HOST:PORT. Or open the brokers' password listeners (password_port).",
        )
    return None


def _password_endpoint(settings: Settings, spec: DeviceSpec) -> Endpoint:
    fire = DOMAIN_OF_CLASS[spec.device_class] == FIRE_DOMAIN
    broker = home.broker_settings(settings, BrokerName.FIRE if fire else BrokerName.FIELD)
    return Endpoint(broker.host, broker.password_port, _trust(settings), Path(), Path())


def _trust(settings: Settings) -> Path:
    return settings.folder / "certs" / "service-root.pem"


async def _let_in(settings: Settings, player: Player, *, vendors: bool) -> None:
    """Register the devices, get each its certificate (or, `vendors`, its password), connect them."""
    trust = _trust(settings)
    if not await asyncio.to_thread(trust.exists):
        raise StartError(f"There is no platform in {settings.folder}", "Start `iotcore up` or `make demo` first; check --config.")
    document: dict[str, Any] = player.city()
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        specs = common.specs_of(settings)
        known = (await registry.directory(specs)).devices
        if player.town.stations and settings.modbus_gateway not in known:
            gateway = {"id": settings.modbus_gateway, "title": "Modbus", "model": GATEWAY_MODEL}
            document["devices"] = [gateway, *document["devices"]]
        await registry.import_city(document, specs, BY)
        await _enrol(settings, player, registry, trust)
        for device in player.town.vendor_devices if vendors else ():
            secret = vendor_access.new_secret()
            await registry.keep_credential(device, vendor_access.hashed(secret), BY)
            await player.town.connect_vendor(device, _password_endpoint(settings, player.timeline.specs[device]), secret)
    fire, field = (home.broker_settings(settings, name) for name in (BrokerName.FIRE, BrokerName.FIELD))
    mqtt: Literal["5", "3.1.1"] = "3.1.1" if choose(fire.run) == "amqtt" else "5"
    alternate = home.fire_https(settings)
    await player.town.connect((fire.host, fire.port), (field.host, field.port), mqtt, alternate=alternate)


async def _all_connected(player: Player) -> None:
    clients = (*player.town.devices.values(), *player.town.vendors.values())
    deadline = time.monotonic() + CONNECT_LIMIT_S
    while player.town.connected < len(clients):
        if time.monotonic() > deadline:
            errors = {client.last_error for client in clients if not client.connected}
            raise StartError(f"Not every device could connect: {'; '.join(sorted(errors))}", "Ask `iotcore doctor`.")
        await asyncio.sleep(0.05)


async def _enrol(settings: Settings, player: Player, registry: Registry, trust: Path) -> None:
    async def token(device: str) -> str:
        return await registry.create_token(device, TOKEN_TTL_S, BY)

    url = f"https://{settings.web.est_names[0]}:{settings.web.est_port}"
    try:
        await player.town.enrol(url, trust, token, lambda: None)
    except ExceptionGroup as group:
        refused = group.subgroup(EnrolmentError)
        if refused is None:
            raise
        raise StartError(f"A device could not enrol at {url}: {refused.exceptions[0]}", "Is the platform up?") from group


async def _last_receipts(player: Player) -> None:
    """The last reports are still on their way when the play ends."""
    deadline = time.monotonic() + LAST_RECEIPTS_S
    while any(client.held for client in player.town.devices.values()):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.05)


def _list(player: Player) -> None:
    for device, connection in player.connections.items():
        _say(f"{device}  {player.timeline.specs[device].model}  {connection}")
    for device in (*player.town.devices, *player.town.vendors):
        _say(f"{device}  {player.timeline.specs[device].model}  connected")
    lasts_s = player.timeline.lasts_s
    end = "Ctrl-C ends it" if lasts_s is None else f"for {lasts_s / player.story.speed:.0f} s"
    _say(f"playing at speed {player.story.speed:g}, {end}")


def _tell(turn: Turn) -> None:
    _say(str(turn))


def _sum_up(player: Player) -> None:
    for device, client in player.town.devices.items():
        counted = client.counters
        _say(f"{device}  reported={counted.reported} receipted={counted.receipted} without_receipt={client.held} "
             f"sent_again={counted.resent} dropped={counted.dropped} connections={counted.connections}")  # fmt: skip
    for device, vendor in player.town.vendors.items():
        _say(f"{device}  published={vendor.counters.published} lost={vendor.counters.dropped}")
    for device, unit in player.town.stations.items():
        _say(f"{device}  reads={unit.reads}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

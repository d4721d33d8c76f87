"""Composition root: the only place that wires parts together. One function for each process of the platform.

fire       fire broker → rules → journal → dispatch        (run_fire)
telemetry  both brokers → spool → store                    (run_telemetry)
modbus     Modbus units → outbox → field broker            (run_modbus)
web        page, live stream, enrolment                    (run_web)
keeper     revocation lists, watchdog over dispatch        (run_keeper)
broker-*   one Mosquitto (or amqtt), when we run it        (run_broker)
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from drivers.mqtt.canonical import decode
from drivers.mqtt.ingest import Ingest
from iotcore import home
from iotcore.alarms import rules as fire_rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.clock import Clock, SystemClock
from iotcore.dispatch.cad_webhook import WebhookChannel
from iotcore.dispatch.outbox import Channel, Dispatcher
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.errors import ConfigError, StoreError
from iotcore.follow import Follower, follow_intents
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.process import beat
from iotcore.provision.acl import BrokerName
from iotcore.registry.records import Intent
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Dc09Receiver, Settings
from iotcore.specs.load import load_folder, shipped_folder
from iotcore.specs.model import DeviceSpec

log = logging.getLogger(__name__)

FIRE_FILTERS = ("iot/v1/fire/+/up/#", "iot/v1/gateway/+/up/status/+")
INTENT_CURSOR = "intent"


def specs_of(settings: Settings) -> dict[str, DeviceSpec]:
    """The device specs of this installation, refused whole when one is wrong."""
    return load_folder(Path(settings.specs) if settings.specs else shipped_folder())


def rules_of(settings: Settings, specs: Mapping[str, DeviceSpec]) -> tuple[fire_rules.Rule, ...]:
    """The fire rules of this installation, refused whole when one is wrong or fits no spec."""
    path = Path(settings.rules) if settings.rules else fire_rules.default_path()
    loaded = fire_rules.load(path)
    problems = fire_rules.mismatches(loaded, specs, str(path))
    if problems:
        raise ConfigError(problems)
    return loaded


def channels_of(settings: Settings, clock: Clock) -> dict[str, Channel]:
    """One channel for each receiver."""
    return {
        receiver.name: Dc09Channel(receiver, clock) if isinstance(receiver, Dc09Receiver) else WebhookChannel(receiver, clock)
        for receiver in settings.receivers
    }


async def run_fire(settings: Settings) -> None:
    """The fire lane and its dispatch."""
    clock = SystemClock()
    specs = specs_of(settings)
    engine = Engine(rules_of(settings, specs))
    registry = await open_registry(settings.registry_url, clock)
    follower = Follower(registry, specs)
    await follower.refresh()
    channels = channels_of(settings, clock)
    journal = Journal(settings.folder / "journal.db", clock, list(channels))
    dispatcher = Dispatcher(SqlOutbox(journal), channels, clock, f"fire-{os.getpid()}")
    broker = home.endpoint(settings, BrokerName.FIRE, home.FIRE_IN)
    try:
        async with Ingest(broker, home.FIRE_IN, FIRE_FILTERS, clock) as ingest, asyncio.TaskGroup() as group:
            lane = FireLane(
                broker=ingest,
                decode=decode,
                directory=lambda: follower.directory,
                engine=engine,
                journal=journal,
                clock=clock,
                opened=lambda _: dispatcher.wake(),
                first_seen=lambda device: _activate(registry, device),
            )
            lane.warm()
            group.create_task(lane.run())
            group.create_task(dispatcher.run())
            group.create_task(follower.run())
            group.create_task(
                follow_intents(registry, journal.cursor(INTENT_CURSOR), _Intents(follower, engine, journal, dispatcher))
            )
            group.create_task(beat(settings.folder, "fire", clock, lambda: {"connected": ingest.connected, **lane.counts()}))
    finally:
        journal.close()
        await registry.close()


class _Intents:
    """Applies what people want of the fire lane, and remembers how far it came."""

    def __init__(self, follower: Follower, engine: Engine, journal: Journal, dispatcher: Dispatcher) -> None:
        self._follower = follower
        self._engine = engine
        self._journal = journal
        self._dispatcher = dispatcher

    async def __call__(self, intent: Intent) -> None:
        if intent.kind == "acknowledge":
            await asyncio.to_thread(self._journal.acknowledge, intent.key, intent.by, self._journal.now_ms())
        else:
            await self._reset(intent)
        await asyncio.to_thread(self._journal.move_cursor, INTENT_CURSOR, intent.id)

    async def _reset(self, intent: Intent) -> None:
        premises = await asyncio.to_thread(self._journal.premises_of, intent.key)
        devices = [b.device for b in self._follower.directory.devices.values() if (b.premises or b.device) == premises]
        if await asyncio.to_thread(self._journal.reset, intent.key, devices, intent.by, self._journal.now_ms()):
            self._engine.reset(devices)
            self._dispatcher.wake()


async def _activate(registry: Registry, device: str) -> None:
    """A device's first accepted reading makes it active; a registry that is down is asked again at its next start."""
    try:
        await registry.set_state(device, "active", "ingest")
    except StoreError as error:
        log.warning("%s could not be marked active: %s", device, error)

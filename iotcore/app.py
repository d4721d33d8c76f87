"""Composition root: the only place that wires parts together. One function for each process of the platform.

fire       fire broker → rules → journal → dispatch        (run_fire)
telemetry  both brokers → spool → store                    (run_telemetry)
modbus     Modbus units → outboxes → both brokers         (run_modbus)
web        page, live stream, enrolment                    (run_web)
keeper     revocation lists, watchdog over dispatch        (run_keeper)
broker-*   one Mosquitto (or amqtt), when we run it        (brokers.run: starts without all of this)
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Literal

from drivers.mqtt.canonical import decode
from drivers.mqtt.ingest import Ingest
from iotcore.alarms import rules as fire_rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.clock import Clock, SystemClock
from iotcore.dispatch.cad_webhook import WebhookChannel
from iotcore.dispatch.outbox import Channel, Dispatcher
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.errors import ConfigError, StoreError
from iotcore.gateway import central, site
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.recent import RecentReadings
from iotcore.keeper import Keeper, overdue_notices
from iotcore.process import home
from iotcore.process.follow import Follower, follow_intents
from iotcore.process.serve import beat, beats
from iotcore.provision.acl import UP, BrokerName
from iotcore.provision.broker import choose, refresh_crl
from iotcore.provision.ca import Anchor, IssuedCertificate
from iotcore.provision.enroll import Enrolment
from iotcore.registry.records import Certificate, Intent
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Dc09Receiver, Settings
from iotcore.specs.load import Specs, load_folder, shipped_folder
from iotcore.specs.model import DeviceSpec
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.stores import TELEMETRY_DB, open_store
from iotcore.web.app import LOOPBACK_NAMES
from iotcore.web.app import create as create_page
from iotcore.web.est import EstListener, server_context
from iotcore.web.server import serve as serve_page
from iotcore.web.view import StoredView

log = logging.getLogger(__name__)

EVERYTHING = (UP,)  # a broker throws away what nobody subscribes to: a device in the wrong place would fall silent unseen
FIRE_VALUES = ("iot/v1/fire/+/up/#",)
INTENT_CURSOR = "intent"
FIRE_RETRY_S = 1.0  # between two attempts of the fire lane to reach its broker: back within a second of it


def specs_of(settings: Settings) -> Specs:
    """The device specs of this installation; `check` has refused them whole when one is wrong."""
    return Specs(_specs_folder(settings))


def _specs_folder(settings: Settings) -> Path:
    return Path(settings.specs) if settings.specs else shipped_folder()


def rules_of(settings: Settings, specs: Mapping[str, DeviceSpec]) -> tuple[fire_rules.Rule, ...]:
    """The fire rules of this installation, refused whole when one is wrong or does not fit one of `specs`."""
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


@asynccontextmanager
async def _registry(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Registry, Follower]]:
    """The registry, open and read once; closed at the end."""
    async with await open_registry(settings.registry_url, clock) as registry:
        follower = Follower(registry, specs_of(settings))
        await follower.refresh()
        yield registry, follower


async def run_fire(settings: Settings) -> None:
    """The fire lane and its dispatch."""
    clock = SystemClock()
    channels = channels_of(settings, clock)
    broker = home.endpoint(settings, BrokerName.FIRE, home.FIRE_IN)
    version = _version(settings, BrokerName.FIRE)
    ingest = Ingest(broker, home.FIRE_IN, EVERYTHING, clock, version=version, retry_most_s=FIRE_RETRY_S)
    async with AsyncExitStack() as stack:
        registry, follower = await stack.enter_async_context(_registry(settings, clock))
        in_use = {binding.spec.model: binding.spec for binding in follower.directory.devices.values()}
        engine = Engine(rules_of(settings, in_use))
        owner = f"fire-{os.getpid()}"
        journal = stack.enter_context(closing(Journal(settings.folder / "journal.db", clock, list(channels), owner)))
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        dispatcher = Dispatcher(SqlOutbox(journal), channels, clock, owner)
        await stack.enter_async_context(ingest)
        lane = FireLane(
            broker=ingest,
            decode=decode,
            directory=lambda: follower.directory,
            engine=engine,
            journal=journal,
            clock=clock,
            opened=lambda committed: dispatcher.send_now(committed.leased),
            first_seen=lambda device: _activate(registry, device),
        )
        lane.warm()
        intents = _Intents(follower, engine, journal, dispatcher)
        async with asyncio.TaskGroup() as group:
            group.create_task(lane.run())
            group.create_task(dispatcher.run())
            group.create_task(follower.run())
            group.create_task(follow_intents(registry, journal.cursor(INTENT_CURSOR), intents))
            group.create_task(beat(settings.folder, "fire", clock, lambda: {"connected": ingest.connected, **lane.counts()}))


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
    """A device's first accepted reading makes it active; a registry that is down is asked again at the next start."""
    try:
        await registry.activate(device, "ingest")
    except StoreError as error:
        log.warning("%s could not be marked active: %s", device, error)


async def run_telemetry(settings: Settings) -> None:
    """The bulk lane: both brokers into the spool and the store."""
    clock = SystemClock()
    field, fire = (
        Ingest(home.endpoint(settings, name, cn), cn, filters, clock, version=_version(settings, name))
        for name, cn, filters in (
            (BrokerName.FIELD, home.TELEMETRY_FIELD, EVERYTHING),
            (BrokerName.FIRE, home.TELEMETRY_FIRE, FIRE_VALUES),
        )
    )
    spool_limits = settings.spool
    async with (
        _registry(settings, clock) as (registry, follower),
        TelemetryFile(settings.folder / TELEMETRY_DB) as file,
        open_store(settings, clock, file) as store,
        Spool(
            settings.folder / "spool-1.db",
            clock,
            store_format=store.format,
            max_bytes=spool_limits.max_bytes,
            max_age_s=spool_limits.max_age_s,
        ) as spool,
        field,
        fire,
        asyncio.TaskGroup() as group,
    ):
        lane = TelemetryLane(
            owned=field,
            watched=fire,
            decode=decode,
            directory=lambda: follower.directory,
            spool=spool,
            store=store,
            panel=Panel(file, clock),
            clock=clock,
            first_seen=lambda device: _activate(registry, device),
            receipted=RecentReadings(settings.folder / "journal.db", clock),
        )
        group.create_task(lane.run())
        group.create_task(follower.run())
        state = lambda: {"connected": field.connected and fire.connected, **lane.counts()}  # noqa: E731 - read at each beat
        group.create_task(beat(settings.folder, "telemetry", clock, state))


async def run_modbus(settings: Settings) -> None:
    """A gateway to Modbus units: at a site by the settings' [gateway], else the one beside the core."""
    clock = SystemClock()
    if settings.gateway is not None:
        await site.run(settings, settings.gateway, specs_of(settings), clock)
        return
    async with _registry(settings, clock) as (registry, follower), asyncio.TaskGroup() as group:
        group.create_task(follower.run())
        await central.run(
            settings,
            directory=lambda: follower.directory,
            record=lambda issued: registry.record_certificate(_recorded(issued), "modbus"),
            protocol=lambda name: _version(settings, name),
            clock=clock,
        )


async def run_web(settings: Settings) -> None:
    """The page and the enrolment listener. It writes intents, and neither the journal nor MQTT."""
    clock = SystemClock()
    async with _registry(settings, clock) as (registry, follower):
        await _serve_web(settings, registry, follower, clock)


async def _serve_web(settings: Settings, registry: Registry, follower: Follower, clock: Clock) -> None:
    authority = home.authority(settings, clock)
    enrolment = Enrolment(
        authority=authority,
        anchors_of=lambda device: _anchors(follower, device),
        use_token=registry.use_token,
        record=lambda issued: registry.record_certificate(_recorded(issued), "est"),
        audit=lambda action, device, detail: registry.note("est", action, device, detail),
    )
    tls = server_context(authority, settings.folder / "certs", settings.web.est_names)
    page = create_page(
        view=StoredView(settings.folder, lambda: follower.directory),
        intend=registry.intent,
        certificates=registry.certificates,
        clock=clock,
        language=settings.web.language,
        hosts=[*LOOPBACK_NAMES, settings.web.host, *settings.web.names],
        processes=lambda: beats(settings.folder, clock),
    )
    listener = EstListener(enrolment, tls, clock, host=settings.web.est_host, port=settings.web.est_port)
    async with listener, asyncio.TaskGroup() as group:
        group.create_task(follower.run())
        group.create_task(beat(settings.folder, "web", clock, dict))
        group.create_task(serve_page(page, settings.web.host, settings.web.port))


async def _anchors(follower: Follower, device: str) -> tuple[Anchor, ...]:
    """Of which anchors a device may have a certificate, its usual one first."""
    if device not in follower.directory.devices:
        await follower.refresh()  # a technician registers a device and enrols it in the same breath
    binding = follower.directory.devices.get(device)
    if binding is None or binding.state in {"suspended", "retired"}:
        return ()
    if binding.domain == "gateway":
        return (Anchor.FIELD, Anchor.FIRE)
    return (Anchor.FIRE,) if binding.domain == "fire" else (Anchor.FIELD,)


async def run_keeper(settings: Settings) -> None:
    """Periodic work: fresh revocation lists, and a watchdog that says aloud what no receiver has taken."""
    clock = SystemClock()
    keeper = Keeper(
        republish=lambda: _republish(settings, clock),
        overdue=lambda: overdue_notices(settings.folder / "journal.db", clock),
        clock=clock,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        group.create_task(beat(settings.folder, "keeper", clock, keeper.state))


def _republish(settings: Settings, clock: Clock) -> None:
    authority = home.authority(settings, clock)
    authority.republish()
    for name in BrokerName:
        if home.broker_settings(settings, name).run != "external":
            refresh_crl(authority, home.broker_home(settings, name))


def check(settings: Settings) -> None:
    """Refuse a bad configuration as a whole before anything starts: specs, rules, brokers."""
    rules_of(settings, load_folder(_specs_folder(settings)))
    for name in BrokerName:
        choose(home.broker_settings(settings, name).run)


def _version(settings: Settings, name: BrokerName) -> Literal["5", "3.1.1"]:
    """The MQTT version of a broker: the embedded amqtt knows 3.1.1 only."""
    return "3.1.1" if choose(home.broker_settings(settings, name).run) == "amqtt" else "5"


def _recorded(issued: IssuedCertificate) -> Certificate:
    return Certificate(issued.serial, issued.cn, issued.anchor.value, int(issued.not_after_ms), issued.fingerprint)

"""Telemetry: both brokers → spool → store."""

from __future__ import annotations

import asyncio

from drivers.mqtt.canonical import decode
from drivers.mqtt.ingest import Ingest
from iotcore.app.common import EVERYTHING, activate, opened, version_of
from iotcore.clock import SystemClock
from iotcore.journal.recent import RecentReadings
from iotcore.process import home
from iotcore.process.serve import beat
from iotcore.provision.acl import BrokerName
from iotcore.settings import Settings
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.stores import TELEMETRY_DB, open_confidential, open_store
from iotcore.telemetry.upkeep import Upkeep

FIRE_VALUES = ("iot/v1/fire/+/up/#",)


async def run(settings: Settings) -> None:
    """The bulk lane: both brokers into the spool and the store."""
    clock = SystemClock()
    field, fire = (
        Ingest(home.endpoint(settings, name, cn), cn, filters, clock, version=version_of(settings, name))
        for name, cn, filters in (
            (BrokerName.FIELD, home.TELEMETRY_FIELD, EVERYTHING),
            (BrokerName.FIRE, home.TELEMETRY_FIRE, FIRE_VALUES),
        )
    )
    spool_limits = settings.spool
    async with (
        opened(settings, clock) as (registry, follower),
        TelemetryFile(settings.folder / TELEMETRY_DB) as file,
        open_store(settings, clock, file) as store,
        open_confidential(settings, clock, file) as confidential,
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
            first_seen=lambda device: activate(registry, device),
            receipted=RecentReadings(settings.folder / "journal.db", clock),
            confidential=confidential,
        )
        group.create_task(lane.run())
        group.create_task(follower.run())
        for each in (store, *([confidential.store] if confidential else [])):
            if isinstance(each, EmbeddedStore):
                group.create_task(Upkeep(each, settings.store, clock, lambda: follower.directory).run())
        state = lambda: {"connected": field.connected and fire.connected, **lane.counts()}  # noqa: E731 - read at each beat
        group.create_task(beat(settings.folder, "telemetry", clock, state))

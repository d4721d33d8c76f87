"""Telemetry: both brokers → spool → store. One of several workers, when the settings share the domains among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from drivers.mqtt.decode import Decoder
from drivers.mqtt.ingest import Ingest
from drivers.mqtt.vendor import Vendors
from iotcore import metrics
from iotcore.app.common import activate, heard, ingest_version, opened
from iotcore.app.configs_back import ConfigsBack
from iotcore.clock import Clock, SystemClock
from iotcore.errors import StartError, StoreError
from iotcore.journal.progress import Row
from iotcore.journal.recent import RecentReadings
from iotcore.journal.throttle import Throttle
from iotcore.process import home, memory
from iotcore.process.alive import alive, watch
from iotcore.process.follow import follow_intents
from iotcore.process.room import Room
from iotcore.process.watchdog import Watchdog
from iotcore.process.workers import Worker, given_up, workers
from iotcore.provision.acl import UP, BrokerName
from iotcore.registry.directory import Directory
from iotcore.registry.places import Places
from iotcore.settings import Settings
from iotcore.telemetry.coverage import Files, watch_coverage
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.feed import CURSOR, follow_incidents
from iotcore.telemetry.handover import known_elsewhere, more
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.point import PlatformSeries
from iotcore.telemetry.requests import carried_out
from iotcore.telemetry.spool import Spool, reserve_of
from iotcore.telemetry.store import Confidential, Store
from iotcore.telemetry.stores import TELEMETRY_DB, open_confidential, open_store
from iotcore.telemetry.strays import Strays
from iotcore.telemetry.upkeep import Upkeep
from iotcore.wire.topics import FIRE_DOMAIN

DEPTH_EVERY_S = 2.0


async def run(settings: Settings, number: int = 1) -> None:
    """The bulk lane: its domains of both brokers into the spool and the store.

    Raises:
        StartError: the settings have no worker of this number.
    """
    worker, clock = _numbered(settings, number), SystemClock()
    async with AsyncExitStack() as stack:
        path, limits = worker.spool(settings.folder), settings.spool
        room = Room(settings, worker.name, clock, give=reserve_of(path).spend)
        registry, follower = await stack.enter_async_context(opened(settings, clock, room))
        file = await room.enter(stack, lambda: TelemetryFile(settings.folder / TELEMETRY_DB))
        store = await stack.enter_async_context(open_store(settings, clock, file))
        confidential = await room.enter(stack, lambda: open_confidential(settings, clock, file))
        elsewhere = await room.enter(stack, lambda: _known_elsewhere(worker, settings, follower.directory))
        bounds = {"max_bytes": limits.max_bytes, "max_age_s": limits.max_age_s}
        spool = await room.enter(stack, lambda: Spool(path, clock, store_format=store.format, **bounds))
        rows, answered = more(await spool.progress(), elsewhere), await spool.answered()
        await room.enter(stack, lambda: _taken_over(spool, rows))
        brokers = _brokers(settings, worker, clock)
        for ingest in brokers.values():
            await stack.enter_async_context(ingest)
        panel, journal = Panel(file, clock), settings.journal_place
        configs = ConfigsBack(Places(registry.database), clock)
        directory = lambda: follower.directory  # noqa: E731 - always the latest
        decode = Decoder(Vendors(worker.domains))
        lane = TelemetryLane(
            owned=brokers["field"],
            watched=brokers.get("fire"),
            decode=decode,
            directory=directory,
            spool=spool,
            store=store,
            panel=panel,
            clock=clock,
            first_seen=lambda device: activate(registry, device),
            receipted=RecentReadings(journal, clock) if worker.owns_fire else None,
            throttle=Throttle(times=settings.throttle_times),
            domains=worker.domains - {FIRE_DOMAIN},
            confidential=confidential,
            configured=configs.tell,
        )

        def state() -> dict[str, Any]:
            return {"connected": all(one.connected for one in brokers.values()), **lane.counts()}

        tasks = [lane.run(), configs.run(), heard(follower, *_ears(worker, brokers)), _measure(spool, clock)]
        if "stray" in brokers:
            stray = brokers["stray"]
            tasks.append(Strays(broker=stray, decode=decode, directory=directory, spool=spool, panel=panel, clock=clock).run())
        if worker.owns_fire:
            series = PlatformSeries(spool, store.format, lane.wake, settings.cell)
            tasks.append(follow_incidents(journal, series))
            within = settings.coverage.tested_within_days
            tasks.append(watch_coverage(directory, Files(file.path, journal), series, clock, tested_within_days=within))
        embedded = _embedded(store, confidential)
        tasks += [Upkeep(one, settings.store, clock, directory, writer=number).run() for one in embedded]
        tasks += [Watchdog(settings.folder, brokers).run(), follow_intents(registry, answered, carried_out(lane, spool))]
        memory.settle()
        await _together(*tasks, alive(settings, worker.name, clock, state))


def _embedded(store: Store, confidential: Confidential | None) -> list[EmbeddedStore]:
    """Those of the stores that we keep up ourselves."""
    stores = [store, *([confidential.store] if confidential else [])]
    return [one for one in stores if isinstance(one, EmbeddedStore)]


async def _together(*tasks: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task)


def _numbered(settings: Settings, number: int) -> Worker:
    for worker in workers(settings):
        if worker.number == number:
            return worker
    raise StartError(f"There is no telemetry worker {number}", "The settings say how many there are ([[telemetry]]).")


def _ears(worker: Worker, brokers: Mapping[str, Ingest]) -> list[tuple[Ingest, frozenset[str]]]:
    """Which connection hears the vendors' devices of which domains."""
    ears = [(brokers["field"], worker.domains - {FIRE_DOMAIN})]
    return [*ears, (brokers["fire"], frozenset({FIRE_DOMAIN}))] if worker.owns_fire else ears


def _brokers(settings: Settings, worker: Worker, clock: Clock) -> dict[str, Ingest]:
    """The worker's connections: field always; fire and strays if they are its part, or once were.

    A session in which an earlier split has left something is emptied: its filters are given up, what it holds still comes.
    """
    wanted = {
        "field": (BrokerName.FIELD, worker.field_cn, worker.field_filters),
        "fire": (BrokerName.FIRE, worker.fire_cn, worker.fire_filters),
        "stray": (BrokerName.FIELD, worker.stray_cn, (UP,) if worker.hears_strays else ()),
    }
    made = {}
    for what, (broker, cn, filters) in wanted.items():
        endpoint = home.endpoint(settings, broker, cn)
        if not filters and not endpoint.cert_file.exists():
            continue
        made[what] = Ingest(endpoint, cn, filters, clock, given_up=given_up(filters), version=ingest_version(settings, broker))
        watch(made[what], "telemetry", what)
    return made


@asynccontextmanager
async def _known_elsewhere(worker: Worker, settings: Settings, directory: Directory) -> AsyncIterator[list[Row]]:
    """What other workers have stored of devices that are ours now."""
    own = {device for device, binding in directory.devices.items() if binding.domain in worker.domains}
    own |= {CURSOR} if worker.owns_fire else set()
    yield await asyncio.to_thread(known_elsewhere, worker.spool(settings.folder), own)


@asynccontextmanager
async def _taken_over(spool: Spool, rows: Sequence[Row]) -> AsyncIterator[None]:
    """Nothing may be receipted before these are in our spool."""
    if rows:
        await spool.take_over(rows)
    yield


async def _measure(spool: Spool, clock: Clock) -> None:
    """How old the oldest reading is that the store has not taken."""
    while True:
        try:
            oldest_ms = (await spool.depth()).oldest_ms
        except StoreError:  # its own writer has said so
            oldest_ms = None
        metrics.spool_oldest.set(0.0 if oldest_ms is None else max(0.0, (clock.wall_ms() - oldest_ms) / 1000.0))
        await asyncio.sleep(DEPTH_EVERY_S)

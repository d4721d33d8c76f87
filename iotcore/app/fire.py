"""Fire: fire broker, and the alternate path → rules → journal → dispatch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

from drivers.https_alarm import HttpsAlarm, Place
from drivers.mqtt.decode import Decoder
from drivers.mqtt.ingest import Ingest
from drivers.mqtt.vendor import Vendors
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.alarms.supervised import Supervised
from iotcore.app import fire_rules, supervising, troubles
from iotcore.app.channels import channels_of
from iotcore.app.common import EVERYTHING, activate, heard, ingest_version, opened, rules_of
from iotcore.app.configs_back import ConfigsBack
from iotcore.app.escalating import Escalating
from iotcore.app.intents import INTENT_CURSOR, Intents
from iotcore.app.outages import Outages
from iotcore.app.receivers import callers_of, dispatching, told_of_all, with_secrets
from iotcore.app.testing import TestsBack
from iotcore.clock import Clock, SystemClock, machine_uptime
from iotcore.dispatch.paths import Paths
from iotcore.journal.journal import Journal
from iotcore.journal.throttle import Throttle
from iotcore.process import home
from iotcore.process.alive import alive, watch
from iotcore.process.follow import follow_intents
from iotcore.process.room import Room
from iotcore.process.watchdog import Watchdog
from iotcore.provision.acl import BrokerName
from iotcore.registry.commissioning import Commissioning
from iotcore.registry.places import Places
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.wire.topics import FIRE_DOMAIN

FIRE = (FIRE_DOMAIN,)
FIRE_RETRY_S = 1.0  # between two attempts of the fire lane to reach its broker: back within a second of it


async def run(settings: Settings) -> None:
    """The fire lane and its dispatch."""
    settings, clock = with_secrets(settings), SystemClock()
    channels = channels_of(settings, clock)
    broker = home.endpoint(settings, BrokerName.FIRE, home.FIRE_IN)
    version = ingest_version(settings, BrokerName.FIRE)
    ingest = Ingest(broker, home.FIRE_IN, EVERYTHING, clock, version=version, retry_most_s=FIRE_RETRY_S)
    async with AsyncExitStack() as stack:
        room = Room(settings, "fire", clock)
        registry, follower = await stack.enter_async_context(opened(settings, clock, room))
        in_use = {binding.spec.model: binding.spec for binding in follower.directory.devices.values()}
        ruled = await fire_rules.documents(registry, rules_of(settings, in_use), clock)
        grouped = await fire_rules.grouped(settings, registry, lambda: follower.directory, clock)
        fire_rules.warn_of_unknown(ruled.rules, follower.directory, grouped)
        engine = Engine(ruled.rules, grouped.members.of)
        owner = f"fire-{os.getpid()}"
        journal = await room.enter(stack, lambda: _journal(settings.journal_place, clock, told_of_all(settings), owner))
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        dispatcher, paths = dispatching(settings, channels, journal, clock, owner)
        tests = TestsBack(journal, Commissioning(registry.database), clock)
        configs = ConfigsBack(Places(registry.database), clock)
        supervised = Supervised(journal, lambda: follower.directory, clock, machine_uptime())
        await stack.enter_async_context(ingest)
        exempt = Exempt()
        lane = FireLane(
            broker=ingest,
            decode=Decoder(Vendors(FIRE)),
            directory=lambda: follower.directory,
            engine=engine,
            journal=journal,
            clock=clock,
            opened=lambda committed: dispatcher.send_now(committed.leased),
            first_seen=lambda device: activate(registry, device),
            throttle=Throttle(times=settings.throttle_times),
            tested=tests.tell,
            configured=configs.tell,
            supervised=supervised,
            exempt=exempt,
        )
        watch(ingest, "fire", "fire")
        lane.warm()
        outages = Outages(*(journal, lambda: follower.directory, exempt, engine, lane.raise_again), clock)
        https = alternate_path(settings, lane, registry, clock)
        escalating = Escalating(journal, lambda: follower.directory, callers_of(settings), dispatcher.wake)
        intents = Intents(lane, follower, engine, journal, dispatcher)
        async with asyncio.TaskGroup() as group:
            for part in (lane, grouped, dispatcher, paths, tests, outages, escalating, configs):
                group.create_task(part.run())
            group.create_task(ruled.run(fire_rules.using(engine, lambda: follower.directory, grouped)))
            group.create_task(heard(follower, (ingest, FIRE)))
            group.create_task(supervising.run(lane, supervised.supervision, ingest))
            group.create_task(Watchdog(settings.folder, {"fire": ingest}).run())
            group.create_task(troubles.tell_lane(settings, registry, lambda: follower.directory, lane.troubled, clock))
            group.create_task(follow_intents(registry, journal.cursor(INTENT_CURSOR), intents))
            if https is not None:
                group.create_task(https.run())
            state = lambda: {**_state(ingest, lane, supervised, paths, https), **ruled.state()}  # noqa: E731 - read at each beat
            group.create_task(alive(settings, "fire", clock, state))


def _state(ingest: Ingest, lane: FireLane, supervised: Supervised, paths: Paths, https: HttpsAlarm | None) -> dict[str, Any]:
    """For the beat, which `iotcore doctor` reads."""
    told = https.state() if https is not None else {}
    return {
        "connected": ingest.connected,
        **lane.counts(),
        **supervising.state(supervised.supervision),
        **paths.state(),
        **told,
    }


def alternate_path(settings: Settings, lane: FireLane, registry: Registry, clock: Clock) -> HttpsAlarm | None:
    """The HTTPS listener for fire devices; None where the settings give it no port."""
    if not settings.fire.https_port:
        return None
    certs = settings.folder / "certs"
    place = Place(
        settings.fire.https_host,
        settings.fire.https_port,
        certs / f"{home.FIRE_HTTPS}.pem",
        certs / f"{home.FIRE_HTTPS}.key",
        home.given(settings),
    )
    return HttpsAlarm(place, lane.deliver, registry.refuses_certificate, clock, expired=settings.fire.expired)


@asynccontextmanager
async def _journal(place: Path | str, clock: Clock, channels: Sequence[str], owner: str) -> AsyncIterator[Journal]:
    with closing(Journal(place, clock, channels, owner, machine_uptime())) as journal:
        yield journal

"""Fire: fire broker, and the alternate path → rules → journal → dispatch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

from drivers.https_alarm import HttpsAlarm, Place
from drivers.mqtt.decode import Decoder
from drivers.mqtt.ingest import Ingest
from drivers.mqtt.vendor import Vendors
from iotcore import metrics
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.alarms.supervised import Supervised
from iotcore.app import fire_rules, supervising, troubles
from iotcore.app.channels import channels_of, pressed
from iotcore.app.common import EVERYTHING, activate, heard, ingest_version, opened, rules_of
from iotcore.app.configs_back import ConfigsBack
from iotcore.app.drilling import Drilling
from iotcore.app.escalating import Escalating
from iotcore.app.intents import INTENT_CURSOR, Intents
from iotcore.app.nearby import Nearby
from iotcore.app.outages import Outages
from iotcore.app.outgoing import Outgoing, Rescue
from iotcore.app.receivers import callers_of, centres_of, told_of_all, troubles_of, with_secrets
from iotcore.app.testing import TestsBack
from iotcore.clock import Clock, SystemClock, machine_uptime
from iotcore.dispatch.outbox import Channel
from iotcore.journal.journal import Journal
from iotcore.journal.throttle import Throttle
from iotcore.process import home, replicas
from iotcore.process.alive import alive, watch
from iotcore.process.follow import Follower, follow_intents
from iotcore.process.grouped import Grouped
from iotcore.process.replicas import Replica
from iotcore.process.room import Room
from iotcore.process.ruled import Ruled
from iotcore.process.siblings import Siblings
from iotcore.process.watchdog import Watchdog
from iotcore.provision.acl import DRILLS, BrokerName
from iotcore.registry.commissioning import Commissioning
from iotcore.registry.places import Places
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.wire.topics import FIRE_DOMAIN

FIRE = (FIRE_DOMAIN,)
EMERGENCY_S = 5.0  # that the start waits for the emergency log; a disk that is slower stops no fire
FIRE_RETRY_S = 1.0  # between two attempts of the fire lane to reach its broker: back within a second of it


async def run(settings: Settings, number: int = 1) -> None:
    """The fire lane and its dispatch: replica `number` of those that the settings ask for."""
    settings, clock = with_secrets(settings), SystemClock()
    replica = replicas.replica(settings, number)
    channels = channels_of(settings, clock)
    owner = f"{replica.name}-{os.getpid()}-{secrets.token_hex(4)}"
    ingest = _ingest(settings, replica, clock)
    rescue = Rescue(settings, replica, channels, clock, owner)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_rescuing(rescue, channels))
        room = Room(settings, replica.name, clock)
        registry, follower = await stack.enter_async_context(opened(settings, clock, room))
        engine, grouped, ruled = await _judging(settings, registry, follower, clock)
        journal = await room.enter(stack, lambda: _journal(settings.journal_place, clock, told_of_all(settings), owner))
        outgoing = Outgoing(settings, journal, rescue, channels, clock, owner)
        telling = troubles_of(settings, channels, journal, lambda: follower.directory, clock)
        tests = TestsBack(journal, Commissioning(registry.database), clock)
        configs = ConfigsBack(Places(registry.database), clock)
        supervised = Supervised(journal, lambda: follower.directory, clock, machine_uptime(), by=replica.name)
        drilling = Drilling(*(settings, registry, journal, engine, lambda: follower.directory, channels), clock)
        await stack.enter_async_context(ingest)
        nearby = Nearby(settings.folder, journal, lambda: follower.directory, centres_of(settings), clock)
        lane = FireLane(
            broker=ingest,
            decode=Decoder(Vendors(FIRE)),
            directory=lambda: follower.directory,
            engine=engine,
            journal=journal,
            clock=clock,
            opened=nearby.opened_by(outgoing.opened, outgoing.dispatcher.wake),
            first_seen=lambda device: activate(registry, device),
            throttle=Throttle(times=settings.throttle_times),
            tested=tests.tell,
            configured=configs.tell,
            supervised=supervised,
            safety=outgoing.safety,
            exempt=(exempt := Exempt()),
            drilled=drilling.drilled,
        )
        watch(ingest, "fire", "fire")
        metrics.journal_stalled.ask(lambda: float("journal_stalled" in lane.state()))
        cursor = journal.cursor(INTENT_CURSOR)  # before the warm start: what is reset after it unlatches this engine too
        lane.warm()
        outages = Outages(*(journal, lambda: follower.directory, exempt, engine, lane.raise_again), clock, registry.database)
        escalating = Escalating(journal, lambda: follower.directory, callers_of(settings), outgoing.dispatcher.wake)
        intents = Intents(lane, follower, engine, journal, outgoing.dispatcher, pressed=pressed(channels), drill=drilling)
        async with asyncio.TaskGroup() as group:
            for part in (lane, grouped, *outgoing.parts, telling, escalating, nearby, tests, outages, configs, drilling):
                group.create_task(part.run())
            if (https := alternate_path(settings, lane, registry, clock)) is not None:
                group.create_task(https.run())
            group.create_task(ruled.run(fire_rules.using(engine, lambda: follower.directory, grouped)))
            group.create_task(heard(follower, (ingest, FIRE)))
            group.create_task(supervising.run(lane, supervised.supervision, ingest))
            group.create_task(Watchdog(settings.folder, {"fire": ingest}).run())
            group.create_task(troubles.tell_lane(settings, registry, lambda: follower.directory, lane.troubled, clock))
            group.create_task(follow_intents(registry, cursor, intents))
            group.create_task(_siblings(settings, replica, outgoing, clock, group).run())
            state = partial(_state, ingest, lane, supervised, outgoing, https, ruled)
            group.create_task(alive(settings, replica.name, clock, state))


async def _judging(settings: Settings, registry: Registry, follower: Follower, clock: Clock) -> tuple[Engine, Grouped, Ruled]:
    """The rules, and the groups that some of them are for."""
    in_use = {binding.spec.model: binding.spec for binding in follower.directory.devices.values()}
    ruled = await fire_rules.documents(registry, rules_of(settings, in_use), clock)
    grouped = await fire_rules.grouped(settings, registry, lambda: follower.directory, clock)
    fire_rules.warn_of_unknown(ruled.rules, follower.directory, grouped)
    return fire_rules.engine_of(ruled.rules, lambda: follower.directory, grouped), grouped, ruled


def _state(  # noqa: PLR0917 - whoever tells something
    ingest: Ingest, lane: FireLane, supervised: Supervised, outgoing: Outgoing, https: HttpsAlarm | None, ruled: Ruled
) -> dict[str, Any]:
    """For the beat, which `iotcore doctor` reads; `owner` is whose leases end with the process."""
    told = https.state() if https is not None else {}
    return {
        "connected": ingest.connected,
        "owner": outgoing.owner,
        **lane.state(),
        **supervising.state(supervised.supervision),
        **outgoing.paths.state(),
        **ruled.state(),
        **told,
    }


def _ingest(settings: Settings, replica: Replica, clock: Clock) -> Ingest:
    endpoint = home.endpoint(settings, BrokerName.FIRE, replica.cn)
    version = ingest_version(settings, BrokerName.FIRE)
    return Ingest(endpoint, replica.cn, (*EVERYTHING, DRILLS), clock, version=version, retry_most_s=FIRE_RETRY_S)


def _siblings(settings: Settings, replica: Replica, outgoing: Outgoing, clock: Clock, group: asyncio.TaskGroup) -> Siblings:
    names = [one.name for one in replicas.replicas(settings) if one != replica]
    return Siblings(settings.folder, names, clock, lambda owner, _: group.create_task(outgoing.take_over(owner)))


@asynccontextmanager
async def _rescuing(rescue: Rescue, channels: Mapping[str, Channel]) -> AsyncIterator[None]:
    """The emergency runs, from before the journal is open until after it is closed."""
    task = asyncio.create_task(rescue.run(), name="emergency")
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EMERGENCY_S):
                await rescue.opened.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        for channel in channels.values():
            await channel.close()
        if not task.cancelled():
            task.result()


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
    shared = settings.fire.replicas > 1
    return HttpsAlarm(place, lane.deliver, registry.refuses_certificate, clock, expired=settings.fire.expired, shared=shared)


@asynccontextmanager
async def _journal(place: Path | str, clock: Clock, channels: Sequence[str], owner: str) -> AsyncIterator[Journal]:
    with closing(Journal(place, clock, channels, owner, machine_uptime())) as journal:
        yield journal

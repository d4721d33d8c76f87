"""Keeper: revocations, audit heads, drills, coverage by day, vendors' passwords, watchdogs (dispatch, backups), rollups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from iotcore import metrics
from iotcore.app import audit_heads, coverage_history, drill_speaker, outages, signs, testing, troubles
from iotcore.app.common import opened
from iotcore.app.revoking import Revoking
from iotcore.backup import last
from iotcore.clock import SystemClock, machine_uptime
from iotcore.keeper import Keeper, overdue_notices, standing_still
from iotcore.process import home
from iotcore.process.alive import alive
from iotcore.process.follow import Follower, forever
from iotcore.process.room import Room
from iotcore.provision import vendor_access
from iotcore.provision.acl import BrokerName
from iotcore.registry.commissioning import Commissioning
from iotcore.registry.disablements import Disablements
from iotcore.registry.store import Registry
from iotcore.registry.walks import Walks
from iotcore.settings import Settings
from iotcore.settings_receivers import alternates
from iotcore.telemetry.rollups import InfluxRollups


async def run(settings: Settings) -> None:
    """Periodic work: fresh revocation lists, a watchdog that says aloud what no receiver has taken, downsampling."""
    clock, uptime = SystemClock(), machine_uptime()
    revoking = Revoking(settings, clock)
    keeper = Keeper(
        republish=revoking.republish,
        overdue=lambda: overdue_notices(settings.journal_place, clock, alternates(settings.receivers)),
        still=lambda: standing_still(settings.journal_place, uptime, clock),
        clock=clock,
    )
    revoking.figures()
    metrics.keeper_still.ask(lambda: float(len(keeper.state()["standing_still"])))
    metrics.keeper_overdue.ask(lambda: float(len(keeper.state()["overdue"])))
    metrics.backup_age.ask(lambda: last.due(settings, clock).age_s)
    room = Room(settings, "keeper", clock)
    async with opened(settings, clock, room) as (registry, follower), asyncio.TaskGroup() as group:
        rollups = None
        if settings.store.kind != "embedded":  # telemetry.db is rolled up by the process that writes it
            rollups = InfluxRollups(settings.store, settings.folder, clock, lambda: follower.directory)
            group.create_task(rollups.run())
        group.create_task(keeper.run())
        group.create_task(testing.end_overdue(Commissioning(registry.database)))
        group.create_task(outages.end_overdue(Disablements(registry.database), Walks(registry.database)))
        group.create_task(drill_speaker.speaker(settings, clock).run())
        group.create_task(audit_heads.run(settings, registry, clock))
        group.create_task(coverage_history.run(settings, registry, lambda: follower.directory, clock))
        group.create_task(revoking.follow(registry))
        group.create_task(revoking.watch())
        group.create_task(last.watch(settings, clock))
        watching = troubles.Watching(settings, registry, lambda: follower.directory, clock)
        watching.figures()
        group.create_task(watching.run())
        trouble = "the registry cannot be read; vendors' devices stay as the brokers know them"
        group.create_task(forever(_letting_in(settings, registry, follower), trouble))
        state = lambda: {**keeper.state(), **revoking.state(), **watching.state(), **(rollups.state() if rollups else {})}  # noqa: E731 - read at each beat
        if settings.deadman.url:
            group.create_task(signs.switch(settings, keeper, clock).run())
        group.create_task(alive(settings, "keeper", clock, state))


def _letting_in(settings: Settings, registry: Registry, follower: Follower) -> Callable[[], Awaitable[None]]:
    """Once for each poll: after a change, who of the vendors' devices may come in, and what they may say."""
    behind = True

    async def once() -> None:
        nonlocal behind
        behind = await follower.refresh() or behind
        if behind:
            credentials = await registry.credentials()
            await asyncio.to_thread(
                _write, settings, {name: vendor_access.made(follower.directory, credentials, name) for name in BrokerName}
            )
            behind = False

    return once


def _write(settings: Settings, access: dict[BrokerName, vendor_access.VendorAccess]) -> None:
    """The process of each broker sees it and has the broker read it."""
    for name, here in access.items():
        broker = home.broker_home(settings, name)
        if home.broker_settings(settings, name).run != "external":
            vendor_access.write(broker.folder, name, here, passwords=bool(broker.password_port))

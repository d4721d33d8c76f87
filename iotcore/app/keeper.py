"""Keeper: revocation lists, the watchdog over dispatch, rollups in InfluxDB."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from iotcore.app.common import opened
from iotcore.clock import Clock, SystemClock
from iotcore.keeper import Keeper, overdue_notices
from iotcore.process import home
from iotcore.process.serve import beat
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import refresh_crl
from iotcore.settings import Settings
from iotcore.telemetry.rollups import InfluxRollups


async def run(settings: Settings) -> None:
    """Periodic work: fresh revocation lists, a watchdog that says aloud what no receiver has taken, downsampling."""
    clock = SystemClock()
    keeper = Keeper(
        republish=lambda: _republish(settings, clock),
        overdue=lambda: overdue_notices(settings.folder / "journal.db", clock),
        clock=clock,
    )
    async with AsyncExitStack() as stack:
        follower, rollups = None, None
        if settings.store.kind != "embedded":  # telemetry.db is rolled up by the process that writes it
            _, follower = await stack.enter_async_context(opened(settings, clock))
            rollups = InfluxRollups(settings.store, settings.folder, clock, lambda: follower.directory)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(keeper.run())
        state = lambda: {**keeper.state(), **(rollups.state() if rollups else {})}  # noqa: E731 - read at each beat
        group.create_task(beat(settings.folder, "keeper", clock, state))
        if follower is not None and rollups is not None:
            group.create_task(follower.run())
            group.create_task(rollups.run())


def _republish(settings: Settings, clock: Clock) -> None:
    authority = home.authority(settings, clock)
    authority.republish()
    for name in BrokerName:
        if home.broker_settings(settings, name).run != "external":
            refresh_crl(authority, home.broker_home(settings, name))

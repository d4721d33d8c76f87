"""Keeper: revocation lists, and the watchdog over dispatch."""

from __future__ import annotations

import asyncio

from iotcore import metrics
from iotcore.clock import Clock, SystemClock
from iotcore.keeper import Keeper, overdue_notices
from iotcore.process import home
from iotcore.process.alive import alive
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import refresh_crl
from iotcore.settings import Settings


async def run(settings: Settings) -> None:
    """Periodic work: fresh revocation lists, and a watchdog that says aloud what no receiver has taken."""
    clock = SystemClock()
    keeper = Keeper(
        republish=lambda: _republish(settings, clock),
        overdue=lambda: overdue_notices(settings.folder / "journal.db", clock),
        clock=clock,
    )
    metrics.keeper_overdue.ask(lambda: float(len(keeper.state()["overdue"])))
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        group.create_task(alive(settings, "keeper", clock, keeper.state))


def _republish(settings: Settings, clock: Clock) -> None:
    authority = home.authority(settings, clock)
    authority.republish()
    for name in BrokerName:
        if home.broker_settings(settings, name).run != "external":
            refresh_crl(authority, home.broker_home(settings, name))

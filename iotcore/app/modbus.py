"""Modbus: units → outboxes → both brokers."""

from __future__ import annotations

import asyncio

from iotcore.app.common import opened, recorded, specs_of, version_of
from iotcore.clock import SystemClock
from iotcore.gateway import central, site
from iotcore.process.room import Room
from iotcore.settings import Settings


async def run(settings: Settings) -> None:
    """A gateway to Modbus units: at a site by the settings' [gateway], else the one beside the core."""
    clock = SystemClock()
    if settings.gateway is not None:
        await site.run(settings, settings.gateway, specs_of(settings), clock)
        return
    room = Room(settings, "modbus", clock)
    async with opened(settings, clock, room) as (registry, follower), asyncio.TaskGroup() as group:
        group.create_task(follower.run())
        await central.run(
            settings,
            directory=lambda: follower.directory,
            record=lambda issued: registry.record_certificate(recorded(issued), "modbus"),
            confirm=lambda serial: registry.confirm_certificate(serial, "modbus"),
            protocol=lambda name: version_of(settings, name),
            clock=clock,
        )

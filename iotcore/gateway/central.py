"""The Modbus driver beside the core: a gateway like any other, whose units are in the registry and whose authority is at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from drivers.mqtt.link import Protocol
from iotcore.clock import Clock
from iotcore.gateway.children import Children
from iotcore.gateway.run import Place, Voice, serve
from iotcore.process import home
from iotcore.process.alive import alive
from iotcore.process.follow import POLL_S
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.gateway import AtHand, Upkeep
from iotcore.registry.directory import Directory
from iotcore.settings import Settings
from iotcore.wire.arrival import Endpoint


async def run(
    settings: Settings,
    directory: Callable[[], Directory],
    record: Callable[[IssuedCertificate], Awaitable[None]],
    confirm: Callable[[str], Awaitable[object]],
    protocol: Callable[[BrokerName], Protocol],
    *,
    clock: Clock,
) -> None:
    """Serve until cancelled; waits until the registry has the gateway."""
    gateway = settings.modbus_gateway
    voice = Voice(lambda: {"connected": True, "waiting": f"for a gateway device named {gateway} in the registry"})

    async with asyncio.TaskGroup() as group:
        group.create_task(alive(settings, "modbus", clock, voice))
        while gateway not in directory().devices:  # noqa: ASYNC110 - the registry is polled, see Follower
            await asyncio.sleep(POLL_S)
        authority = await asyncio.to_thread(home.authority, settings, clock)
        await serve(_place(settings, directory, (record, confirm), protocol, authority, clock=clock), settings, clock, voice)


def _place(
    settings: Settings,
    directory: Callable[[], Directory],
    keep: tuple[Callable[[IssuedCertificate], Awaitable[None]], Callable[[str], Awaitable[object]]],
    protocol: Callable[[BrokerName], Protocol],
    authority: Authority,
    *,
    clock: Clock,
) -> Place:
    gateway, certs = settings.modbus_gateway, settings.folder / "certs"

    def upkeep(anchor: Anchor) -> Upkeep:
        source = AtHand(lambda: authority, anchor, gateway, *keep)
        return Upkeep(certs, gateway, anchor, source, clock, ours=lambda certificate: authority.anchor_of(certificate) is anchor)

    def endpoint(broker: BrokerName, file: Path) -> Endpoint:
        where = home.broker_settings(settings, broker)
        return Endpoint(where.host, where.port, certs / "service-root.pem", file, file)

    own = directory().devices[gateway].spec
    return Place(gateway, Children(directory, gateway), upkeep, endpoint, protocol, own)

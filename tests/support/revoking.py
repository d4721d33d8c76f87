"""A registry, an authority and the two Mosquitto brokers as a platform runs them, and the keeper's part that revokes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from iotcore.app.common import recorded
from iotcore.app.revoking import Revoking
from iotcore.clock import SystemClock
from iotcore.process import home
from iotcore.provision import broker_process, embedded_broker
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.registry.records import State
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings, check
from tests.support.brokers import Client, Kind, Site, becomes
from tests.support.pki import device_files
from tests.support.ports import free_port
from tests.support.registered import SPECS, city
from tests.support.until import until

CUT_LIMIT_S = 10.0  # from the word of a person to the end of the session


@dataclass
class Cell:
    """All that a revocation goes through. The keeper runs only while a test lets it."""

    settings: Settings
    registry: Registry
    authority: Authority
    site: Site
    said: list[str] = field(default_factory=list)

    async def device(self, name: str, anchor: Anchor = Anchor.FIRE) -> tuple[ssl.SSLContext, IssuedCertificate]:
        """A new certificate of a registered device, recorded as at its enrolment; it becomes active."""
        folder = self.settings.folder / "devices" / str(time.monotonic_ns())
        certificate, key, issued = device_files(self.authority, folder, anchor, name)
        await self.registry.record_certificate(recorded(issued), "test")
        await self.registry.activate(name, "test")
        return self.site.tls(certificate, key), issued

    async def becomes(self, name: str, *states: State) -> None:
        """What a person wants."""
        for state in states:
            await self.registry.set_state(name, state, "test")

    def keeper(self) -> Revoking:
        """A keeper that has just started."""
        return Revoking(self.settings, SystemClock())

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """The keeper runs."""
        running = asyncio.create_task(self.keeper().follow(self.registry))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def let_in(self, tls: ssl.SSLContext, broker: BrokerName = BrokerName.FIRE, *, wanted: bool = True) -> bool:
        """Whether this certificate comes to be let in (or no more)."""
        return await becomes(self.site, broker, tls, wanted=wanted)


async def cut(client: Client) -> str:
    """Wait until the broker ends this session: with which words."""
    async with asyncio.timeout(CUT_LIMIT_S):
        await asyncio.wait([client.mqtt._disconnected])
    return str(client.mqtt._disconnected.exception())


async def stays(client: Client, for_s: float = 1.0) -> bool:
    """Whether the session goes on."""
    done, _ = await asyncio.wait([client.mqtt._disconnected], timeout=for_s)
    return not done


@asynccontextmanager
async def cell(folder: Path, kind: Kind = "mosquitto", names: Sequence[BrokerName] = tuple(BrokerName)) -> AsyncIterator[Cell]:
    """Everything but the keeper runs."""
    ports = {name.value: {"port": free_port(), "run": kind} for name in BrokerName}
    settings = check({"data": str(folder / "data"), "brokers": ports, "metrics": {"port": 0}}, "a test")
    ours = home.prepare(settings, SystemClock())
    homes = {name: home.broker_home(settings, name) for name in names}
    async with await open_registry(settings.registry_url) as registry:
        await registry.import_city(city(), SPECS, "test")
        made = Cell(settings, registry, ours, Site(folder, kind, ours, homes))
        tasks = [
            asyncio.create_task(broker_process.run(one) if kind == "mosquitto" else embedded_broker.run(one, made.said.append))
            for one in homes.values()
        ]
        try:
            for one in homes.values():
                await until(lambda port=one.port: _listens(port), 10.0)  # type: ignore[misc]
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

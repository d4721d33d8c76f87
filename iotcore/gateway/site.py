"""A gateway at a site: no registry and no authority here, only its settings, its units file, and what it enrolled for itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iotcore.clock import Clock
from iotcore.errors import StartError
from iotcore.gateway import units
from iotcore.gateway.children import Children
from iotcore.gateway.health import MODEL
from iotcore.gateway.run import Place, Voice, serve
from iotcore.process import home
from iotcore.process.alive import alive
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor
from iotcore.provision.est_client import EstServer
from iotcore.provision.files import make_folder
from iotcore.provision.gateway import OverEst, Upkeep
from iotcore.settings import Gateway, Settings
from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint

log = logging.getLogger(__name__)


async def run(settings: Settings, site: Gateway, specs: Mapping[str, DeviceSpec], clock: Clock) -> None:
    """Serve until cancelled.

    Raises:
        ConfigError: the units file is refused, with every problem.
        StartError: a folder or file that it needs is not there.
    """
    place = _place(settings, site, specs, clock)
    make_folder(settings.folder / "run")
    voice = Voice(lambda: {"connected": False, "said": "starting"})
    async with asyncio.TaskGroup() as group:
        group.create_task(alive(settings, "modbus", clock, voice))
        group.create_task(serve(place, settings, clock, voice))


def check(settings: Settings, site: Gateway, specs: Mapping[str, DeviceSpec]) -> Children:
    """What the gateway polls; refused as a whole before anything starts. Errors as `run`."""
    home.check_folder(settings.folder)
    trust = Path(site.trust)
    if not trust.is_file():
        raise StartError(
            f"{trust} is not there", "Copy the core's certs/service-root.pem to it, by a way that you trust (gateway.trust)."
        )
    directory = units.read(Path(site.units), site.id, specs)
    return Children(lambda: directory, site.id)


def _place(settings: Settings, site: Gateway, specs: Mapping[str, DeviceSpec], clock: Clock) -> Place:
    children = check(settings, site, specs)
    certs, trust = settings.folder / "certs", Path(site.trust)
    server = EstServer(site.est_url.rstrip("/"), trust)
    tokens = {Anchor.FIRE: site.fire_token, Anchor.FIELD: site.field_token}

    def upkeep(anchor: Anchor) -> Upkeep:
        return Upkeep(certs, site.id, anchor, OverEst(server, anchor, site.id, tokens[anchor]), clock)

    def endpoint(broker: BrokerName, file: Path) -> Endpoint:
        where = home.broker_settings(settings, broker)
        return Endpoint(where.host, where.port, trust, file, file)

    def protocol(broker: BrokerName) -> Any:
        return "3.1.1" if home.broker_settings(settings, broker).run == "amqtt" else "5"

    if MODEL not in specs:
        log.warning("no spec %s: this gateway has no readings of its own", MODEL)
    return Place(site.id, children, upkeep, endpoint, protocol, specs.get(MODEL))

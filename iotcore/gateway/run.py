"""A running gateway: poller, two sides, its own health. Central and site differ only in what they hand in.

units ─► poller ─► put ─┬─ fire ──► outbox-fire.db (and its reserve) ──► fire broker
                        └─ others ► outbox-modbus.db ─────────────────► field broker
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.modbus.poller import Poller
from drivers.mqtt.link import Protocol
from drivers.outbox import Limits, Outbox, Row
from drivers.uplink import Uplink
from iotcore import __version__, metrics
from iotcore.clock import Clock, machine_uptime
from iotcore.gateway.children import Children
from iotcore.gateway.health import Health
from iotcore.gateway.side import Side
from iotcore.process.follow import POLL_S
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor
from iotcore.provision.gateway import Upkeep
from iotcore.settings import Settings
from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import Scalar
from iotcore.wire.topics import FIRE_DOMAIN

FIRE_FILE, FIELD_FILE = "outbox-fire.db", "outbox-modbus.db"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway runs, and what that means for it."""

    gateway: str
    children: Children
    upkeep: Callable[[Anchor], Upkeep]
    endpoint: Callable[[BrokerName, Path], Endpoint]
    protocol: Callable[[BrokerName], Protocol]
    spec: DeviceSpec | None  # of the gateway itself; None: it has no readings of its own


@dataclass(slots=True)
class Voice:
    """What the gateway says of itself once a second; `serve` gives it more to say."""

    state: Callable[[], dict[str, Any]]

    def __call__(self) -> dict[str, Any]:
        return self.state()


@dataclass(frozen=True, slots=True)
class Split:
    """The poller's `put`: fire to the fire outbox, all else to the other."""

    fire: Outbox
    field: Outbox

    async def __call__(
        self,
        domain: str,
        device: str,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        ts: int | None = None,
        *,
        kind: str = "reading",
        fw: str = "",
        test: bool = False,
    ) -> Row:
        outbox = self.fire if domain == FIRE_DOMAIN else self.field
        return await outbox.put(domain, device, values, q, ts, kind=kind, fw=fw, test=test)


async def serve(place: Place, settings: Settings, clock: Clock, voice: Voice) -> None:
    """Run until cancelled.

    Raises:
        StoreError: an outbox cannot be opened.
    """
    folder, keep, uptime = settings.folder, settings.outbox, machine_uptime()
    fire_box = Outbox(folder / FIRE_FILE, clock, limits=Limits(keep.fire_max_bytes, keep.max_age_s), uptime=uptime, reserve=True)
    field_box = Outbox(folder / FIELD_FILE, clock, limits=Limits(keep.max_bytes, keep.max_age_s), uptime=uptime)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fire_box)
        await stack.enter_async_context(field_box)
        fire_box.pressed = field_box.make_room
        fire, field = _side(place, BrokerName.FIRE, fire_box, clock), _side(place, BrokerName.FIELD, field_box, clock)
        field.urgent = lambda: fire.pending
        put, interval_s = Split(fire_box, field_box), settings.modbus_interval_s or None
        poller = Poller(place.children, put, clock, interval_s=interval_s, certs=folder / "certs")
        health = Health(fire, field, poller, place.children, clock, clock.monotonic_s())
        voice.state = health.state
        _measure(health)
        async with asyncio.TaskGroup() as group:
            group.create_task(_when_needed(fire, place.children))
            group.create_task(field.run())
            group.create_task(poller.run())
            if place.spec is not None:
                group.create_task(health.tell(place.gateway, place.spec, interval_s or place.spec.interval_s))


def _measure(health: Health) -> None:
    """Let Prometheus ask the gateway how it is."""
    metrics.modbus_polls.ask(lambda: float(health.poller.counters.polls))
    metrics.modbus_failing.ask(lambda: float(len(health.failing())))
    for name, side in (("fire", health.fire), ("field", health.field)):
        metrics.outbox_kept.ask(lambda side=side: float(side.outbox.rows), name)  # type: ignore[misc]
        metrics.outbox_evicted.ask(lambda side=side: float(side.outbox.evicted), name)  # type: ignore[misc]


def _side(place: Place, broker: BrokerName, outbox: Outbox, clock: Clock) -> Side:
    def uplink(endpoint: Endpoint, outbox: Outbox) -> Uplink:
        return Uplink(endpoint, place.gateway, outbox, clock, protocol=place.protocol(broker), firmware=__version__)

    return Side(outbox, place.upkeep(Anchor(broker.value)), lambda file: place.endpoint(broker, file), uplink)


async def _when_needed(fire: Side, children: Children) -> None:
    """The fire side, from the first fire child on, or while readings of an earlier one wait."""
    while not children.has_fire() and not fire.outbox.rows:  # noqa: ASYNC110 - the directory is polled, see Follower
        await asyncio.sleep(POLL_S)
    await fire.run()

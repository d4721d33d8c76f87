"""The parts of a fire process, put together as `iotcore.app.fire` puts them together, for either world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from drivers.mqtt.canonical import decode
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.alarms.rules import Rule
from iotcore.alarms.supervised import Supervised
from iotcore.app import supervising
from iotcore.app.escalating import Escalating
from iotcore.app.outages import Outages
from iotcore.app.outgoing import Outgoing, Rescue
from iotcore.app.receivers import callers_of
from iotcore.clock import Clock, Uptime
from iotcore.dispatch.outbox import Channel
from iotcore.journal.journal import Journal
from iotcore.journal.path_watch import SqlPaths
from iotcore.journal.records import Committed
from iotcore.registry.directory import Directory
from iotcore.settings import Settings
from iotcore.wire.arrival import Broker

if TYPE_CHECKING:
    from iotcore.registry.database import Database

NO_REGISTRY = cast("Database", None)  # asked only of what has left the directory, which none does here


class Ear(Broker, supervising.Link, Protocol):
    """A broker's session, and what supervision asks of it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The parts that processes are made of: the real ones, or one with a planted bug."""

    lane: type[FireLane] = FireLane
    opened: Callable[[Outgoing], Callable[[Committed], None]] = lambda outgoing: outgoing.opened


@dataclass(slots=True)
class Parts:
    """What a process has of its world."""

    settings: Settings
    clock: Clock
    uptime: Uptime
    directory: Callable[[], Directory]
    ear: Ear
    journal: Journal
    rules: Sequence[Rule]
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = Engine(self.rules, lambda _: frozenset(), lambda premises: self.directory().response(premises).profile)

    def begin(
        self,
        group: asyncio.TaskGroup,
        rescue: Rescue,
        channels: dict[str, Channel],
        owner: str,
        variant: Variant,
        *,
        lean: bool = False,
    ) -> tuple[FireLane, Outgoing]:
        """Put them together and let them run in `group`; `lean`: lane and dispatch alone."""
        outgoing = Outgoing(self.settings, self.journal, rescue, channels, self.clock, owner)
        outgoing.paths._store = SqlPaths(self.journal, self.clock, self.uptime)
        supervised = Supervised(self.journal, self.directory, self.clock, self.uptime, by=owner)
        lane = variant.lane(
            broker=self.ear,
            decode=decode,
            directory=self.directory,
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            opened=variant.opened(outgoing),
            first_seen=_nothing,
            supervised=supervised,
            safety=outgoing.safety,
            exempt=(exempt := Exempt()),
        )
        lane.warm()
        group.create_task(lane.run())
        group.create_task(outgoing.dispatcher.run())
        if not lean:
            outages = Outages(*(self.journal, self.directory, exempt, self.engine, lane.raise_again), self.clock, NO_REGISTRY)
            wake = outgoing.dispatcher.wake
            escalating = Escalating(self.journal, self.directory, callers_of(self.settings), wake)
            for part in (outgoing.paths, escalating, outages):
                group.create_task(part.run())
            group.create_task(supervising.run(lane, supervised.supervision, self.ear))
        return lane, outgoing


async def _nothing(_: str) -> None:
    """The registry is not part of it."""

"""Drills in the fire process: when they are due, which point speaks, by which paths they go, and what became of them.

    plans ─► due ─► a point of the premises ─► the row that the keeper speaks of ─► (broker, lane) ─► paths ─► passed, failed
    intents ─────────────────────┘

The keeper speaks (`drill_speaker`), the lane hears and records, and whatever is kept is kept here: any replica may do each step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from iotcore import metrics
from iotcore.alarms.drilled import Drilled
from iotcore.alarms.engine import Engine
from iotcore.alarms.trial import alarm_points
from iotcore.clock import Clock
from iotcore.dispatch.drills import Carry, DrillCourier
from iotcore.dispatch.outbox import Channel
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.errors import IotError, Refused, StoreError
from iotcore.journal import drills
from iotcore.journal.drill_store import Ask, SqlDrills, Way
from iotcore.journal.journal import Journal
from iotcore.journal.records import Purpose
from iotcore.registry.directory import Directory
from iotcore.registry.records import Intent
from iotcore.registry.response import Response
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.settings_channels import CapReceiver, MqttReceiver
from iotcore.settings_receivers import Dc09Receiver, Receiver, WebhookReceiver, primaries
from iotcore.wire.arrival import Refusal
from iotcore.wire.topics import FIRE_DOMAIN

LOOK_S = 2.0
MOST_DEVICES = 50  # of a premises that are asked for a point that can alarm, the one tried longest ago first
MOST_EVENTS = 100  # refused drills that wait for the audit; the quarantine has all
log = logging.getLogger(__name__)


class Asked(msgspec.Struct, frozen=True):
    """What an intent of kind drill says; its key is the drill's id."""

    premises: str
    source: drills.Source = "simulated"


class Drilling:
    """Of one fire process."""

    def __init__(  # noqa: PLR0917 - what it joins
        self,
        settings: Settings,
        registry: Registry,
        journal: Journal,
        engine: Engine,
        directory: Callable[[], Directory],
        channels: Mapping[str, Channel],
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._directory = directory
        self._clock = clock
        self._receivers = settings.receivers
        self._events: asyncio.Queue[Refusal] = asyncio.Queue(MOST_EVENTS)
        self.store = SqlDrills(journal)
        carriers = {name: carry(channel) for name, channel in channels.items()}
        self.courier = DrillCourier(self.store, carriers, self.ways, clock)
        self.drilled = Drilled(engine, self._event, self.courier.wake)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.courier.run())
            group.create_task(self._note_events())
            while True:
                try:
                    await self.look()
                except StoreError as error:
                    log.warning("drills cannot be looked at; it is tried again: %s", error)
                except Exception:  # no drill may end the fire process
                    log.exception("drills failed in our own code")
                await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Begin what is due, and say what was missed."""
        directory = self._directory()
        every = {name: plan.drills.every_days for name, plan in directory.responses.items() if plan.drills is not None}
        await asyncio.to_thread(self.store.follow, {name: days for name, days in every.items() if name in directory.premises})
        for premises in await asyncio.to_thread(self.store.due):
            id_ = drills.drill_id(premises, self._clock.wall_ms())
            ask = await asyncio.to_thread(self.chosen, Ask(id_, premises, drills.SCHEDULE, "simulated"))
            await asyncio.to_thread(self.store.begin, ask)
        for premises in await asyncio.to_thread(self.store.miss):
            metrics.drills.labels("missed").inc()
            log.critical("DRILL MISSED at %s: none was passed within a day of when it was due", premises)

    async def __call__(self, intent: Intent) -> None:
        """What somebody asked for. Raises Refused or StoreError."""
        try:
            asked = msgspec.json.decode(intent.body, type=Asked)
        except msgspec.DecodeError as error:
            raise Refused("bad_body", str(error)) from error
        ask = Ask(intent.key, asked.premises, intent.by, asked.source)
        if asked.source == "simulated":
            ask = await asyncio.to_thread(self.chosen, ask)
        if why := await asyncio.to_thread(self.store.ask, ask):
            log.warning("the drill %s that %s asked for is put off: %s", intent.key, intent.by, why)

    def chosen(self, ask: Ask) -> Ask:
        """The drill with the point that speaks: of the device that was tried longest ago its next one; none: without."""
        tried = self.store.tried(ask.premises)
        order = list(tried)
        here = [
            binding
            for binding in self._directory().devices.values()
            if binding.premises == ask.premises and binding.domain == FIRE_DOMAIN and binding.accepted
        ]
        here.sort(key=lambda one: (order.index(one.device) if one.device in tried else -1, one.device))
        for binding in here[:MOST_DEVICES]:
            for one in alarm_points(self._engine.plan_of(binding), binding, tried.get(binding.device, "")):
                value = msgspec.json.encode([one.value] * one.readings).decode()
                return ask._replace(device=binding.device, point=one.point, value=value)
        return ask

    def ways(self, premises: str) -> list[Way]:
        """Each receiver of a premises by each of its paths, but those behind which people are, or real alarms alone."""
        plan = self._directory().response(premises)
        named = {receiver.name: receiver for receiver in self._receivers}
        told = [one for one in primaries(self._receivers) if one.name in plan.receivers] or primaries(self._receivers)
        return [
            Way(receiver.name, path, purpose)
            for receiver in told
            for path in (receiver.name, receiver.alternate)
            if path in named and (purpose := purpose_of(named[path], plan)) is not None
        ]

    def _event(self, refusal: Refusal) -> None:
        if not self._events.full():
            self._events.put_nowait(refusal)

    async def _note_events(self) -> None:
        """Each refused drill is an entry of the audit; what the registry does not take is in the log and the quarantine."""
        while True:
            refusal = await self._events.get()
            try:
                await self._registry.note("fire", "drill.refused", refusal.topic.split("/")[3], refusal.detail)
            except (IotError, IndexError) as error:
                log.error("a refused drill cannot be noted in the audit: %s", error)  # noqa: TRY400 - expected


def purpose_of(receiver: Receiver, plan: Response) -> Purpose | None:
    """What a drill is called at a receiver; None: it hears of none."""
    if isinstance(receiver, Dc09Receiver | WebhookReceiver | MqttReceiver):
        return "test"
    if isinstance(receiver, CapReceiver):
        return {"Actual": None, "Exercise": "exercise", "Test": "test"}[receiver.status]
    return "test" if plan.drills is not None and receiver.name in plan.drills.also else None


def carry(channel: Channel) -> Carry:
    """How a channel carries what any fire goes before."""
    return channel.aside if isinstance(channel, Dc09Channel) else channel.send

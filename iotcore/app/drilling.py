"""Drills in the fire process: when they are due, which point speaks, by which paths they go, and what became of them.

    plans ─► due ─► a point of the premises ─► the row that the keeper speaks of ─► (broker, lane) ─► paths ─► passed, failed
    intents ─────────────────────┘

The keeper speaks (`drill_speaker`), the lane hears and records, and whatever is kept is kept here: any replica may do each step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from iotcore import metrics
from iotcore.alarms.drilled import Drilled
from iotcore.alarms.engine import Engine
from iotcore.alarms.responders import NO_ACCOUNT
from iotcore.alarms.trial import alarm_points
from iotcore.app.lesser_notices import of_work
from iotcore.clock import Clock
from iotcore.dispatch.drills import Carry, DrillCourier
from iotcore.dispatch.outbox import Channel
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.errors import IotError, Refused, StoreError
from iotcore.journal import drills
from iotcore.journal.drill_store import Ask, SqlDrills, Way
from iotcore.journal.journal import Journal
from iotcore.journal.records import Notice, Purpose
from iotcore.journal.told import Work
from iotcore.off_loop import Threads
from iotcore.registry.directory import Directory
from iotcore.registry.records import Intent
from iotcore.registry.response import Response
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.settings_channels import CapReceiver, MqttReceiver
from iotcore.settings_receivers import Dc09Receiver, Receiver, WebhookReceiver, primaries
from iotcore.wire.arrival import Refusal
from iotcore.wire.topics import DRILL, FIRE_DOMAIN

LOOK_S = 2.0
ENDS: tuple[drills.State, ...] = ("passed", "failed", "put_off", "missed")
MOST_DEVICES = 50  # of a premises that are asked for a point that can alarm, the one tried longest ago first
MOST_EVENTS = 100  # refused drills that wait to be told; the quarantine keeps them, and all are counted
SUBJECT_LENGTH = 100  # of a topic that anybody may have made up
EVENT_S = 60.0  # between two entries of the audit: whoever has the key of the service may fill neither it nor the log
T = TypeVar("T")
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
        self._missed = 0  # premises where one was missed, when it was looked at last
        metrics.drills_missed.ask(lambda: float(self._missed))
        for state in ENDS:
            metrics.drills.labels(state)  # from the start: what grows from nothing is no increase to Prometheus
        self._events: asyncio.Queue[Refusal] = asyncio.Queue(MOST_EVENTS)
        self._off_loop = Threads("drills")  # a journal that hangs takes no thread from whoever sends a fire
        self.store = SqlDrills(journal)
        carriers = {name: carry(channel) for name, channel in channels.items()}
        self.courier = DrillCourier(self.store, carriers, self._ways, clock, off_loop=self._off_loop)
        self.drilled = Drilled(engine, self._event, self.courier.wake)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.courier.run())
                group.create_task(self._note_events())
                while True:
                    await self._look_again()
                    await asyncio.sleep(LOOK_S)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the thread."""
        self._off_loop.close()

    async def _look_again(self) -> None:
        try:
            await self.look()
        except StoreError as error:
            log.warning("drills cannot be looked at; it is tried again: %s", error)
        except Exception:  # no drill may end the fire process
            log.exception("drills failed in our own code")

    async def look(self) -> None:
        """Begin what is due, and say what was missed."""
        directory = self._directory()
        every = {name: plan.drills.every_days for name, plan in directory.responses.items() if plan.drills is not None}
        here = {name: days for name, days in every.items() if name in directory.premises}
        await self._off_loop(lambda: self.store.follow(here))
        for premises in await self._off_loop(self.store.due):
            id_ = drills.drill_id(premises, self._clock.wall_ms())
            await self._begin(Ask(id_, premises, drills.SCHEDULE, "simulated"), self.store.begin)
        for premises in await self._off_loop(lambda: self.store.miss(self._trouble)):
            metrics.drills.labels("missed").inc()
            log.critical("DRILL MISSED at %s: none was passed within a day of when it was due", premises)
        self._missed = len(await self._off_loop(self.store.missed))

    async def __call__(self, intent: Intent) -> None:
        """What somebody asked for. Raises Refused or StoreError."""
        try:
            asked = msgspec.json.decode(intent.body, type=Asked)
        except msgspec.DecodeError as error:
            raise Refused("bad_body", str(error)) from error
        ask = Ask(intent.key, asked.premises, intent.by, asked.source)
        if why := await self._begin(ask, self.store.ask):
            log.warning("the drill %s that %s asked for is put off: %s", intent.key, intent.by, why)

    async def _begin(self, ask: Ask, begin: Callable[[Ask], T]) -> T:
        """Begin a drill; a simulated one with the point that speaks."""
        return await self._off_loop(lambda: begin(self.chosen(ask) if ask.source == "simulated" else ask))

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

    def _ways(self, premises: str) -> list[Way]:
        return ways(self._receivers, self._directory().response(premises))

    def _trouble(self, premises: str, at_ms: float) -> Notice:
        """That a drill was missed there."""
        work = Work("", drills.PREFIX + premises, drills.MISSED, "trouble", at_ms, "raise", 0)
        notice = of_work(work, self._directory(), NO_ACCOUNT)
        assert notice is not None, "a premises has a name, whoever knows it"
        return notice

    def _event(self, refusal: Refusal) -> None:
        if not self._events.full():
            self._events.put_nowait(refusal)

    async def _note_events(self) -> None:
        """Refused drills are entries of the audit; what the registry does not take is in the log and the quarantine."""
        while True:
            refusal, more = await self._events.get(), 0
            while not self._events.empty():
                self._events.get_nowait()
                more += 1
            said = f"{refusal.detail} ({refusal.topic})" + (f", and {more} more" if more else "")
            log.critical("REFUSED DRILL: %s", said)
            speaker = refusal.topic.removeprefix(f"{DRILL}/").partition("/")[0]
            try:
                await self._registry.note("fire", "drill.refused", speaker[:SUBJECT_LENGTH], said)
            except IotError as error:
                log.error("a refused drill cannot be noted in the audit: %s", error)  # noqa: TRY400 - expected
            await asyncio.sleep(EVENT_S)


def ways(receivers: Sequence[Receiver], plan: Response) -> list[Way]:
    """Each receiver of a premises by each of its paths, but those behind which people are, or real alarms alone."""
    named = {receiver.name: receiver for receiver in receivers}
    told = [one for one in primaries(receivers) if one.name in plan.receivers] or primaries(receivers)
    return [
        Way(receiver.name, path, purpose)
        for receiver in told
        for path in (receiver.name, receiver.alternate)
        if path in named and (purpose := purpose_of(named[path], plan)) is not None
    ]


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

"""A replica of the fire process in the simulation: its lane, rules, journal, emergency log and dispatchers are the real ones."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app.outages import Outages
from iotcore.app.outgoing import Outgoing, Rescue
from iotcore.app.receivers import told_of_all
from iotcore.clock import Uptime
from iotcore.dispatch.outbox import Channel
from iotcore.errors import StoreError
from iotcore.journal.database import Connection, Cursor
from iotcore.journal.emergency_log import EmergencyLog
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch, Committed, OutboxRow
from iotcore.process.replicas import Replica as Process
from iotcore.two_areas import AREAS
from tests.simulated.places import directory, settings
from tests.simulated.script import ANY, CALL_WAIT_S, Crash
from tests.simulated.virtual import RUNNING, VirtualClock
from tests.simulated.world import Receiver, World

T = TypeVar("T")
RULES = rules.load(rules.default_path())
ROOM_S = 0.5  # between looks of a process that is started without a journal
REFRESH_S = 0.2  # the registry is polled so often
INTENT_POLL_S = 0.2
SLOW_COMMIT_S = 1.5
IDLE_POLL = "Dispatcher._next.<locals>.<lambda>"  # whether there is something to send; None: nothing
AREA_BYTES = 16 * 1024  # of the emergency log: some ten fires fill it, and it goes over to its other area


class _Disk:
    """A journal's connection, whose disk is full, or whose server is gone, while the script says so."""

    def __init__(self, connection: Connection, world: World) -> None:
        self._connection = connection
        self._world = world
        self.executemany = connection.executemany
        self.close = connection.close

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        state = self._world.journal_state if self._world.journal_spans else ""
        if state == "gone":
            raise StoreError("the script says that the server is gone")
        if (state == "full" and sql.startswith("COMMIT")) or (state == "refuses" and sql.startswith("BEGIN")):
            error = sqlite3.OperationalError("the script says so")
            error.sqlite_errorname = "SQLITE_FULL"
            raise error
        return self._connection.execute(sql, parameters)


class BreakableJournal(Journal):
    """A journal that refuses or takes long while the script says so."""

    def __init__(self, folder: Path, world: World, clock: VirtualClock, channels: list[str], owner: str) -> None:
        super().__init__(folder / "journal.db", clock, channels, owner, Uptime("machine", clock.monotonic_s))
        self.connection = _Disk(self.connection, world)
        self._world = world

    def commit(self, batch: Batch) -> Committed:
        self._world.slow_call = self._world.journal_state == "slow"
        committed = super().commit(batch)
        self._world.stored.update((reading.device, reading.seq) for reading in batch.readings)
        return committed


@dataclass(slots=True)
class Variant:
    """The parts that a run is made of: the real ones, or one with a planted bug."""

    lane: type[FireLane] = FireLane
    prepare: Callable[[Journal], None] = lambda _: None


class _Sender:
    """A channel as one replica has it."""

    def __init__(self, receiver: Receiver, clock: VirtualClock) -> None:
        self._receiver = receiver
        self._clock = clock

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        return await self._receiver.send(row, sent, self._clock)

    async def close(self) -> None:
        """Nothing is open."""


class _Registry:
    """A registry that answers nothing but what its directory said."""

    def reading(self) -> Any:
        raise StoreError("the registry is not part of it")


class _OffLoop:
    """Threads of a replica: what they are given is its `off_loop`'s."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def __call__(self, work: Callable[[], T], /) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self._replica.loop.create_future()
        self._replica.off_loop(work, done)
        return done

    def close(self) -> None:
        """There are none."""


class Replica:
    """A fire process: it lives, dies without a word, and is started again."""

    def __init__(self, number: int, world: World, folder: Path, variant: Variant) -> None:
        self.name = f"replica-{number}"
        self.loop = world.loop
        self._world = world
        self._folder = folder
        self._variant = variant
        self._clock = VirtualClock(world.loop, world.script.clock_steps[number])
        self._rng = random.Random(f"{world.script.seed} {number}")
        self._number = number
        self._stalls = [span for span in world.script.spans if span.what == self.name]
        self._life: asyncio.Task[None] | None = None
        self._lives = 0
        self._applied = 0  # of people's intents
        self._alive = False
        self._journal: Journal | None = None
        self._rescue: Rescue | None = None
        self._settings = settings(folder, world.script)
        self._process = Process(number + 1, alone=False)
        with self._process.emergency_log(self._settings).open("wb") as room:
            room.truncate(AREAS * AREA_BYTES)  # as if it had been put aside before
        self._directory = directory(world.script, self._clock)
        world.sessions[self.name].clock = self._clock

    def start(self) -> None:
        self._lives += 1
        self._alive = True
        self._world.note(f"{self.name} starts")
        token = RUNNING.set(self)
        self._life = asyncio.get_running_loop().create_task(self._live())
        self._life.add_done_callback(self._ended)
        RUNNING.reset(token)

    def stop(self) -> asyncio.Task[None]:
        """The run is over."""
        assert self._life is not None
        self._alive = False
        self._let_go()
        return self._life

    @property
    def is_settled(self) -> bool:
        """Whether it lives, will not die any more, and has nothing under way but what the journal knows."""
        quiet = self._alive and not self._world.crashes and self._applied == len(self._world.intents)
        return quiet and self._rescue is not None and not self._rescue.emergency.fires

    def _let_go(self) -> None:
        """What the kernel does with a dead process's files."""
        if self._journal is not None:
            self._journal.connection.close()
        if self._rescue is not None:
            self._rescue.emergency.close()

    def _ended(self, life: asyncio.Task[None]) -> None:
        if not life.cancelled() and life.exception() is not None and self._alive:
            self._world.defects.append(f"{self.name} ended: {life.exception()!r}")

    def off_loop(self, work: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        if not self._alive:
            done.cancel()
            return
        crash = self._crash_now(work)
        if crash is not None and not crash.after:
            self._die(crash, work)
            done.cancel()
            return
        try:
            found, error = work(), None
        except Exception as raised:  # noqa: BLE001 - whatever it is goes to whoever asked
            found, error = None, raised
        if crash is not None:
            self._die(crash, work)
            done.cancel()
            return
        stalled_s = self._stalled_s()
        if found is None and error is None and not stalled_s and getattr(work, "__qualname__", "") == IDLE_POLL:
            done.set_result(None)  # nothing to send: most of all calls, and what they take matters to nobody
            return
        takes_s = self._rng.uniform(0.0002, 0.003)
        if self._world.slow_call:
            takes_s, self._world.slow_call = SLOW_COMMIT_S, False
        self.loop.call_later(max(takes_s, stalled_s), _settle, done, found, error)

    def _stalled_s(self) -> float:
        """For how long the process stands still from now on."""
        now_s = self.loop.now_s
        return max((span.until_s - now_s for span in self._stalls if span.covers(now_s)), default=0.0)

    def _crash_now(self, work: Callable[[], Any]) -> Crash | None:
        crashes, now_s = self._world.crashes, self.loop.now_s
        for crash in crashes:
            waits = now_s < crash.at_s + CALL_WAIT_S
            if now_s < crash.at_s or crash.replica not in {ANY, self._number}:
                continue
            if crash.call and waits and name_of(work) != crash.call:
                continue
            crashes[crash] += 1
            if crashes[crash] < crash.nth and waits:
                return None
            del crashes[crash]
            return crash
        return None

    def _die(self, crash: Crash, work: Callable[[], Any]) -> None:
        self._world.note(f"{self.name} is killed {'after' if crash.after else 'before'} {name_of(work)}")
        self._alive = False
        self._let_go()
        if self._life is not None:
            self._life.cancel()
        self._world.sessions[self.name].consumer_died()
        self.loop.call_later(crash.down_s, self.start)

    async def _live(self) -> None:
        owner = f"{self.name}-{self._lives}"
        senders = {name: _Sender(receiver, self._clock) for name, receiver in self._world.receivers.items()}
        self._rescue = rescue = Rescue(self._settings, self._process, senders, self._clock, owner)
        rescue.emergency._log = EmergencyLog(self._process.emergency_log(self._settings), area_bytes=AREA_BYTES)
        threads: Any = _OffLoop(self)
        rescue.commits = rescue.beside = rescue._sending = rescue.dispatcher._courier._off_loop = threads
        async with asyncio.TaskGroup() as group:
            group.create_task(rescue.run())
            await rescue.opened.wait()
            await self._serve(group, rescue, senders, owner)

    async def _serve(self, group: asyncio.TaskGroup, rescue: Rescue, senders: Mapping[str, Channel], owner: str) -> None:
        while self._world.journal_state not in {"", "slow"}:  # noqa: ASYNC110 - as the process does
            await asyncio.sleep(ROOM_S)
        journal = BreakableJournal(self._folder, self._world, self._clock, told_of_all(self._settings), owner)
        self._journal = journal
        self._variant.prepare(journal)
        engine = Engine(RULES)
        outgoing = Outgoing(self._settings, journal, rescue, senders, self._clock, owner)
        outgoing.dispatcher._courier._off_loop = _OffLoop(self)
        outgoing.dispatcher._courier._jitter = rescue.dispatcher._courier._jitter = self._rng.random
        lane = self._variant.lane(
            broker=self._world.sessions[self.name],
            decode=decode,
            directory=lambda: self._directory,
            engine=engine,
            journal=journal,
            clock=self._clock,
            opened=outgoing.opened,
            first_seen=_nothing,
            safety=outgoing.safety,
            exempt=(exempt := Exempt()),
        )
        self._applied = journal.cursor("intent")  # before the warm start: what is reset after it unlatches this engine too
        lane.warm()
        self._directory = directory(self._world.script, self._clock)
        group.create_task(lane.run())
        group.create_task(outgoing.dispatcher.run())
        group.create_task(self._intents(journal, lane, outgoing))
        if self._world.script.outages:
            group.create_task(self._follow_registry())
            registry: Any = _Registry()
            outages = Outages(*(journal, lambda: self._directory, exempt, engine, lane.raise_again), self._clock, registry)
            group.create_task(outages.run())

    async def _follow_registry(self) -> None:
        """What is disabled, and what is walked, as the registry says with the next poll."""
        for outage in sorted(self._world.script.outages, key=lambda one: one.at_s):
            await asyncio.sleep(max(0.0, outage.at_s + self._rng.uniform(0.0, REFRESH_S) - self.loop.now_s))
            self._directory = directory(self._world.script, self._clock)

    async def _intents(self, journal: Journal, lane: FireLane, outgoing: Outgoing) -> None:
        """What people did on the page, as the registry hands it to every replica."""
        while True:
            for number, (kind, place, incident) in enumerate(self._world.intents, 1):
                if number <= self._applied:
                    continue
                if self._world.journal_state not in {"", "slow"}:
                    break  # tried again, as in the process
                if kind == "acknowledge":
                    await asyncio.to_thread(journal.acknowledge, incident, "officer", self._clock.wall_ms())
                else:
                    devices = self._world.script.premises[place]
                    await asyncio.to_thread(journal.reset, incident, devices, "officer", self._clock.wall_ms())
                    lane.closed(place, devices)
                outgoing.dispatcher.wake()
                await asyncio.to_thread(journal.move_cursor, "intent", number)
                self._applied = number
            await asyncio.sleep(INTENT_POLL_S)


def name_of(work: Callable[[], Any]) -> str:
    """What a call off the loop is: the function that asks for it, or the method that is called."""
    while isinstance(work, partial):
        work = work.args[0] if work.args and callable(work.args[0]) else work.func
    return str(getattr(work, "__qualname__", work)).replace(".<locals>", "").replace(".<lambda>", "")


def _settle(done: asyncio.Future[Any], found: object, error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(found)
    else:
        done.set_exception(error)


async def _nothing(_: str) -> None:
    """The registry is not part of it."""

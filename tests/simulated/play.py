"""One run: replicas of the real lane, journal and dispatcher in a simulated world, and what must be true of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.mqtt.canonical import decode
from iotcore.alarms import rules
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.app.outgoing import Outgoing, Rescue
from iotcore.dispatch.outbox import Channel
from iotcore.errors import StoreError
from iotcore.journal.database import connect_readonly
from iotcore.journal.emergency_log import AREA_BYTES
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch, Committed, OutboxRow
from iotcore.process.replicas import Replica as Process
from iotcore.registry.directory import Binding, Directory, Premises, Zone
from iotcore.settings import Fire, Settings
from iotcore.settings_receivers import WebhookReceiver
from iotcore.two_areas import AREAS
from tests.simulated.judge import Outcome, judge
from tests.simulated.script import Crash, Script
from tests.simulated.virtual import RUNNING, VirtualClock, VirtualLoop
from tests.simulated.world import Receiver, World
from tests.support.shipped import SPECS

RULES = rules.load(rules.default_path())
MEMORY = Path("/dev/shm")  # a disk that costs no time, where there is one
INTENT_POLL_S = 0.2
SLOW_COMMIT_S = 1.5


class DeadJournal(Journal):
    """A journal whose disk refuses or takes long while the script says so."""

    world: World

    def commit(self, batch: Batch) -> Committed:
        state = self.world.script.during("journal", self.world.loop.now_s)
        if state == "journal":
            raise StoreError("the script says so")
        self.world.slow_call = state == "slow"
        committed = super().commit(batch)
        self.world.stored.update((reading.device, reading.seq) for reading in batch.readings)
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


class Replica:
    """A fire process: it lives, dies without a word, and is started again."""

    def __init__(self, number: int, world: World, folder: Path, variant: Variant) -> None:
        self.name = f"replica-{number}"
        self._world = world
        self._folder = folder
        self._variant = variant
        self._clock = VirtualClock(world.loop, world.script.clock_steps[number])
        self._rng = random.Random(f"{world.script.seed} {number}")
        self._crashes = [crash for crash in world.script.crashes if crash.replica == number]
        self._life: asyncio.Task[None] | None = None
        self._lives = 0
        self._counted: dict[Crash, int] = {}  # calls off the loop since it is due
        self._alive = False
        self._journal: Journal | None = None
        self._rescue: Rescue | None = None
        self._settings = settings(folder, world.script.replicas)
        self._process = Process(number + 1, alone=False)
        with self._process.emergency_log(self._settings).open("wb") as room:
            room.truncate(AREAS * AREA_BYTES)  # as if it had been put aside before: that costs a real disk
        self._directory = directory(world.script)
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

    def _let_go(self) -> None:
        """What the kernel does with a dead process's files."""
        if self._journal is not None:
            self._journal.connection.close()
        if self._rescue is not None:
            self._rescue.emergency.close()

    def _ended(self, life: asyncio.Task[None]) -> None:
        if not life.cancelled() and life.exception() is not None and self._alive:
            self._world.note(f"{self.name} ended: {life.exception()!r}")
            raise life.exception()  # type: ignore[misc]

    def off_loop(self, work: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        if not self._alive:
            done.cancel()
            return
        crash = self._crash_now()
        if crash is not None and not crash.after:
            self._die(crash)
            done.cancel()
            return
        try:
            found, error = work(), None
        except Exception as raised:  # noqa: BLE001 - whatever it is goes to whoever asked
            found, error = None, raised
        if crash is not None:
            self._die(crash)
            done.cancel()
            return
        loop, takes_s = self._world.loop, self._rng.uniform(0.0002, 0.003)
        if self._world.slow_call:
            takes_s, self._world.slow_call = SLOW_COMMIT_S, False
        for span in self._world.script.spans:
            if span.what == self.name and span.covers(loop.now_s):
                takes_s = max(takes_s, span.until_s - loop.now_s)
        loop.call_later(takes_s, _settle, done, found, error)

    def _crash_now(self) -> Crash | None:
        now_s = self._world.loop.now_s
        for crash in self._crashes:
            if now_s >= crash.at_s:
                self._counted[crash] = self._counted.get(crash, 0) + 1
                if self._counted[crash] < crash.nth:
                    return None
                self._crashes.remove(crash)
                return crash
        return None

    def _die(self, crash: Crash) -> None:
        self._world.note(f"{self.name} is killed")
        self._alive = False
        self._let_go()
        if self._life is not None:
            self._life.cancel()
        self._world.sessions[self.name].consumer_died()
        self._world.loop.call_later(crash.down_s, self.start)

    async def _live(self) -> None:
        owner = f"{self.name}-{self._lives}"
        senders = {name: _Sender(receiver, self._clock) for name, receiver in self._world.receivers.items()}
        self._rescue = rescue = Rescue(self._settings, self._process, senders, self._clock, owner)
        async with asyncio.TaskGroup() as group:
            group.create_task(rescue.run())
            await rescue.opened.wait()
            await self._serve(group, rescue, senders, owner)

    async def _serve(self, group: asyncio.TaskGroup, rescue: Rescue, senders: Mapping[str, Channel], owner: str) -> None:
        journal = DeadJournal(self._folder / "journal.db", self._clock, ["arc", "cad"], owner)
        journal.world = self._world
        self._journal = journal
        self._variant.prepare(journal)
        engine = Engine(RULES)
        outgoing = Outgoing(self._settings, journal, rescue, senders, self._clock, owner)
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
        )
        lane.warm()
        group.create_task(lane.run())
        group.create_task(outgoing.dispatcher.run())
        group.create_task(self._intents(journal, lane, outgoing))

    async def _intents(self, journal: Journal, lane: FireLane, outgoing: Outgoing) -> None:
        """People's resets, as the registry hands them to every replica."""
        done = await asyncio.to_thread(journal.cursor, "intent")
        while True:
            for number, (place, incident) in enumerate(self._world.intents, 1):
                if number <= done:
                    continue
                devices = self._world.script.premises[place]
                await asyncio.to_thread(journal.reset, incident, devices, "officer", self._clock.wall_ms())
                lane.closed(place, devices)
                outgoing.dispatcher.wake()
                await asyncio.to_thread(journal.move_cursor, "intent", number)
                done = number
            await asyncio.sleep(INTENT_POLL_S)


def _settle(done: asyncio.Future[Any], found: object, error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(found)
    else:
        done.set_exception(error)


def settings(folder: Path, replicas: int) -> Settings:
    """Of a platform with two receivers; their addresses are never used."""
    receivers = [WebhookReceiver(name=name, url="https://receiver.invalid", secret="s") for name in ("arc", "cad")]
    return Settings(data=str(folder), receivers=list(receivers), fire=Fire(replicas=replicas))


async def _nothing(_: str) -> None:
    """The registry is not part of it."""


def directory(script: Script) -> Directory:
    """The script's devices as the registry has them."""
    devices, places, zones = {}, {}, {}
    for number, (place, names) in enumerate(script.premises.items(), 1):
        places[place] = Premises(place, f"Nhà {number}", "Thanh Hóa", 19.8, 105.77, f"{number:04d}")
        zones[f"{place}-z"] = Zone(f"{place}-z", place, 1, "1", "Sảnh")
        for name in names:
            spec = SPECS["iotcore-call-point" if "-cp" in name else "iotcore-smoke-heat"]
            devices[name] = Binding(name, name, spec, "fire", name, "active", place, f"{place}-z")
    return Directory(devices, places, zones)


def play(script: Script, variant: Variant | None = None) -> Outcome:
    """Run a script to its end and judge it."""
    folder = Path(tempfile.mkdtemp(prefix="lane-", dir=MEMORY if MEMORY.is_dir() else None))
    loop = VirtualLoop()
    try:
        world = World(script, loop)
        loop.run_until_complete(_run(world, folder, variant or Variant()))
        return judge(world, folder / "journal.db")
    finally:
        loop.close()
        shutil.rmtree(folder)


async def _run(world: World, folder: Path, variant: Variant) -> None:
    replicas = [Replica(number, world, folder, variant) for number in range(world.script.replicas)]
    for replica in replicas:
        replica.start()
    around: list[Coroutine[Any, Any, None]] = [world.broker(), *(world.device(name) for name in world.devices)]
    around += [world.link(name) for name in world.devices]
    around += [_reset(world, folder, place, at_s) for place, at_s in world.script.resets]
    tasks = [asyncio.create_task(one) for one in around]
    await asyncio.sleep(world.script.end_s)
    lives = [replica.stop() for replica in replicas]
    for task in (*tasks, *lives):
        task.cancel()
    await asyncio.gather(*tasks, *lives, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]


async def _reset(world: World, folder: Path, place: str, at_s: float) -> None:
    """A person resets the premises' incident if there is one; else they have nothing to press."""
    await asyncio.sleep(at_s)
    with contextlib.closing(connect_readonly(folder / "journal.db")) as connection:
        row = connection.execute("SELECT id FROM incident WHERE premises = ? AND state = 'open'", (place,)).fetchone()
    if row is not None:
        world.note(f"reset {row[0]}")
        world.intents.append((place, row[0]))

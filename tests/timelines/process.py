"""A fire process on virtual time, put together as `iotcore.app.fire` does it; it lives, is killed, stalls, and starts again.

Everything in it is real: lane, rules, journal, emergency log, dispatch, DC-09 channels, supervision, escalation, disablements,
people's acts. Of the world it has a broker's session, a directory, the clocks, and a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iotcore.app.channels import channels_of
from iotcore.app.intents import INTENT_CURSOR, Intents
from iotcore.app.outgoing import Rescue
from iotcore.app.receivers import told_of_all
from iotcore.clock import Uptime
from iotcore.dispatch.outbox import Channel
from iotcore.errors import StoreError
from iotcore.journal.emergency_log import AREA_BYTES
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch, Committed
from iotcore.process.replicas import Replica
from iotcore.registry.directory import Directory
from iotcore.two_areas import AREAS
from tests.simulated.virtual import RUNNING, VirtualClock
from tests.timelines.parts import Parts
from tests.timelines.session import Session

if TYPE_CHECKING:
    from tests.timelines.city import City

CALL_S = 0.0005  # what work off the event loop takes
MACHINE = "virtual"
INTENT_POLL_S = 0.2
HALF = 0.5  # of the dispatchers' jitter, always: the same timeline each time


class DiskOf(Journal):
    """A journal whose disk refuses while its city says so."""

    city: City

    def commit(self, batch: Batch) -> Committed:
        if self.city.refusing:
            raise StoreError("no space left on the disk")
        return super().commit(batch)


class FireProcess:
    """Replica `number`, from 1. `directory` is what its follower would hold."""

    def __init__(self, number: int, city: City, folder: Path) -> None:
        self.name = f"fire-{number}"
        self.clock_steps: list[tuple[float, float]] = []
        self.clock = VirtualClock(city.loop, self.clock_steps)
        self.session = Session(self.clock, city.receipt)
        self.doom: Callable[[], bool] | None = None  # it is killed as soon as this is so
        self._city = city
        self._folder = folder
        self._replica = Replica(number, alone=False)
        with self._replica.emergency_log(city.settings).open("wb") as room:
            room.truncate(AREAS * AREA_BYTES)
        self._alive = False
        self._lives = 0
        self._life: asyncio.Task[None] | None = None
        self._journal: Journal | None = None
        self._rescue: Rescue | None = None
        self._changes = 0

    @property
    def runs(self) -> bool:
        return self._alive

    @property
    def directory(self) -> Directory:
        return self._city.directory

    def start(self) -> None:
        self._lives += 1
        self._alive = True
        token = RUNNING.set(self)
        self._life = self._city.loop.create_task(self._live())
        self._life.add_done_callback(self._ended)
        RUNNING.reset(token)

    def freeze(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        self._city.loop.frozen_until_s[self] = self._city.loop.now_s + for_s

    def kill(self) -> None:
        """kill -9: the kernel closes its files, the broker keeps what it had not acknowledged."""
        if self._alive:
            self._city.note("killed", who=self.name)
            self.end()
            self.session.consumer_died()

    def end(self) -> asyncio.Task[None]:
        assert self._life is not None
        self._alive = False
        self.doom = None
        if self._journal is not None:
            self._journal.connection.close()
            self._journal = None
        if self._rescue is not None:
            self._rescue.emergency.close()
        self._life.cancel()
        return self._life

    def off_loop(self, work: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        """Work that asks for a thread: carried out now; its result comes a moment later."""
        if not self._alive or done.cancelled():
            done.cancel()
            return
        try:
            found, error = work(), None
        except Exception as raised:  # noqa: BLE001 - whatever it is goes to whoever asked
            found, error = None, raised
        self._look()
        if self.doom is not None and self.doom():
            done.cancel()
            self.kill()
            return
        due_s = self._city.loop.now_s + CALL_S
        self._city.loop.call_at(due_s, self._back, due_s, lambda: _settle(done, found, error))

    def _back(self, due_s: float, settle: Callable[[], None]) -> None:
        """A thread that was stopped with its process has its time to take afterwards, like everything else in it."""
        if self._city.loop.now_s > due_s + CALL_S:
            self._city.loop.call_later(CALL_S, settle)
        else:
            settle()

    def _look(self) -> None:
        """Note what the work has changed in the journal, if anything."""
        changes = self._journal.connection.total_changes if self._journal is not None else 0  # type: ignore[attr-defined] # SQLite
        if changes != self._changes:
            self._changes = changes
            self._city.look()

    def _ended(self, life: asyncio.Task[None]) -> None:
        if not life.cancelled() and self._alive:
            self._city.note("ended", who=self.name, why=repr(life.exception()))

    async def _live(self) -> None:
        owner = f"{self.name}-{self._lives}"
        channels: dict[str, Channel] = channels_of(self._city.settings, self.clock)
        self._rescue = rescue = Rescue(self._city.settings, self._replica, channels, self.clock, owner)
        async with asyncio.TaskGroup() as group:
            if self._city.setting.lean:
                rescue.emergency.open()
            else:
                group.create_task(rescue.run())
                await rescue.opened.wait()
            self._serve(group, rescue, channels, owner)

    def _serve(self, group: asyncio.TaskGroup, rescue: Rescue, channels: dict[str, Channel], owner: str) -> None:
        city = self._city
        uptime = Uptime(MACHINE, self.clock.monotonic_s)
        self._journal = journal = DiskOf(self._folder / "journal.db", self.clock, told_of_all(city.settings), owner, uptime)
        journal.city = city
        parts = Parts(city.settings, self.clock, uptime, lambda: self.directory, self.session, journal, city.rules)
        lane, outgoing = parts.begin(group, rescue, channels, owner, city.variant, lean=city.setting.lean)
        for dispatcher in (outgoing.dispatcher, rescue.dispatcher):
            dispatcher._courier._jitter = lambda: HALF
        if not city.setting.lean:
            engine = parts.engine
            intents = Intents(lane, self, engine, journal, outgoing.dispatcher)  # type: ignore[arg-type] # of it: the directory
            group.create_task(self._follow_intents(journal.cursor(INTENT_CURSOR), intents))

    async def _follow_intents(self, cursor: int, apply: Intents) -> None:
        """What people ask for, as the registry hands it over: oldest first, from where this journal's cursor stands."""
        while True:
            for intent in [one for one in self._city.intents if one.id > cursor]:
                await apply(intent)
                cursor = intent.id
            await asyncio.sleep(INTENT_POLL_S)


def _settle(done: asyncio.Future[Any], found: object, error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(found)
    else:
        done.set_exception(error)

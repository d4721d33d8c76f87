"""The fire lane, top to bottom: take → decode → refuse or dedupe → rules → one commit → acknowledge → dispatch → receipt.

    broker ─► take ─► gather: decode, stage, evaluate, coalesce ─► commit ─┬─► acknowledge ─► receipts
                      (`lane_turn`)               (`lane_commit`)    │      └─► opened()
                                                      late, refused  └─► the emergency log ─► rescued()

Nothing here waits for InfluxDB, the web, the registry or the field broker, and no fire waits for the journal longer than 250 ms.
Every reading meets the rules, whatever the rate; throttling decides only what is stored. Blocking work goes by `off_loop`, time
by the clock and the event loop: a simulation may hold them all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from iotcore import metrics
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.drilled import Drilled
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane_commit import Commits, Pending, Safety, unlogged
from iotcore.alarms.lane_notice import old
from iotcore.alarms.lane_parts import parted
from iotcore.alarms.lane_turn import Decode, Gathering, Turn
from iotcore.alarms.supervised import Supervised
from iotcore.alarms.warm import warm
from iotcore.clock import Clock
from iotcore.errors import IotError, StoreError
from iotcore.journal import holds
from iotcore.journal.faults import Fault
from iotcore.journal.journal import Journal
from iotcore.journal.quarantine import Row
from iotcore.journal.receipts import Receipts
from iotcore.journal.records import Committed, Placed, Raise
from iotcore.journal.retry import Answer, tried
from iotcore.journal.throttle import Throttle
from iotcore.registry.directory import Directory
from iotcore.wire.arrival import Arrival, Broker, Delivered, Presence

log = logging.getLogger(__name__)

BATCH_LIMIT = 64  # readings in one commit: bounds what a crash makes the broker send again, and the wait of a fire behind others
NOTE_AFTER_S = 0.1
RELEASE_S = 0.25  # between looks at holds that are over: they last from 15 s
FOLLOW_S = 2.0  # between looks at which incidents are open; our own are known at once


class FireLane:
    """One consumer of the fire broker. `opened` is called as soon as new incidents are durable, `tested` after test alarms."""

    def __init__(
        self,
        *,
        broker: Broker,
        decode: Decode,
        directory: Callable[[], Directory],
        engine: Engine,
        journal: Journal,
        clock: Clock,
        opened: Callable[[Committed], None],
        first_seen: Callable[[str], Coroutine[Any, Any, None]],
        throttle: Throttle | None = None,
        tested: Callable[[], None] = lambda: None,
        configured: Callable[[Presence], None] = lambda _: None,
        supervised: Supervised | None = None,
        exempt: Exempt | None = None,
        drilled: Drilled | None = None,
        safety: Safety | None = None,
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._opened = opened
        self._first_seen = first_seen
        self._tested = tested
        self._drilled = drilled or Drilled(engine)
        self._safety = safety or unlogged(clock)
        self._emergency = self._safety.emergency
        self._supervised = supervised
        self._supervision: Pending | None = None
        self._gathering = Gathering(
            decode,
            directory,
            engine,
            journal,
            clock,
            throttle=throttle or Throttle(),
            configured=configured,
            supervised=supervised,
            exempt=exempt,
            drilled=self._drilled,
        )
        self._commits = Commits(journal.commit, self._safety, clock, broker.working)
        self._one_at_a_time = asyncio.Lock()  # a turn, a delivery, and a person's retry
        self.receipts = Receipts(broker.publish, clock)
        self._counts = {"stored": 0, "refused": 0, "incidents": 0, "unkept": 0}
        self.flapping = 0  # alarms that come and go, by the last look
        self._activated: set[str] = set()
        self._held: set[str] = set()  # premises whose incident a response plan may hold back; bounded by the premises
        self._aside: set[asyncio.Task[None]] = set()

    def warm(self) -> None:
        """Give the rules the recent past, so that a restart in the middle of a fire does not forget its beginning.

        A rule whose alarm stands in the journal stays latched, for each device and point; every other may raise anew.
        """
        known = self._directory().devices
        recent = [reading for reading in self._journal.recent_readings() if reading.device in known]
        warm(self._engine, recent, known, old, (self._clock.monotonic_s(), self._clock.wall_ms()))
        if self._supervised is not None:
            for reading in recent:
                self._supervised.recalled(reading)
        self._engine.latch(self._journal.latches(), known, self._clock.monotonic_s())
        self._gathering.timers.restore(self._journal.rule_timers(), known)
        for premises, incident in self._journal.open_incidents():
            self._emergency.note_open(premises, incident)

    def closed(self, premises: str, devices: Collection[str]) -> None:
        """The episode of a premises was reset, by us or another replica: its devices may raise anew, and begin another."""
        self._engine.reset(devices)
        self._emergency.note_closed(premises)
        self._held.discard(premises)

    def counts(self) -> dict[str, int]:
        """What the lane has done since it started, for `iotcore doctor`."""
        return {**self._counts, "duplicates": self._gathering.duplicates, "throttled": self._gathering.throttled}

    def state(self) -> dict[str, Any]:
        """For the beat: whether the journal does not answer, and what went out without it."""
        since_ms = self._commits.stalled_since_ms
        stalled = {"journal_stalled": since_ms, "journal_trouble": self._commits.trouble} if since_ms is not None else {}
        emergency = {"fires": self._emergency.taken, "waiting": self._emergency.fires, "unlogged": self._emergency.unlogged}
        return {**self.counts(), **stalled, "emergency": {**emergency, "room": self._emergency.has_room}}

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.receipts.run())
            group.create_task(self._commits.run())
            group.create_task(self._follow_open())
            group.create_task(self._keep_time())
            group.create_task(self._release_holds())
            while True:
                await self.turn(await self._broker.take(BATCH_LIMIT))

    async def _keep_time(self) -> None:
        """Let rules decide when their time has come, whether anybody says anything or not."""
        while True:
            await self._gathering.timers.wait()
            if self._gathering.timers.due:
                await self.tick()

    async def tick(self) -> None:
        """What time has decided by now goes the way of what readings decide."""
        async with self._one_at_a_time:
            turn = self._gathering.begin()
            turn.by_time = True
            self._gathering.tick(turn)
            if turn.raises or turn.cleared:
                await self._carry(turn, (), 1)

    async def _release_holds(self) -> None:
        """Send what the response plan of a premises has held back, when its time is over; whichever replica comes first."""
        while True:
            await asyncio.sleep(RELEASE_S)
            if self._commits.stalled_since_ms is None:
                try:
                    released, self.flapping = await self._safety.off_loop(self._over_by_time)
                except IotError as error:
                    log.error("holds and what flaps cannot be ended: %s", error)  # noqa: TRY400 - tried again in a moment
                else:
                    if released.released:
                        self._opened(released)

    def _over_by_time(self) -> tuple[Committed, int]:
        return holds.release_due(self._journal, self._journal.now()), self._journal.end_calm()

    async def _follow_open(self) -> None:
        """Know which premises burn, whoever opened or closed it: without the journal a fire joins those, or begins."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            if self._commits.stalled_since_ms is None:
                try:
                    found = dict(await self._safety.off_loop(self._journal.open_incidents))
                except IotError as error:
                    log.warning("which incidents are open cannot be asked: %s", error)
                else:
                    self._emergency.note_all_open(found)

    async def turn(self, arrivals: Sequence[Arrival]) -> None:
        """Carry one batch of arrivals from bytes to durable, acknowledged and dispatched.

        While the journal does not answer it ends when its fires are on their way; the rest follows when the journal has it.
        """
        async with self._one_at_a_time:
            metrics.received.labels("fire").inc(len(arrivals))
            turn = self._gathering.begin(fires_only=self._commits.crowded)
            self._gathering.gather(arrivals, turn)
            if turn.raises or not turn.fires_only:
                await self._carry(turn, () if turn.fires_only else arrivals, len(arrivals))
            if turn.fires_only:
                self._counts["unkept"] += turn.unkept
                metrics.unkept.inc(turn.unkept)
                self._broker.acknowledge(arrivals)

    async def deliver(self, arrival: Arrival, *, alarms_only: bool = False) -> Delivered:
        """Carry one message that came another way than by the broker to its commit; what became of it.

        With `alarms_only` a reading is taken only while an alarm rule holds. Every reading still enters the windows of the rules,
        each once: an alarm by a mean or a rise is made of readings none of which is one by itself. What is not taken is not
        stored, not receipted and does not count as handled, so that its sender may bring it as backlog when it is let in again.
        A restart forgets such a window; the next readings fill it anew.

        Raises:
            StoreError: the journal does not answer. Its fires are on their way; its sender says it again.
        """
        async with self._one_at_a_time:
            turn = self._gathering.begin(alarms_only=alarms_only, fires_only=self._commits.crowded)
            self._gathering.gather([arrival], turn)
            pending = await self._carry(turn, (), 1) if turn.raises or not turn.fires_only else None
        if pending is None or not await self._commits.durable(pending, ()):
            raise StoreError(f"the journal does not answer: {self._commits.trouble}")
        understood = len(self._gathering.decode(arrival, self._directory(), self._clock.wall_ms()).readings)
        up_to = {boot: track.up_to for (_, boot), track in turn.stage.changed.items()}
        return Delivered(understood - turn.left, up_to, tuple(turn.refusals))

    async def retry(self, rows: Sequence[Row], answer: Answer) -> None:
        """Try rows of the quarantine again, as backlog of their true age; what is stored and the rows' end are one commit."""
        async with self._one_at_a_time:
            turn = self._gathering.begin()
            directory = self._directory()
            for one in tried(rows, self._gathering.decode, directory, self._clock.wall_ms(), answer):
                wrong = [r.device for r in one.readings if directory.devices[r.device].domain != "fire"]
                if wrong or not one.readings:
                    answer.leave(one.row, "wrong_broker", f"{', '.join(wrong)} belongs on the field broker")
                    continue
                turn.settled += (one.row.id,)
                turn.returned += one.refusals
                before = len(turn.readings)
                for reading in one.readings:
                    self._gathering.take_again(reading, one.row, directory.devices[reading.device], turn)
                answer.stored += len(turn.readings) - before
                answer.repeats += len(one.readings) - len(turn.readings) + before
            pending = await self._carry(turn, (), len(rows))
        await pending.done
        answer.removed += len(turn.settled)
        answer.alarms += [f"{one.notice.device}: {one.notice.rule}" for one in turn.raises]

    async def troubled(self, wrong: Collection[Fault], family: Collection[str]) -> None:
        """What others know to be wrong with devices: of the faults in `family`, these stand from now on, and no others."""
        async with self._one_at_a_time:
            if not self._gathering.faults.exactly(wrong, family):
                return
            _, pending = self._put(self._gathering.begin(), (), 0)
        await pending.done

    async def supervise(self, *, hears: bool) -> None:
        """Look at who is silent, and make it durable; several times a second. `hears`: whether the broker is heard now."""
        if self._supervision is not None and not self._supervision.done.done():
            return  # the journal does not answer: once is enough
        if self._supervised is not None and self._supervised.tick(hears=hears):
            async with self._one_at_a_time:
                self._supervision = await self._carry(self._gathering.begin(), (), 0)

    async def raise_again(self, raises: Sequence[Raise]) -> None:
        """Carry decisions that no reading of now made, such as those of what is no longer disabled, to their commit."""
        async with self._one_at_a_time:
            turn = self._gathering.begin()
            turn.raises += raises
            pending = await self._carry(turn, (), 1)
        await pending.done

    async def _carry(self, turn: Turn, arrivals: Sequence[Arrival], count: int) -> Pending:
        """Begin the commits of a turn; wait for those that open incidents, and for the last only where none waits before it."""
        behind = self._commits.behind
        opening, last = self._put(turn, arrivals, count)
        for one in opening:
            await self._commits.durable(one, one.batch.raises)
        if opening or behind:
            await self._commits.room()
        else:
            await self._commits.durable(last, turn.fires)
        return last

    def _put(self, turn: Turn, arrivals: Sequence[Arrival], count: int) -> tuple[list[Pending], Pending]:
        """Begin the commits of a turn: those that open incidents, and the last.

        What came by the broker is acknowledged when the last is durable.
        """
        taken_s = self._clock.monotonic_s()
        directory = self._directory()
        opening, (*more, last) = parted(self._gathering.batch(turn), self._burns, behind=self._commits.behind)

        def told_part(committed: Committed) -> None:
            self._tell(turn, committed)

        def told(committed: Committed) -> None:
            metrics.take_to_commit.labels("fire").observe(self._clock.monotonic_s() - taken_s)
            self._tell(turn, committed)
            self._count(turn)
            if arrivals:
                self._broker.acknowledge(arrivals)
            self._tell_senders(turn, directory)

        self._held |= {one.notice.premises for one in turn.raises if one.hold is not None}
        ahead = [self._commits.put(batch, told_part, ahead=True) for batch in opening]
        for batch in more:
            self._commits.put(batch, told_part)
        return ahead, self._commits.put(last, told, count)

    def _burns(self, premises: str) -> bool:
        """Whether a further fire there changes nothing that somebody waits for: its incident is open, and was not held back."""
        return self._emergency.burns(premises) and premises not in self._held

    def _tell(self, turn: Turn, committed: Committed) -> None:
        """What a commit has made goes on its way: first of all the fires."""
        durable_ms = self._clock.wall_ms()
        if committed.opened or committed.released or committed.updated:
            self._opened(committed)
        if committed.opened:
            metrics.incidents_opened.inc(len(committed.opened))
            if turn.raises:
                began_ms = min(one.decided_ms if turn.by_time else one.received_ms for one in turn.raises)
                metrics.alarm_latency.observe((durable_ms - began_ms) / 1000.0)
            self._later(self._note_durable(committed.opened, durable_ms))
        self._note_placed(committed.placed, committed.opened)
        self._counts["incidents"] += len(committed.opened)
        if committed.tests:
            self._later(self._note_tests(committed.tests, durable_ms))
        if committed.drills:
            self._later(self._note_drills(committed.drills, durable_ms))

    def _count(self, turn: Turn) -> None:
        """All of a turn is durable."""
        metrics.stored.labels("fire").inc(len(turn.readings))
        metrics.late.labels("fire").inc(sum(reading.backlog for reading in turn.readings))
        self._counts["stored"] += len(turn.readings)
        self._counts["refused"] += len(turn.refusals)

    def _note_placed(self, placed: Sequence[Placed], opened: Sequence[str]) -> None:
        """Where fires went. One of an episode that is closed unlatches its device: it must be able to raise again."""
        for one in placed:
            if not one.closed:
                self._emergency.note_open(one.premises, one.incident)
        late = {one.device for one in placed if one.closed}
        if late:
            log.warning("what %s told belongs to an episode that was reset meanwhile", ", ".join(sorted(late)))
            self._engine.reset(late)
        if any(not one.closed and one.incident not in opened for one in placed):
            self._safety.seconded()

    def _tell_senders(self, turn: Turn, directory: Directory) -> None:
        """Receipts for every boot that the batch touched; a device's first reading makes it active."""
        for (device, boot), track in turn.stage.changed.items():
            binding = directory.devices.get(device)
            if binding is None:
                continue
            self.receipts.owe(binding, boot, track.up_to)
            if binding.state == "provisioned" and device not in self._activated:
                self._activated.add(device)
                self._later(self._first_seen(device))

    async def _note_durable(self, incidents: tuple[str, ...], at_ms: float) -> None:
        """Write down when they were durable, once the dispatch no longer needs the file."""
        await asyncio.sleep(NOTE_AFTER_S)
        await self._safety.off_loop(lambda: self._journal.note_durable(incidents, at_ms))

    async def _note_tests(self, numbers: tuple[int, ...], at_ms: float) -> None:
        """The same for the alarms of devices in test mode; then whoever waits for them is told."""
        await self._safety.off_loop(lambda: self._journal.note_tests(numbers, at_ms))
        self._tested()

    async def _note_drills(self, ids: tuple[str, ...], at_ms: float) -> None:
        """The same for drills."""
        await self._safety.off_loop(lambda: self._journal.note_drills(ids, at_ms))
        self._drilled.heard()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it off the road; bounded by the devices that become active and the premises that burn."""
        task = asyncio.create_task(_said(work))
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)


async def _said(work: Coroutine[Any, Any, None]) -> None:
    """A moment that cannot be written down now is lost, and said."""
    try:
        await work
    except IotError as error:
        log.warning("not written down: %s", error)

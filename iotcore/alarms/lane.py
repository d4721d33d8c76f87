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
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from iotcore import metrics
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane_commit import Commits, Pending, Safety, unlogged
from iotcore.alarms.lane_notice import old
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
HOLD_GRACE_S = 3.0  # after its end a hold that still stands, by two looks at what is open, is one that the journal does not end


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
        )
        self._commits = Commits(journal.commit, self._safety, clock, broker.working)
        self._one_at_a_time = asyncio.Lock()  # a turn, a delivery, and a person's retry
        self.receipts = Receipts(broker.publish, clock)
        self._counts = {"stored": 0, "refused": 0, "incidents": 0, "unkept": 0}
        self._holds: dict[str, tuple[float, Raise]] = {}  # by incident: its end, monotonic s; what it holds back
        self._activated: set[str] = set()
        self._aside: set[asyncio.Task[None]] = set()

    def warm(self) -> None:
        """Give the rules the recent past, so that a restart in the middle of a fire does not forget its beginning.

        Only devices with a latched alarm stay latched; all others may raise with their next reading.
        """
        known = self._directory().devices
        recent = [reading for reading in self._journal.recent_readings() if reading.device in known]
        warm(self._engine, recent, known, old, (self._clock.monotonic_s(), self._clock.wall_ms()))
        if self._supervised is not None:
            for reading in recent:
                self._supervised.recalled(reading)
        self._engine.reset({reading.device for reading in recent} - self._journal.alarmed_devices())
        self._gathering.timers.restore(self._journal.rule_timers(), known)
        self._note_open(dict(self._journal.open_incidents()), holds.standing(self._journal, self._journal.now()))

    def closed(self, premises: str, devices: Collection[str]) -> None:
        """The episode of a premises was reset, by us or another replica: its devices may raise anew, and begin another."""
        self._engine.reset(devices)
        self._emergency.note_closed(premises)
        self._holds = {name: one for name, one in self._holds.items() if one[1].notice.premises != premises}

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
            group.create_task(self._end_holds())
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
                await self._commits.durable(self._put(turn, (), 1), turn.fires)

    async def _release_holds(self) -> None:
        """Send what the response plan of a premises has held back, when its time is over; whichever replica comes first."""
        while True:
            await asyncio.sleep(RELEASE_S)
            if self._commits.stalled_since_ms is None:
                try:
                    released = await self._safety.off_loop(lambda: holds.release_due(self._journal, self._journal.now()))
                except IotError as error:
                    log.error("holds cannot be ended: %s", error)  # noqa: TRY400 - tried again in a moment
                else:
                    if released.released:
                        self._opened(released)
                        self._later(self._look_open())

    async def _end_holds(self) -> None:
        """End holds without the journal when that does not: nobody could acknowledge, and a fire must not wait for a disk."""
        while True:
            await asyncio.sleep(RELEASE_S)
            grace_s = HOLD_GRACE_S if self._commits.stalled_since_ms is None else 0.0
            until_s = self._clock.monotonic_s() - grace_s
            if over := [incident for incident, (end_s, _) in self._holds.items() if end_s <= until_s]:
                await self._commits.rescue([self._holds.pop(incident)[1] for incident in over])

    async def _follow_open(self) -> None:
        """Know which premises burn, whoever opened or closed it: without the journal a fire joins those, or begins."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            if self._commits.stalled_since_ms is None:
                try:
                    await self._look_open()
                except IotError as error:
                    log.warning("which incidents are open cannot be asked: %s", error)

    async def _look_open(self) -> None:
        journal = self._journal
        self._note_open(
            *await self._safety.off_loop(lambda: (dict(journal.open_incidents()), holds.standing(journal, journal.now())))
        )

    def _note_open(self, found: Mapping[str, str], standing: Sequence[holds.Standing]) -> None:
        """Which premises burn, and of which of them nobody was told yet."""
        now_s = self._clock.monotonic_s()
        self._holds = {one.incident: (now_s + one.after_s, one.cause) for one in standing}
        self._emergency.note_all_open(found, self._holds)

    async def turn(self, arrivals: Sequence[Arrival]) -> None:
        """Carry one batch of arrivals from bytes to durable, acknowledged and dispatched.

        While the journal does not answer it ends when its fires are on their way; the rest follows when the journal has it.
        """
        async with self._one_at_a_time:
            metrics.received.labels("fire").inc(len(arrivals))
            turn = self._gathering.begin(fires_only=self._commits.crowded)
            self._gathering.gather(arrivals, turn)
            if turn.raises or not turn.fires_only:
                pending = self._put(turn, () if turn.fires_only else arrivals, len(arrivals))
                await self._commits.durable(pending, turn.fires)
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
            durable = False
            if turn.raises or not turn.fires_only:
                durable = await self._commits.durable(self._put(turn, (), 1), turn.fires)
        if not durable:
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
            pending = self._put(turn, (), len(rows))
            await self._commits.durable(pending, turn.fires)
        await pending.done
        answer.removed += len(turn.settled)
        answer.alarms += [f"{one.notice.device}: {one.notice.rule}" for one in turn.raises]

    async def troubled(self, wrong: Collection[Fault], family: Collection[str]) -> None:
        """What others know to be wrong with devices: of the faults in `family`, these stand from now on, and no others."""
        async with self._one_at_a_time:
            if not self._gathering.faults.exactly(wrong, family):
                return
            pending = self._put(self._gathering.begin(), (), 0)
        await pending.done

    async def supervise(self, *, hears: bool) -> None:
        """Look at who is silent, and make it durable; several times a second. `hears`: whether the broker is heard now."""
        if self._supervision is not None and not self._supervision.done.done():
            return  # the journal does not answer: once is enough
        if self._supervised is not None and self._supervised.tick(hears=hears):
            async with self._one_at_a_time:
                pending = self._supervision = self._put(self._gathering.begin(), (), 0)
                await self._commits.durable(pending, ())

    async def raise_again(self, raises: Sequence[Raise]) -> None:
        """Carry decisions that no reading of now made, such as those of what is no longer disabled, to their commit."""
        async with self._one_at_a_time:
            turn = self._gathering.begin()
            turn.raises += raises
            pending = self._put(turn, (), 1)
            await self._commits.durable(pending, turn.fires)
        await pending.done

    def _put(self, turn: Turn, arrivals: Sequence[Arrival], count: int) -> Pending:
        """Begin the commit of a turn; what came by the broker is acknowledged when it is durable."""
        taken_s = self._clock.monotonic_s()
        directory = self._directory()
        batch = self._gathering.batch(turn)

        def told(committed: Committed) -> None:
            metrics.take_to_commit.labels("fire").observe(self._clock.monotonic_s() - taken_s)
            self._tell(turn, committed)
            if arrivals:
                self._broker.acknowledge(arrivals)
            self._tell_senders(turn, directory)

        return self._commits.put(batch, told, count)

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
        metrics.stored.labels("fire").inc(len(turn.readings))
        metrics.late.labels("fire").inc(sum(reading.backlog for reading in turn.readings))
        self._counts["stored"] += len(turn.readings)
        self._counts["refused"] += len(turn.refusals)
        self._counts["incidents"] += len(committed.opened)
        if committed.tests:
            self._later(self._note_tests(committed.tests, durable_ms))

    def _note_placed(self, placed: Sequence[Placed], opened: Sequence[str]) -> None:
        """Where fires went. One of an episode that is closed unlatches its device: it must be able to raise again."""
        for one in placed:
            if not one.closed:
                self._emergency.note_open(one.premises, one.incident, is_held=one.held)
        if any(one.held and one.incident not in self._holds for one in placed):
            self._later(self._look_open())
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

"""The fire lane, top to bottom: take → decode → refuse or dedupe → rules → one commit → acknowledge → dispatch → receipt.

    broker ─► take ─► decode ─► stage ─► evaluate ─► coalesce ─► journal.commit ─► acknowledge ─► opened() ─► receipts
                        │         │                     │          │ fails: the same batch again, nothing acknowledged
                        └ refused └ duplicate           └ above its device's rate and nothing new

Nothing here waits for InfluxDB, the web, the registry or the field broker. Every reading meets the rules, whatever the rate;
throttling decides only what is stored (`coalesce`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from iotcore import metrics
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane_notice import old
from iotcore.alarms.lane_turn import Decode, Gathering, Turn, unheard
from iotcore.alarms.supervised import NOTHING_TOLD, Supervised
from iotcore.alarms.warm import warm
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.conduct import Conduct
from iotcore.journal.faults import Fault, Faults
from iotcore.journal.journal import Journal
from iotcore.journal.progress import Progress
from iotcore.journal.quarantine import Row
from iotcore.journal.receipts import Receipts
from iotcore.journal.records import Batch, Committed, Raise
from iotcore.journal.retry import Answer, tried
from iotcore.journal.throttle import Throttle
from iotcore.registry.directory import Directory
from iotcore.wire.arrival import Arrival, Broker, Delivered, Presence

log = logging.getLogger(__name__)

BATCH_LIMIT = 64  # readings in one commit: bounds what a crash makes the broker send again, and the wait of a fire behind others
RETRY_COMMIT_S = 0.25
NOTE_AFTER_S = 0.1


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
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._opened = opened
        self._first_seen = first_seen
        self._tested = tested
        standing = journal.standing_faults()
        self._faults = Faults(standing)
        self._progress = Progress(journal.progress(), clock.monotonic_s())
        self._throttle = throttle or Throttle()
        self._supervised = supervised
        heard = supervised.heard if supervised is not None else unheard
        self._gathering = Gathering(
            decode,
            directory,
            engine,
            clock,
            faults=self._faults,
            throttle=self._throttle,
            configured=configured,
            heard=heard,
            exempt=exempt,
        )
        self._conduct = Conduct("fire", standing, clock.monotonic_s())
        self._conduct.tracked(self._progress, self._progress.tracks, clock.monotonic_s(), clock.wall_ms())
        self._one_at_a_time = asyncio.Lock()  # a turn, a delivery, and a person's retry
        self.receipts = Receipts(broker.publish, clock)
        self._counts = {"stored": 0, "refused": 0, "throttled": 0, "incidents": 0}
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

    def counts(self) -> dict[str, int]:
        """What the lane has done since it started, for `iotcore doctor`."""
        return {**self._counts, "duplicates": self._gathering.duplicates}

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.receipts.run())
            while True:
                await self.turn(await self._broker.take(BATCH_LIMIT))

    async def turn(self, arrivals: Sequence[Arrival]) -> None:
        """Carry one batch of arrivals from bytes to durable, acknowledged and dispatched."""
        async with self._one_at_a_time:
            metrics.received.labels("fire").inc(len(arrivals))
            await self._turn(arrivals, Turn(self._progress.stage(self._clock.monotonic_s())))
            self._broker.acknowledge(arrivals)

    async def deliver(self, arrival: Arrival, *, alarms_only: bool = False) -> Delivered:
        """Carry one message that came another way than by the broker to its commit; what became of it.

        With `alarms_only` a reading is taken only while an alarm rule holds. Every reading still enters the windows of the rules,
        each once: an alarm by a mean or a rise is made of readings none of which is one by itself. What is not taken is not
        stored, not receipted and does not count as handled, so that its sender may bring it as backlog when it is let in again.
        A restart forgets such a window; the next readings fill it anew.
        """
        async with self._one_at_a_time:
            turn = Turn(self._progress.stage(self._clock.monotonic_s()), alarms_only=alarms_only)
            await self._turn([arrival], turn)
        understood = len(self._gathering.decode(arrival, self._directory(), self._clock.wall_ms()).readings)
        up_to = {boot: track.up_to for (_, boot), track in turn.stage.changed.items()}
        return Delivered(understood - turn.left, up_to, tuple(turn.refusals))

    async def _turn(self, arrivals: Sequence[Arrival], turn: Turn) -> None:
        taken_s = self._clock.monotonic_s()
        self._gathering.gather(arrivals, turn)
        await self._commit(turn)
        metrics.take_to_commit.labels("fire").observe(self._clock.monotonic_s() - taken_s)
        self._progress.apply(turn.stage.changed)
        self._tell_senders(turn, self._directory())

    async def retry(self, rows: Sequence[Row], answer: Answer) -> None:
        """Try rows of the quarantine again, as backlog of their true age; what is stored and the rows' end are one commit."""
        async with self._one_at_a_time:
            turn = Turn(self._progress.stage(self._clock.monotonic_s()))
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
            await self._commit(turn)
            self._progress.apply(turn.stage.changed)
            answer.removed += len(turn.settled)
            answer.alarms += [f"{one.notice.device}: {one.notice.rule}" for one in turn.raises]

    async def troubled(self, wrong: Collection[Fault], family: Collection[str]) -> None:
        """What others know to be wrong with devices: of the faults in `family`, these stand from now on, and no others."""
        async with self._one_at_a_time:
            if self._faults.exactly(wrong, family):
                await self._commit(Turn(self._progress.stage(self._clock.monotonic_s())))

    async def supervise(self, *, hears: bool) -> None:
        """Look at who is silent, and make it durable; several times a second. `hears`: whether the broker is heard now."""
        if self._supervised is not None and self._supervised.tick(hears=hears):
            async with self._one_at_a_time:
                await self._commit(Turn(self._progress.stage(self._clock.monotonic_s())))

    async def raise_again(self, raises: Sequence[Raise]) -> None:
        """Carry decisions that no reading of now made, such as those of what is no longer disabled, to their commit."""
        async with self._one_at_a_time:
            turn = Turn(self._progress.stage(self._clock.monotonic_s()))
            turn.raises += raises
            await self._commit(turn)

    async def _commit(self, turn: Turn) -> None:
        """One transaction, off the event loop; while the disk refuses, the same batch again and nothing acknowledged."""
        peaks = self._gathering.coalescing.take_peaks()
        turn.readings += peaks
        now_s = self._clock.monotonic_s()
        self._conduct.tracked(self._progress, turn.stage.changed, now_s, self._clock.wall_ms())
        for device in self._conduct.judge(self._faults, self._throttle, now_s):
            self._gathering.coalescing.forget(device)
        skews = self._gathering.skews.take_measured()
        for skew_ms in skews.values():
            metrics.clock_skew.labels("fire").observe(skew_ms / 1000.0)
        told = self._supervised.commit(self._faults) if self._supervised is not None else NOTHING_TOLD
        raised, cleared = self._faults.take()
        batch = Batch(
            readings=tuple(turn.readings),
            raises=(*turn.raises, *told.raises),
            cleared_alarms=tuple(told.cleared),
            refusals=tuple(turn.refusals),
            faults=raised,
            cleared=cleared,
            presence=tuple(turn.presence.items()),
            progress=tuple(turn.stage.rows()),
            conduct=tuple(self._conduct.take(skews)),
            settled=turn.settled,
            returned=tuple(turn.returned),
            heard=told.heard,
        )
        refused = False
        while True:
            self._broker.working()  # a full disk is no reason to be restarted
            try:
                committed = await asyncio.to_thread(self._journal.commit, batch)
                break
            except StoreError as error:
                metrics.commit_failures.labels("fire").inc()
                if not refused:
                    log.critical("the fire journal refused %d readings and is tried again: %s", len(batch.readings), error)
                refused = True
                await asyncio.sleep(RETRY_COMMIT_S)
        durable_ms = self._clock.wall_ms()
        metrics.stored.labels("fire").inc(len(batch.readings))
        metrics.late.labels("fire").inc(sum(reading.backlog for reading in batch.readings))
        self._counts["stored"] += len(batch.readings)
        self._counts["refused"] += len(batch.refusals)
        self._counts["throttled"] += turn.throttled - len(peaks)
        self._counts["incidents"] += len(committed.opened)
        if committed.opened or committed.released or committed.updated:
            self._opened(committed)
        if committed.opened:
            metrics.incidents_opened.inc(len(committed.opened))
            metrics.alarm_latency.observe((durable_ms - min(one.received_ms for one in turn.raises)) / 1000.0)
            self._later(self._note_durable(committed.opened, durable_ms))
        if committed.tests:
            self._later(self._note_tests(committed.tests, durable_ms))

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
        await asyncio.to_thread(self._journal.note_durable, incidents, at_ms)

    async def _note_tests(self, numbers: tuple[int, ...], at_ms: float) -> None:
        """The same for the alarms of devices in test mode; then whoever waits for them is told."""
        await asyncio.to_thread(self._journal.note_tests, numbers, at_ms)
        self._tested()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it off the road; bounded by the devices that become active and the premises that burn."""
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

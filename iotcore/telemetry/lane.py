"""The telemetry lane, top to bottom: take → decode → refuse or dedupe → lines → one commit → acknowledge → receipt; then drain.

    field broker ─┐                                                        ┌─► acknowledge, receipts (field only), page
                  ├─► take ─► decode ─► stage ─► record ─► spool.commit ───┤
    fire broker ──┘              │         │                    │          └─► drain (a task of its own) ─► store
    fire journal: what it missed ┼─────────┤                    │
                                 └ refused └ duplicate          └ fails: the same batch again, nothing acknowledged

The field broker's domains are this lane's own: it receipts them and keeps their refusals and faults. On the fire broker it only
listens, so that fire values reach the dashboards; the fire lane answers for them. A broker that was killed may have forgotten our
copies of what the fire lane has receipted: those come from its journal. The store may be down for days.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.progress import Progress, Stage
from iotcore.journal.receipts import Receipts
from iotcore.journal.recent import RecentReadings
from iotcore.reading import Reading
from iotcore.registry.directory import Directory
from iotcore.telemetry.drain import Drain
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.store import Store
from iotcore.wire.arrival import Arrival, Broker, Decoded, Presence, Refusal

TAKE_LIMIT = 1_000  # arrivals in one commit: an fsync is shared, and a crash makes the broker send no more than these again
BREATHE_EVERY = 50  # arrivals decoded before others may run: a batch of 500 readings each is 25,000 readings
RETRY_COMMIT_S = 0.25
MISSED_EVERY_S = 5.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    """What one turn gathers before its commit."""

    stage: Stage
    lines: list[bytes] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: int = 0


class TelemetryLane:
    """One worker. `owned` is the broker whose domains it answers for; `watched` one that it only listens to.

    `receipted` is where another lane keeps what it has receipted of the domains on `watched`.
    """

    def __init__(
        self,
        *,
        owned: Broker,
        watched: Broker | None,
        decode: Callable[[Arrival, Directory, float], Decoded],
        directory: Callable[[], Directory],
        spool: Spool,
        store: Store,
        panel: Panel,
        clock: Clock,
        first_seen: Callable[[str], Awaitable[None]],
        receipted: RecentReadings | None = None,
    ) -> None:
        self._owned = owned
        self._watched = watched
        self._receipted = receipted
        self._one_at_a_time = asyncio.Lock()  # turns that touch the same devices
        self._decode = decode
        self._directory = directory
        self._spool = spool
        self._store = store
        self._panel = panel
        self._clock = clock
        self._first_seen = first_seen
        self._progress = Progress()
        self._drain = Drain(spool, store)
        self._receipts = Receipts(owned.publish, clock)
        self._counts = {"stored": 0, "refused": 0, "duplicates": 0}
        self._activated: set[str] = set()
        self._activating: set[asyncio.Task[None]] = set()

    def counts(self) -> dict[str, int | str]:
        """What the lane has done since it started, and what keeps it from the store, for `iotcore doctor`."""
        return {**self._counts, "store_trouble": self._drain.trouble}

    async def run(self) -> None:
        """Serve until cancelled; begins with what the spool and the page remember."""
        self._progress = Progress(await self._spool.progress(), self._clock.monotonic_s())
        await self._panel.load()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receipts.run())
                group.create_task(self._drain.run())
                group.create_task(self._panel.run())
                group.create_task(self._serve(self._owned))
                if self._watched is not None:
                    group.create_task(self._serve(self._watched))
                if self._receipted is not None:
                    group.create_task(self._fill_in(self._receipted))
        finally:
            await self._panel.write()

    async def _serve(self, broker: Broker) -> None:
        while True:
            arrivals = await broker.take(TAKE_LIMIT)
            if broker is self._owned:
                await self._turn(broker, arrivals)
            else:
                async with self._one_at_a_time:
                    await self._turn(broker, arrivals)

    async def _fill_in(self, receipted: RecentReadings) -> None:
        """What the fire lane has receipted and we have not: every few seconds, and after a start all that it still remembers."""
        cursor = 0
        with closing(receipted):
            while True:
                page = await asyncio.to_thread(receipted.page, cursor, lambda *identity: not self._progress.has(*identity))
                if page.readings:
                    log.warning("%d readings that the fire lane has receipted were missed on the broker", len(page.readings))
                    async with self._one_at_a_time:
                        await self._store_missed(page.readings)
                cursor = page.cursor
                if not page.more:
                    await asyncio.sleep(MISSED_EVERY_S)

    async def _store_missed(self, readings: Sequence[Reading]) -> None:
        """As a turn of our own; a reading of a device that is gone has nowhere to go."""
        turn = _Turn(self._progress.stage(self._clock.monotonic_s()))
        directory = self._directory()
        self._stage([r for r in readings if not r.retained and r.device in directory.devices], directory, turn)
        await self._commit(turn, ours=False)
        self._progress.apply(turn.stage.changed)
        self._drain.wake()
        for reading in turn.readings:
            self._panel.reading(reading, missed=True)

    async def _turn(self, broker: Broker, arrivals: Sequence[Arrival]) -> None:
        """Carry one batch of arrivals from bytes to durable, acknowledged, and on its way to the store."""
        ours = broker is self._owned
        turn = _Turn(self._progress.stage(self._clock.monotonic_s()))
        for number, arrival in enumerate(arrivals, 1):
            directory = self._directory()
            decoded = self._decode(arrival, directory, self._clock.wall_ms())
            turn.refusals += decoded.refusals
            if decoded.presence is not None:
                self._note_presence(decoded.presence, arrival, directory, ours=ours)
            misplaced = _misplaced(arrival, decoded.readings, directory, ours=ours)
            if misplaced is not None:
                turn.refusals.append(misplaced)
            else:
                self._stage(decoded.readings, directory, turn)
            if number % BREATHE_EVERY == 0:
                await asyncio.sleep(0)
        await self._commit(turn, ours=ours)
        broker.acknowledge(arrivals)
        self._progress.apply(turn.stage.changed)
        self._drain.wake()
        self._show(turn, ours=ours)
        if ours:
            self._tell_senders(turn)

    def _stage(self, readings: Sequence[Reading], directory: Directory, turn: _Turn) -> None:
        """Drop what is stored already; turn the rest into lines."""
        for reading in readings:
            if not turn.stage.take(reading.device, reading.boot, reading.seq):
                turn.duplicates += 1
                continue
            turn.readings.append(reading)
            turn.lines.append(self._store.record(reading, directory.devices[reading.device]))

    async def _commit(self, turn: _Turn, *, ours: bool) -> None:
        """One transaction; while the disk refuses, the same batch again and nothing acknowledged."""
        progress = turn.stage.rows()
        refusals = turn.refusals if ours else []
        failures = 0
        while turn.lines or progress or refusals:
            try:
                await self._spool.commit(turn.lines, progress, refusals)
            except StoreError as error:
                metrics.commit_failures.labels("telemetry").inc()
                if not failures:  # once: a log that grows with every attempt would not help a full disk
                    log.warning("the spool refused %d readings; trying until it takes them: %s", len(turn.readings), error)
                failures += 1
                await asyncio.sleep(RETRY_COMMIT_S)
                continue
            break
        metrics.stored.labels("telemetry").inc(len(turn.readings))
        metrics.duplicates.labels("telemetry").inc(turn.duplicates)
        for refusal in turn.refusals:
            metrics.refused.labels("telemetry", refusal.reason.partition(":")[0]).inc()
        self._counts["stored"] += len(turn.readings)
        self._counts["duplicates"] += turn.duplicates
        self._counts["refused"] += len(turn.refusals)

    def _show(self, turn: _Turn, *, ours: bool) -> None:
        """What the page shows of this batch. Faults of strangers would be a list without end: they are only quarantined."""
        for reading in turn.readings:
            self._panel.reading(reading)
        if not ours:
            return
        devices = self._directory().devices
        for reading in turn.readings:
            self._panel.judge(reading)
        for refusal in turn.refusals:
            if refusal.device in devices:
                self._panel.refused(refusal)

    def _note_presence(self, presence: Presence, arrival: Arrival, directory: Directory, *, ours: bool) -> None:
        """A will or a birth; a gateway that is gone takes its children with it."""
        self._panel.presence(presence, arrival.received_ms, retained=arrival.retained)
        if not ours:
            return
        if presence.message.state == "online":
            self._panel.online(presence.device)
            return
        self._panel.offline(presence.device)
        if directory.devices[presence.device].domain == "gateway":
            for binding in directory.devices.values():
                if binding.publisher == presence.device and binding.domain != "fire":
                    self._panel.offline(binding.device)

    def _tell_senders(self, turn: _Turn) -> None:
        """Receipts for every boot that the batch touched; a device's first reading makes it active."""
        devices = self._directory().devices
        for (device, boot), track in turn.stage.changed.items():
            binding = devices.get(device)
            if binding is None:
                continue
            self._receipts.owe(binding, boot, track.up_to)
            if binding.state == "provisioned" and device not in self._activated:
                self._activated.add(device)
                task = asyncio.ensure_future(self._first_seen(device))
                self._activating.add(task)
                task.add_done_callback(self._activating.discard)


def _misplaced(arrival: Arrival, readings: Sequence[Reading], directory: Directory, *, ours: bool) -> Refusal | None:
    """Why the readings of an arrival (all of one device) are not for us to store."""
    if not readings:
        return None
    device = readings[0].device
    if ours and directory.devices[device].domain == "fire":  # stored and receipted here, no rule would ever see it
        return Refusal("wrong_broker", f"{device} belongs on the fire broker", arrival.topic, device, arrival.payload)
    if arrival.retained:
        return Refusal("retained", "a retained reading is history", arrival.topic, device, arrival.payload)
    return None

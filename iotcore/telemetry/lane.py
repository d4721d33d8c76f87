"""The telemetry lane, top to bottom: take → decode → refuse or dedupe → lines → one commit → acknowledge → receipt; then drain.

    field broker ─┐                                                        ┌─► acknowledge, receipts (field only), page
                  ├─► take ─► decode ─► stage ─► record ─► spool.commit ───┤
    fire broker ──┘              │         │                    │          └─► drain (a task of its own) ─► store
    fire journal: what it missed ┼─────────┤                    │
                                 └ refused └ duplicate          └ fails: the same batch again, nothing acknowledged

While one batch of the field broker is on its way to the disk, the next is decoded. Its stage sees what that batch adds, for a
commit is tried until it succeeds; receipts and acknowledgements wait for it.

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
from iotcore.registry.directory import Binding, Directory
from iotcore.telemetry.drain import Drain
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.quality import Standing
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.store import Confidential, Store
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Broker, Decoded, Presence, Refusal

TAKE_LIMIT = 1_000  # arrivals in one commit: an fsync is shared, and a crash makes the broker send no more than these again
BREATHE_EVERY = 250  # readings decoded before others may run: about 5 ms
RECEIPTS_EVERY_S = 0.2  # a sender waits 30 s before it asks again; a receipt costs as much as a reading
RETRY_COMMIT_S = 0.25
MISSED_EVERY_S = 5.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    """What one turn gathers before its commit."""

    stage: Stage
    lines: list[bytes] = field(default_factory=list)
    confidential: list[bytes] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: int = 0


class TelemetryLane:
    """One worker. `owned` is the broker whose domains it answers for; `watched` one that it only listens to.

    `receipted` is where another lane keeps what it has receipted of the domains on `watched`; `confidential` where the readings
    of some devices go instead of to `store`.
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
        confidential: Confidential | None = None,
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
        self._quality = Standing()
        self._confidential = confidential
        self._drains = [Drain(spool, each) for each in (store, *((confidential.store,) if confidential else ()))]
        self._receipts = Receipts(owned.publish, clock, pause_s=RECEIPTS_EVERY_S)
        self._counts = {"stored": 0, "refused": 0, "duplicates": 0}
        self._activated: set[str] = set()
        self._activating: set[asyncio.Task[None]] = set()

    def counts(self) -> dict[str, int | str]:
        """What the lane has done since it started, and what keeps it from the store, for `iotcore doctor`."""
        return {**self._counts, "store_trouble": next((d.trouble for d in self._drains if d.trouble), "")}

    async def run(self) -> None:
        """Serve until cancelled; begins with what the spool and the page remember."""
        self._progress = Progress(await self._spool.progress(), self._clock.monotonic_s())
        await self._panel.load()
        if self._confidential is None and (left := (await self._spool.depth()).confidential):
            log.warning("%d batches of confidential readings wait in the spool; fill store.confidential to drain them", left)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receipts.run())
                for drain in self._drains:
                    group.create_task(drain.run())
                group.create_task(self._panel.run())
                decoded: asyncio.Queue[tuple[_Turn, list[Arrival]]] = asyncio.Queue(1)
                group.create_task(self._decode_owned(decoded))
                group.create_task(self._finish_owned(decoded))
                if self._watched is not None:
                    group.create_task(self._serve_watched(self._watched))
                if self._receipted is not None:
                    group.create_task(self._fill_in(self._receipted))
        finally:
            await self._panel.write()

    async def _decode_owned(self, decoded: asyncio.Queue[tuple[_Turn, list[Arrival]]]) -> None:
        while True:
            arrivals = await self._owned.take(TAKE_LIMIT)
            turn = await self._staged(arrivals, ours=True)
            self._progress.apply(turn.stage.changed)
            await decoded.put((turn, arrivals))

    async def _finish_owned(self, decoded: asyncio.Queue[tuple[_Turn, list[Arrival]]]) -> None:
        while True:
            turn, arrivals = await decoded.get()
            await self._commit(turn, ours=True)
            self._owned.acknowledge(arrivals)
            self._show(turn)
            self._tell_senders(turn)

    async def _serve_watched(self, broker: Broker) -> None:
        while True:
            arrivals = await broker.take(TAKE_LIMIT)
            async with self._one_at_a_time:
                turn = await self._staged(arrivals, ours=False)
                await self._commit(turn, ours=False)
                broker.acknowledge(arrivals)
                self._progress.apply(turn.stage.changed)
            self._panel.readings(turn.readings)

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
        devices = self._directory().devices
        for reading in readings:
            if not reading.retained and reading.device in devices:
                self._add(reading, devices[reading.device], turn)
        await self._commit(turn, ours=False)
        self._progress.apply(turn.stage.changed)
        self._panel.readings(turn.readings, missed=True)

    async def _staged(self, arrivals: Sequence[Arrival], *, ours: bool) -> _Turn:
        """Carry one batch of arrivals from bytes to lines."""
        turn = _Turn(self._progress.stage(self._clock.monotonic_s()))
        directory, now_ms, breathe_at = self._directory(), self._clock.wall_ms(), BREATHE_EVERY
        for arrival in arrivals:
            decoded = self._decode(arrival, directory, now_ms)
            if decoded.refusals:
                turn.refusals += decoded.refusals
            if decoded.presence is not None:
                self._note_presence(decoded.presence, arrival, directory, ours=ours)
            if not decoded.readings:
                continue
            binding = directory.devices[decoded.readings[0].device]  # all readings of an arrival are of one device
            if arrival.retained or (ours and binding.domain == topics.FIRE_DOMAIN):
                turn.refusals.append(_misplaced(arrival, binding))
                continue
            for reading in decoded.readings:
                self._add(reading, binding, turn)
            if len(turn.readings) + turn.duplicates >= breathe_at:
                await asyncio.sleep(0)
                directory, now_ms = self._directory(), self._clock.wall_ms()
                breathe_at = len(turn.readings) + turn.duplicates + BREATHE_EVERY
        return turn

    def _add(self, reading: Reading, binding: Binding, turn: _Turn) -> None:
        """Drop what is stored already; turn the rest into a line."""
        if turn.stage.take(reading.device, reading.boot, reading.seq):
            reading = self._quality.judge(reading, binding.spec)
            turn.readings.append(reading)
            lines = turn.lines if self._confidential is None or not self._confidential.has(binding) else turn.confidential
            lines.append(self._store.record(reading, binding))
        else:
            turn.duplicates += 1

    async def _commit(self, turn: _Turn, *, ours: bool) -> None:
        """One transaction; while the disk refuses, the same batch again and nothing acknowledged."""
        progress = turn.stage.rows()
        refusals = turn.refusals if ours else []
        failures = 0
        while turn.lines or turn.confidential or progress or refusals:
            try:
                await self._spool.commit(turn.lines, progress, refusals, turn.confidential)
            except StoreError as error:
                metrics.commit_failures.labels("telemetry").inc()
                if not failures:  # once: a log that grows with every attempt would not help a full disk
                    log.warning("the spool refused %d readings; trying until it takes them: %s", len(turn.readings), error)
                failures += 1
                await asyncio.sleep(RETRY_COMMIT_S)
                continue
            break
        for drain in self._drains:
            drain.wake()
        metrics.stored.labels("telemetry").inc(len(turn.readings))
        metrics.duplicates.labels("telemetry").inc(turn.duplicates)
        for refusal in turn.refusals:
            metrics.refused.labels("telemetry", refusal.reason.partition(":")[0]).inc()
        self._counts["stored"] += len(turn.readings)
        self._counts["duplicates"] += turn.duplicates
        self._counts["refused"] += len(turn.refusals)

    def _show(self, turn: _Turn) -> None:
        """What the page shows of this batch. Faults of strangers would be a list without end: they are only quarantined."""
        self._panel.readings(turn.readings)
        self._panel.judge(turn.readings)
        if turn.refusals:
            devices = self._directory().devices
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


def _misplaced(arrival: Arrival, binding: Binding) -> Refusal:
    """Why the readings of an arrival are not for us to store."""
    if arrival.retained:
        return Refusal("retained", "a retained reading is history", arrival.topic, binding.device, arrival.payload)
    detail = f"{binding.device} belongs on the fire broker"  # stored and receipted here, no rule would ever see it
    return Refusal("wrong_broker", detail, arrival.topic, binding.device, arrival.payload)

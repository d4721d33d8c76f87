"""The telemetry lane, top to bottom: take → decode → refuse or dedupe → lines → one commit → acknowledge → receipt; then drain.

    field broker ─┐                                                        ┌─► acknowledge, receipts (field only), page
                  ├─► take ─► decode ─► stage ─► record ─► spool.commit ───┤
    fire broker ──┘              │         │                    │          └─► drain (a task of its own) ─► store
    fire journal: what it missed ┼─────────┤                    │
                                 └ refused ├ duplicate          └ fails: the same batch again, nothing acknowledged
                                           └ above its device's rate

While one batch of the field broker is on its way to the disk, the next is decoded. Its stage sees what that batch adds, for a
commit is tried until it succeeds; receipts and acknowledgements wait for it.

The field broker's domains are this lane's own: it receipts them and keeps their refusals and faults. On the fire broker it only
listens, so that fire values reach the dashboards; the fire lane answers for them. A broker that was killed may have forgotten our
copies of what the fire lane has receipted: those come from its journal. The store may be down for days.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import closing

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.conduct import Conduct
from iotcore.journal.progress import OURS, Progress
from iotcore.journal.quarantine import Row, Wanted
from iotcore.journal.receipts import Receipts
from iotcore.journal.recent import RecentReadings
from iotcore.journal.retry import Answer, Tried, handled, tried
from iotcore.journal.skew import Skews
from iotcore.journal.throttle import Throttle
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.telemetry.drain import Drain
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.quality import Standing
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.store import Confidential, Store
from iotcore.telemetry.turn import Turn, misplaced
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Broker, Decoded, Presence
from iotcore.wire.topics import FIELD_DOMAINS

TAKE_LIMIT = 1_000  # arrivals in one commit: an fsync is shared, and a crash makes the broker send no more than these again
BREATHE_EVERY = 250  # readings decoded before others may run: about 5 ms
RECEIPTS_EVERY_S = 0.2  # a sender waits 30 s before it asks again; a receipt costs as much as a reading
RETRY_COMMIT_S = 0.25
MISSED_EVERY_S = 5.0
log = logging.getLogger(__name__)


class TelemetryLane:
    """One worker. `owned` is the broker whose domains it answers for; `watched` one that it only listens to.

    `domains` are those of `owned` that are its own. What else comes is stored, for it was acknowledged once (a former split of
    the work left it in our session), but its owner alone receipts it and says how its device is. `receipted` is where another
    lane keeps what it has receipted of the domains on `watched`; `confidential` where the readings of some devices go instead
    of to `store`.
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
        throttle: Throttle | None = None,
        confidential: Confidential | None = None,
        domains: Collection[str] = FIELD_DOMAINS,
        configured: Callable[[Presence], None] = lambda _: None,
    ) -> None:
        self._domains = frozenset(domains)
        self._configured = configured
        self._owned = owned
        self._watched = watched
        self._receipted = receipted
        self._one_at_a_time = asyncio.Lock()  # turns that touch the same devices: those of the broker we only listen to
        self._staging = asyncio.Lock()  # and those of our own
        self._decoded: asyncio.Queue[tuple[Turn, list[Arrival]]] = asyncio.Queue(1)
        self._decode = decode
        self._directory = directory
        self._spool = spool
        self._store = store
        self._written = store.record
        self._panel = panel
        self._clock = clock
        self._first_seen = first_seen
        self._progress = Progress()
        self._throttle = throttle or Throttle()
        self._skews = Skews()
        self._conduct = Conduct("telemetry")
        self._quality = Standing()
        self._confidential = confidential
        self._drains = [Drain(spool, each) for each in (store, *((confidential.store,) if confidential else ()))]
        self._receipts = Receipts(owned.publish, clock, pause_s=RECEIPTS_EVERY_S)
        self._counts = {"stored": 0, "refused": 0, "duplicates": 0, "throttled": 0}
        self._activated: set[str] = set()
        self._activating: set[asyncio.Task[None]] = set()

    def counts(self) -> dict[str, int | str]:
        """What the lane has done since it started, and what keeps it from the store, for `iotcore doctor`."""
        return {**self._counts, "store_trouble": next((d.trouble for d in self._drains if d.trouble), "")}

    def wake(self) -> None:
        """Somebody else has committed to the spool: the store wants it too."""
        for drain in self._drains:
            drain.wake()

    async def run(self) -> None:
        """Serve until cancelled; begins with what the spool and the page remember."""
        now_s = self._clock.monotonic_s()
        self._progress = Progress(await self._spool.progress(), now_s)
        self._conduct = Conduct("telemetry", await self._panel.load(), now_s)
        self._conduct.tracked(self._progress, self._progress.tracks, now_s, self._clock.wall_ms())
        if self._confidential is None and (left := (await self._spool.depth()).confidential):
            log.warning("%d batches of confidential readings wait in the spool; fill store.confidential to drain them", left)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receipts.run())
                for drain in self._drains:
                    group.create_task(drain.run())
                group.create_task(self._panel.run())
                group.create_task(self._decode_owned())
                group.create_task(self._finish_owned())
                if self._watched is not None:
                    group.create_task(self._serve_watched(self._watched))
                if self._receipted is not None:
                    group.create_task(self._fill_in(self._receipted))
        finally:
            await self._panel.write()

    async def _decode_owned(self) -> None:
        while True:
            arrivals = await self._owned.take(TAKE_LIMIT)
            async with self._staging:
                await self._hand_over(await self._staged(arrivals, ours=True), arrivals)

    async def _hand_over(self, turn: Turn, arrivals: list[Arrival]) -> None:
        """To its commit, in the order of the stages: progress must not be on disk before the readings that it counts."""
        self._conduct.tracked(self._progress, turn.stage.changed, turn.now_s, self._clock.wall_ms())
        self._progress.apply(turn.stage.changed)
        await self._decoded.put((turn, arrivals))

    async def _finish_owned(self) -> None:
        while True:
            turn, arrivals = await self._decoded.get()
            await self._commit(turn, ours=True)
            turn.durable.set()
            self._owned.acknowledge(arrivals)
            self._show(turn)
            self._tell_senders(turn)

    async def rows(self, wanted: Wanted, limit: int, after: int) -> list[Row]:
        """Refused messages that a person means."""
        return await self._spool.quarantined(wanted, limit, after)

    async def drop(self, wanted: Wanted) -> int:
        """Remove refused messages that a person means; how many there were."""
        return await self._spool.drop_quarantined(wanted)

    async def retry(self, rows: Sequence[Row], answer: Answer) -> None:
        """Try rows of the quarantine again, as backlog of their true age; what is stored and the rows' end are one commit."""
        async with self._staging:
            turn = self._turn()
            directory = self._directory()
            for one in tried(rows, self._decode, directory, self._clock.wall_ms(), answer):
                binding = directory.devices[one.readings[0].device] if one.readings else None
                if binding is not None and binding.domain == topics.FIRE_DOMAIN:
                    answer.leave(one.row, "wrong_broker", f"{binding.device} belongs on the fire broker")
                    continue
                if binding is None and one.row.topic not in self._lines_of(turn):
                    answer.leave(one.row, "other_store", f"a line of the format {one.row.topic!r}, which no store takes now")
                    continue
                turn.settled += (one.row.id,)
                turn.returned += one.refusals
                before = len(turn.readings)
                if binding is None:
                    self._lines_of(turn)[one.row.topic].append(one.line)
                    answer.stored += 1
                    continue
                self._add_again(one, binding, turn)
                answer.stored += len(turn.readings) - before
                answer.repeats += len(one.readings) - len(turn.readings) + before
            await self._hand_over(turn, [])
        await turn.durable.wait()
        answer.removed += len(turn.settled)

    def _lines_of(self, turn: Turn) -> dict[str, list[bytes]]:
        """Where lines go that a store has refused, by the format they were quarantined with."""
        lines = {self._store.format: turn.lines}
        return lines | ({self._confidential.store.format: turn.confidential} if self._confidential else {})

    def _add_again(self, one: Tried, binding: Binding, turn: Turn) -> None:
        """What the row was kept for is stored though it counts as handled; anything else only if it is new."""
        for reading in one.readings:
            new = turn.stage.take(reading.device, reading.boot, reading.seq)
            if new or (reading.boot, reading.seq) in one.row.identities or one.row.reason == "unknown_point":
                self._record(reading, binding, turn)

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
                page = await asyncio.to_thread(receipted.page, cursor, self._missed)
                if page.readings:
                    log.warning("%d readings that the fire lane has receipted were missed on the broker", len(page.readings))
                    async with self._one_at_a_time:
                        await self._store_missed(page.readings)
                cursor = page.cursor
                if not page.more:
                    await asyncio.sleep(MISSED_EVERY_S)

    def _missed(self, device: str, boot: str, seq: int) -> bool:
        """A vendor's device has no receipts, and each process its own numbers for it: there is nothing to compare."""
        return not boot.startswith(OURS) and not self._progress.has(device, boot, seq)

    async def _store_missed(self, readings: Sequence[Reading]) -> None:
        """As a turn of our own; a reading of a device that is gone has nowhere to go."""
        turn = self._turn()
        devices = self._directory().devices
        for reading in readings:
            if not reading.retained and reading.device in devices:
                self._add(reading, devices[reading.device], turn)
        await self._commit(turn, ours=False)
        self._progress.apply(turn.stage.changed)
        self._panel.readings(turn.readings, missed=True)

    def _turn(self) -> Turn:
        now_s = self._clock.monotonic_s()
        return Turn(self._progress.stage(now_s), now_s)

    async def _staged(self, arrivals: Sequence[Arrival], *, ours: bool) -> Turn:
        """Carry one batch of arrivals from bytes to lines."""
        turn = self._turn()
        metrics.received.labels("telemetry").inc(len(arrivals))
        directory, now_ms, breathe_at = self._directory(), self._clock.wall_ms(), BREATHE_EVERY
        for arrival in arrivals:
            decoded = self._decode(arrival, directory, now_ms)
            if decoded.refusals:
                turn.refusals += [handled(one, turn.stage) if ours and one.identities else one for one in decoded.refusals]
            if decoded.presence is not None:
                self._note_presence(decoded.presence, arrival, directory, ours=ours)
            if not decoded.readings:
                continue
            binding, fits = None, False
            for reading in decoded.readings:
                if binding is None or reading.device != binding.device:  # one for each arrival; a vendor's gateway tells of many
                    binding = directory.devices[reading.device]
                    fits = not (arrival.retained or (ours and binding.domain == topics.FIRE_DOMAIN))
                    if not fits:
                        turn.refusals.append(misplaced(arrival, binding))
                if fits:
                    self._add(reading, binding, turn)
            if (seen := len(turn.readings) + turn.duplicates + turn.throttled) >= breathe_at:
                self._working()
                await asyncio.sleep(0)
                directory, now_ms = self._directory(), self._clock.wall_ms()
                breathe_at = seen + BREATHE_EVERY
        return turn

    def _add(self, reading: Reading, binding: Binding, turn: Turn) -> None:
        """Drop what is stored already, or is more than its device may tell; turn the rest into a line."""
        if not turn.stage.take(reading.device, reading.boot, reading.seq):
            turn.duplicates += 1
        elif self._throttle.admit(reading.device, binding.spec.interval_s, turn.now_s, backlog=reading.backlog):
            reading = self._quality.judge(self._skews.judge(reading, turn.now_s), binding.spec)
            if self._confidential is None:
                turn.readings.append(reading)
                turn.lines.append(self._written(reading, binding))
            else:
                self._record(reading, binding, turn)
        else:
            turn.throttled += 1

    def _record(self, reading: Reading, binding: Binding, turn: Turn) -> None:
        turn.readings.append(reading)
        lines = turn.lines if self._confidential is None or not self._confidential.has(binding) else turn.confidential
        lines.append(self._store.record(reading, binding))

    async def _commit(self, turn: Turn, *, ours: bool) -> None:
        """One transaction; while the disk refuses, the same batch again and nothing acknowledged."""
        progress = turn.stage.rows()
        refusals = turn.refusals if ours else []
        failures = 0
        while turn.lines or turn.confidential or progress or refusals or turn.settled:
            self._working()
            try:
                await self._spool.commit(
                    turn.lines, progress, refusals, turn.confidential, settled=turn.settled, returned=turn.returned
                )
            except StoreError as error:
                metrics.commit_failures.labels("telemetry").inc()
                if not failures:  # once: a log that grows with every attempt would not help a full disk
                    log.warning("the spool refused %d readings; trying until it takes them: %s", len(turn.readings), error)
                failures += 1
                await asyncio.sleep(RETRY_COMMIT_S)
                continue
            break
        self.wake()
        turn.count(self._counts, self._clock.monotonic_s())

    def _working(self) -> None:
        """A large batch and a full disk take long: no reason to be restarted."""
        self._owned.working()
        if self._watched is not None:
            self._watched.working()

    def _show(self, turn: Turn) -> None:
        """What the page shows of this batch. Faults of strangers would be a list without end: they are only quarantined."""
        self._panel.readings(turn.readings)
        self._panel.judge(self._own(turn.readings))
        skews = self._skews.take_measured()
        for skew_ms in skews.values():
            metrics.clock_skew.labels("telemetry").observe(skew_ms / 1000.0)
        self._panel.conduct(self._conduct, self._throttle, skews, self._clock.monotonic_s())
        if turn.refusals:
            devices = self._directory().devices
            for refusal in turn.refusals:
                if refusal.device in devices:
                    self._panel.refused(refusal)

    def _own(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Those of devices that are ours: who raises a fault must hear what ends it."""
        if len(self._domains) == len(FIELD_DOMAINS):
            return readings
        devices = self._directory().devices
        return [r for r in readings if r.device in devices and devices[r.device].domain in self._domains]

    def _note_presence(self, presence: Presence, arrival: Arrival, directory: Directory, *, ours: bool) -> None:
        """A will or a birth; a gateway that is gone takes its children with it."""
        domain, online = directory.devices[presence.device].domain, presence.message.state == "online"
        if not ours or domain in self._domains:
            self._panel.presence(presence, arrival.received_ms, retained=arrival.retained)
        if not ours:
            return
        if domain in self._domains:
            (self._panel.online if online else self._panel.offline)(presence.device)
            if presence.message.config is not None:
                self._configured(presence)
        if domain == "gateway" and not online:
            for binding in directory.devices.values():
                if binding.publisher == presence.device and binding.domain in self._domains:
                    self._panel.offline(binding.device)

    def _tell_senders(self, turn: Turn) -> None:
        """Receipts for every boot that the batch touched; a device's first reading makes it active."""
        devices = self._directory().devices
        for (device, boot), track in turn.stage.changed.items():
            binding = devices.get(device)
            if binding is None or binding.domain not in self._domains:
                continue
            self._receipts.owe(binding, boot, track.up_to)
            if binding.state == "provisioned" and device not in self._activated:
                self._activated.add(device)
                task = asyncio.ensure_future(self._first_seen(device))
                self._activating.add(task)
                task.add_done_callback(self._activating.discard)

"""The journal: one transaction for a reading, its cause, its alarm, its incident and the rows that will tell the receivers.

Exactly one incident for a premises and episode: the cause is inserted first, and a unique index allows one open incident for
each premises, so replays, duplicates and other evaluators of the same reading end in the same row (`raising`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources

import msgspec
from msgspec.structs import replace

from iotcore.clock import Clock, Uptime
from iotcore.errors import StoreError
from iotcore.journal import (
    acts,
    cad,
    conduct,
    disablements,
    drill_heard,
    drills,
    duty,
    failures,
    flaps,
    heard,
    latches,
    outages,
    paths,
    posting,
    quarantine,
    reconcile,
    rule_timers,
    shelf,
    story,
    tests,
    timers,
    told,
    twice,
    upgrade,
)
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection, Place, connect, transaction
from iotcore.journal.progress import MAX_BOOTS, Row
from iotcore.journal.prune import prune
from iotcore.journal.raising import Raising
from iotcore.journal.records import Batch, Committed, OutboxRow, TestAlarm
from iotcore.reading import Reading

PRUNE_EVERY_MS = 60_000.0
COUNTING = "counting"
SCHEMAS = (  # of the modules that keep tables of their own
    cad.SCHEMA,
    conduct.SCHEMA,
    disablements.SCHEMA,
    drills.SCHEMA,
    duty.SCHEMA,
    failures.SCHEMA,
    heard.SCHEMA,
    outages.SCHEMA,
    paths.SCHEMA,
    shelf.SCHEMA,
    story.SCHEMA,
    tests.SCHEMA,
    timers.SCHEMA,
    told.SCHEMA,
)


class Journal:
    """The fire lane's file, or its schema on PostgreSQL. Methods are short, synchronous and safe to call from any thread.

    `channels` are the receivers that every incident is posted to.
    `owner` is whose dispatcher sends what this one commits: its notices are born leased to it. None: whoever asks first.
    """

    def __init__(
        self,
        place: Place,
        clock: Clock,
        channels: Sequence[str],
        owner: str | None = None,
        uptime: Uptime | None = None,
    ) -> None:
        self.connection: Connection = _open(place)
        self.lock = threading.Lock()
        self._clock = clock
        self.channels = tuple(channels)
        self._owner = owner
        self._uptime = uptime or Uptime("", clock.monotonic_s)
        self._pruned_ms = clock.wall_ms()
        self._started = clock.wall_ms(), clock.monotonic_s()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        with self.lock:
            self.connection.close()

    def now_ms(self) -> float:
        """The journal's wall clock, ms UTC."""
        return self._clock.wall_ms()

    def now(self) -> timers.Now:
        """The clocks of this moment, for timers."""
        return timers.Now(self._uptime.machine, self._uptime.seconds(), self._clock.wall_ms())

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction; whatever is done with the connection commits together or not at all.

        Raises:
            StoreError: nothing of it was kept.
        """
        with self.lock, transaction(self.connection) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """The connection, for queries.

        Raises:
            StoreError: it cannot be read.
        """
        with self.lock:
            try:
                yield self.connection
            except sqlite3.Error as error:
                raise StoreError(f"cannot read the journal: {error}") from error

    def commit(self, batch: Batch) -> Committed:
        """Make a batch durable; when this returns, it is on disk.

        Raises:
            StoreError: nothing of the batch was kept; nothing of it may be acknowledged.
        """
        now = self.now()
        with self.writing() as connection:
            connection.executemany(
                "INSERT INTO reading (device, boot, seq, received_ms, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(r.device, r.boot, r.seq, r.received_ms, _body(r)) for r in batch.readings],
            )
            reconcile.unrecord(connection, batch.carried)
            raising = Raising(connection, self.channels, now)
            for one in batch.raises:
                raising.take(one)
            raising.finish()
            drilled = [*raising.drilled, *drill_heard.record(connection, batch.drills, now.wall_ms)]
            for cleared in batch.cleared_alarms:
                flaps.clear(connection, cleared)
                disablements.clear(connection, cleared)
            self._keep_conduct(connection, batch, now.wall_ms)
            heard.save(connection, batch.heard)
            connection.executemany(
                "INSERT INTO presence (device, online, at_ms) VALUES (?, ?, ?) "
                "ON CONFLICT (device) DO UPDATE SET online = excluded.online, at_ms = excluded.at_ms",
                [(device, int(online), now.wall_ms) for device, online in batch.presence],
            )
            quarantine.save_progress(connection, batch.progress, shared=True)
            placed = reconcile.placed(connection, batch.raises)
            reconcile.take_over(connection, now, batch.carried)
            rule_timers.keep(connection, now, batch.timers)
            leased = self.lease_new(connection, [*raising.opened, *raising.released])
            self._prune(connection, now.wall_ms)
        return Committed(
            opened=tuple(raising.opened),
            leased=leased,
            tests=tuple(raising.tested),
            released=tuple(raising.released),
            updated=tuple(raising.updated),
            past=tuple(raising.past),
            placed=placed,
            drills=tuple(drilled),
        )

    def lease_new(self, connection: Connection, incidents: Iterable[str]) -> tuple[OutboxRow, ...]:
        """Lease the alarms of incidents to this process, in the transaction that makes them; none where it has no name."""
        return posting.lease(connection, self._owner, incidents, self._lease_ms()) if self._owner is not None else ()

    def _lease_ms(self) -> float:
        """The time of leases, as whoever sends counts it (`dispatch.attempt`): a clock that is set moves none."""
        wall_ms, monotonic_s = self._started
        return wall_ms + (self._clock.monotonic_s() - monotonic_s) * 1000.0

    def _keep_conduct(self, connection: Connection, batch: Batch, now_ms: float) -> None:
        """What devices did wrong and how they deliver; counts only where this process is on duty."""
        if not (batch.settled or batch.refusals or batch.returned or batch.conduct or batch.faults or batch.cleared):
            return
        counts = duty.on_duty(connection, COUNTING, self._owner, now_ms)
        quarantine.drop(connection, batch.settled)
        fresh = twice.not_kept_yet(connection, batch.refusals, self._owner, now_ms)
        quarantine.keep(connection, fresh, now_ms, by=self._owner, counts=counts)
        quarantine.keep(connection, batch.returned, now_ms, limited=False)
        conduct.save(
            connection, batch.conduct if counts else [one._replace(lost=0, throttled=0) for one in batch.conduct], now_ms
        )
        for device, reason in batch.faults:
            quarantine.raise_fault(connection, device, reason, now_ms, counts=counts)
        for device, reason in batch.cleared:
            quarantine.clear_fault(connection, device, reason, now_ms)

    def note_durable(self, incidents: Iterable[str], at_ms: float) -> None:
        """Keep the moment at which the commit that opened these incidents had returned."""
        with self.writing() as connection:
            for incident in incidents:
                connection.execute("UPDATE incident SET durable_ms = ? WHERE id = ?", (at_ms, incident))
                note_change(connection, "incident", incident, at_ms)

    def note_tests(self, numbers: Iterable[int], durable_ms: float) -> None:
        """Keep the moment at which the commit that holds these test alarms had returned."""
        with self.writing() as connection:
            tests.durable(connection, numbers, durable_ms)

    def note_drills(self, ids: Iterable[str], durable_ms: float) -> None:
        """Keep the moment at which the commit that holds what these drills said had returned."""
        with self.writing() as connection:
            drill_heard.durable(connection, ids, durable_ms)

    def settle_tests(self) -> None:
        """After a restart: test alarms whose durable moment was never written down are durable since now at the latest."""
        with self.writing() as connection:
            tests.settle(connection, self._clock.wall_ms())

    def note_back(self, number: int, at_ms: float) -> None:
        """Keep the moment at which the registry had a test alarm."""
        with self.writing() as connection:
            tests.back(connection, number, at_ms)

    def tests_on_the_road(self) -> list[TestAlarm]:
        """Test alarms that prove something and that the registry does not have yet, oldest first."""
        with self.reading() as connection:
            return tests.on_the_road(connection)

    def acknowledge(self, incident: str, by: str, at_ms: float) -> bool:
        """A person has taken the incident; False when it is unknown or somebody was first."""
        with self.writing() as connection:
            return acts.acknowledge(connection, self.now(), incident, by, at_ms)

    def reset(self, incident: str, devices: Iterable[str], by: str, at_ms: float) -> bool:
        """Close an episode and tell whoever was told of it (`acts.reset`); False when it is not open."""
        with self.writing() as connection:
            return acts.reset(connection, incident, devices, by, at_ms)

    def premises_of(self, incident: str) -> str:
        """The premises of an incident; "" when it is unknown."""
        with self.reading() as connection:
            row = connection.execute("SELECT premises FROM incident WHERE id = ?", (incident,)).fetchone()
        return str(row[0]) if row else ""

    def progress(self) -> list[Row]:
        """The lane's progress as it was last committed."""
        with self.writing() as connection:
            return [Row(*row) for row in quarantine.load_progress(connection, MAX_BOOTS)]

    def standing_faults(self) -> list[tuple[str, str]]:
        """Devices at fault and the reasons, as last committed."""
        with self.reading() as connection:
            return connection.execute("SELECT device, reason FROM fault WHERE cleared_ms IS NULL").fetchall()

    def rule_timers(self) -> list[tuple[float, str]]:
        """The timers of rules that were under way: in how many seconds each is due, and what it is."""
        with self.reading() as connection:
            return rule_timers.standing(connection, self.now())

    def end_calm(self) -> int:
        """End the trouble of alarms that come and go no more; how many still do."""
        now = self.now()
        with self.reading() as connection:
            over = flaps.are_calm(connection, now)
        if over:
            with self.writing() as connection:
                flaps.end_calm(connection, now)
        with self.reading() as connection:
            return flaps.flapping(connection)

    def open_incidents(self) -> list[tuple[str, str]]:
        """Premises and incident of each episode that is open."""
        with self.reading() as connection:
            return reconcile.open_incidents(connection)

    def recent_readings(self) -> list[Reading]:
        """The readings that warm the rules after a restart, oldest first."""
        with self.reading() as connection:
            rows = connection.execute("SELECT body FROM reading ORDER BY received_ms, seq").fetchall()
        return [msgspec.msgpack.decode(body, type=Reading) for (body,) in rows]

    def heard(self) -> heard.Stored:
        """Who was heard when, and how far this and other fire processes had listened."""
        with self.reading() as connection:
            return heard.load(connection)

    def alarmed_devices(self) -> set[str]:
        """Devices with an alarm that is still latched; a trouble that ends by itself latches no rule, and must hide no fire."""
        found = "SELECT DISTINCT device FROM alarm WHERE state = 'active' AND latched = 1"
        with self.reading() as connection:
            return {row[0] for row in connection.execute(found)}

    def latches(self) -> list[latches.Latch]:
        """The alarms that stand, as rules know them."""
        with self.reading() as connection:
            return latches.standing(connection)

    def quarantined(self, wanted: quarantine.Wanted, limit: int, after: int) -> list[quarantine.Row]:
        """Refused messages that a person means."""
        with self.reading() as connection:
            return quarantine.found(connection, wanted, limit, after=after)

    def drop_quarantined(self, wanted: quarantine.Wanted) -> int:
        """Remove refused messages that a person means; how many there were."""
        with self.writing() as connection:
            return quarantine.drop_wanted(connection, wanted)

    def answer(self, intent: int, text: str) -> None:
        """Tell whoever asked about the quarantine what became of it."""
        with self.writing() as connection:
            quarantine.answer(connection, intent, text)

    def cursor(self, name: str) -> int:
        """How far a followed table was applied."""
        with self.reading() as connection:
            row = connection.execute("SELECT value FROM cursor WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def move_cursor(self, name: str, value: int) -> None:
        """Remember how far a followed table was applied; never back, for another process may be further."""
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO cursor (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value "
                "WHERE cursor.value < excluded.value",
                (name, value),
            )

    def _prune(self, connection: Connection, now_ms: float) -> None:
        if now_ms - self._pruned_ms >= PRUNE_EVERY_MS:
            self._pruned_ms = now_ms
            prune(connection, now_ms)


def _open(place: Place) -> Connection:
    own = resources.files("iotcore.journal").joinpath("schema.sql").read_text(encoding="utf-8")
    schema = own + "".join(SCHEMAS)

    def prepare(connection: Connection) -> None:
        upgrade.bring_up(connection, schema)
        quarantine.prepare(connection)

    if isinstance(place, str):
        from iotcore.journal import postgres  # noqa: PLC0415 - only who is on it pays for its library

        return postgres.connect(
            place, lambda server: postgres.make(server, schema + quarantine.SCHEMA + quarantine.BOUNDS_POSTGRES)
        )
    return connect(place, prepare)


def _body(reading: Reading) -> bytes:
    """The reading as it is kept for a quarter of an hour."""
    return msgspec.msgpack.encode(replace(reading, told=reading.values, clean=None))

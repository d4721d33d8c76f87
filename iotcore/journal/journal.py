"""The journal: one transaction for a reading, its cause, its alarm, its incident and the rows that will tell the receivers.

Exactly one incident for a premises and episode: the cause is inserted first, and a unique index allows one open incident for
each premises, so replays, duplicates and other evaluators of the same reading end in the same row.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import msgspec
from msgspec.structs import replace

from iotcore.clock import Clock
from iotcore.journal import conduct, quarantine, story, tests, timers, upgrade
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection, connect, transaction
from iotcore.journal.progress import MAX_BOOTS, Row
from iotcore.journal.records import LEASE_MS, Batch, Committed, Notice, OutboxRow, Raise, TestAlarm
from iotcore.reading import Reading

FIRE_SEVERITY = "alarm"  # the only severity that opens an incident and is dispatched
KEEP_READINGS_MS = 15 * 60_000.0  # recent readings kept to warm the rules: the longest window a rule may look back
PRUNE_EVERY_MS = 60_000.0
MAX_NUMBER = 9999  # DC-09 sequence numbers run 0001-9999 and wrap to 0001 (ANSI/SIA DC-09)


SCHEMAS = (conduct.SCHEMA, tests.SCHEMA, timers.SCHEMA, story.SCHEMA)  # of the modules that keep tables of their own


def incident_id(one: Raise, draw: int = 0) -> str:
    """A name that people can say on the radio and machines can sort: F + UTC time + six hex digits.

    Whoever makes an incident of the same reading gives it the same name; one that is taken is drawn again with the next `draw`.
    """
    at = datetime.fromtimestamp(one.received_ms / 1000.0, UTC)
    told = f"{one.notice.premises}|{one.notice.device}|{one.boot}|{one.seq}|{draw}"
    return f"F{at:%Y%m%d-%H%M%S}-{hashlib.sha256(told.encode()).hexdigest()[:6].upper()}"


class Journal:
    """The fire lane's file. Methods are short, synchronous and safe to call from any thread.

    `owner` is whose dispatcher sends what this one commits: its notices are born leased to it. None: whoever asks first.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        channels: Sequence[str],
        owner: str | None = None,
    ) -> None:
        self.connection: Connection = connect(path, _prepare)
        self.lock = threading.Lock()
        self._clock = clock
        self._channels = tuple(channels)
        self._owner = owner
        self._pruned_ms = clock.wall_ms()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        with self.lock:
            self.connection.close()

    def now_ms(self) -> float:
        """The journal's wall clock, ms UTC."""
        return self._clock.wall_ms()

    def commit(self, batch: Batch) -> Committed:
        """Make a batch durable; when this returns, it is on disk.

        Raises:
            StoreError: nothing of the batch was kept; nothing of it may be acknowledged.
        """
        now_ms = self._clock.wall_ms()
        with self.lock, transaction(self.connection) as connection:
            connection.executemany(
                "INSERT INTO reading (device, boot, seq, received_ms, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                ((r.device, r.boot, r.seq, r.received_ms, _body(r)) for r in batch.readings),
            )
            tested: list[int] = []
            opened = tuple(name for one in batch.raises if (name := self._raise(connection, one, tested)))
            quarantine.drop(connection, batch.settled)
            quarantine.keep(connection, batch.refusals, now_ms)
            quarantine.keep(connection, batch.returned, now_ms, limited=False)
            conduct.save(connection, batch.conduct, now_ms)
            for device, reason in batch.faults:
                quarantine.raise_fault(connection, device, reason, now_ms)
            for device, reason in batch.cleared:
                quarantine.clear_fault(connection, device, reason, now_ms)
            connection.executemany(
                "INSERT INTO presence (device, online, at_ms) VALUES (?, ?, ?) "
                "ON CONFLICT (device) DO UPDATE SET online = excluded.online, at_ms = excluded.at_ms",
                ((device, int(online), now_ms) for device, online in batch.presence),
            )
            quarantine.save_progress(connection, batch.progress)
            leased = self._lease(connection, opened, now_ms) if self._owner is not None else ()
            self._prune(connection, now_ms)
        return Committed(opened, leased, tuple(tested))

    def _lease(self, connection: Connection, incidents: Iterable[str], now_ms: float) -> tuple[OutboxRow, ...]:
        """Lease new notices in the transaction that makes them: no second commit stands between them and the receiver."""
        return tuple(
            OutboxRow(row_id, incident, channel, number, 0, msgspec.json.decode(text, type=Notice))
            for incident in incidents
            for row_id, channel, number, text in connection.execute(
                "UPDATE outbox SET lease_owner = ?, lease_until_ms = ? WHERE incident = ? RETURNING id, channel, number, notice",
                (self._owner, now_ms + LEASE_MS, incident),
            ).fetchall()
        )

    def _raise(self, connection: Connection, one: Raise, tested: list[int]) -> str | None:
        """Record one decision; returns the id of the incident that it opened, if it opened one. `tested` gets test alarms."""
        notice = one.notice
        inserted = connection.execute(
            "INSERT INTO cause (device, boot, seq, rule, at_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (notice.device, one.boot, one.seq, notice.rule, one.decided_ms),
        )
        if inserted.rowcount == 0:
            return None
        if one.test or one.historical or notice.severity != FIRE_SEVERITY:
            state = "test" if one.test else "historical" if one.historical else "active"
            self._alarm(connection, one, None, state)
            if one.in_test is not None and one.test and notice.severity == FIRE_SEVERITY:
                tested.append(tests.keep(connection, one, None))
            return None
        incident, is_new = self._incident_for(connection, one)
        connection.execute(
            "UPDATE cause SET incident = ? WHERE device = ? AND boot = ? AND seq = ? AND rule = ?",
            (incident, notice.device, one.boot, one.seq, notice.rule),
        )
        self._alarm(connection, one, incident, "active")
        if one.in_test is not None:
            tested.append(tests.keep(connection, one, incident))
        self._note(connection, "incident", incident)
        return incident if is_new else None

    def _incident_for(self, connection: Connection, one: Raise) -> tuple[str, bool]:
        """The incident this decision belongs to: an episode closed after its reading, the open one, or a new one."""
        notice = one.notice
        closed = connection.execute(
            "SELECT incident FROM watermark WHERE device = ? AND boot = ? AND seq >= ?", (notice.device, one.boot, one.seq)
        ).fetchone()
        if closed is not None:
            return closed[0], False
        for draw in itertools.count():
            name = incident_id(one, draw)
            text = _text(msgspec.structs.replace(notice, incident=name))
            inserted = connection.execute(
                "INSERT INTO incident (id, premises, state, notice, detector_ms, received_ms, decided_ms) "
                "VALUES (?, ?, 'open', ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (name, notice.premises, text, one.detector_ms, one.received_ms, one.decided_ms),
            )
            if inserted.rowcount:
                break
            row = connection.execute("SELECT id FROM incident WHERE premises = ? AND state = 'open'", (notice.premises,))
            if (found := row.fetchone()) is not None:
                return found[0], False
            # the name is taken: in a storm of a thousand premises within one second, about one time in thirty; draw again
        story.tell(connection, name, story.OPENED, one.decided_ms, detail=f"{notice.device}/{notice.point}: {notice.reason}")
        for channel in self._channels:
            self.post(connection, channel, name, "alarm", text)
        return name, True

    def _alarm(self, connection: Connection, one: Raise, incident: str | None, state: str) -> None:
        notice = msgspec.structs.replace(one.notice, incident=incident or "")
        values = (incident, notice.device, notice.rule, notice.severity, state, _text(notice), one.detector_ms, one.received_ms,
                  one.decided_ms)  # fmt: skip
        known = connection.execute(
            "INSERT INTO alarm (incident, device, rule, severity, state, notice, detector_ms, received_ms, raised_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device, rule) WHERE state = 'active' "
            "DO UPDATE SET repeats = alarm.repeats + 1 RETURNING id",
            values,
        ).fetchone()
        self._note(connection, "alarm", str(known[0]))

    def post(  # noqa: PLR0917 - the columns
        self, connection: Connection, channel: str, incident: str, event: str, notice: str, part: int = 0
    ) -> None:
        """Put a notice into the outbox of a channel, with the channel's next number."""
        number = connection.execute(
            "INSERT INTO channel_number (channel, number) VALUES (?, 1) "
            "ON CONFLICT (channel) DO UPDATE SET number = channel_number.number % ? + 1 RETURNING number",
            (channel, MAX_NUMBER),
        ).fetchone()[0]
        connection.execute(
            "INSERT INTO outbox (incident, channel, event, part, number, notice, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (incident, channel, event, part, number, notice, self._clock.wall_ms()),
        )

    def note_durable(self, incidents: Iterable[str], at_ms: float) -> None:
        """Keep the moment at which the commit that opened these incidents had returned."""
        with self.lock, transaction(self.connection) as connection:
            for incident in incidents:
                connection.execute("UPDATE incident SET durable_ms = ? WHERE id = ?", (at_ms, incident))
                self._note(connection, "incident", incident)

    def note_tests(self, numbers: Iterable[int], durable_ms: float) -> None:
        """Keep the moment at which the commit that holds these test alarms had returned."""
        with self.lock, transaction(self.connection) as connection:
            tests.durable(connection, numbers, durable_ms)

    def settle_tests(self) -> None:
        """After a restart: test alarms whose durable moment was never written down are durable since now at the latest."""
        with self.lock, transaction(self.connection) as connection:
            tests.settle(connection, self._clock.wall_ms())

    def note_back(self, number: int, at_ms: float) -> None:
        """Keep the moment at which the registry had a test alarm."""
        with self.lock, transaction(self.connection) as connection:
            tests.back(connection, number, at_ms)

    def tests_on_the_road(self) -> list[TestAlarm]:
        """Test alarms that prove something and that the registry does not have yet, oldest first."""
        with self.lock:
            return tests.on_the_road(self.connection)

    def acknowledge(self, incident: str, by: str, at_ms: float) -> bool:
        """A person has taken the incident; False when it is unknown or somebody was first."""
        with self.lock, transaction(self.connection) as connection:
            updated = connection.execute(
                "UPDATE incident SET acknowledged_ms = ?, acknowledged_by = ? WHERE id = ? AND acknowledged_ms IS NULL",
                (at_ms, by, incident),
            )
            if updated.rowcount:
                self._note(connection, "incident", incident)
            return bool(updated.rowcount)

    def reset(self, incident: str, devices: Iterable[str], by: str, at_ms: float) -> bool:
        """Close an episode, tell every receiver of its alarm, and mark where the story of each of `devices` continues.

        `devices` are those of the premises: whatever they said until now belongs to the closed episode, whoever evaluates it
        later. False when the incident is not open.
        """
        with self.lock, transaction(self.connection) as connection:
            row = connection.execute(
                "UPDATE incident SET state = 'closed', closed_ms = ?, closed_by = ? WHERE id = ? AND state = 'open' "
                "RETURNING notice",
                (at_ms, by, incident),
            ).fetchone()
            if row is None:
                return False
            connection.execute(
                "UPDATE alarm SET state = 'reset', reset_ms = ? WHERE incident = ? AND state = 'active'", (at_ms, incident)
            )
            for device in devices:
                connection.execute(
                    "INSERT INTO watermark (device, boot, seq, incident) SELECT device, boot, max(seq), ? FROM reading "
                    "WHERE device = ? AND boot = (SELECT boot FROM reading WHERE device = ? ORDER BY received_ms DESC LIMIT 1) "
                    "GROUP BY device, boot ON CONFLICT (device, boot) "
                    "DO UPDATE SET seq = excluded.seq, incident = excluded.incident",
                    (incident, device, device),
                )
            alarm = msgspec.json.decode(row[0], type=Notice)
            restore = _text(msgspec.structs.replace(alarm, event="restore", made_ms=at_ms))
            told = connection.execute("SELECT channel FROM outbox WHERE incident = ? AND event = 'alarm'", (incident,))
            for (channel,) in told.fetchall():
                self.post(connection, channel, incident, "restore", restore)
            self._note(connection, "incident", incident)
            return True

    def premises_of(self, incident: str) -> str:
        """The premises of an incident; "" when it is unknown."""
        with self.lock:
            row = self.connection.execute("SELECT premises FROM incident WHERE id = ?", (incident,)).fetchone()
        return str(row[0]) if row else ""

    def progress(self) -> list[Row]:
        """The lane's progress as it was last committed."""
        with self.lock, transaction(self.connection) as connection:
            return [Row(*row) for row in quarantine.load_progress(connection, MAX_BOOTS)]

    def standing_faults(self) -> list[tuple[str, str]]:
        """Devices at fault and the reasons, as last committed."""
        with self.lock:
            return self.connection.execute("SELECT device, reason FROM fault WHERE cleared_ms IS NULL").fetchall()

    def recent_readings(self) -> list[Reading]:
        """The readings that warm the rules after a restart, oldest first."""
        with self.lock:
            rows = self.connection.execute("SELECT body FROM reading ORDER BY received_ms, seq").fetchall()
        return [msgspec.msgpack.decode(body, type=Reading) for (body,) in rows]

    def alarmed_devices(self) -> set[str]:
        """Devices with an alarm that is still latched."""
        with self.lock:
            return {row[0] for row in self.connection.execute("SELECT DISTINCT device FROM alarm WHERE state = 'active'")}

    def quarantined(self, wanted: quarantine.Wanted, limit: int, after: int) -> list[quarantine.Row]:
        """Refused messages that a person means."""
        with self.lock:
            return quarantine.found(self.connection, wanted, limit, after=after)

    def drop_quarantined(self, wanted: quarantine.Wanted) -> int:
        """Remove refused messages that a person means; how many there were."""
        with self.lock, transaction(self.connection) as connection:
            return quarantine.drop_wanted(connection, wanted)

    def answer(self, intent: int, text: str) -> None:
        """Tell whoever asked about the quarantine what became of it."""
        with self.lock, transaction(self.connection) as connection:
            quarantine.answer(connection, intent, text)

    def cursor(self, name: str) -> int:
        """How far a followed table was applied."""
        with self.lock:
            row = self.connection.execute("SELECT value FROM cursor WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def move_cursor(self, name: str, value: int) -> None:
        """Remember how far a followed table was applied."""
        with self.lock, transaction(self.connection) as connection:
            connection.execute(
                "INSERT INTO cursor (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def _note(self, connection: Connection, kind: str, key: str) -> None:
        note_change(connection, kind, key, self._clock.wall_ms())

    def _prune(self, connection: Connection, now_ms: float) -> None:
        if now_ms - self._pruned_ms >= PRUNE_EVERY_MS:
            self._pruned_ms = now_ms
            connection.execute("DELETE FROM reading WHERE received_ms < ?", (now_ms - KEEP_READINGS_MS,))
            tests.prune(connection)


def _prepare(connection: Connection) -> None:
    own = resources.files("iotcore.journal").joinpath("schema.sql").read_text(encoding="utf-8")
    upgrade.bring_up(connection, own + "".join(SCHEMAS))
    quarantine.prepare(connection)


def _text(notice: Notice) -> str:
    return msgspec.json.encode(notice).decode()


def _body(reading: Reading) -> bytes:
    """The reading as it is kept for a quarter of an hour."""
    return msgspec.msgpack.encode(replace(reading, told=reading.values, clean=None))

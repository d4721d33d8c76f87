"""The watch over the paths, kept in the journal: what was heard, whose limit is over, who has not acknowledged."""

from __future__ import annotations

from collections.abc import Mapping

from iotcore.clock import Clock, Uptime, machine_uptime
from iotcore.journal import parked, paths, timers
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection, transaction
from iotcore.journal.journal import Journal
from iotcore.journal.quarantine import clear_fault, raise_fault

TIMER = "path"
MAX_DUE = 100


class SqlPaths:
    """The paths in a journal; implements `iotcore.dispatch.paths.PathStore`."""

    def __init__(self, journal: Journal, clock: Clock, uptime: Uptime | None = None) -> None:
        self._journal = journal
        self._clock = clock
        self._uptime = uptime or machine_uptime()

    def begin(self, limits_s: Mapping[str, float]) -> None:
        """Watch these paths and no others: of one that nobody has heard of yet the limit begins now."""
        with self._journal.writing() as connection:
            for (name,) in connection.execute("SELECT name FROM path").fetchall():
                if name not in limits_s:
                    self._forget(connection, name)
            for name, limit_s in limits_s.items():
                connection.execute(
                    "INSERT INTO path (name, up, since_ms, heard_ms, reason) VALUES (?, 1, ?, NULL, '') ON CONFLICT DO NOTHING",
                    (name, self._clock.wall_ms()),
                )
                waits = connection.execute("SELECT 1 FROM timer WHERE kind = ? AND key = ?", (TIMER, name)).fetchone()
                (up,) = connection.execute("SELECT up FROM path WHERE name = ?", (name,)).fetchone()
                if up and waits is None:
                    timers.set(connection, self._now(), TIMER, name, limit_s)

    def heard(self, name: str, limit_s: float) -> None:
        """A valid acknowledgement came by this path: its fault is over, its limit begins anew."""
        now_ms = self._clock.wall_ms()
        with self._journal.writing() as connection:
            timers.set(connection, self._now(), TIMER, name, limit_s)
            connection.execute(
                "UPDATE path SET heard_ms = ?, reason = '', since_ms = CASE WHEN up = 1 THEN since_ms ELSE ? END, up = 1 "
                "WHERE name = ?",
                (now_ms, now_ms, name),
            )
            clear_fault(connection, paths.PREFIX + name, paths.DOWN, now_ms)
            note_change(connection, "path", name, now_ms)

    def failed(self, name: str, reason: str) -> None:
        """A link test failed; that alone is no fault."""
        with self._journal.writing() as connection:
            connection.execute("UPDATE path SET reason = ? WHERE name = ?", (reason, name))
            note_change(connection, "path", name, self._clock.wall_ms())

    def expired(self) -> list[str]:
        """The paths whose limit is over, now at fault; each is told to one caller, of all replicas."""
        with self._journal.reading() as connection:
            if not timers.due(connection, self._now(), (TIMER,), 1):
                return []
            now_ms = self._clock.wall_ms()
            with transaction(connection):
                due = timers.due(connection, self._now(), (TIMER,), MAX_DUE)
                taken = [timer.key for timer in due if timers.take(connection, TIMER, timer.key)]
                for name in taken:
                    connection.execute("UPDATE path SET up = 0, since_ms = ? WHERE name = ?", (now_ms, name))
                    raise_fault(connection, paths.PREFIX + name, paths.DOWN, now_ms)
                    note_change(connection, "path", name, now_ms)
        return taken

    def down(self) -> frozenset[str]:
        """The paths that are at fault, whoever found out."""
        with self._journal.reading() as connection:
            rows = connection.execute("SELECT name FROM path WHERE up = 0").fetchall()
        return frozenset(name for (name,) in rows)

    def undelivered(self, alternates: Mapping[str, str], before_ms: float) -> frozenset[str]:
        """The receivers with a notice from before that moment that none of their paths has acknowledged: they are at fault."""
        with self._journal.reading() as connection:
            late = frozenset(channel for _, _, channel in paths.overdue(connection, alternates, before_ms))
            late |= parked.given_up(connection)
            standing = paths.standing(connection)
            if late == standing:
                return late
            now_ms = self._clock.wall_ms()
            with transaction(connection):
                for name in late - standing:
                    raise_fault(connection, paths.PREFIX + name, paths.UNDELIVERED, now_ms)
                for name in standing - late:
                    clear_fault(connection, paths.PREFIX + name, paths.UNDELIVERED, now_ms)
                for name in late ^ standing:
                    note_change(connection, "path", name, now_ms)
        return late

    def _forget(self, connection: Connection, name: str) -> None:
        """A receiver that is in the settings no more has no troubles."""
        connection.execute("DELETE FROM path WHERE name = ?", (name,))
        timers.cancel(connection, TIMER, name)
        clear_fault(connection, paths.PREFIX + name, paths.DOWN, self._clock.wall_ms())

    def _now(self) -> timers.Now:
        return timers.Now(self._uptime.machine, self._uptime.seconds(), self._clock.wall_ms())

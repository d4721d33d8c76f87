"""Timers that outlive the process: each is kept with its deadline on every clock that may be left when somebody looks.

    same start of the machine   its uptime, which no clock step moves
    after a reboot              the wall clock; one that was set back since makes it due at once: early, never late
    on PostgreSQL               the server's clock, for replicas on several machines; set back: as above

Any replica may look; who takes a timer deletes it, and does the act in the same transaction: once, whoever dies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from iotcore.journal.database import Connection, server_ms

SET_BACK_MS = (
    5_000.0  # a wall clock that is further back than when the timer was set was stepped, not slewed (ntpd steps at 128 ms)
)
MS_PER_S = 1000.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS timer (
    kind     TEXT NOT NULL,
    key      TEXT NOT NULL,
    machine  TEXT NOT NULL,             -- the start of the machine that uptime_s belongs to; '': only the wall clock counts
    uptime_s DOUBLE PRECISION NOT NULL, -- deadlines
    wall_ms  DOUBLE PRECISION NOT NULL,
    after_s  DOUBLE PRECISION NOT NULL, -- how long it was set for
    body     TEXT NOT NULL,
    PRIMARY KEY (kind, key)
);
"""


class Now(NamedTuple):
    """The clocks of this moment; `machine` and `uptime_s` as `iotcore.clock.machine_uptime` says them."""

    machine: str
    uptime_s: float
    wall_ms: float


class Timer(NamedTuple):
    """One that is due."""

    kind: str
    key: str
    body: str


def set(  # noqa: A001, PLR0917 - timers.set, of the columns
    connection: Connection, now: Now, kind: str, key: str, after_s: float, body: str = ""
) -> None:
    """Set a timer, or set it anew."""
    here = _clocks(connection, now)
    connection.execute(
        "INSERT INTO timer (kind, key, machine, uptime_s, wall_ms, after_s, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (kind, key) DO UPDATE SET machine = excluded.machine, uptime_s = excluded.uptime_s, "
        "wall_ms = excluded.wall_ms, after_s = excluded.after_s, body = excluded.body",
        (kind, key, here.machine, here.uptime_s + after_s, here.wall_ms + after_s * MS_PER_S, after_s, body),
    )


def cancel(connection: Connection, kind: str, key: str) -> bool:
    """Forget a timer; False when there was none, or somebody has taken it."""
    return connection.execute("DELETE FROM timer WHERE kind = ? AND key = ?", (kind, key)).rowcount > 0


def take(connection: Connection, kind: str, key: str) -> bool:
    """Claim a timer that is due: True means it is ours, and what it is for belongs into this transaction."""
    return cancel(connection, kind, key)


def due(connection: Connection, now: Now, kinds: Sequence[str], limit: int) -> list[Timer]:
    """The timers of these kinds that are due, the longest due first."""
    here = _clocks(connection, now)
    rows = connection.execute(
        f"SELECT kind, key, body FROM timer WHERE kind IN ({_marks(kinds)}) AND CASE WHEN machine = ? AND machine <> '' "  # noqa: S608
        "THEN uptime_s <= ? ELSE wall_ms <= ? OR wall_ms - after_s * 1000.0 > ? END ORDER BY wall_ms, kind, key LIMIT ?",
        (*kinds, here.machine, here.uptime_s, here.wall_ms, here.wall_ms + SET_BACK_MS, limit),
    )
    return [Timer(*row) for row in rows.fetchall()]


def standing(connection: Connection, now: Now, kind: str) -> list[tuple[float, Timer]]:
    """All of a kind, with the seconds until each is due, 0 when it is; of another start of the machine by the wall clock."""
    here = _clocks(connection, now)
    found = []
    for row in connection.execute(
        "SELECT kind, key, body, machine, uptime_s, wall_ms, after_s FROM timer WHERE kind = ? ORDER BY wall_ms, key", (kind,)
    ).fetchall():
        machine, uptime_s, wall_ms, after = row[3:]
        if machine and machine == here.machine:
            left_s = uptime_s - here.uptime_s
        elif wall_ms - after * MS_PER_S > here.wall_ms + SET_BACK_MS:
            left_s = 0.0
        else:
            left_s = (wall_ms - here.wall_ms) / MS_PER_S
        found.append((max(0.0, left_s), Timer(*row[:3])))
    return found


def after_s(connection: Connection, now: Now, kinds: Sequence[str]) -> float | None:
    """Seconds until the next of these kinds is due, 0 when one is; None when none is set."""
    here = _clocks(connection, now)
    chosen = f"FROM timer WHERE kind IN ({_marks(kinds)})"
    (uptime_s,) = connection.execute(
        f"SELECT min(uptime_s) {chosen} AND machine = ? AND machine <> ''",
        (*kinds, here.machine),
    ).fetchone()
    wall_ms, set_ms = connection.execute(
        f"SELECT min(wall_ms), max(wall_ms - after_s * 1000.0) {chosen} AND (machine <> ? OR machine = '')",
        (*kinds, here.machine),
    ).fetchone()
    waits = [] if uptime_s is None else [uptime_s - here.uptime_s]
    if wall_ms is not None:
        waits.append(0.0 if set_ms > here.wall_ms + SET_BACK_MS else (wall_ms - here.wall_ms) / MS_PER_S)
    return max(0.0, min(waits)) if waits else None


def _clocks(connection: Connection, now: Now) -> Now:
    """The clocks that count in this database."""
    at_ms = server_ms(connection)
    return now if at_ms is None else Now("", 0.0, at_ms)


def _marks(kinds: Sequence[str]) -> str:
    return ", ".join("?" * len(kinds)) or "NULL"

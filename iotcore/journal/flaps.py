"""Alarms that come and go: one row for as long as they do, never closed for it.

An alarm that is raised while it stands is a repeat of it. One that had returned to normal, or had ended by itself a little while
ago, is a flap: it stands again, unacknowledged, as the same alarm. A run of `FLAPPING` flaps is a fault of its device,
`flapping:<rule>`, until there was none for `CALM_MS`; nothing of the alarm is held back for it.
"""

from __future__ import annotations

from iotcore.journal import quarantine, timers
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.records import Cleared, Raise

CALM_MS = 600_000.0  # so long without a flap, and a run of them is over
FLAPPING = (
    5  # flaps of one run: shown, and a trouble; a chattering alarm is one that comes 3 times a minute (as ISA-18.2 is quoted)
)
KIND = "flapping"
AT_ONCE = 200
_KNOWN = "SELECT id, state, cleared_ms, flap_run, flap_ms, reset_ms FROM alarm WHERE device = ? AND rule = ?"


def again(connection: Connection, now: timers.Now, one: Raise, incident: str | None) -> int | None:
    """Count a raise on the alarm that stands, or that ended within `CALM_MS`; its number, or None: it is a new alarm."""
    notice, at_ms = one.notice, one.decided_ms
    key = (notice.device, notice.rule)
    row = connection.execute(f"{_KNOWN} AND state = 'active'", key).fetchone()
    if row is None:
        row = connection.execute(f"{_KNOWN} AND state = 'ended' ORDER BY id DESC LIMIT 1", key).fetchone()
        if row is None or at_ms - row[5] >= CALM_MS:
            return None
    number, state, cleared_ms, run, last_ms, _ = row
    if state == "active" and cleared_ms is None:
        connection.execute(
            "UPDATE alarm SET repeats = repeats + 1, incident = coalesce(?, incident), severity = ? WHERE id = ?",
            (incident, notice.severity, number),
        )
        return int(number)
    run = run + 1 if last_ms is not None and at_ms - last_ms < CALM_MS else 1
    connection.execute(
        "UPDATE alarm SET state = 'active', cleared_ms = NULL, reset_ms = NULL, acknowledged_ms = NULL, acknowledged_by = NULL, "
        "repeats = repeats + 1, flaps = flaps + 1, flap_run = ?, flap_ms = ?, incident = coalesce(?, incident), severity = ? "
        "WHERE id = ?",
        (run, at_ms, incident, notice.severity, number),
    )
    if run >= FLAPPING:
        quarantine.raise_fault(connection, notice.device, f"{KIND}:{notice.rule}", at_ms)
        timers.set(connection, now, KIND, f"{notice.device}/{notice.rule}", CALM_MS / timers.MS_PER_S)
    return int(number)


def flapping(connection: Connection) -> int:
    """How many alarms come and go now."""
    return int(connection.execute("SELECT count(*) FROM timer WHERE kind = ?", (KIND,)).fetchone()[0])


def are_calm(connection: Connection, now: timers.Now) -> bool:
    """Whether some have been calm for long enough."""
    return bool(timers.due(connection, now, (KIND,), 1))


def end_calm(connection: Connection, now: timers.Now) -> None:
    """The trouble of those that have been calm for long enough is over."""
    for timer in timers.due(connection, now, (KIND,), AT_ONCE):
        device, _, rule = timer.key.partition("/")
        if timers.take(connection, KIND, timer.key):
            quarantine.clear_fault(connection, device, f"{KIND}:{rule}", now.wall_ms)


def clear(connection: Connection, one: Cleared) -> bool:
    """A condition has returned to normal: a latched alarm stays until its reset, another ends; False when none stands."""
    row = connection.execute(
        "UPDATE alarm SET cleared_ms = ?, state = CASE WHEN latched = 1 THEN state ELSE 'ended' END, "
        "reset_ms = CASE WHEN latched = 1 THEN reset_ms ELSE ? END "
        "WHERE device = ? AND rule = ? AND state = 'active' AND cleared_ms IS NULL RETURNING id",
        (one.at_ms, one.at_ms, one.device, one.rule),
    ).fetchone()
    if row is None:
        return False
    note_change(connection, "alarm", str(row[0]), one.at_ms)
    return True

"""Pruning: what the journal forgets, a little at a time, by whichever process comes first.

reading     15 min: they warm the rules after a restart, which look back no further
change      30 days: whoever follows has a cursor; one that is further behind reads everything anew
drill       400 days: a year of them, and a month in which its report is written
the rest    10 years: fires are investigated, insured and tried in court for longer than any disk would notice; a premises that
            burns once a month makes 120 incidents of some kilobytes
"""

from __future__ import annotations

from iotcore.journal import drills, tests
from iotcore.journal.database import Connection

KEEP_READINGS_MS = 15 * 60_000.0  # the longest window that a rule may look back
KEEP_CHANGES_MS = 30 * 86_400_000.0
KEEP_MS = 10 * 365.25 * 86_400_000.0
STEP_ROWS = 200  # of a table in one commit: a prune may not hold up a fire
OF_AN_INCIDENT = ("incident_event", "incident_point", "outbox", "delivery_failure", "parked", "alarm", "cause", "watermark")


def prune(connection: Connection, now_ms: float) -> None:
    """One step, inside the caller's transaction."""
    connection.execute("DELETE FROM reading WHERE received_ms < ?", (now_ms - KEEP_READINGS_MS,))
    _some(connection, "change", "id", "at_ms < ?", now_ms - KEEP_CHANGES_MS)
    old = connection.execute(
        "SELECT id FROM incident WHERE state = 'closed' AND decided_ms < ? ORDER BY decided_ms LIMIT ?",
        (now_ms - KEEP_MS, STEP_ROWS),
    ).fetchall()
    for (incident,) in old:
        for table in OF_AN_INCIDENT:
            connection.execute(f"DELETE FROM {table} WHERE incident = ?", (incident,))  # noqa: S608 - our own names
        connection.execute("DELETE FROM incident WHERE id = ?", (incident,))
    _some(connection, "alarm", "id", "incident IS NULL AND state <> 'active' AND raised_ms < ?", now_ms - KEEP_MS)
    connection.execute(
        "DELETE FROM cause WHERE (device, boot, seq, rule) IN (SELECT device, boot, seq, rule FROM cause "
        "WHERE incident IS NULL AND at_ms < ? ORDER BY at_ms LIMIT ?)",
        (now_ms - KEEP_MS, STEP_ROWS),
    )
    tests.prune(connection)
    drills.prune(connection, now_ms, STEP_ROWS)


def _some(connection: Connection, table: str, key: str, which: str, value: float) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {which} ORDER BY {key} LIMIT ?)",  # noqa: S608 - ours
        (value, STEP_ROWS),
    )

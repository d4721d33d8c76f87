"""Duty: which of several fire processes counts. Each of them sees every message; what is counted must be counted once.

Whoever has counted within the last `TURN_MS` goes on; another takes over when it has not. All see the same stream, so that at
most the counts of the moment of a takeover are lost, and none is double. Nothing but counts depends on it.
"""

from __future__ import annotations

from iotcore.journal.database import Connection

TURN_MS = 10_000.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS duty (
    name     TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    until_ms DOUBLE PRECISION NOT NULL
);
"""


def on_duty(connection: Connection, name: str, owner: str | None, now_ms: float) -> bool:
    """Whether `owner` counts from now on; without a name there is one process only, and it does."""
    if owner is None:
        return True
    taken = connection.execute(
        "INSERT INTO duty (name, owner, until_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, "
        "until_ms = excluded.until_ms WHERE duty.owner = excluded.owner OR duty.until_ms <= ? OR duty.until_ms > ?",
        (name, owner, now_ms + TURN_MS, now_ms, now_ms + 2 * TURN_MS),  # further ahead: the clock was set back since
    )
    return taken.rowcount > 0

"""Why attempts at a receiver failed, counted by kind: what an incident's outbox forgets as soon as one succeeds.

A kind is the name with which a delivery error begins: `no_reply`, `nak`, `duh`, `connect_failed`. Functions run inside the
caller's transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from iotcore.journal.database import Connection

MOST_KINDS = 16  # of one incident, channel and event: a receiver may answer with any status; what goes beyond is OTHER
OTHER = "other"
LONGEST = 40  # characters of a kind

SCHEMA = """
CREATE TABLE IF NOT EXISTS delivery_failure (
    incident TEXT NOT NULL,
    channel  TEXT NOT NULL,
    event    TEXT NOT NULL,              -- of the notice: alarm | update | restore
    kind     TEXT NOT NULL,
    count    BIGINT NOT NULL,
    first_ms DOUBLE PRECISION NOT NULL,
    last_ms  DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (incident, channel, event, kind)
);
"""


class Failure(NamedTuple):
    """How often attempts failed in one way; ms UTC."""

    channel: str
    event: str
    kind: str
    times: int
    first_ms: float
    last_ms: float


def note(connection: Connection, incident: str, channel: str, event: str, reason: str, at_ms: float) -> None:  # noqa: PLR0917
    """Count one failed attempt."""
    kind = reason.partition(":")[0].strip()[:LONGEST] or OTHER
    key = (incident, channel, event)
    known = connection.execute(
        "SELECT kind FROM delivery_failure WHERE incident = ? AND channel = ? AND event = ?", key
    ).fetchall()
    if len(known) >= MOST_KINDS and all(one != kind for (one,) in known):
        kind = OTHER
    connection.execute(
        "INSERT INTO delivery_failure (incident, channel, event, kind, count, first_ms, last_ms) VALUES (?, ?, ?, ?, 1, ?, ?) "
        "ON CONFLICT (incident, channel, event, kind) "
        "DO UPDATE SET count = delivery_failure.count + 1, last_ms = excluded.last_ms",
        (*key, kind, at_ms, at_ms),
    )


def of_incident(connection: Connection, incident: str) -> list[Failure]:
    """All of an incident, by channel and event, in the order in which they began."""
    rows = connection.execute(
        "SELECT channel, event, kind, count, first_ms, last_ms FROM delivery_failure WHERE incident = ? "
        "ORDER BY channel, event, first_ms, kind",
        (incident,),
    ).fetchall()
    return [Failure(*row) for row in rows]

"""The story of an incident: what was done and said, by whom, in the order in which it became durable.

Moments that have a column of their own (durable, acknowledged, closed) stand here too: whoever reads the story needs no other
table but the outbox. A line is written in the transaction that makes it true, and is never changed.
"""

from __future__ import annotations

from typing import NamedTuple

from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection

OPENED = "opened"
JOINED = "joined"  # a later alarm of the same episode
HELD = "held"  # its notices wait: the response plan of the premises asked for it
RELEASED = "released"  # the wait is over: its notices are made
CANCELLED = "cancelled"  # reset while it was held: nobody was told
HEDGED = "hedged"  # a receiver did not acknowledge in time: its alternate is told too
DELIVERED = "delivered"  # a receiver's own acknowledgement
WITHDRAWN = "withdrawn"  # an update that was not delivered before the reset, and is sent no more
ACKNOWLEDGED = "acknowledged"
SILENCED = "silenced"
RESET = "reset"
CONFIRMED = "confirmed"  # by the owner
DENIED = "denied"  # by the owner; cancels nothing
ESCALATED = "escalated"
ACCEPTED = "accepted"  # by the dispatch centre
REJECTED = "rejected"
GIVEN_UP = "given_up"  # rejected for so long that a person has to decide
DISPATCHED = "dispatched"
ON_SCENE = "on_scene"
CLOSED = "closed"
RECONCILED = "reconciled"  # it had been sent from the emergency log

SCHEMA = """
CREATE TABLE IF NOT EXISTS incident_event (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    incident TEXT NOT NULL,
    at_ms    DOUBLE PRECISION NOT NULL,
    kind     TEXT NOT NULL,
    by       TEXT NOT NULL,
    detail   TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS incident_event_by_incident ON incident_event (incident, id);
"""


class Event(NamedTuple):
    """One line. `by` is a person, a channel or ""; `detail` is for people, with the figures that matter."""

    id: int
    incident: str
    at_ms: float
    kind: str
    by: str
    detail: str


def tell(  # noqa: PLR0917 - the columns
    connection: Connection, incident: str, kind: str, at_ms: float, by: str = "", detail: str = ""
) -> None:
    """Add a line, and announce it, in the caller's transaction."""
    connection.execute(
        "INSERT INTO incident_event (incident, at_ms, kind, by, detail) VALUES (?, ?, ?, ?, ?)",
        (incident, at_ms, kind, by, detail),
    )
    note_change(connection, "incident", incident, at_ms)


def told(connection: Connection, incident: str) -> list[Event]:
    """All lines of an incident, in order."""
    rows = connection.execute(
        "SELECT id, incident, at_ms, kind, by, detail FROM incident_event WHERE incident = ? ORDER BY id", (incident,)
    )
    return [Event(*row) for row in rows.fetchall()]

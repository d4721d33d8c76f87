"""The story of an incident in moments: detector, received, decided, durable, sent, acknowledged, and the time between them."""

from __future__ import annotations

import itertools
import sqlite3

import msgspec

from iotcore.journal.database import Connection
from iotcore.journal.records import Notice

PARKED = "waits for a person: iotcore notice"


class Delivery(msgspec.Struct, frozen=True):
    """One channel's part: ms UTC at which it was sent and at which the receiver acknowledged it."""

    channel: str
    event: str
    attempts: int
    sent_ms: float | None
    acknowledged_ms: float | None
    reply: str | None
    last_error: str | None


class Timeline(msgspec.Struct, frozen=True):
    """All moments of an incident, ms UTC; None where it has not happened yet."""

    incident: str
    premises: str
    state: str
    notice: Notice
    detector_ms: float
    received_ms: float
    decided_ms: float
    durable_ms: float | None
    acknowledged_ms: float | None
    acknowledged_by: str | None
    closed_ms: float | None
    alarms: int
    deliveries: tuple[Delivery, ...]

    @property
    def delivered_ms(self) -> float | None:
        """The first moment at which a receiver had acknowledged the alarm."""
        times = [d.acknowledged_ms for d in self.deliveries if d.event == "alarm" and d.acknowledged_ms is not None]
        return min(times, default=None)

    def moments(self) -> list[tuple[str, float]]:
        """The moments that have happened, in the order of the road, ms UTC."""
        sent = min((d.sent_ms for d in self.deliveries if d.event == "alarm" and d.sent_ms is not None), default=None)
        every = {
            "detector": self.detector_ms,
            "received": self.received_ms,
            "decided": self.decided_ms,
            "durable": self.durable_ms,
            "sent": sent,
            "receiver_acknowledged": self.delivered_ms,
        }
        return [(name, at) for name, at in every.items() if at is not None]

    def latencies_ms(self) -> dict[str, float]:
        """Milliseconds from each moment to the next, and from detector to the first receiver's acknowledgement."""
        steps = {f"{a}_to_{b}": round(later - earlier, 3) for (a, earlier), (b, later) in itertools.pairwise(self.moments())}
        if self.delivered_ms is not None:
            steps["detector_to_receiver_acknowledged"] = round(self.delivered_ms - self.detector_ms, 3)
        return steps


def timeline(connection: Connection, incident: str) -> Timeline | None:
    """Read an incident's moments from a journal opened with `connect_readonly`."""
    row = connection.execute("SELECT * FROM incident WHERE id = ?", (incident,)).fetchone()
    if row is None:
        return None
    deliveries = connection.execute(
        "SELECT channel, event, attempts, sent_ms, acknowledged_ms, reply, last_error FROM outbox WHERE incident = ? ORDER BY id",
        (incident,),
    ).fetchall()
    deliveries += _parked(connection, incident)
    alarms = connection.execute("SELECT count(*) FROM alarm WHERE incident = ?", (incident,)).fetchone()[0]
    return Timeline(
        incident=row["id"],
        premises=row["premises"],
        state=row["state"],
        notice=msgspec.json.decode(row["notice"], type=Notice),
        detector_ms=row["detector_ms"],
        received_ms=row["received_ms"],
        decided_ms=row["decided_ms"],
        durable_ms=row["durable_ms"],
        acknowledged_ms=row["acknowledged_ms"],
        acknowledged_by=row["acknowledged_by"],
        closed_ms=row["closed_ms"],
        alarms=alarms,
        deliveries=tuple(Delivery(*delivery) for delivery in deliveries),
    )


def _parked(connection: Connection, incident: str) -> list[tuple[object, ...]]:
    """Notices of a restored backup: nobody knows whether they arrived, until a person decides."""
    query = "SELECT channel, event, 0, sent_ms, NULL, NULL, ? FROM parked WHERE incident = ? AND decision IS NULL ORDER BY id"
    try:
        return connection.execute(query, (PARKED, incident)).fetchall()
    except sqlite3.OperationalError:  # a journal of the release before, which no fire process has opened since
        return []


def incidents(connection: Connection, *, open_only: bool = False, limit: int = 100) -> list[Timeline]:
    """The newest incidents, first-in first among the open ones."""
    where = "WHERE state = 'open' ORDER BY decided_ms" if open_only else "ORDER BY decided_ms DESC"
    names = connection.execute(f"SELECT id FROM incident {where} LIMIT ?", (limit,)).fetchall()  # noqa: S608 - constants
    return [found for (name,) in names if (found := timeline(connection, name)) is not None]

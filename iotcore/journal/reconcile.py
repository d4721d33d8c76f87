"""What the lane learns of its fires from a commit; and what went out without the journal, taken over once, by its incident."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from iotcore.journal import held, story
from iotcore.journal.database import Connection
from iotcore.journal.records import LEASE_MS, Carried, Notice, Placed, Raise
from iotcore.journal.timers import Now

BUSY_OWNER = "emergency"  # whose a notice is that is being sent without the journal


def placed(connection: Connection, raises: Iterable[Raise]) -> tuple[Placed, ...]:
    """Where each decision of a commit went, if to an incident; in its transaction, after `raises` were recorded."""
    found = []
    for one in raises:
        row = connection.execute(
            "SELECT incident.id, incident.premises, incident.state, incident.hold "
            "FROM cause JOIN incident ON incident.id = cause.incident "
            "WHERE cause.device = ? AND cause.boot = ? AND cause.seq = ? AND cause.rule = ?",
            (one.notice.device, one.boot, one.seq, one.notice.rule),
        ).fetchone()
        if row is not None:
            found.append(Placed(one.notice.device, row[1], row[0], row[2] != "open", row[3] is not None))
    return tuple(found)


def open_incidents(connection: Connection) -> list[tuple[str, str]]:
    """Premises and incident of each episode that is open."""
    return [(row[0], row[1]) for row in connection.execute("SELECT premises, id FROM incident WHERE state = 'open'")]


def unrecord(connection: Connection, carried: Iterable[Carried]) -> None:
    """Forget, before `raises` are, what a replica that heard of it late has kept as a mere record: receivers were told of it."""
    for cause in dict.fromkeys(one.cause for one in carried if one.cause is not None):
        connection.execute(
            "DELETE FROM cause WHERE device = ? AND boot = ? AND seq = ? AND rule = ? AND incident IS NULL",
            (cause.notice.device, cause.boot, cause.seq, cause.notice.rule),
        )


def take_over(connection: Connection, now: Now, carried: Iterable[Carried]) -> None:
    """Make what was sent without the journal its own: number, first frame, acknowledgement; in the commit that has its cause.

    A fire whose cause belongs to another incident here (another replica was first, or its episode is closed) was told twice: the
    story of that incident says so.
    """
    told, now_ms = set[str](), now.wall_ms
    for one in carried:
        if connection.execute("SELECT 1 FROM incident WHERE id = ?", (one.incident,)).fetchone() is None:
            _elsewhere(connection, one, told, now_ms)
            continue
        if one.cause is not None:
            if one.incident not in told:
                story.tell(connection, one.incident, story.RECONCILED, now_ms, detail="it had gone out by the emergency log")
            told.add(one.incident)
            held.release(connection, now, one.incident, held.AT_ONCE)
            _put(connection, one, one.cause, now_ms)
        if one.acknowledged_ms is not None:
            connection.execute(
                "UPDATE outbox SET sent_ms = coalesce(sent_ms, ?), acknowledged_ms = ?, reply = ?, last_error = NULL, "
                "lease_until_ms = 0, lease_owner = NULL "
                "WHERE incident = ? AND channel = ? AND event = 'alarm' AND acknowledged_ms IS NULL",
                (one.sent_ms, one.acknowledged_ms, one.reply, one.incident, one.channel),
            )
            story.tell(connection, one.incident, story.DELIVERED, one.acknowledged_ms, by=one.channel, detail=one.reply or "")


def _put(connection: Connection, one: Carried, cause: Raise, now_ms: float) -> None:
    """Its row, with the number under which it went out, whether the incident's own commit has made one or holds it back."""
    notice: Notice = msgspec.structs.replace(cause.notice, incident=one.incident)
    owner, until_ms = (BUSY_OWNER, now_ms + LEASE_MS) if one.busy else (None, 0.0)
    connection.execute(
        "INSERT INTO outbox (incident, channel, event, part, number, notice, created_ms, attempts, sent_ms, lease_owner, "
        "lease_until_ms) VALUES (?, ?, 'alarm', 0, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (incident, channel, event, part) "
        "DO UPDATE SET number = excluded.number, attempts = excluded.attempts, sent_ms = excluded.sent_ms, "
        "lease_owner = excluded.lease_owner, lease_until_ms = excluded.lease_until_ms WHERE outbox.acknowledged_ms IS NULL",
        (one.incident, one.channel, one.number, msgspec.json.encode(notice).decode(), cause.decided_ms, one.attempts, one.sent_ms,
         owner, until_ms),
    )  # fmt: skip


def _elsewhere(connection: Connection, one: Carried, told: set[str], now_ms: float) -> None:
    if one.cause is None or one.incident in told:
        return
    told.add(one.incident)
    cause = one.cause
    row = connection.execute(
        "SELECT incident FROM cause WHERE device = ? AND boot = ? AND seq = ? AND rule = ? AND incident IS NOT NULL",
        (cause.notice.device, cause.boot, cause.seq, cause.notice.rule),
    ).fetchone()
    if row is not None:
        detail = f"it had gone out by the emergency log as {one.incident}"
        story.tell(connection, row[0], story.RECONCILED, now_ms, detail=detail)

"""Parked: notices that a restored backup says were never delivered, and that may have been since; and those that were refused.

A receiver that says no is asked for an hour, and then no more: somebody has to talk to it. An old fire must not arrive as a new
one, nor be forgotten: they wait for a person, who sends them or lets them be (`iotcore notice`). Until then the keeper,
`iotcore doctor` and the incident's timeline say so.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from iotcore.journal import posting, story
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.journal import Journal
from iotcore.journal.records import Notice

LATE_MS = 15 * 60_000.0  # as for a backlog (wire contract, Time): an older notice is a record, a younger one is sent
REJECTED_MS = 3_600_000.0  # asked each minute for so long (our own): whoever is on duty has heard of it from the first minute
REJECTED_TRIES = 30  # at least, whatever a clock that is set says of an hour
NUMBER_JUMP = 5_000  # about half way round: far from what the receiver has seen lately, on either side
ID_JUMP = 1_000_000_000
COLUMNS = "id, incident, channel, event, created_ms, sent_ms, parked_ms"


class Parked(NamedTuple):
    """One of them; `sent_ms` is when a frame had left that nobody had acknowledged by the time of the backup."""

    id: int
    incident: str
    channel: str
    event: str
    created_ms: float
    sent_ms: float | None
    parked_ms: float


def carry_forward(journal: Journal, numbers: dict[str, int]) -> list[Parked]:
    """Make a restored journal safe to go on with; `numbers` are those that an old journal says were given since.

    Old notices are parked; channels go on with numbers half way round; ids go on a thousand million later.
    """
    now_ms = journal.now_ms()
    with journal.writing() as connection:
        connection.execute(
            "INSERT INTO parked (id, incident, channel, event, part, notice, created_ms, sent_ms, parked_ms)"
            " SELECT id, incident, channel, event, part, notice, created_ms, sent_ms, ? FROM outbox"
            " WHERE acknowledged_ms IS NULL AND created_ms < ?",
            (now_ms, now_ms - LATE_MS),
        )
        connection.execute("DELETE FROM outbox WHERE id IN (SELECT id FROM parked)")
        connection.execute("UPDATE outbox SET lease_owner = '', lease_until_ms = 0, next_at_ms = 0 WHERE acknowledged_ms IS NULL")
        for channel, number in numbers.items():
            connection.execute(
                "INSERT INTO channel_number (channel, number) VALUES (?, ?) "
                "ON CONFLICT (channel) DO UPDATE SET number = excluded.number",
                (channel, number),
            )
        connection.execute("UPDATE channel_number SET number = (number + ? - 1) % ? + 1", (NUMBER_JUMP, posting.MAX_NUMBER))
        for table in ("alarm", "outbox", "change"):
            connection.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0"
                " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?)",
                (table, table),
            )
            connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ?", (ID_JUMP, table))
        found = listed(connection)
        for incident in sorted({one.incident for one in found}):
            note_change(connection, "incident", incident, now_ms)
    return found


def rejected_for_long(connection: Connection, row_id: int, now_ms: float) -> bool:
    """Whether the receiver of a notice that it rejects has said so for long enough."""
    row = connection.execute(
        "SELECT one.attempts, min(said.at_ms) FROM outbox AS one JOIN incident_event AS said ON said.incident = one.incident "
        "AND said.kind = ? AND said.by = one.channel WHERE one.id = ? GROUP BY one.id, one.attempts",
        (story.REJECTED, row_id),
    ).fetchone()
    return row is not None and row[0] >= REJECTED_TRIES and now_ms - row[1] >= REJECTED_MS


def give_up(connection: Connection, incident: str, channel: str, now_ms: float) -> None:
    """Offer what waits of an incident for a receiver no more: a person decides."""
    waits = "WHERE incident = ? AND channel = ? AND acknowledged_ms IS NULL"
    connection.execute(
        "INSERT INTO parked (id, incident, channel, event, part, notice, created_ms, sent_ms, parked_ms) "  # noqa: S608 - constants
        f"SELECT id, incident, channel, event, part, notice, created_ms, sent_ms, ? FROM outbox {waits}",
        (now_ms, incident, channel),
    )
    connection.execute(f"DELETE FROM outbox {waits}", (incident, channel))  # noqa: S608 - constants
    story.tell(connection, incident, story.GIVEN_UP, now_ms, channel)


def given_up(connection: Connection) -> frozenset[str]:
    """The receivers that have rejected something for too long on which nobody has decided yet."""
    rows = connection.execute(
        "SELECT DISTINCT channel FROM parked WHERE decision IS NULL AND EXISTS (SELECT 1 FROM incident_event AS said "
        "WHERE said.incident = parked.incident AND said.kind = ? AND said.by = parked.channel)",
        (story.GIVEN_UP,),
    )
    return frozenset(channel for (channel,) in rows.fetchall())


def listed(connection: Connection) -> list[Parked]:
    """Those that wait for a person, oldest first."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM parked WHERE decision IS NULL ORDER BY id")  # noqa: S608 - constants
    return [Parked(*row) for row in rows.fetchall()]


def decide(journal: Journal, incident: str, decision: Literal["send", "drop"], by: str) -> int:
    """Send the parked notices of an incident after all ("send"), under new numbers, or let them be ("drop"); how many.

    The alarm of an incident that was closed meanwhile is dropped in any case: nobody would ever call it off.
    """
    now_ms = journal.now_ms()
    with journal.writing() as connection:
        rows = connection.execute(
            "SELECT p.id, p.channel, p.event, p.part, p.notice, i.state FROM parked p JOIN incident i ON i.id = p.incident"
            " WHERE p.incident = ? AND p.decision IS NULL ORDER BY p.id",
            (incident,),
        ).fetchall()
        for row_id, channel, event, part, text, state in rows:
            sends = decision == "send" and (event != "alarm" or state == "open")
            connection.execute(
                "UPDATE parked SET decision = ?, decided_ms = ?, decided_by = ? WHERE id = ?",
                ("send" if sends else "drop", now_ms, by, row_id),
            )
            if sends:
                notice = msgspec.structs.replace(msgspec.json.decode(text, type=Notice), delayed=True)
                posting.post(connection, channel, incident, msgspec.structs.replace(notice, event=event), now_ms, part)
        if rows:
            note_change(connection, "incident", incident, now_ms)
    return len(rows)

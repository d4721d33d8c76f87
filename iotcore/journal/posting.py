"""Notices for the receivers, put into the outbox in the transaction of what they tell.

alarm    the first of an incident: to every receiver of its premises; when it was held, once the hold is over
update   a point that none of them was told of yet, or facts that came after: to whoever was told the alarm
restore  to whoever was told the alarm, after it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from iotcore.journal import story
from iotcore.journal.database import Connection
from iotcore.journal.records import LEASE_MS, Event, Notice, OutboxRow

MAX_NUMBER = 8999  # DC-09 sequence numbers run 0001-9999 and wrap to 0001 (ANSI/SIA DC-09); 9000 and more are the emergency log's
MAX_POINTS = 100  # listed in one notice, the latest; each was told in a notice of its own


def post(connection: Connection, channel: str, incident: str, notice: Notice, at_ms: float, part: int = 0) -> None:  # noqa: PLR0917
    """Put a notice into the outbox of a channel, with the channel's next number; the same one again changes nothing."""
    known = connection.execute(
        "SELECT 1 FROM outbox WHERE incident = ? AND channel = ? AND event = ? AND part = ?",
        (incident, channel, notice.event, part),
    ).fetchone()
    if known is None:
        _put(connection, channel, incident, notice, text(notice), at_ms, part)


def _put(connection: Connection, channel: str, incident: str, notice: Notice, body: str, at_ms: float, part: int) -> None:  # noqa: PLR0917
    """One that is new, with its text, which is the same for all channels."""
    number = connection.execute(
        "INSERT INTO channel_number (channel, number) VALUES (?, 1) "
        "ON CONFLICT (channel) DO UPDATE SET number = channel_number.number % ? + 1 RETURNING number",
        (channel, MAX_NUMBER),
    ).fetchone()[0]
    connection.execute(
        "INSERT INTO outbox (incident, channel, event, part, number, notice, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (incident, channel, notice.event, part, number, body, at_ms),
    )


def post_alarm(connection: Connection, channels: Iterable[str], incident: str, notice: Notice, at_ms: float) -> None:
    """Tell an incident to its receivers, with the points that have joined it so far."""
    told = _made(notice, incident, "alarm", points(connection, incident), at_ms)
    for channel in channels:
        post(connection, channel, incident, told, at_ms)


class Standing(NamedTuple):
    """What an update of an incident tells, and to whom."""

    channels: Sequence[str]
    points: tuple[str, ...]


def standing(connection: Connection, incident: str) -> Standing:
    """As of now, in the caller's transaction."""
    return Standing(told_of(connection, incident), points(connection, incident))


def post_update(  # noqa: PLR0917
    connection: Connection,
    incident: str,
    notice: Notice,
    at_ms: float,
    only: Sequence[str] | None = None,
    known: Standing | None = None,
) -> bool:
    """Tell whoever was told the alarm what came after; False when nobody was, so that nothing stands before its alarm.

    `only` are those of them that are told. `known`, where one transaction posts several updates of an incident, is asked once.
    """
    known = known or standing(connection, incident)
    channels = [channel for channel in known.channels if only is None or channel in only]
    if not channels:
        return False
    row = connection.execute(
        "UPDATE incident SET updates = updates + 1 WHERE id = ? AND state = 'open' RETURNING updates", (incident,)
    ).fetchone()
    if row is None:
        return False
    update = _made(notice, incident, "update", known.points, at_ms)
    body = text(update)
    for channel in channels:
        _put(connection, channel, incident, update, body, at_ms, row[0])
    return True


def post_restore(connection: Connection, incident: str, first: Notice, at_ms: float) -> None:
    """Call the alarm off wherever it was told; updates that are not delivered by then would open it anew, and are withdrawn."""
    withdrawn = connection.execute(
        "DELETE FROM outbox WHERE incident = ? AND event = 'update' AND acknowledged_ms IS NULL RETURNING channel, part",
        (incident,),
    ).fetchall()
    for channel, part in withdrawn:
        story.tell(connection, incident, story.WITHDRAWN, at_ms, channel, f"update {part}")
    restore = _made(first, incident, "restore", points(connection, incident), at_ms)
    for channel in told_of(connection, incident):
        post(connection, channel, incident, restore, at_ms)


def told_of(connection: Connection, incident: str) -> list[str]:
    """The channels that were given the alarm of an incident; not those of which a person decides whether they get it."""
    rows = connection.execute("SELECT channel FROM outbox WHERE incident = ? AND event = 'alarm' ORDER BY id", (incident,))
    return [row[0] for row in rows.fetchall()]


def add_points(connection: Connection, incident: str, found: Sequence[tuple[str, str]], at_ms: float) -> bool:
    """Note which points speak in an incident; whether any of them had not before."""
    new = 0
    for device, point in found:
        new += connection.execute(
            "INSERT INTO incident_point (incident, device, point, place, at_ms) "
            "SELECT ?, ?, ?, coalesce(max(place), 0) + 1, ? FROM incident_point WHERE incident = ? ON CONFLICT DO NOTHING",
            (incident, device, point, at_ms, incident),
        ).rowcount
    return new > 0


def points(connection: Connection, incident: str) -> tuple[str, ...]:
    """The points of an incident as "device/point", first-in first; of more than `MAX_POINTS` the latest."""
    rows = connection.execute(
        "SELECT device, point FROM incident_point WHERE incident = ? ORDER BY place DESC LIMIT ?",
        (incident, MAX_POINTS),
    ).fetchall()
    return tuple(f"{device}/{point}" for device, point in reversed(rows))


def lease(connection: Connection, owner: str, incidents: Iterable[str], now_ms: float) -> tuple[OutboxRow, ...]:
    """Lease new alarms in the transaction that makes them: no second commit stands between them and the receiver."""
    return tuple(
        OutboxRow(row_id, incident, channel, number, 0, notice_of(body))
        for incident in incidents
        for row_id, channel, number, body in connection.execute(
            "UPDATE outbox SET lease_owner = ?, lease_until_ms = ? WHERE incident = ? AND event = 'alarm' "
            "AND acknowledged_ms IS NULL AND lease_owner IS NULL RETURNING id, channel, number, notice",
            (owner, now_ms + LEASE_MS, incident),
        ).fetchall()
    )


def text(notice: Notice) -> str:
    """A notice as the journal keeps it."""
    return msgspec.json.encode(notice).decode()


def notice_of(kept: str) -> Notice:
    """A notice as the journal kept it, in this version or an older one."""
    return msgspec.json.decode(kept, type=Notice)


def _made(notice: Notice, incident: str, event: Event, its: tuple[str, ...], at_ms: float) -> Notice:
    made_ms = 0.0 if event == "alarm" else at_ms
    return msgspec.structs.replace(notice, incident=incident, event=event, points=its, made_ms=made_ms)

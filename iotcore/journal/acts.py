"""What people do about alarms: acknowledge, silence, reset, and what the owner says. Each is an act of its own.

    acknowledge  somebody has taken it: escalation stops, a hold goes on to T2; delivery goes on
    silence      the sounders: on record, and nothing else
    reset        the episode is over: whoever was told is told so; what is said until now belongs to it
    owner        confirmed or denied: shown to the fire service; never cancels

All run inside the caller's transaction and tell the story. The second time they change nothing: several processes may apply the
same act.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from iotcore.journal import escalations, held, story, timers
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.posting import notice_of, post_restore, post_update
from iotcore.journal.records import FIRE_SEVERITY

Said = Literal["confirmed", "denied"]


class Unacknowledged(NamedTuple):
    """An open incident that nobody has taken. `since_ms` is when it was raised, or when its hold ended; ms UTC."""

    incident: str
    premises: str
    since_ms: float


def acknowledge(connection: Connection, now: timers.Now, incident: str, by: str, at_ms: float) -> bool:
    """A person has taken the incident, with all its alarms; False when it is unknown or somebody was first."""
    row = connection.execute(
        "UPDATE incident SET acknowledged_ms = ?, acknowledged_by = ? WHERE id = ? AND acknowledged_ms IS NULL RETURNING id",
        (at_ms, by, incident),
    ).fetchone()
    if row is None:
        return False
    connection.execute(
        "UPDATE alarm SET acknowledged_ms = ?, acknowledged_by = ? WHERE incident = ? AND acknowledged_ms IS NULL",
        (at_ms, by, incident),
    )
    held.acknowledged(connection, now, incident)
    escalations.stop(connection, incident)
    story.tell(connection, incident, story.ACKNOWLEDGED, at_ms, by)
    return True


def acknowledge_alarm(connection: Connection, alarm: int, by: str, at_ms: float) -> bool:
    """A person has seen one alarm; that of an incident takes the incident no more than one alarm takes the others."""
    row = connection.execute(
        "UPDATE alarm SET acknowledged_ms = ?, acknowledged_by = ? WHERE id = ? AND acknowledged_ms IS NULL "
        "AND state = 'active' RETURNING incident, device, rule",
        (at_ms, by, alarm),
    ).fetchone()
    if row is None:
        return False
    note_change(connection, "alarm", str(alarm), at_ms)
    if row[0] is not None:
        story.tell(connection, row[0], story.ACKNOWLEDGED, at_ms, by, f"{row[1]}: {row[2]}")
    return True


def silence(connection: Connection, incident: str, by: str, at_ms: float) -> bool:
    """The sounders are off; False when the incident is not open, or they are already."""
    row = connection.execute(
        "UPDATE incident SET silenced_ms = ?, silenced_by = ? WHERE id = ? AND state = 'open' AND silenced_ms IS NULL "
        "RETURNING id",
        (at_ms, by, incident),
    ).fetchone()
    if row is None:
        return False
    story.tell(connection, incident, story.SILENCED, at_ms, by)
    return True


def reset(connection: Connection, incident: str, devices: Iterable[str], by: str, at_ms: float) -> bool:
    """Close an episode, tell whoever was told of it, and mark where the story of each of `devices` continues.

    `devices` are those of the premises: whatever they said until now belongs to the closed episode, whoever evaluates it
    later. False when the incident is not open.
    """
    row = connection.execute(
        "UPDATE incident SET state = 'closed', closed_ms = ?, closed_by = ? WHERE id = ? AND state = 'open' RETURNING notice",
        (at_ms, by, incident),
    ).fetchone()
    if row is None:
        return False
    connection.execute(
        "UPDATE alarm SET state = 'reset', reset_ms = ? WHERE incident = ? AND state = 'active'", (at_ms, incident)
    )
    spoke = connection.execute("SELECT DISTINCT device FROM alarm WHERE incident = ?", (incident,)).fetchall()
    for device in dict.fromkeys([*devices, *(row[0] for row in spoke)]):
        _mark(connection, device, incident)
    escalations.stop(connection, incident)
    if not held.cancel(connection, incident, by, at_ms):
        post_restore(connection, incident, notice_of(row[0]), at_ms)
    story.tell(connection, incident, story.RESET, at_ms, by)
    return True


def reset_alarm(connection: Connection, alarm: int, by: str, at_ms: float) -> bool:
    """End one latched alarm that is no fire; False when there is none that stands. A fire ends with its incident."""
    row = connection.execute(
        "UPDATE alarm SET state = 'reset', reset_ms = ?, acknowledged_ms = coalesce(acknowledged_ms, ?), "
        "acknowledged_by = coalesce(acknowledged_by, ?) WHERE id = ? AND state = 'active' AND severity <> ? RETURNING id",
        (at_ms, at_ms, by, alarm, FIRE_SEVERITY),
    ).fetchone()
    if row is None:
        return False
    note_change(connection, "alarm", str(alarm), at_ms)
    return True


def owner_said(connection: Connection, incident: str, said: Said, by: str, at_ms: float) -> bool:
    """The owner's answer, told at once to whoever was told the alarm; the story keeps a later one too. Cancels nothing."""
    row = connection.execute(
        "UPDATE incident SET owner_said = ?, owner_ms = ?, owner_by = ? WHERE id = ? AND state = 'open' "
        "AND (owner_said IS NULL OR owner_said <> ?) RETURNING notice",
        (said, at_ms, by, incident, said),
    ).fetchone()
    if row is None:
        return False
    post_update(connection, incident, msgspec.structs.replace(notice_of(row[0]), owner_said=said), at_ms)
    story.tell(connection, incident, story.CONFIRMED if said == "confirmed" else story.DENIED, at_ms, by)
    return True


def unacknowledged(connection: Connection, now: timers.Now) -> list[Unacknowledged]:
    """Open incidents that nobody has taken and that are not held, the oldest first; none of the future."""
    rows = connection.execute(
        "SELECT id, premises, coalesce(released_ms, decided_ms) AS since_ms FROM incident "
        "WHERE state = 'open' AND acknowledged_ms IS NULL AND hold IS NULL ORDER BY since_ms, id"
    )
    return [Unacknowledged(row[0], row[1], min(row[2], now.wall_ms)) for row in rows.fetchall()]


def _mark(connection: Connection, device: str, incident: str) -> None:
    """Everything of a device that is stored until now, of every boot that is remembered, belongs to `incident`."""
    tracks = connection.execute("SELECT boot, up_to, above FROM progress WHERE device = ?", (device,)).fetchall()
    last: dict[str, int] = {}
    stored = connection.execute("SELECT boot, max(seq) FROM reading WHERE device = ? GROUP BY boot", (device,)).fetchall()
    told = connection.execute(
        "SELECT boot, max(seq) FROM cause WHERE device = ? AND incident = ? GROUP BY boot", (device, incident)
    )
    for boot, seq in (*stored, *told.fetchall()):
        last[boot] = max(seq, last.get(boot, seq))
    for boot, up_to, above in tracks:
        ranges = json.loads(above)
        highest = max([up_to, *(one[1] if isinstance(one, list) else one for one in ranges)])
        last[boot] = max(highest, last.get(boot, highest))
    connection.executemany(
        "INSERT INTO watermark (device, boot, seq, incident) VALUES (?, ?, ?, ?) ON CONFLICT (device, boot) "
        "DO UPDATE SET seq = excluded.seq, incident = excluded.incident",
        [(device, boot, seq, incident) for boot, seq in last.items()],
    )

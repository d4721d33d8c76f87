"""Alarms of what was out of service or in walk test, and when that was over: kept, so that what still burns fires afterwards.

    alarm 'disabled' or 'walk' ─► cleared: nothing is left to do
                               └► nothing exempts it any more: stamped once, raised anew under a cause of its own, 'released'

The end is a durable timer beside the registry's wall clock: whichever comes first. All of it is idempotent: several fire
processes may do it at once, and one may die anywhere in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from iotcore.journal import timers
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.records import Cleared, Notice, Raise

KIND = "disablement"
KEPT_MS = 31 * 86_400_000.0  # an end is remembered for longer than any disablement may last
AT_ONCE = 200
AGAIN = "@again"  # the boot of a cause that is an earlier alarm; its seq is that alarm's number

SCHEMA = """
CREATE TABLE IF NOT EXISTS disablement_over (
    id    TEXT PRIMARY KEY,               -- of a disablement or walk test
    at_ms DOUBLE PRECISION NOT NULL
);
CREATE INDEX IF NOT EXISTS alarm_exempt ON alarm (id) WHERE state IN ('disabled', 'walk') AND cleared_ms IS NULL;
"""


class Waiting(NamedTuple):
    """An alarm that was exempt, and as far as anybody knows still holds."""

    id: int
    notice: Notice
    detector_ms: float
    received_ms: float


def watch(connection: Connection, now: timers.Now, remaining_s: Mapping[str, float]) -> None:
    """Set the timers of those that have none and are not over; forget the timers of those that are no longer named."""
    known = {key for (key,) in connection.execute("SELECT key FROM timer WHERE kind = ?", (KIND,)).fetchall()}
    ended = over(connection)
    for id_, after_s in remaining_s.items():
        if id_ not in known and id_ not in ended:
            timers.set(connection, now, KIND, id_, after_s)
    for id_ in known - remaining_s.keys():
        timers.cancel(connection, KIND, id_)


def end_due(connection: Connection, now: timers.Now) -> None:
    """Write down which are over by their timers."""
    for one in timers.due(connection, now, [KIND], AT_ONCE):
        if timers.take(connection, KIND, one.key):
            connection.execute(
                "INSERT INTO disablement_over (id, at_ms) VALUES (?, ?) ON CONFLICT DO NOTHING", (one.key, now.wall_ms)
            )
            note_change(connection, KIND, one.key, now.wall_ms)
    connection.execute("DELETE FROM disablement_over WHERE at_ms < ?", (now.wall_ms - KEPT_MS,))


def over(connection: Connection) -> frozenset[str]:
    """Those that are over by their timers."""
    return frozenset(id_ for (id_,) in connection.execute("SELECT id FROM disablement_over").fetchall())


def waiting(connection: Connection) -> list[Waiting]:
    """The exempt alarms that nobody knows to be over, oldest first."""
    rows = connection.execute(
        "SELECT id, notice, detector_ms, received_ms FROM alarm "
        "WHERE state IN ('disabled', 'walk') AND cleared_ms IS NULL ORDER BY id"
    ).fetchall()
    return [Waiting(id_, msgspec.json.decode(text, type=Notice), *moments) for id_, text, *moments in rows]


def stamped(connection: Connection, found: Iterable[Waiting], now_ms: float) -> list[Raise]:
    """These as decisions of now. The moment is written down by whoever comes first, so that all say the same."""
    raises = []
    for one in found:
        (at_ms,) = connection.execute(
            "UPDATE alarm SET reset_ms = coalesce(reset_ms, ?) WHERE id = ? RETURNING reset_ms", (now_ms, one.id)
        ).fetchone()
        raises.append(Raise(AGAIN, one.id, one.notice, one.detector_ms, at_ms, at_ms))
    return raises


def raised(connection: Connection, numbers: Iterable[int]) -> None:
    """They are live alarms now: the exempt ones are history."""
    for number in numbers:
        connection.execute("UPDATE alarm SET state = 'released' WHERE id = ? AND state IN ('disabled', 'walk')", (number,))


def clear(connection: Connection, one: Cleared) -> None:
    """A condition has returned to normal: nothing of it is left to fire when it is exempt no more."""
    rows = connection.execute(
        "UPDATE alarm SET cleared_ms = ? WHERE device = ? AND rule = ? AND state IN ('disabled', 'walk') AND cleared_ms IS NULL "
        "RETURNING id",
        (one.at_ms, one.device, one.rule),
    ).fetchall()
    for (number,) in rows:
        note_change(connection, "alarm", str(number), one.at_ms)

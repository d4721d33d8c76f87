"""Two paths to one receiver: what the first has not acknowledged in time is posted to the second as well, once.

Both stay in the outbox until they are acknowledged; a copy that nobody has begun to send when the first path acknowledges is
withdrawn. The delivery counts when either is: `covered` tells the watchdogs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from iotcore.journal.database import Connection

MAX_AT_ONCE = 100

# not yet acknowledged, old enough (or of a moment that only a clock set back can explain), and not posted to the alternate yet
_DUE = """
SELECT incident, event, notice, part FROM outbox AS one
WHERE channel = ? AND acknowledged_ms IS NULL AND event <> 'restore' AND (created_ms <= ? OR created_ms > ?)
  AND NOT EXISTS (
    SELECT 1 FROM outbox AS twin WHERE twin.channel = ? AND twin.incident = one.incident AND twin.event = one.event
    AND twin.part = one.part)
ORDER BY id LIMIT ?
"""
# a copy that its receiver cannot have had: nobody has held it (who dies with one leaves HELD), no frame of it has left, and no
# restore follows it, which would stand alone
_SPARE = """
SELECT id, incident, event FROM outbox AS copy
WHERE channel = ? AND acknowledged_ms IS NULL AND event <> 'restore' AND lease_owner IS NULL AND sent_ms IS NULL
  AND EXISTS (
    SELECT 1 FROM outbox AS first WHERE first.channel = ? AND first.incident = copy.incident AND first.event = copy.event
    AND first.part = copy.part AND first.acknowledged_ms IS NOT NULL)
  AND NOT EXISTS (
    SELECT 1 FROM outbox AS ends WHERE ends.channel = copy.channel AND ends.incident = copy.incident AND ends.event = 'restore')
ORDER BY id LIMIT ?
"""
HELD = ""  # the holder of a lease whose process has ended: what became of its notice nobody knows
_COVERED = "SELECT 1 FROM outbox WHERE channel = ? AND incident = ? AND event = ? AND part = ? AND acknowledged_ms IS NOT NULL"


class Due(NamedTuple):
    """What is to be posted to the alternate: no restore, which follows an alarm by itself."""

    incident: str
    event: str
    notice: str
    part: int


def due(connection: Connection, channel: str, alternate: str, now_ms: float, after_ms: float) -> list[Due]:
    """What `channel` has not acknowledged for `after_ms` and `alternate` was not told."""
    asked = (channel, now_ms - after_ms, now_ms + after_ms, alternate, MAX_AT_ONCE)
    return [Due(*row) for row in connection.execute(_DUE, asked).fetchall()]


def spare(connection: Connection, channel: str, alternate: str) -> list[tuple[int, str, str]]:
    """Row, incident and event of copies for `alternate` that nobody has begun to send, and that `channel` has acknowledged."""
    return [tuple(row) for row in connection.execute(_SPARE, (alternate, channel, MAX_AT_ONCE)).fetchall()]


def covered(connection: Connection, alternates: Mapping[str, str]) -> Callable[[str, str, int, str], bool]:
    """Tells of an incident, event, part and channel whether its other path has had the acknowledgement."""
    others = {**{alternate: primary for primary, alternate in alternates.items()}, **alternates}

    def told(incident: str, event: str, part: int, channel: str) -> bool:
        other = others.get(channel)
        return other is not None and connection.execute(_COVERED, (other, incident, event, part)).fetchone() is not None

    return told

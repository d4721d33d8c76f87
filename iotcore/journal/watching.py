"""What stands still: alarms that no process offers to their receiver, and fires that nobody escalates. Read by the watchdog.

A receiver that refuses is no standstill: its notices are tried again and again, and each attempt is on record. Here the process
that should try is gone, or does not come back to it.
"""

from __future__ import annotations

from iotcore.journal import escalations, timers
from iotcore.journal.database import Connection

STILL_MS = 5_000.0  # twenty-five polls of a dispatcher; a lease is over after one second (wire contract)
AT_ONCE = 100

# due, and for all this time neither leased nor tried; of an incident whose earlier notice is on its way only the first counts
_UNSERVED = """
SELECT incident, event, channel FROM outbox AS one
WHERE acknowledged_ms IS NULL AND created_ms < ? AND next_at_ms < ? AND lease_until_ms < ?
  AND NOT EXISTS (
    SELECT 1 FROM outbox AS earlier WHERE earlier.channel = one.channel AND earlier.incident = one.incident
    AND earlier.acknowledged_ms IS NULL AND earlier.id < one.id)
ORDER BY id LIMIT ?
"""


def standing_still(connection: Connection, now: timers.Now) -> list[str]:
    """Each in a few words; none: all is served."""
    since_ms = now.wall_ms - STILL_MS
    rows = connection.execute(_UNSERVED, (since_ms, since_ms, since_ms, AT_ONCE)).fetchall()
    unserved = [f"{incident} {event} → {channel}: no process offers it" for incident, event, channel in rows]
    return [*unserved, *(f"{incident}: nobody escalates it" for incident in escalations.overdue(connection, now))]

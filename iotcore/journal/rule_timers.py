"""Timers of rules over a restart: what has to last, or be confirmed, is kept in the commit of the reading that began it."""

from __future__ import annotations

from iotcore.journal import timers
from iotcore.journal.database import Connection
from iotcore.journal.records import Timing
from iotcore.journal.timers import Now

KIND = "rule"


def keep(connection: Connection, now: Now, timing: Timing) -> None:
    """Set what began, forget what is over. Replicas that judge alike set alike."""
    for key, after_s, body in timing.began:
        timers.set(connection, now, KIND, key, after_s, body)
    for key in timing.over:
        timers.cancel(connection, KIND, key)


def standing(connection: Connection, now: Now) -> list[tuple[float, str]]:
    """In how many seconds each is due (0: by now), and what it is."""
    return [(due_s, one.body) for due_s, one in timers.standing(connection, now, KIND)]

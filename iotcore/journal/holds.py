"""Holds that end by time: any replica may look, and each hold is released once."""

from __future__ import annotations

from iotcore.journal import held, timers
from iotcore.journal.journal import Journal
from iotcore.journal.records import Committed

AT_ONCE = 100  # holds released in one commit


def release_due(journal: Journal, now: timers.Now) -> Committed:
    """Release every hold that is over; `released` says which, `leased` has their notices for whoever called.

    Raises:
        StoreError: nothing was released; ask again.
    """
    with journal.writing() as connection:
        released = []
        for timer in timers.due(connection, now, held.KINDS, AT_ONCE):
            reason = held.NOBODY_CAME if timer.kind == held.T1 else held.NOT_RESET
            if timers.take(connection, timer.kind, timer.key) and held.release(connection, now, timer.key, reason):
                released.append(timer.key)
        for incident in held.overdue(connection, now):
            held.release(connection, now, incident, held.OVERDUE)
            released.append(incident)
        leased = journal.lease_new(connection, released)
    return Committed(opened=(), leased=leased, released=tuple(released))


def next_due_s(journal: Journal, now: timers.Now) -> float | None:
    """Seconds until the next hold is over; None when none stands."""
    with journal.reading() as connection:
        return timers.after_s(connection, now, held.KINDS)

"""Holds that end by time: any replica may look, and each hold is released once."""

from __future__ import annotations

from typing import NamedTuple

from iotcore.journal import held, timers
from iotcore.journal.journal import Journal
from iotcore.journal.posting import notice_of
from iotcore.journal.records import Committed, Raise

AT_ONCE = 100  # holds released in one commit


class Standing(NamedTuple):
    """A hold that is under way: what it holds back, and in how many seconds it ends; 0: now."""

    incident: str
    after_s: float
    cause: Raise


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


def standing(journal: Journal, now: timers.Now) -> list[Standing]:
    """Every hold that is under way, for whoever has to end it without the journal."""
    with journal.reading() as connection:
        ends = {one.key: after_s for kind in held.KINDS for after_s, one in timers.standing(connection, now, kind)}
        found = []
        for incident, text, hold, detector_ms, received_ms, decided_ms in connection.execute(
            "SELECT id, notice, hold, detector_ms, received_ms, decided_ms FROM incident WHERE hold IS NOT NULL ORDER BY id"
        ).fetchall():
            notice = notice_of(text)
            boot, seq = connection.execute(
                "SELECT boot, seq FROM cause WHERE incident = ? AND device = ? AND rule = ? ORDER BY at_ms, seq LIMIT 1",
                (incident, notice.device, notice.rule),
            ).fetchone()
            cause = Raise(boot, seq, notice, detector_ms, received_ms, decided_ms, receivers=held.receivers_of(hold))
            found.append(Standing(incident, ends.get(incident, 0.0), cause))
        return found


def next_due_s(journal: Journal, now: timers.Now) -> float | None:
    """Seconds until the next hold is over; None when none stands."""
    with journal.reading() as connection:
        return timers.after_s(connection, now, held.KINDS)

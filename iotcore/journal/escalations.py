"""Escalation in the journal: a timer for each fire that nobody has acknowledged, and what its ringing tells whom.

opened, or released from its hold ──► timer ──► rings: told again to the next of the ladder ──► timer …
one acknowledgement, or a reset   ──► no timer: it stops on every channel

The timer outlives the process (`timers`); whoever takes it tells and sets the next in one transaction, so that a step is neither
lost nor doubled, whoever dies. The functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from iotcore.journal import posting, story, timers
from iotcore.journal.database import Connection
from iotcore.journal.facts import Number

KIND = "escalate"
FIRST_S = 30.0  # the alarm contract, 5; what a response plan says comes before it
LATE_S = 5.0  # a timer that rang so long ago and was not taken: nobody escalates any more
AT_ONCE = 100


class Unanswered(NamedTuple):
    """A fire whose timer has rung. `done`: steps told so far; `since_ms`: when it was raised or released, ms UTC."""

    incident: str
    premises: str
    since_ms: float
    done: int


class Telling(NamedTuple):
    """The `nth` step: these receivers, and these people; `everybody`: whoever was told the alarm."""

    nth: int
    everybody: bool
    receivers: tuple[str, ...]
    people: tuple[Number, ...]


def begin(connection: Connection, now: timers.Now, incident: str, after_s: float = FIRST_S) -> None:
    """Somebody has to acknowledge it by then."""
    timers.set(connection, now, KIND, incident, after_s, "0")


def stop(connection: Connection, incident: str) -> bool:
    """Somebody has, or it is over."""
    return timers.cancel(connection, KIND, incident)


def rung(connection: Connection, now: timers.Now) -> list[Unanswered]:
    """The fires whose timers have rung, the longest first."""
    found = []
    for timer in timers.due(connection, now, (KIND,), AT_ONCE):
        row = connection.execute(
            "SELECT premises, coalesce(released_ms, decided_ms) FROM incident WHERE id = ?", (timer.key,)
        ).fetchone()
        if row is not None:
            found.append(Unanswered(timer.key, row[0], row[1], int(timer.body)))
    return found


def tell(connection: Connection, one: Unanswered, telling: Telling, callers: Sequence[str], at_ms: float) -> bool:
    """Tell one step; False when the fire is over, or acknowledged. `callers` are the channels that reach people by number."""
    row = connection.execute(
        "SELECT notice FROM incident WHERE id = ? AND state = 'open' AND acknowledged_ms IS NULL AND hold IS NULL",
        (one.incident,),
    ).fetchone()
    if row is None:
        return False
    told = posting.told_of(connection, one.incident)
    calling = [name for name in told if name in callers] if telling.people else []
    others = [name for name in told if name not in callers and (telling.everybody or name in telling.receivers)]
    notice = msgspec.structs.replace(posting.notice_of(row[0]), escalated=telling.nth)
    if telling.people:
        notice = msgspec.structs.replace(notice, numbers=telling.people)
    posting.post_update(connection, one.incident, notice, at_ms, [*others, *calling])
    names = [*others, *(person.name for person in telling.people)]
    story.tell(connection, one.incident, story.ESCALATED, at_ms, detail=f"{telling.nth}: {', '.join(names)}")
    return True


def go_on(connection: Connection, now: timers.Now, one: Unanswered, done: int, after_s: float | None) -> None:
    """Set the timer for the step after the first `done`; None: there is none, and the fire goes on being shown as unanswered."""
    if after_s is not None:
        timers.set(connection, now, KIND, one.incident, after_s, str(done))


def overdue(connection: Connection, now: timers.Now) -> list[str]:
    """Fires whose timer rang long ago and that nobody took up: escalation stands still."""
    late = now._replace(uptime_s=now.uptime_s - LATE_S, wall_ms=now.wall_ms - LATE_S * timers.MS_PER_S)
    return [timer.key for timer in timers.due(connection, late, (KIND,), AT_ONCE)]

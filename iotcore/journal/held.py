"""Held incidents: open, shown and durable, while their notices wait for as long as the response plan of the premises asks.

    raised ──► T1 ──────────────────────────► released: nobody acknowledged
                └ acknowledged ──► T2 ──────► released: nobody reset it
    at once: a raise without a hold (a call point, waterflow, a plan that asks for none now), or another device

T1 and T2 together never exceed `MAX_HOLD_S`. A reset during it cancels: nobody is told. The functions run inside the caller's
transaction; a hold and its timer are one commit.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from iotcore.journal import escalations, story, timers
from iotcore.journal.database import Connection
from iotcore.journal.posting import notice_of, post_alarm
from iotcore.journal.records import Hold, Raise

MAX_HOLD_S = 600.0  # a design target after what is said of EN 54-2: outputs are delayed by 10 min at most
T1 = "hold_t1"
T2 = "hold_t2"
KINDS = (T1, T2)

NOBODY_CAME = "t1_over"
NOT_RESET = "t2_over"
ANOTHER_DEVICE = "another_device"
AT_ONCE = "at_once"
OVERDUE = "overdue"  # its timer is gone, or the longest time is over: whatever is in doubt is sent


class _Held(msgspec.Struct, frozen=True):
    """What is kept while it lasts."""

    device: str
    t1_s: float
    t2_s: float
    receivers: tuple[str, ...]
    answer_s: float = escalations.FIRST_S


def begin(connection: Connection, now: timers.Now, incident: str, one: Raise, receivers: Sequence[str]) -> None:
    """Hold a new incident that a raise has opened."""
    assert one.hold is not None
    t1_s = min(one.hold.t1_s, MAX_HOLD_S)
    t2_s = min(one.hold.t2_s, MAX_HOLD_S - t1_s)
    held = _Held(one.notice.device, t1_s, t2_s, tuple(receivers), one.answer_s)
    connection.execute(
        "UPDATE incident SET hold = ?, held_ms = ? WHERE id = ?", (msgspec.json.encode(held).decode(), now.wall_ms, incident)
    )
    timers.set(connection, now, T1, incident, held.t1_s)
    story.tell(connection, incident, story.HELD, now.wall_ms, detail=f"T1 {held.t1_s:g} s, T2 {held.t2_s:g} s")


def acknowledged(connection: Connection, now: timers.Now, incident: str) -> None:
    """Somebody has taken it: T1 is over, and T2 begins; nothing happens to an incident that is not held."""
    held = _held(connection, incident)
    if held is not None and timers.cancel(connection, T1, incident):
        timers.set(connection, now, T2, incident, held.t2_s)


def joined(kept: str | None, device: str, hold: Hold | None) -> str:
    """Why a further raise ends the hold that an incident keeps (`incident.hold`); "" when it does not, or there is none."""
    if kept is None:
        return ""
    held = msgspec.json.decode(kept, type=_Held)
    if hold is None or hold.t1_s <= 0.0:
        return AT_ONCE
    return "" if device == held.device else ANOTHER_DEVICE


def release(connection: Connection, now: timers.Now, incident: str, reason: str) -> bool:
    """End a hold and make the notices; False when it is held no more."""
    held, at_ms = _held(connection, incident), now.wall_ms
    if held is None:
        return False
    (first,) = connection.execute(
        "UPDATE incident SET hold = NULL, released_ms = ? WHERE id = ? RETURNING notice", (at_ms, incident)
    ).fetchone()
    _forget(connection, incident)
    post_alarm(connection, held.receivers, incident, notice_of(first), at_ms)
    if connection.execute("SELECT 1 FROM incident WHERE id = ? AND acknowledged_ms IS NULL", (incident,)).fetchone() is not None:
        escalations.begin(connection, now, incident, held.answer_s)
    story.tell(connection, incident, story.RELEASED, at_ms, detail=reason)
    return True


def cancel(connection: Connection, incident: str, by: str, at_ms: float) -> bool:
    """A reset came first: nobody is told; False when it is not held."""
    if _held(connection, incident) is None:
        return False
    connection.execute("UPDATE incident SET hold = NULL WHERE id = ?", (incident,))
    _forget(connection, incident)
    story.tell(connection, incident, story.CANCELLED, at_ms, by)
    return True


def overdue(connection: Connection, now_ms: float) -> list[str]:
    """Held incidents without a timer, or held longer than may be by the wall clock."""
    rows = connection.execute(
        "SELECT id FROM incident WHERE hold IS NOT NULL AND (held_ms <= ? "
        "OR id NOT IN (SELECT key FROM timer WHERE kind IN (?, ?))) ORDER BY held_ms",
        (now_ms - MAX_HOLD_S * timers.MS_PER_S, *KINDS),
    )
    return [row[0] for row in rows.fetchall()]


def _held(connection: Connection, incident: str) -> _Held | None:
    row = connection.execute("SELECT hold FROM incident WHERE id = ? AND hold IS NOT NULL", (incident,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=_Held)


def _forget(connection: Connection, incident: str) -> None:
    for kind in KINDS:
        timers.cancel(connection, kind, incident)

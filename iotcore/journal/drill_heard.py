"""A drill that was heard, in the lane's own commit: one row is changed, so that it holds up no fire; `drill_store` goes on."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from iotcore.journal import drills, posting
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.drills import BURNING, open_incident
from iotcore.journal.records import FIRE_SEVERITY, Notice, Raise, Tried

NO_ALARM = "no_alarm"  # its reading came through, and no rule called it a fire


def record(connection: Connection, tried: Iterable[Tried], at_ms: float) -> list[str]:
    """Keep what simulated drills said; their ids, each once, whoever heard it first and however often it came."""
    return [one.drill for one in tried if _recorded(connection, one, at_ms)]


def _recorded(connection: Connection, one: Tried, at_ms: float) -> bool:
    row = connection.execute(
        "SELECT premises FROM drill WHERE id = ? AND device = ? AND state = 'waiting' AND source = 'simulated' "
        "AND received_ms IS NULL",
        (one.drill, one.device),
    ).fetchone()
    if row is None:
        return False
    if incident := open_incident(connection, row[0]):
        return drills.end(connection, one.drill, "put_off", f"{BURNING}: {incident}", at_ms)
    kept = "" if one.notice is None else posting.text(_as_test(one.notice, one.drill))
    connection.execute(
        "UPDATE drill SET detector_ms = ?, received_ms = ?, decided_ms = ?, notice = ? WHERE id = ?",
        (one.detector_ms, one.received_ms, one.decided_ms, kept, one.drill),
    )
    note_change(connection, "drill", one.drill, at_ms)
    if one.notice is None:
        drills.end(connection, one.drill, "failed", NO_ALARM, at_ms)
    return True


def pressed(connection: Connection, one: Raise, at_ms: float) -> str:
    """A test alarm of a real detector: the drill of its premises that waits for one; "" for none."""
    notice = one.notice
    if not one.test or one.historical or notice.severity != FIRE_SEVERITY or notice.delayed or notice.unconfirmed:
        return ""
    row = connection.execute(
        "SELECT id FROM drill WHERE premises = ? AND state = 'waiting' AND source = 'real' AND received_ms IS NULL",
        (notice.premises,),
    ).fetchone()
    if row is None:
        return ""
    connection.execute(
        "UPDATE drill SET device = ?, point = ?, detector_ms = ?, received_ms = ?, decided_ms = ?, notice = ? WHERE id = ?",
        (notice.device, notice.point, one.detector_ms, one.received_ms, one.decided_ms,
         posting.text(_as_test(notice, row[0])), row[0]),
    )  # fmt: skip
    note_change(connection, "drill", row[0], at_ms)
    return str(row[0])


def durable(connection: Connection, ids: Iterable[str], at_ms: float) -> None:
    """Keep the moment at which the commit that holds them had returned."""
    connection.executemany("UPDATE drill SET durable_ms = ? WHERE id = ? AND durable_ms IS NULL", [(at_ms, one) for one in ids])


def _as_test(notice: Notice, drill: str) -> Notice:
    """What receivers are told of it: a test by every mark that they know."""
    return msgspec.structs.replace(notice, incident=drill, event="test", purpose="test", points=())

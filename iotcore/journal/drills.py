"""Drills: the whole road tried, from an alarm point through the rules to each receiver by each of its paths, with its moments.

    asked ─► waiting ─► heard: its deliveries begin ─► each acknowledged ──────────► passed
                │                                  └─► one not within its limit ─► failed
                ├─► not heard in time ───────────────────────────────────────────► failed
                └─► it burns there ────────────────────────────────────────────► put off, and tried again
    due, and not passed within the grace ────────────────────────────────────────► missed, a trouble of the premises

A drill is no alarm and no incident: it has rows of its own, and no cause, no latch and no outbox row of a fire. Nothing here is
asked for while a fire is taken. One drill of a premises waits at a time, whoever asks, in whatever process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal

import msgspec

from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection

State = Literal["waiting", "passed", "failed", "put_off", "missed"]
Source = Literal["simulated", "real"]
DeliveryState = Literal["waiting", "acknowledged", "failed"]

SCHEDULE = "schedule"  # who asked, where nobody did
PREFIX = "drill:"  # of the names that stand in place of a device's, before the premises
DUE = "drill"  # the kind of the timer of a premises until its next drill
BURNING = "burning"  # why one is put off
MISSED = "drill_missed"  # the trouble of a premises
KEEP_MS = 400 * 86_400_000.0  # a year, and a month in which its report is written
SHOWN = 50  # of one premises, the newest

SCHEMA = """
CREATE TABLE IF NOT EXISTS drill (
    id          TEXT PRIMARY KEY,
    premises    TEXT NOT NULL,
    asked_by    TEXT NOT NULL,              -- schedule, or a person
    source      TEXT NOT NULL,              -- simulated | real
    device      TEXT NOT NULL,              -- '' until a real one speaks
    point       TEXT NOT NULL,
    value       TEXT NOT NULL,              -- JSON: what the point is made to say; '' of a real one
    state       TEXT NOT NULL,              -- waiting | passed | failed | put_off | missed
    reason      TEXT NOT NULL,
    notice      TEXT NOT NULL,              -- what the receivers are told; '' until it is heard
    due_ms      DOUBLE PRECISION,           -- NULL: asked for by hand
    asked_ms    DOUBLE PRECISION NOT NULL,
    detector_ms DOUBLE PRECISION,
    received_ms DOUBLE PRECISION,
    decided_ms  DOUBLE PRECISION,
    durable_ms  DOUBLE PRECISION,
    ended_ms    DOUBLE PRECISION
);
CREATE UNIQUE INDEX IF NOT EXISTS drill_waiting ON drill (premises) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS drill_by_premises ON drill (premises, asked_ms);
CREATE INDEX IF NOT EXISTS drill_by_time ON drill (asked_ms);
CREATE TABLE IF NOT EXISTS drill_delivery (
    drill    TEXT NOT NULL,
    receiver TEXT NOT NULL,
    path     TEXT NOT NULL,                 -- the receiver itself, or its alternate
    number   BIGINT NOT NULL,               -- of the channel: a repeat has the same
    notice   TEXT NOT NULL,
    state    TEXT NOT NULL,                 -- waiting | acknowledged | failed
    reason   TEXT NOT NULL,
    sent_ms  DOUBLE PRECISION,
    acked_ms DOUBLE PRECISION,
    until_ms DOUBLE PRECISION NOT NULL,     -- somebody sends it, or it rests, until then
    PRIMARY KEY (drill, receiver, path)
);
CREATE INDEX IF NOT EXISTS drill_delivery_waiting ON drill_delivery (path, until_ms) WHERE state = 'waiting';
"""

COLUMNS = (
    "id, premises, asked_by, source, device, point, state, reason, due_ms, asked_ms, detector_ms, received_ms, decided_ms, "
    "durable_ms, ended_ms"
)
DELIVERED = "receiver, path, state, reason, sent_ms, acked_ms"
IN_ORDER = "ORDER BY drill, receiver, path <> receiver, path"  # the receiver's own path before its alternate


class DrillDelivery(msgspec.Struct, frozen=True):
    """What became of a drill at one receiver by one path; ms UTC, None where it has not happened.

    `path` is the receiver's own name, or the alternate's. `reason` says why there is no acknowledgement.
    """

    receiver: str
    path: str
    state: DeliveryState
    reason: str
    sent_ms: float | None
    acked_ms: float | None

    @property
    def alternate(self) -> bool:
        """Whether it is the receiver's second path."""
        return self.path != self.receiver


class Drill(msgspec.Struct, frozen=True):
    """One run, with its moments in ms UTC, None where it has not happened.

    `due_ms` None: somebody asked for it. A `missed` one stands for a due that no run has passed, and has no moments.
    """

    id: str
    premises: str
    asked_by: str
    source: Source
    device: str
    point: str
    state: State
    reason: str
    due_ms: float | None
    asked_ms: float
    detector_ms: float | None
    received_ms: float | None
    decided_ms: float | None
    durable_ms: float | None
    ended_ms: float | None
    deliveries: tuple[DrillDelivery, ...] = ()

    @property
    def latency_ms(self) -> float | None:
        """From the detector's moment until it was durable; None while it is not."""
        return None if self.durable_ms is None or self.detector_ms is None else round(self.durable_ms - self.detector_ms, 3)

    def delivered_ms(self, one: DrillDelivery) -> float | None:
        """From the detector's moment until the receiver's acknowledgement of a delivery; None without one."""
        return None if one.acked_ms is None or self.detector_ms is None else round(one.acked_ms - self.detector_ms, 3)


class Standing(msgspec.Struct, frozen=True):
    """How it stands with the drills of a premises: the newest runs, and why another cannot begin now ("" when it can).

    `due_ms` is when the next is tried (UTC); None: its plan wants none.
    """

    drills: tuple[Drill, ...] = ()
    due_ms: float | None = None
    missed: bool = False
    busy: str = ""


def drill_id(premises: str, at_ms: float) -> str:
    """A name that sorts and can be said: D + UTC time + six hex digits. It is the boot of what the drill says."""
    mark = hashlib.sha256(f"{premises}|{at_ms}".encode()).hexdigest()[:6].upper()
    return f"D{datetime.fromtimestamp(at_ms / 1000.0, UTC):%Y%m%d-%H%M%S}-{mark}"


def drills_between(
    connection: Connection, start_ms: float, end_ms: float, premises: Collection[str] | None = None
) -> list[Drill]:
    """The drills asked for from `start_ms` (UTC) to before `end_ms`, in that order, each with its deliveries.

    `premises` None: of all; of no premises there are none.
    """
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM drill WHERE asked_ms >= ? AND asked_ms < ? ORDER BY asked_ms, id",  # noqa: S608 - constants
        (start_ms, end_ms),
    ).fetchall()
    delivered = connection.execute(
        f"SELECT drill, {DELIVERED} FROM drill_delivery WHERE drill IN "  # noqa: S608 - constants
        f"(SELECT id FROM drill WHERE asked_ms >= ? AND asked_ms < ?) {IN_ORDER}",
        (start_ms, end_ms),
    ).fetchall()
    return [one for one in _joined(rows, delivered) if premises is None or one.premises in premises]


def of_premises(connection: Connection, premises: str, limit: int = SHOWN) -> list[Drill]:
    """The newest of one premises, the newest first."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM drill WHERE premises = ? ORDER BY asked_ms DESC, id DESC LIMIT ?",  # noqa: S608 - constants
        (premises, limit),
    ).fetchall()
    return [_with_deliveries(connection, row) for row in rows]


def standing(connection: Connection, premises: str) -> Standing:
    """What a page shows of a premises."""
    found = of_premises(connection, premises)
    due = connection.execute("SELECT wall_ms FROM timer WHERE kind = ? AND key = ?", (DUE, premises)).fetchone()
    waiting = next((f"waits: {one.id}" for one in found if one.state == "waiting"), "")
    incident = open_incident(connection, premises)
    return Standing(
        tuple(found),
        None if due is None else float(due[0]),
        is_missed(connection, premises),
        f"{BURNING}: {incident}" if incident else waiting,
    )


def is_missed(connection: Connection, premises: str) -> bool:
    """Whether the trouble of a missed drill stands."""
    found = "SELECT 1 FROM fault WHERE device = ? AND reason = ? AND cleared_ms IS NULL"
    return connection.execute(found, (PREFIX + premises, MISSED)).fetchone() is not None


def missed(connection: Connection) -> list[str]:
    """The premises whose drill was missed."""
    found = "SELECT device FROM fault WHERE reason = ? AND cleared_ms IS NULL ORDER BY device"
    return [str(device).removeprefix(PREFIX) for (device,) in connection.execute(found, (MISSED,)).fetchall()]


def latest(connection: Connection, limit: int = SHOWN) -> list[Drill]:
    """The newest of all premises, the newest first."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM drill ORDER BY asked_ms DESC, id DESC LIMIT ?",  # noqa: S608 - constants
        (limit,),
    ).fetchall()
    return [_with_deliveries(connection, row) for row in rows]


def get(connection: Connection, id_: str) -> Drill | None:
    """One; None when it is unknown."""
    row = connection.execute(f"SELECT {COLUMNS} FROM drill WHERE id = ?", (id_,)).fetchone()  # noqa: S608 - constants
    return None if row is None else _with_deliveries(connection, row)


def passed_ms(connection: Connection, premises: str) -> float | None:
    """When a drill of the premises was passed last; None: never."""
    row = connection.execute("SELECT max(ended_ms) FROM drill WHERE premises = ? AND state = 'passed'", (premises,)).fetchone()
    return None if row[0] is None else float(row[0])


def end(connection: Connection, id_: str, state: State, reason: str, at_ms: float) -> bool:
    """Close a drill that waits; False when it does not."""
    ended = connection.execute(
        "UPDATE drill SET state = ?, reason = ?, ended_ms = ? WHERE id = ? AND state = 'waiting'", (state, reason, at_ms, id_)
    ).rowcount
    if ended:
        note_change(connection, "drill", id_, at_ms)
    return ended > 0


def open_incident(connection: Connection, premises: str) -> str:
    """The fire at a premises; "" for none."""
    row = connection.execute("SELECT id FROM incident WHERE premises = ? AND state = 'open'", (premises,)).fetchone()
    return "" if row is None else str(row[0])


def prune(connection: Connection, now_ms: float, step_rows: int) -> None:
    """Forget the oldest, some at a time."""
    old = connection.execute(
        "SELECT id FROM drill WHERE asked_ms < ? AND state <> 'waiting' ORDER BY asked_ms LIMIT ?", (now_ms - KEEP_MS, step_rows)
    ).fetchall()
    for (id_,) in old:
        connection.execute("DELETE FROM drill_delivery WHERE drill = ?", (id_,))
        connection.execute("DELETE FROM drill WHERE id = ?", (id_,))


def _with_deliveries(connection: Connection, row: tuple[object, ...]) -> Drill:
    delivered = connection.execute(
        f"SELECT drill, {DELIVERED} FROM drill_delivery WHERE drill = ? {IN_ORDER}",  # noqa: S608 - constants
        (row[0],),
    ).fetchall()
    return _joined([row], delivered)[0]


def _joined(rows: Collection[tuple[object, ...]], delivered: Collection[tuple[object, ...]]) -> list[Drill]:
    of: dict[object, list[DrillDelivery]] = {}
    for id_, *one in delivered:
        of.setdefault(id_, []).append(DrillDelivery(*one))  # type: ignore[arg-type] # the columns
    return [
        msgspec.structs.replace(Drill(*row), deliveries=tuple(of.get(row[0], ())))  # type: ignore[arg-type] # the columns
        for row in rows
    ]

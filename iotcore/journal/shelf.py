"""The shelf: alarms that a person has put aside for a while, with a reason. Never a fire.

A shelved alarm is raised, kept and counted like any other; it is shown as shelved, and comes back by itself.
"""

from __future__ import annotations

from typing import NamedTuple

from iotcore.errors import Refused
from iotcore.journal.changes import note_change
from iotcore.journal.database import Connection
from iotcore.journal.records import FIRE_SEVERITY, Severity

LONGEST_MS = 24 * 3_600_000.0  # a day: somebody looks at it again in every shift pattern

SCHEMA = """
CREATE TABLE IF NOT EXISTS shelf (
    device   TEXT NOT NULL,
    rule     TEXT NOT NULL,
    until_ms DOUBLE PRECISION NOT NULL,
    by       TEXT NOT NULL,
    reason   TEXT NOT NULL,
    at_ms    DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (device, rule)
);
"""


class Shelved(NamedTuple):
    """One that is put aside until `until_ms`, ms UTC."""

    device: str
    rule: str
    until_ms: float
    by: str
    reason: str
    at_ms: float


def shelve(connection: Connection, one: Shelved, severity: Severity) -> None:
    """Put the alarms of a rule and a device aside.

    Raises:
        Refused: `fire` is never shelved; `too_long`, `past`, `no_reason` say what is wrong with the rest.
    """
    standing = connection.execute(
        "SELECT 1 FROM alarm WHERE device = ? AND rule = ? AND severity = ? AND state = 'active'",
        (one.device, one.rule, FIRE_SEVERITY),
    ).fetchone()
    if severity == FIRE_SEVERITY or standing is not None:
        raise Refused("fire", f"{one.rule} of {one.device} raises fires, and a fire is never shelved; disable the point instead")
    if one.until_ms <= one.at_ms:
        raise Refused("past", "the end lies before the beginning")
    if one.until_ms - one.at_ms > LONGEST_MS:
        raise Refused("too_long", f"{LONGEST_MS / 3_600_000:g} h at most; shelve it again then")
    if not one.reason.strip():
        raise Refused("no_reason", "say why, for whoever comes next")
    connection.execute(
        "INSERT INTO shelf (device, rule, until_ms, by, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device, rule) "
        "DO UPDATE SET until_ms = excluded.until_ms, by = excluded.by, reason = excluded.reason, at_ms = excluded.at_ms",
        one,
    )
    _announce(connection, one.device, one.rule, one.at_ms)


def take_back(connection: Connection, device: str, rule: str, at_ms: float) -> bool:
    """End it before its time; False when it is not on the shelf."""
    if connection.execute("DELETE FROM shelf WHERE device = ? AND rule = ?", (device, rule)).rowcount == 0:
        return False
    _announce(connection, device, rule, at_ms)
    return True


def tidy(connection: Connection, now_ms: float) -> list[Shelved]:
    """Take away what is over; each is returned once, to whoever came first."""
    rows = connection.execute(
        "DELETE FROM shelf WHERE until_ms <= ? RETURNING device, rule, until_ms, by, reason, at_ms", (now_ms,)
    ).fetchall()
    for row in rows:
        _announce(connection, row[0], row[1], now_ms)
    return [Shelved(*row) for row in rows]


def shelved(connection: Connection, now_ms: float) -> list[Shelved]:
    """What is put aside now, the next to come back first."""
    rows = connection.execute(
        "SELECT device, rule, until_ms, by, reason, at_ms FROM shelf WHERE until_ms > ? ORDER BY until_ms, device, rule",
        (now_ms,),
    )
    return [Shelved(*row) for row in rows.fetchall()]


def _announce(connection: Connection, device: str, rule: str, at_ms: float) -> None:
    for (number,) in connection.execute(
        "SELECT id FROM alarm WHERE device = ? AND rule = ? AND state = 'active'", (device, rule)
    ).fetchall():
        note_change(connection, "alarm", str(number), at_ms)

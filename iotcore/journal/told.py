"""What a receiver was told of troubles, supervisory signals and what is out of service: once when it begins, once when over.

The faults of the fire lane (devices, paths), the supervisory alarms of its rules and its outages are what stands; this table
is what a receiver knows of it. The difference is what is to be told. Any replica may tell; who does so holds a lease; the
number stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from iotcore.journal import outages
from iotcore.journal.database import Connection
from iotcore.journal.records import Notice, Outage

LEASE_MS = 30_000.0  # the longest reply timeout and a half; who died with one is followed by another replica after it
MAX_NUMBER = 8999  # as of all that the journal numbers; 9000 and more are the emergency log's
MAX_WAIT_MS = 4.0 * LEASE_MS  # nobody holds one for longer; a moment further ahead was written before the clock was set back
MAX_STANDING = 5_000  # of each kind; more at once are told when some of these are over

SCHEMA = """
CREATE TABLE IF NOT EXISTS trouble_told (
    channel  TEXT NOT NULL,
    device   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    severity TEXT NOT NULL,
    since_ms DOUBLE PRECISION NOT NULL,
    state    TEXT NOT NULL,              -- raise | told | restore
    number   BIGINT NOT NULL,            -- of the frame that says so
    until_ms DOUBLE PRECISION NOT NULL,  -- somebody is telling it until then
    PRIMARY KEY (channel, device, reason)
);
"""

Severity = Literal["trouble", "supervisory"] | Outage
Key = tuple[str, str]  # device, reason; of an outage its id alone
OUTAGES: tuple[Outage, ...] = ("disablement", "walk")


class Work(NamedTuple):
    """One thing to tell a channel."""

    channel: str
    device: str
    reason: str
    severity: Severity
    since_ms: float
    state: Literal["raise", "restore"]
    number: int
    notice: Notice | None = None  # of an outage, as it began


class _Row(NamedTuple):
    severity: Severity
    since_ms: float
    state: str
    number: int
    until_ms: float


def chosen(connection: Connection, channel: str, kinds: Collection[str], now_ms: float) -> Work | None:
    """Something that this channel is to be told and nobody tells, its number 0 if it has none yet; None when it knows all."""
    standing = _standing(connection, channel, kinds)
    rows = connection.execute(
        "SELECT device, reason, severity, since_ms, state, number, until_ms FROM trouble_told WHERE channel = ?", (channel,)
    ).fetchall()
    known = {(row[0], row[1]): _Row(*row[2:]) for row in rows}
    for (device, reason), row in known.items():
        free = row.until_ms <= now_ms or row.until_ms > now_ms + MAX_WAIT_MS  # the latter: the clock was set back
        if row.state == "raise" and free:
            return Work(channel, device, reason, row.severity, row.since_ms, "raise", row.number)
        if free and (row.state == "restore" or (device, reason) not in standing):
            number = row.number if row.state == "restore" else 0
            return Work(channel, device, reason, row.severity, row.since_ms, "restore", number)
    for (device, reason), (severity, since_ms) in standing.items():
        if (device, reason) not in known:
            return Work(channel, device, reason, severity, since_ms, "raise", 0)
    return None


def lease(connection: Connection, work: Work, now_ms: float) -> Work:
    """Take it for a while, with a number of the channel: the same one each time."""
    number = work.number or int(
        connection.execute(
            "INSERT INTO channel_number (channel, number) VALUES (?, 1) "
            "ON CONFLICT (channel) DO UPDATE SET number = channel_number.number % ? + 1 RETURNING number",
            (work.channel, MAX_NUMBER),
        ).fetchone()[0]
    )
    connection.execute(
        "INSERT INTO trouble_told (channel, device, reason, severity, since_ms, state, number, until_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel, device, reason) "
        "DO UPDATE SET state = excluded.state, number = excluded.number, until_ms = excluded.until_ms",
        (*work[:5], work.state, number, now_ms + LEASE_MS),
    )
    notice = outages.notice(connection, work.device) if work.severity in OUTAGES else None
    return work._replace(number=number, notice=notice)


def done(connection: Connection, work: Work) -> None:
    """The receiver has acknowledged it."""
    key = (work.channel, work.device, work.reason)
    if work.state == "raise":
        connection.execute(
            "UPDATE trouble_told SET state = 'told', until_ms = 0 WHERE channel = ? AND device = ? AND reason = ?", key
        )
    else:
        connection.execute("DELETE FROM trouble_told WHERE channel = ? AND device = ? AND reason = ?", key)


def later(connection: Connection, work: Work, until_ms: float) -> None:
    """It was not acknowledged: again then."""
    connection.execute(
        "UPDATE trouble_told SET until_ms = ? WHERE channel = ? AND device = ? AND reason = ?",
        (until_ms, work.channel, work.device, work.reason),
    )


def _standing(connection: Connection, channel: str, kinds: Collection[str]) -> dict[Key, tuple[Severity, float]]:
    """What stands, oldest first."""
    found: list[tuple[float, Key, Severity]] = []
    if "trouble" in kinds:
        found += _read(connection, "trouble", "SELECT first_ms, device, reason FROM fault WHERE cleared_ms IS NULL", ())
    for severity in ("trouble", "supervisory"):
        if severity in kinds:
            asked = "SELECT raised_ms, device, rule FROM alarm WHERE state = 'active' AND severity = ?"
            found += _read(connection, severity, asked, (severity,))
    found += [(since_ms, (id_, ""), kind) for since_ms, id_, kind in outages.to_tell(connection, channel, kinds)]
    return {key: (severity, since_ms) for since_ms, key, severity in sorted(found)}


def _read(connection: Connection, severity: Severity, query: str, values: Iterable[str]) -> list[tuple[float, Key, Severity]]:
    rows = connection.execute(f"{query} ORDER BY 1 LIMIT ?", (*values, MAX_STANDING)).fetchall()
    return [(row[0], (row[1], row[2]), severity) for row in rows]

"""Quarantine and faults: what could not be used, kept for a person to see; both lanes keep theirs in their own file.

Bounded: the newest `MAX_ROWS` payloads (cut to `MAX_PAYLOAD_BYTES`); the counts by reason never forget.
All functions run inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from iotcore.wire.arrival import Refusal

MAX_ROWS = 10_000
MAX_PAYLOAD_BYTES = 4096
MAX_TEXT = 500  # characters of a topic or a detail: MQTT allows topics of 64 KiB

SCHEMA = """
CREATE TABLE IF NOT EXISTS quarantine (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms   REAL NOT NULL,
    reason  TEXT NOT NULL,
    detail  TEXT NOT NULL,
    topic   TEXT NOT NULL,
    device  TEXT NOT NULL,
    payload BLOB NOT NULL,
    size    INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine_count (
    reason TEXT PRIMARY KEY,
    count  INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS fault (
    device     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    first_ms   REAL NOT NULL,
    last_ms    REAL NOT NULL,
    count      INTEGER NOT NULL,
    cleared_ms REAL,
    PRIMARY KEY (device, reason)
);
CREATE TABLE IF NOT EXISTS progress (
    device TEXT NOT NULL,
    boot   TEXT NOT NULL,
    up_to  INTEGER NOT NULL,
    above  TEXT NOT NULL,
    lost   INTEGER NOT NULL,
    PRIMARY KEY (device, boot)
);
"""


def load_progress(connection: sqlite3.Connection, boots: int) -> list[tuple[str, str, int, str, int]]:
    """The progress rows of the newest `boots` boots of each device, oldest first; older ones are forgotten."""
    connection.execute(
        "DELETE FROM progress WHERE rowid IN (SELECT id FROM (SELECT rowid AS id, row_number() OVER "
        "(PARTITION BY device ORDER BY rowid DESC) AS age FROM progress) WHERE age > ?)",
        (boots,),
    )
    return connection.execute("SELECT device, boot, up_to, above, lost FROM progress ORDER BY rowid").fetchall()


def keep(connection: sqlite3.Connection, refusals: Iterable[Refusal], at_ms: float) -> None:
    """Store refused messages, count them by reason, and drop the oldest beyond `MAX_ROWS`."""
    last = 0
    for refusal in refusals:
        payload = refusal.payload[:MAX_PAYLOAD_BYTES]
        cursor = connection.execute(
            "INSERT INTO quarantine (at_ms, reason, detail, topic, device, payload, size) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                at_ms,
                refusal.reason,
                refusal.detail[:MAX_TEXT],
                refusal.topic[:MAX_TEXT],
                refusal.device,
                payload,
                len(refusal.payload),
            ),
        )
        connection.execute(
            "INSERT INTO quarantine_count (reason, count) VALUES (?, 1) ON CONFLICT (reason) DO UPDATE SET count = count + 1",
            (refusal.reason,),
        )
        last = cursor.lastrowid or 0
    if last > MAX_ROWS:
        connection.execute("DELETE FROM quarantine WHERE id <= ?", (last - MAX_ROWS,))


def raise_fault(connection: sqlite3.Connection, device: str, reason: str, at_ms: float) -> None:
    """Note that a device is at fault; the same fault again only counts."""
    connection.execute(
        "INSERT INTO fault (device, reason, first_ms, last_ms, count) VALUES (?, ?, ?, ?, 1) "
        "ON CONFLICT (device, reason) DO UPDATE SET last_ms = excluded.last_ms, count = count + 1, "
        "first_ms = CASE WHEN cleared_ms IS NULL THEN first_ms ELSE excluded.first_ms END, cleared_ms = NULL",
        (device, reason, at_ms, at_ms),
    )


def clear_fault(connection: sqlite3.Connection, device: str, reason: str, at_ms: float) -> None:
    """Note that a fault is over; its history stays."""
    connection.execute(
        "UPDATE fault SET cleared_ms = ? WHERE device = ? AND reason = ? AND cleared_ms IS NULL", (at_ms, device, reason)
    )


def save_progress(connection: sqlite3.Connection, rows: Iterable[tuple[str, str, int, str, int]]) -> None:
    """Upsert progress rows (`iotcore.journal.progress.Row`)."""
    connection.executemany(
        "INSERT INTO progress (device, boot, up_to, above, lost) VALUES (?, ?, ?, ?, ?) ON CONFLICT (device, boot) "
        "DO UPDATE SET up_to = excluded.up_to, above = excluded.above, lost = excluded.lost",
        rows,
    )

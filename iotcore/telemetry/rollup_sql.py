"""The rollups of telemetry.db, by SQL: the same arithmetic as `rollup`, on the rows themselves.

    value ──► rollup_1m ──► rollup_1h        late: the hours of a series that values came for after they were rolled up

`Touched` is what the writer notes while it writes, so that nobody has to look for what is new. Everything here runs within a
transaction of the thread that owns the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from iotcore.telemetry.line import NS_PER_MS
from iotcore.telemetry.rollup import HOUR_MS, MINUTE_MS, expected

HOUR_NS = HOUR_MS * NS_PER_MS
GONE_MS = 24 * HOUR_MS
_series = itemgetter(0)


class Touched:
    """Which series were written since they were last rolled up, and up to when all was: older rows that come now are late.

    Each process that writes the file is a `writer` of its own number and rolls up what it wrote itself.
    """

    def __init__(self) -> None:
        self.writer = 1
        self.series: set[int] = set()
        self.all = True  # nobody remembers what was written before the start
        self._until_ns: int | None = None

    def note(self, connection: sqlite3.Connection, values: Sequence[tuple[int, int, Any, int, bool]]) -> None:
        """Values (series, time in ns, …) are being written; late ones are noted in the same transaction."""
        until_ns = self.until_ms(connection) * NS_PER_MS
        self.series.update(map(_series, values))
        late = {(self.writer, series, at_ns // HOUR_NS * HOUR_MS) for series, at_ns, *_ in values if at_ns < until_ns}
        if late:
            connection.executemany("INSERT OR IGNORE INTO late (writer, series, hour_ms) VALUES (?, ?, ?)", late)

    def until_ms(self, connection: sqlite3.Connection) -> int:
        """Up to when rows are rolled up, or just being rolled up."""
        if self._until_ns is None:
            row = connection.execute("SELECT until_ms FROM rolled WHERE writer = ?", (self.writer,)).fetchone()
            self._until_ns = 0 if row is None else row[0] * NS_PER_MS
        return self._until_ns // NS_PER_MS

    def take(self, connection: sqlite3.Connection, until_ms: int) -> tuple[int, list[int]]:
        """From when to roll up, and which series; from now on, rows older than `until_ms` are late.

        After a start that is everything since the writer that came least far, and what writers that are no more left.
        """
        since_ms = self.until_ms(connection)
        if self.all:
            (least,) = connection.execute("SELECT min(until_ms) FROM rolled").fetchone()
            since_ms = min(since_ms, least or 0)
            connection.execute(
                "UPDATE OR REPLACE late SET writer = ? WHERE writer NOT IN (SELECT writer FROM rolled)", (self.writer,)
            )
            taken = [series for (series,) in connection.execute("SELECT id FROM series ORDER BY id")]
        else:
            taken = sorted(self.series)
        self._until_ns = until_ms * NS_PER_MS
        self.series = set()
        self.all = False
        return since_ms, taken

    def done(self, connection: sqlite3.Connection, until_ms: int) -> None:
        """All that was taken is rolled up; a writer that has not been heard of for a day is no more."""
        connection.execute("INSERT OR REPLACE INTO rolled (writer, until_ms) VALUES (?, ?)", (self.writer, until_ms))
        connection.execute("DELETE FROM rolled WHERE until_ms < ?", (until_ms - GONE_MS,))


def first_ms(connection: sqlite3.Connection, series: int, start_ms: int) -> int | None:
    """The minute of the first value at or after `start_ms`."""
    (at_ns,) = connection.execute(
        "SELECT min(at_ns) FROM value WHERE series = ? AND at_ns >= ?", (series, start_ms * NS_PER_MS)
    ).fetchone()
    return None if at_ns is None else at_ns // NS_PER_MS // MINUTE_MS * MINUTE_MS


def first_minute_ms(connection: sqlite3.Connection, series: int, start_ms: int, end_ms: int) -> int | None:
    """The first minute within [start_ms, end_ms) that is rolled up."""
    found = connection.execute(
        "SELECT min(start_ms) FROM rollup_1m WHERE series = ? AND start_ms >= ? AND start_ms < ?", (series, start_ms, end_ms)
    ).fetchone()
    return None if found[0] is None else int(found[0])


def roll_minutes(connection: sqlite3.Connection, series: int, start_ms: int, end_ms: int, interval_s: float | None) -> None:
    """Make the minutes within [start_ms, end_ms) from the values; a minute of which there are none stays as it is."""
    owed = None if interval_s is None else expected(MINUTE_MS, interval_s)
    good = "FILTER (WHERE quality < 2 AND typeof(value) = 'real')"
    connection.execute(
        f"INSERT OR REPLACE INTO rollup_1m (series, start_ms, n, mean, minimum, maximum, bad, expected) "  # noqa: S608 - no input
        f"SELECT ?1, at_ns / ?2 * {MINUTE_MS}, count(*) {good} AS n, avg(value) {good}, min(value) {good}, max(value) {good}, "
        "count(*) FILTER (WHERE quality = 2) AS bad, ?5 FROM value WHERE series = ?1 AND at_ns >= ?3 AND at_ns < ?4 AND test = 0 "
        "GROUP BY at_ns / ?2 HAVING n > 0 OR bad > 0",
        (series, MINUTE_MS * NS_PER_MS, start_ms * NS_PER_MS, end_ms * NS_PER_MS, owed),
    )


def roll_hours(connection: sqlite3.Connection, series: int, start_ms: int, end_ms: int, interval_s: float | None) -> None:
    """Make the hours within [start_ms, end_ms) from their minutes."""
    owed = None if interval_s is None else expected(HOUR_MS, interval_s)
    connection.execute(
        "INSERT OR REPLACE INTO rollup_1h (series, start_ms, n, mean, minimum, maximum, bad, expected) "
        "SELECT ?1, start_ms / ?2 * ?2, sum(n), sum(mean * n) / sum(n), min(minimum), max(maximum), sum(bad), ?5 FROM rollup_1m "
        "WHERE series = ?1 AND start_ms >= ?3 AND start_ms < ?4 GROUP BY start_ms / ?2",
        (series, HOUR_MS, start_ms, end_ms, owed),
    )


def roll_late(connection: sqlite3.Connection, series: int, hour_ms: int, until_ms: int, interval_s: float | None) -> None:
    """Make an hour anew, as far as it is rolled up."""
    end_ms = hour_ms + HOUR_MS
    roll_minutes(connection, series, hour_ms, min(end_ms, until_ms), interval_s)
    if end_ms <= until_ms:
        roll_hours(connection, series, hour_ms, end_ms, interval_s)


def delete_older(connection: sqlite3.Connection, table: str, series: int, before: int, most: int) -> int:
    """Delete the oldest rows of a series, `most` of them and none that is not older than `before` (of the table's own unit)."""
    column = "at_ns" if table == "value" else "start_ms"
    row = connection.execute(
        f"SELECT {column} FROM {table} WHERE series = ? AND {column} < ? ORDER BY {column} LIMIT 1 OFFSET ?",  # noqa: S608 - names of ours
        (series, before, most),
    ).fetchone()
    end = before if row is None else row[0]
    return connection.execute(f"DELETE FROM {table} WHERE series = ? AND {column} < ?", (series, end)).rowcount  # noqa: S608

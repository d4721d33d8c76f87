"""Reading telemetry.db, from any process, while the telemetry lane writes it.

Bad values are never part of a mean; every interval carries how many values it was made of. Times are ms UTC.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from iotcore.journal.database import connect_readonly
from iotcore.reading import Quality, Scalar
from iotcore.telemetry.line import LEVEL, NS_PER_MS

QUALITIES = {level: quality for quality, level in LEVEL.items()}
LAST_MS = 9_223_372_036_854  # the year 2262: beyond it nanoseconds do not fit an INTEGER
MAX_SAMPLES = 100_000  # one answer; a page has no use for more


class Latest(NamedTuple):
    """The last value of one point."""

    device: str
    point: str
    value: Scalar | None
    quality: Quality
    why: str
    observed_ms: float
    received_ms: float


class Seen(NamedTuple):
    """Whether a device is there: `state` is online, offline or "" (never told), `last_seen_ms` None when it never spoke."""

    device: str
    state: str
    changed_ms: float | None
    last_seen_ms: float | None
    firmware: str


class Fault(NamedTuple):
    """What is, or was, wrong with a device; `cleared_ms` None while it stands. `times` is how often it was noted."""

    device: str
    reason: str
    first_ms: float
    last_ms: float
    times: int
    cleared_ms: float | None


class Sample(NamedTuple):
    """One stored value; `test` when a test button or a drill made it."""

    at_ms: float
    value: float | str | None
    quality: Quality
    test: bool


class Interval(NamedTuple):
    """The good and uncertain numbers of one device within [start_ms, start_ms + interval)."""

    device: str
    start_ms: float
    mean: float
    minimum: float
    maximum: float
    values: int


class TelemetryReader:
    """A read-only connection; not for several threads at once. The file must exist."""

    def __init__(self, path: Path) -> None:
        self._connection = connect_readonly(path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def latest(self, device: str | None = None) -> list[Latest]:
        """The last value of every point of a device, or of all devices."""
        return [
            Latest(row[0], row[1], _scalar(row[2]), Quality(row[3]), *row[4:])
            for row in self._of("SELECT device, point, value, quality, why, observed_ms, received_ms FROM latest", device)
        ]

    def presence(self, device: str | None = None) -> list[Seen]:
        """Presence of a device, or of all that ever spoke."""
        return [Seen(*row) for row in self._of("SELECT device, state, changed_ms, last_seen_ms, firmware FROM presence", device)]

    def faults(self, device: str | None = None, *, standing: bool = True) -> list[Fault]:
        """The faults that stand, or with `standing` False all that ever were."""
        rows = self._of("SELECT device, reason, first_ms, last_ms, count, cleared_ms FROM fault", device)
        return [Fault(*row) for row in rows if row["cleared_ms"] is None or not standing]

    def samples(self, device: str, point: str, start_ms: float, end_ms: float, limit: int = MAX_SAMPLES) -> list[Sample]:
        """The values within [start_ms, end_ms), oldest first; the newest `limit` of them when there are more."""
        rows = self._connection.execute(
            "SELECT at_ns, value, quality, test FROM value WHERE series = (SELECT id FROM series WHERE device = ? AND point = ?) "
            "AND at_ns >= ? AND at_ns < ? ORDER BY at_ns DESC LIMIT ?",
            (device, point, _ns(start_ms), _ns(end_ms), min(limit, MAX_SAMPLES)),
        ).fetchall()
        return [Sample(at // NS_PER_MS, value, QUALITIES[level], bool(test)) for at, value, level, test in reversed(rows)]

    def intervals(self, devices: Sequence[str], point: str, start_ms: float, end_ms: float, interval_ms: int) -> list[Interval]:
        """Mean, minimum, maximum and count for each device and interval that has a number; intervals are aligned to UTC."""
        width = interval_ms * NS_PER_MS
        found: list[Interval] = []
        for device in devices:
            rows = self._connection.execute(
                "SELECT at_ns / ?1 AS slot, avg(value), min(value), max(value), count(*) FROM value "
                "WHERE series = (SELECT id FROM series WHERE device = ?2 AND point = ?3) AND at_ns >= ?4 AND at_ns < ?5 "
                "AND quality < 2 AND typeof(value) = 'real' GROUP BY slot ORDER BY slot",
                (width, device, point, _ns(start_ms), _ns(end_ms)),
            )
            found += [Interval(device, slot * float(interval_ms), *rest) for slot, *rest in rows]
        return found

    def _of(self, select: str, device: str | None) -> list[sqlite3.Row]:
        if device is None:
            return self._connection.execute(select).fetchall()
        return self._connection.execute(f"{select} WHERE device = ?", (device,)).fetchall()


def _ns(at_ms: float) -> int:
    return int(max(-LAST_MS, min(at_ms, LAST_MS))) * NS_PER_MS


def _scalar(column: float | str | None) -> Scalar | None:
    return bool(column) if isinstance(column, int) else column

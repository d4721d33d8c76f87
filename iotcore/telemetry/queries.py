"""Reading telemetry.db, from any process, while the telemetry lane writes it.

Bad values and tests are never part of a mean; every interval carries how many values it was made of. Which rows an interval is
made of stands in `query`. Times are ms UTC.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from iotcore.journal.database import connect_readonly
from iotcore.reading import Quality, Scalar
from iotcore.telemetry.line import LEVEL, NS_PER_MS
from iotcore.telemetry.rollup import STEPS, Bucket, Interval, Sample, joined, step_of

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

    def newest(self, device: str, point: str) -> Sample | None:
        """The newest stored value of one series."""
        found = self.samples(device, point, -LAST_MS, LAST_MS, 1)
        return found[0] if found else None

    def series(self, device: str) -> list[str]:
        """The points of which there are values, sorted."""
        rows = self._connection.execute("SELECT point FROM series WHERE device = ? ORDER BY point", (device,))
        return [point for (point,) in rows]

    def samples(self, device: str, point: str, start_ms: float, end_ms: float, limit: int = MAX_SAMPLES) -> list[Sample]:
        """The values within [start_ms, end_ms), oldest first; the newest `limit` of them when there are more."""
        rows = self._connection.execute(
            "SELECT at_ns, value, quality, test FROM value WHERE series = (SELECT id FROM series WHERE device = ? AND point = ?) "
            "AND at_ns >= ? AND at_ns < ? ORDER BY at_ns DESC LIMIT ?",
            (device, point, _ns(start_ms), _ns(end_ms), min(limit, MAX_SAMPLES)),
        ).fetchall()
        return [Sample(at // NS_PER_MS, value, QUALITIES[level], bool(test)) for at, value, level, test in reversed(rows)]

    def intervals(self, devices: Sequence[str], point: str, start_ms: float, end_ms: float, interval_ms: int) -> list[Interval]:
        """Mean, minimum, maximum and count for each device and interval that has a number."""
        span = (start_ms, end_ms)
        return [one for device in devices for one in joined(device, self.buckets(device, point, span, interval_ms), interval_ms)]

    def buckets(self, device: str, point: str, span: tuple[float, float], interval_ms: int) -> list[Bucket]:
        """What the whole intervals that a span touches are made of."""
        start = math.floor(span[0] / interval_ms) * interval_ms
        end = math.ceil(span[1] / interval_ms) * interval_ms
        row = self._connection.execute("SELECT id FROM series WHERE device = ? AND point = ?", (device, point)).fetchone()
        return [] if row is None else self._buckets(row[0], start, end, interval_ms)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read within is of one moment, whatever is written meanwhile."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def _buckets(self, series: int, start_ms: int, end_ms: int, interval_ms: int) -> list[Bucket]:
        """Rollups as far as they reach, then samples."""
        found: list[Bucket] = []
        step = step_of(interval_ms)
        if step is not None:
            table, width = f"rollup_{step}", STEPS[step]
            rows = self._connection.execute(
                f"SELECT start_ms, {width}, n, mean, minimum, maximum, bad, expected FROM {table} "  # noqa: S608 - two names
                "WHERE series = ? AND start_ms >= ? AND start_ms < ? AND n > 0 ORDER BY start_ms",
                (series, start_ms, end_ms),
            )
            found = [Bucket(*row) for row in rows]
            (newest,) = self._connection.execute(f"SELECT max(start_ms) FROM {table} WHERE series = ?", (series,)).fetchone()  # noqa: S608
            start_ms = start_ms if newest is None else max(start_ms, newest + width)
        rows = self._connection.execute(
            "SELECT at_ns / ?1 AS slot, count(*), avg(value), min(value), max(value) FROM value "
            "WHERE series = ?2 AND at_ns >= ?3 AND at_ns < ?4 AND quality < 2 AND test = 0 AND typeof(value) = 'real' "
            "GROUP BY slot ORDER BY slot",
            (interval_ms * NS_PER_MS, series, _ns(start_ms), _ns(end_ms)),
        )
        return found + [Bucket(slot * interval_ms, interval_ms, *rest) for slot, *rest in rows]

    def _of(self, select: str, device: str | None) -> list[sqlite3.Row]:
        if device is None:
            return self._connection.execute(select).fetchall()
        return self._connection.execute(f"{select} WHERE device = ?", (device,)).fetchall()


def _ns(at_ms: float) -> int:
    return math.ceil(max(-LAST_MS, min(at_ms, LAST_MS))) * NS_PER_MS


def _scalar(column: float | str | None) -> Scalar | None:
    return bool(column) if isinstance(column, int) else column

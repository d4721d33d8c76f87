"""Late lines: of which device and hour InfluxDB took values after the time when they are rolled up, noted for whoever rolls up.

    drain ── Noting.write ──► InfluxDB
                └─ late ────► telemetry.db, `late_line` ──► keeper (`rollup_influx`)

A backlog of days, and what waited in the spool while InfluxDB was down, come late; nothing else tells of them, short of reading
days of data again every hour. A note is made after InfluxDB has taken the line, and kept for 30 days.
"""

from __future__ import annotations

import re
import sqlite3
from typing import NamedTuple

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.line import NS_PER_MS
from iotcore.telemetry.rollup import HOUR_MS
from iotcore.telemetry.store import Later, Store, Written

LATE_MS = 90_000  # what is younger is in InfluxDB before its minute is rolled up (`rollup_influx`, SETTLE_MS)
KEEP_MS = 30 * 24 * HOUR_MS
DIGITS = 19  # of a time in ns, from the year 2001 to 2286
TIME = re.compile(rb" (\d{1,19})$")
MEASUREMENT = re.compile(rb"(?:[^,\\]|\\.)+")
DEVICE = re.compile(rb",device=((?:[^,\\ ]|\\.)+)")
ESCAPE = re.compile(r"\\(.)")


class LateHour(NamedTuple):
    """An hour of a device that has to be rolled up again."""

    measurement: str
    device: str
    hour_ms: int


def noting(store: Store, file: TelemetryFile | None, clock: Clock) -> Store:
    """`store`, its late lines noted in `file` if there is one."""
    return store if file is None else Noting(store, file, clock)


class Noting:
    """A store whose late lines are noted."""

    def __init__(self, store: Store, file: TelemetryFile, clock: Clock) -> None:
        self.format = store.format
        self.record = store.record  # as it is: every reading goes through it
        self._store = store
        self._file = file
        self._clock = clock

    async def ensure(self) -> Later | None:
        return await self._store.ensure()

    async def write(self, body: bytes, lines: int) -> Written | Later:
        """Write, then note; when the note cannot be kept the lines are written again, which is harmless."""
        result = await self._store.write(body, lines)
        now_ms = int(self._clock.wall_ms())
        late = late_hours(body, now_ms - LATE_MS)
        if late and isinstance(result, Written):
            try:
                await self._file.in_transaction(lambda connection: note(connection, late, now_ms))
            except StoreError as error:
                return Later("late_lines_not_noted", str(error))
        return result


def late_hours(body: bytes, before_ms: int) -> set[LateHour]:
    """The hours of those lines that are older than `before_ms`."""
    before = before_ms * NS_PER_MS
    lines = body.split(b"\n")
    times = [line[-DIGITS:] for line in lines]
    if min(times) >= b"%019d" % before and b"".join(times).isdigit():  # nearly always, and without a look at each line
        return set()
    found = set()
    for line in lines:
        time, measurement, device = TIME.search(line), MEASUREMENT.match(line), DEVICE.search(line)
        if time is not None and measurement is not None and device is not None and int(time[1]) < before:
            hour_ms = int(time[1]) // NS_PER_MS // HOUR_MS * HOUR_MS
            found.add(LateHour(_plain(measurement[0]), _plain(device[1]), hour_ms))
    return found


def note(connection: sqlite3.Connection, late: set[LateHour], now_ms: int) -> None:
    """Remember them, and forget what is old."""
    connection.executemany("INSERT OR REPLACE INTO late_line VALUES (?, ?, ?, ?)", [(*one, now_ms) for one in late])
    connection.execute("DELETE FROM late_line WHERE noted_ms < ?", (now_ms - KEEP_MS,))


def noted(connection: sqlite3.Connection, after_ms: int, until_ms: int) -> list[LateHour]:
    """What was noted within (after_ms, until_ms], the oldest hour first."""
    rows = connection.execute(
        "SELECT measurement, device, hour_ms FROM late_line WHERE noted_ms > ? AND noted_ms <= ? ORDER BY hour_ms, measurement",
        (after_ms, until_ms),
    )
    return [LateHour(*row) for row in rows]


def _plain(escaped: bytes) -> str:
    return ESCAPE.sub(r"\1", escaped.decode(errors="replace"))

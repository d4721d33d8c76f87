"""telemetry.db: the telemetry store that needs no server, and what the page shows of every device.

    value      one row for each value, clustered by series and time: a range or a mean per interval reads one stretch
    latest     the last value of each point        presence   online, offline, last seen        fault   what is wrong

`latest`, `presence` and `fault` are kept here whatever the store is (`panel` writes them). SQLite in WAL mode: one process
writes, others read meanwhile (`queries`).
Times are ns in `value` (as in `line`), ms UTC elsewhere. One thread owns the writing connection.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from iotcore import disk
from iotcore.errors import StoreFull
from iotcore.journal import conduct
from iotcore.journal.database import connect, transaction
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.telemetry.line import LEVEL, TEXT_KINDS, timestamp_ns
from iotcore.telemetry.rollup_sql import Touched
from iotcore.telemetry.store import CONFIDENTIAL, Later, Rejected, Written

CACHE_KIB = 32 * 1024  # pages of the series being written stay in memory: a row is then one page write at a checkpoint
WAL_LIMIT_BYTES = 64 * 1024 * 1024
PRIVATE = 0o600
ROW_FORMAT = "row1"

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    id     INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    point  TEXT NOT NULL,
    UNIQUE (device, point)
);
CREATE TABLE IF NOT EXISTS value (
    series  INTEGER NOT NULL,
    at_ns   INTEGER NOT NULL,
    value,                              -- REAL, or TEXT for a text point, or NULL when there was none
    quality INTEGER NOT NULL,           -- 0 good, 1 uncertain, 2 bad
    test    INTEGER NOT NULL,
    PRIMARY KEY (series, at_ns)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollup_1m (
    series   INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    n        INTEGER NOT NULL,          -- good and uncertain numbers; without any, mean, minimum and maximum are NULL
    mean     REAL,
    minimum  REAL,
    maximum  REAL,
    bad      INTEGER NOT NULL,
    expected REAL,                      -- readings owed in that time; NULL when nobody knew
    PRIMARY KEY (series, start_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollup_1h (
    series   INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    mean     REAL,
    minimum  REAL,
    maximum  REAL,
    bad      INTEGER NOT NULL,
    expected REAL,
    PRIMARY KEY (series, start_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rolled (     -- what a writer wrote that is older than `until_ms` is in the rollups, but for `late`
    writer   INTEGER PRIMARY KEY,
    until_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS late (       -- hours of a series that a writer wrote values for after it had rolled them up
    writer  INTEGER NOT NULL,
    series  INTEGER NOT NULL,
    hour_ms INTEGER NOT NULL,
    PRIMARY KEY (writer, series, hour_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS late_line (  -- of another store (`late`)
    measurement TEXT NOT NULL,
    device      TEXT NOT NULL,
    hour_ms     INTEGER NOT NULL,
    noted_ms    INTEGER NOT NULL,
    PRIMARY KEY (measurement, device, hour_ms)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS late_line_noted ON late_line (noted_ms);
CREATE TABLE IF NOT EXISTS latest (
    device      TEXT NOT NULL,
    point       TEXT NOT NULL,
    value,                              -- REAL, INTEGER 0 or 1 for a bool, TEXT, or NULL
    quality     TEXT NOT NULL,          -- good | uncertain | bad
    why         TEXT NOT NULL,
    observed_ms REAL NOT NULL,
    received_ms REAL NOT NULL,
    PRIMARY KEY (device, point)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS presence (
    device       TEXT PRIMARY KEY,
    state        TEXT NOT NULL,         -- online | offline, or empty while only readings have told of it
    changed_ms   REAL,                  -- when the state was last told
    last_seen_ms REAL,                  -- when something of its own came; a retained status is no sign of life
    firmware     TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fault (      -- the columns of the journal's table, so that one page reads both
    device     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    first_ms   REAL NOT NULL,
    last_ms    REAL NOT NULL,
    count      INTEGER NOT NULL,
    cleared_ms REAL,
    PRIMARY KEY (device, reason)
);
"""

T = TypeVar("T")
_place = itemgetter(0, 1)  # series and time
_LINE_FEEDS = str.maketrans({"\n": " ", "\r": " "})  # line protocol has none, and both stores answer alike


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One reading as the spool keeps it for this store: values are (point, value, quality level)."""

    device: str
    at_ns: int
    test: bool
    values: list[tuple[str, float | str | None, int]]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Row).decode
_decode_lines = msgspec.json.Decoder(Row).decode_lines


class TelemetryFile:
    """The writing side of telemetry.db: `async with TelemetryFile(path) as file`; work runs on its own thread, in order.

    A `private` one can be read by nobody but us; so can the files that SQLite keeps beside it. Entering raises StoreFull when the
    disk has no room for those, StartError when the file is broken.
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        self.path = path
        self._private = private
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry-db")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection is not None:
            await self._run(self._connection.close)
        self._thread.shutdown()

    async def in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one durable transaction.

        Raises:
            StoreFull, StoreError: nothing of it happened.
        """

        def run() -> T:
            assert self._connection is not None, "use `async with TelemetryFile(...)`"
            with transaction(self._connection):
                return work(self._connection)

        return await self._run(run)

    def _open(self) -> None:
        if self._private:
            with disk.said(self.path):
                self.path.touch(mode=PRIVATE)
                self.path.chmod(PRIVATE)
        self._connection = connect(self.path, _prepare)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class EmbeddedStore:
    """The telemetry store in `file`; a row is idempotent by series and time."""

    def __init__(self, file: TelemetryFile, *, confidential: bool = False) -> None:
        self.format = f"{ROW_FORMAT}{CONFIDENTIAL}" if confidential else ROW_FORMAT
        self.file = file
        self.touched = Touched()  # for `upkeep`
        self._series: dict[tuple[str, str], int] = {}

    def record(self, reading: Reading, binding: Binding) -> bytes:
        """The reading as one line of JSON; what can be stored of it is what `line` stores."""
        points = binding.spec.points
        values = [
            (value.point, *_storable(value, is_text=point.kind in TEXT_KINDS))
            for value in reading.values
            if (point := points.get(value.point)) is not None
        ]
        return _encode(Row(reading.device, timestamp_ns(reading), reading.test, values))

    async def ensure(self) -> Later | None:
        """Nothing to do: the tables are made when the file is opened."""
        return None

    async def write(self, body: bytes, lines: int) -> Written | Later:  # noqa: ARG002 - counted by what is in it
        """Insert or replace the rows in one transaction."""
        rejected: list[Rejected] = []
        try:
            rows = _decode_lines(body)
        except msgspec.DecodeError:
            rows = []
            for record in body.split(b"\n"):
                try:
                    rows.append(_decode(record))
                except msgspec.DecodeError as error:
                    rejected.append(Rejected(record, str(error)))
        try:
            learned = await self.file.in_transaction(lambda connection: self._insert(connection, rows))
        except StoreFull as error:
            return Later("full", str(error))
        self._series.update(learned)
        return Written(tuple(rejected))

    def _insert(self, connection: sqlite3.Connection, rows: list[Row]) -> dict[tuple[str, str], int]:
        """Store rows; returns the series first met here, to be remembered once they are committed."""
        learned: dict[tuple[str, str], int] = {}
        values = []
        for row in rows:
            for point, value, level in row.values:
                key = (row.device, point)
                series = self._series.get(key) or learned.get(key)
                if series is None:
                    connection.execute("INSERT INTO series (device, point) VALUES (?, ?) ON CONFLICT DO NOTHING", key)
                    found = connection.execute("SELECT id FROM series WHERE device = ? AND point = ?", key).fetchone()
                    series = learned[key] = int(found[0])
                values.append((series, row.at_ns, value, level, row.test))
        values.sort(key=_place)  # neighbours in the file one after another
        connection.executemany(
            "INSERT OR REPLACE INTO value (series, at_ns, value, quality, test) VALUES (?, ?, ?, ?, ?)", values
        )
        self.touched.note(connection, values)
        return learned


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    connection.executescript(SCHEMA + conduct.SCHEMA)


def _storable(value: Value, *, is_text: bool) -> tuple[float | str | None, int]:
    """A value as SQLite and JSON can hold it, and its quality level; what is of the wrong type or not finite is none, and bad."""
    level = LEVEL[value.quality]
    content = value.value
    if isinstance(content, str):
        if is_text and level < LEVEL[Quality.BAD]:
            text = content.translate(_LINE_FEEDS)
            return text if text.isascii() else text.encode(errors="replace").decode(), level
    elif content is not None and not is_text and math.isfinite(content):
        return float(content), level
    return None, level or LEVEL[Quality.BAD]

"""Readings read back out of the embedded store, as the lines that `line` would write of them: for export, never for a page.

    series of one device, each by time ─┐
    series …                           ─┼─ merge by time ─► one reading a time ─► line
    series …                           ─┘

Rows come in pages and every page is a query of its own: no snapshot is held for long, the writer's log can be moved into the file
meanwhile, and what is in memory does not grow with the range. A row written meanwhile is there or not. Blocking: SQLite.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from iotcore.journal.database import connect_readonly
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.telemetry.line import NS_PER_MS, line
from iotcore.telemetry.queries import QUALITIES

PAGE_ROWS = 50_000  # of all series of a device together; about 10 MB
MIN_PAGE_ROWS = 50  # a panel of 20,000 points has that many cursors: a million rows at most

Row = tuple[int, str, float | str | None, int, int]  # at_ns, point, value, quality level, test


def devices_in(path: Path) -> list[str]:
    """The devices that have ever had a value in the file."""
    with closing(connect_readonly(path)) as connection:
        return [row[0] for row in connection.execute("SELECT DISTINCT device FROM series ORDER BY device")]


def lines(path: Path, binding: Binding, span_ms: tuple[float, float], page_rows: int = PAGE_ROWS) -> Iterator[bytes]:
    """The readings of a device within [start, end) by time, as lines without line feed."""
    span_ns = (int(span_ms[0]) * NS_PER_MS, int(span_ms[1]) * NS_PER_MS)
    with closing(connect_readonly(path)) as connection:
        series = connection.execute("SELECT id, point FROM series WHERE device = ? ORDER BY point", (binding.device,)).fetchall()
        limit = max(page_rows // max(len(series), 1), min(page_rows, MIN_PAGE_ROWS))
        pages = [_rows(connection, number, point, span_ns, limit) for number, point in series]
        for at_ns, rows in groupby(heapq.merge(*pages, key=itemgetter(0)), key=itemgetter(0)):
            yield _line(binding, at_ns, rows)


def _rows(connection: sqlite3.Connection, series: int, point: str, span_ns: tuple[int, int], limit: int) -> Iterator[Row]:
    """The rows of one series by time, a page at a time."""
    start_ns = span_ns[0]
    while True:
        page = connection.execute(
            "SELECT at_ns, value, quality, test FROM value WHERE series = ? AND at_ns >= ? AND at_ns < ? ORDER BY at_ns LIMIT ?",
            (series, start_ns, span_ns[1], limit),
        ).fetchall()
        for at_ns, value, level, test in page:
            yield at_ns, point, value, level, test
        if len(page) < limit:
            return
        start_ns = page[-1][0] + 1


def _line(binding: Binding, at_ns: int, rows: Iterable[Row]) -> bytes:
    found = list(rows)
    values = tuple(Value(point, value, QUALITIES[level]) for _, point, value, level, _ in found)
    at_ms, seq = divmod(at_ns, NS_PER_MS)
    reading = Reading(
        device=binding.device,
        boot="",
        seq=seq,
        kind="reading",
        observed_ms=float(at_ms),
        received_ms=float(at_ms),
        told=values,
        test=any(row[4] for row in found),
    )
    return line(reading, binding)

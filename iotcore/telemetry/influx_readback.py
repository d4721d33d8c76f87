"""Readings read back out of InfluxDB by InfluxQL, as the lines that were written: for export, never for a page.

A page of rows is one question and its whole answer, and the next one begins at the last time of the one before: nothing is held
open, and what is in memory does not grow with the range. Sources: InfluxDB 1.8 documentation, "Explore data using InfluxQL" and
"Explore your schema"; InfluxDB 2 and 3 answer the same questions at the same `/query`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.influxql import ask, equals, identifier, select, within
from iotcore.telemetry.line import NS_PER_MS
from iotcore.telemetry.line_parse import FieldValue
from iotcore.telemetry.stored import Stored, to_line, values_of

PAGE_ROWS = 5_000  # as many as are written at once
SURE_ROWS = 1_000  # a server may give fewer rows than it was asked for (1.x [http] max-row-limit), but none so few
PAGE_CELLS = 100_000  # a page of them is some 2 MB; a panel has 20,000 in a row
TAGS = ("device", "model", "premises")


async def devices_in(link: Link, database: str, measurement: str) -> list[str]:
    """The devices that have ever had a reading in a measurement; none when there is no such measurement."""
    found = await ask(link, database, f'SHOW TAG VALUES FROM {identifier(measurement)} WITH KEY = "device"')
    return sorted({row[1] for series in found for row in series.values})


async def field_types(link: Link, database: str, measurement: str) -> dict[str, str]:
    """The type of each field: float, integer, string or boolean; JSON does not tell a float from an integer."""
    found = await ask(link, database, f"SHOW FIELD KEYS FROM {identifier(measurement)}")
    return {row[0]: row[1] for series in found for row in series.values}


async def lines(
    link: Link,
    database: str,
    series: tuple[str, str],
    types: Mapping[str, str],
    span_ms: tuple[float, float],
    *,
    page_rows: int = PAGE_ROWS,
) -> AsyncIterator[bytes]:
    """The readings of (measurement, device) within [start, end) by time, as lines without line feed."""
    measurement, device = series
    start_ns, end_ns = (int(at) * NS_PER_MS for at in span_ms)
    limit = page = max(2, min(page_rows, PAGE_CELLS // max(len(types), 1)))
    while start_ns < end_ns:
        where = (equals("device", device), within(start_ns, end_ns))
        statement = select(["*"], [identifier(measurement)], *where, then=f"ORDER BY time LIMIT {limit}")
        found = await ask(link, database, statement)
        rows = list(found[0].rows()) if found else []
        whole = len(rows) < min(limit, SURE_ROWS)
        last_ns = end_ns if whole else rows[-1]["time"]
        if not whole and last_ns == rows[0]["time"]:
            if len(rows) == limit:  # the whole page is of one time, from many series of the device
                limit *= 2
                continue
            last_ns += 1
        for row in rows:
            if row["time"] < last_ns:  # of the last time there may be more: it is asked for again
                yield _line(measurement, row, types)
        start_ns, limit = last_ns, page


def _line(measurement: str, row: Mapping[str, Any], types: Mapping[str, str]) -> bytes:
    fields = {field: _typed(row[field], kind) for field, kind in types.items() if row.get(field) is not None}
    values, test = values_of(fields)
    device, model, premises = (row.get(tag) or "" for tag in TAGS)
    return to_line(Stored(measurement, device, model, premises, row["time"], values, test))


def _typed(value: Any, kind: str) -> FieldValue:
    found: FieldValue = float(value) if kind == "float" else value
    return found

"""Readings read back out of InfluxDB by InfluxQL, as the lines that were written: for export, never for a page.

A page of rows is one question and its whole answer, and the next one begins at the last time of the one before: nothing is held
open, and what is in memory does not grow with the range. Sources: InfluxDB 1.8 documentation, "Explore data using InfluxQL" and
"Explore your schema"; InfluxDB 2 and 3 answer the same questions at the same `/query`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from iotcore.errors import StoreError
from iotcore.telemetry.influx_link import Link
from iotcore.telemetry.line import NS_PER_MS
from iotcore.telemetry.line_parse import FieldValue
from iotcore.telemetry.stored import Stored, to_line, values_of

PAGE_ROWS = 5_000  # as many as are written at once
PAGE_CELLS = 100_000  # a page of them is some 2 MB; a panel has 20,000 in a row
TAGS = ("device", "model", "premises")


class Series(NamedTuple):
    """One series of an answer; times are ns (`epoch=ns`)."""

    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


Ask = Callable[[str], Awaitable[list[Series]]]


def asking(link: Link, database: str) -> Ask:
    """What puts questions to one database; one that is not there has nothing in it.

    The questions raise StoreError when the server does not answer them.
    """

    async def ask(question: str) -> list[Series]:
        answer = await link.ask("POST", "/query", {"db": database, "epoch": "ns", "q": question})
        if not answer.ok:
            raise StoreError(f"the telemetry store cannot be read ({answer.reason}): {answer.detail()}")
        try:
            (result,) = json.loads(answer.text)["results"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the telemetry store gave no answer of InfluxDB: {answer.detail()}") from error
        said = str(result.get("error", ""))
        if said and "not found" not in said:
            raise StoreError(f"the telemetry store cannot be read: {said}")
        return [Series(series["columns"], series.get("values", [])) for series in result.get("series", [])]

    return ask


async def devices_in(ask: Ask, measurement: str) -> list[str]:
    """The devices that have ever had a reading in a measurement; none when there is no such measurement."""
    found = await ask(f'SHOW TAG VALUES FROM {name(measurement)} WITH KEY = "device"')
    return sorted({row[1] for series in found for row in series.values})


async def field_types(ask: Ask, measurement: str) -> dict[str, str]:
    """The type of each field: float, integer, string or boolean; JSON does not tell a float from an integer."""
    found = await ask(f"SHOW FIELD KEYS FROM {name(measurement)}")
    return {row[0]: row[1] for series in found for row in series.values}


async def lines(
    ask: Ask,
    measurement: str,
    device: str,
    types: Mapping[str, str],
    span_ms: tuple[float, float],
    *,
    page_rows: int = PAGE_ROWS,
) -> AsyncIterator[bytes]:
    """The readings of a device within [start, end) by time, as lines without line feed."""
    start_ns, end_ns = (int(at) * NS_PER_MS for at in span_ms)
    limit = page = max(2, min(page_rows, PAGE_CELLS // max(len(types), 1)))
    while True:
        where = f"\"device\" = '{_text(device)}' AND time >= {start_ns} AND time < {end_ns}"
        found = await ask(f"SELECT * FROM {name(measurement)} WHERE {where} ORDER BY time LIMIT {limit}")  # noqa: S608 - quoted
        columns, rows = (found[0].columns, found[0].values) if found else ((), ())
        last_ns = rows[-1][0] if len(rows) == limit else None
        if last_ns == start_ns:  # the whole page is of one time, from many series of the device
            limit *= 2
            continue
        for row in rows:
            if row[0] != last_ns:  # of the last time of a full page there may be more: it is asked for again
                yield _line(measurement, dict(zip(columns, row, strict=True)), types)
        if last_ns is None:
            return
        start_ns, limit = last_ns, page


def name(measurement: str) -> str:
    """A name as InfluxQL quotes it."""
    return '"' + measurement.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _line(measurement: str, row: Mapping[str, Any], types: Mapping[str, str]) -> bytes:
    fields = {field: _typed(row[field], kind) for field, kind in types.items() if row.get(field) is not None}
    values, test = values_of(fields)
    device, model, premises = (row.get(tag) or "" for tag in TAGS)
    return to_line(Stored(measurement, device, model, premises, row["time"], values, test))


def _typed(value: Any, kind: str) -> FieldValue:
    found: FieldValue = float(value) if kind == "float" else value
    return found

"""InfluxQL: names and texts quoted so that nothing within them is ever read as a query, and one statement asked of one database.

`/query` is what InfluxDB 1.x, 2.x (through a mapping of the bucket, DBRP) and 3 have in common; 3 takes one statement at a time.

Quoting: InfluxQL specification, "Identifiers" and "Strings"; which escapes there are: influxql's scanner (`ScanString`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from iotcore.errors import QueryError
from iotcore.telemetry.influx_link import Link

MAX_ANSWER_BYTES = 64_000_000  # of a question that was cut to size beforehand (`query_influx`)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "'": r"\'", "\n": r"\n"})
REMEDIES = {
    "unreachable": "check that it runs and store.url; readings wait in the spool meanwhile",
    "untrusted": "its certificate is not trusted: check store.ca_file",
    "not_authorised": "check store.username and password, or that store.token may read this database",
    "no_database": "create it: `iotcore store init` (InfluxDB 2 also needs the bucket's DBRP mapping, which that makes)",
    "no_influxql": "this server has no InfluxQL /query (VictoriaMetrics has none): ask it with its own tools, or use InfluxDB",
}
UNKNOWN_PATH = (400, 404, 405)  # what a server says that has no /query at all


class Series(NamedTuple):
    """One series of an answer: measurement, tags, and rows of column → value."""

    name: str
    tags: dict[str, str]
    columns: tuple[str, ...]
    values: list[list[Any]]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row by the names of its columns."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.values)


def identifier(name: str) -> str:
    """A measurement, field or tag key in double quotes.

    Raises:
        QueryError: it holds a sign that no InfluxQL can hold.
    """
    return f'"{_escaped(name)}"'


def string(text: str) -> str:
    """A text in single quotes.

    Raises:
        QueryError: it holds a sign that no InfluxQL can hold.
    """
    return f"'{_escaped(text)}'"


def any_of(tag: str, values: Iterable[str]) -> str:
    """A condition: the tag has one of these values."""
    return "(" + " OR ".join(equals(tag, value) for value in values) + ")"


def equals(name: str, text: str) -> str:
    """A condition: a tag or field is this text."""
    return f"{identifier(name)} = {string(text)}"


def within(start_ns: int, end_ns: int) -> str:
    """A condition: the time is within [start_ns, end_ns)."""
    return f"time >= {start_ns} AND time < {end_ns}"


def select(fields: Iterable[str], measurements: Iterable[str], *conditions: str, then: str = "") -> str:
    """A statement; all its parts are quoted already."""
    parts = ("SELECT", ", ".join(fields), "FROM", ", ".join(measurements), "WHERE", " AND ".join(conditions), then)
    return " ".join(parts).rstrip()


async def ask(link: Link, database: str, statement: str) -> list[Series]:
    """The series of one statement; times come as ns.

    Raises:
        QueryError: the server cannot be reached, refuses, or is no InfluxDB; says what to do.
    """
    query = {"db": database, "epoch": "ns", "q": statement}
    answer = await link.ask("GET", "/query", query, max_bytes=MAX_ANSWER_BYTES)
    said = _document(answer.text)
    if said is None and (answer.ok or answer.status in UNKNOWN_PATH):
        raise QueryError("no_influxql", f"{REMEDIES['no_influxql']}; it said: {answer.status} {answer.detail()}")
    results = (said or {}).get("results") or [{}]
    error = (said or {}).get("error") or results[0].get("error") or (said or {}).get("message")
    if not answer.ok or error:
        reason = _reason(answer.reason, str(error or ""))
        remedy = REMEDIES.get(reason, "the server's own log says more")
        raise QueryError(reason, f"{database}: {error or answer.detail()}; {remedy}")
    found = results[0].get("series") or []
    if statement.startswith("SELECT") and any("time" not in one.get("columns", ()) for one in found):  # to some other question
        raise QueryError("no_influxql", REMEDIES["no_influxql"])
    return [Series(one.get("name", ""), one.get("tags") or {}, tuple(one["columns"]), one.get("values") or []) for one in found]


def _escaped(text: str) -> str:
    if "\0" in text or "\r" in text:  # the scanner ends at the one and turns the other into a line feed
        raise QueryError("bad_name", f"{text!r} holds a control character; no device or point is named so")
    return text.encode(errors="replace").decode().translate(_ESCAPES)


def _document(text: str) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) and {"results", "error", "message", "code"} & found.keys() else None


def _reason(reason: str, error: str) -> str:
    if "database not found" in error or "not found" in error:
        return "no_database"
    return reason or "refused"

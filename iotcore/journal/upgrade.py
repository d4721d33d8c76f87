"""The shape of a journal: made new, or brought from an older version to this one, in one transaction.

A version is a step that is never changed again; a table that somebody adds needs none. Two processes may open one journal at
once: the second waits, and finds it done.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping

from iotcore.errors import StartError
from iotcore.journal.database import Connection, transaction


def bring_up(connection: Connection, schema: str) -> None:
    """Bring a SQLite journal to the newest version, and make what is missing; outside a transaction.

    Raises:
        StartError: it was made by a newer iotcore.
    """
    with transaction(connection):
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            raise newer(version)
        if "incident" in _tables(connection):
            for number, step in STEPS.items():
                if number > version:
                    step(connection, schema)
        for statement in statements(schema):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def newer(version: int) -> StartError:
    """What whoever meets a newer journal is told."""
    return StartError(
        f"The journal is of version {version}; this iotcore knows up to {VERSION}.", "Start the newer iotcore again."
    )


def statements(text: str) -> Iterator[str]:
    """The statements of a schema, one by one; a trigger is one. `executescript` would commit what has begun."""
    gathered = ""
    for line in text.splitlines(keepends=True):
        gathered += line
        if ";" in line and sqlite3.complete_statement(gathered):
            yield gathered.strip()
            gathered = ""


def _parts_and_states(connection: Connection, schema: str) -> None:
    """Version 1: updates have parts, alarms have states that come and go, watermarks are kept for every boot."""
    connection.execute("CREATE TEMP TABLE kept AS SELECT min(id) AS id FROM alarm WHERE state = 'active' GROUP BY device, rule")
    for table in ("incident", "cause", "alarm", "outbox", "watermark", "parked"):
        _rebuild(connection, table, schema)
    connection.execute("UPDATE alarm SET state = 'repeat' WHERE state = 'active' AND id NOT IN (SELECT id FROM kept)")
    connection.execute("DROP TABLE kept")
    connection.execute("UPDATE cause SET at_ms = coalesce((SELECT max(raised_ms) FROM alarm), 0)")
    connection.execute(_statement(schema, "incident_point"))
    connection.execute(
        "INSERT INTO incident_point (incident, device, point, place, at_ms) SELECT incident, device, "
        "json_extract(notice, '$.point'), min(id), min(raised_ms) FROM alarm WHERE incident IS NOT NULL GROUP BY 1, 2, 3"
    )


def _rebuild(connection: Connection, table: str, schema: str) -> None:
    """Give a table the shape that the schema has for it, with its rows and its next number; its indexes are made after."""
    if table not in _tables(connection):
        return
    made = _statement(schema, table)
    connection.execute(made.replace(f"CREATE TABLE IF NOT EXISTS {table} (", f"CREATE TABLE new_{table} (", 1))
    old, new = ([row[1] for row in connection.execute(f"PRAGMA table_info({one})")] for one in (table, f"new_{table}"))
    columns = ", ".join(name for name in new if name in old)
    connection.execute(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table} ORDER BY rowid")  # noqa: S608 - ours
    numbered = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    connection.execute(f"DROP TABLE {table}")
    connection.execute(f"ALTER TABLE new_{table} RENAME TO {table}")
    if numbered is not None:
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, numbered[0]))


def _statement(schema: str, table: str) -> str:
    """The statement that makes a table."""
    return next(one for one in statements(schema) if re.search(rf"^CREATE TABLE IF NOT EXISTS {table} \(", one, re.MULTILINE))


def _tables(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


STEPS: Mapping[int, Callable[[Connection, str], None]] = {1: _parts_and_states}
VERSION = max(STEPS)

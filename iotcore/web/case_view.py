"""Incidents and alarms as their pages show them, read from the journal at each request and never written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from iotcore.journal import cad, case
from iotcore.journal.case import Alarm, Case
from iotcore.journal.database import UNREADABLE, Connection, Place
from iotcore.registry.directory import Directory, Walk
from iotcore.web.view import ReadOnlyFile, Shown

T = TypeVar("T")


class CaseView:
    """Every method is quick and safe to call from any thread."""

    def __init__(self, journal: Place, directory: Callable[[], Directory]) -> None:
        self._journal = ReadOnlyFile(journal)
        self._directory = directory
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._journal.close()

    def case(self, incident: str, now_ms: float) -> Case | None:
        """Everything about one incident; None when it is unknown, or the journal is not readable."""
        return self._asked(lambda connection: case.read(connection, incident, now_ms), None)

    def standing(self, now_ms: float) -> list[Alarm]:
        """The alarms that stand without an incident."""
        return self._asked(lambda connection: case.standing(connection, now_ms), [])

    def alarm(self, number: int, now_ms: float) -> Alarm | None:
        """One alarm by its number."""
        return self._asked(lambda connection: case.alarm(connection, number, now_ms), None)

    def open_incident(self, premises: str) -> str:
        """The open incident of a premises, or ""."""
        with self._lock:
            rows = self._journal.read("SELECT id FROM incident WHERE premises = ? AND state = 'open'", premises)
        return str(rows[0][0]) if rows else ""

    def was_told(self, incident: str, receiver: str) -> bool | None:
        """Whether a receiver was told of an incident; None: nobody can say now."""
        return self._asked(lambda connection: cad.was_told(connection, receiver, incident), None)

    def proved(self, walk: Walk) -> list[Shown]:
        """The alarms that a walk test has seen, in order."""
        with self._lock:
            rows = self._journal.read(
                "SELECT device, point, received_ms FROM test_alarm WHERE by = ? AND mode_ms = ? ORDER BY id",
                walk.by,
                walk.started_ms,
            )
        devices = self._directory().devices
        found = [{"device": row[0], "point": row[1], "received_ms": row[2]} for row in rows]
        return [one for one in found if one["device"] in devices and walk.holds(devices[one["device"]])]

    def _asked(self, question: Callable[[Connection], T], otherwise: T) -> T:
        with self._lock:
            connection = self._journal.connection()
            if connection is None:
                return otherwise
            try:
                return question(connection)
            except UNREADABLE:
                self._journal.close()
                return otherwise

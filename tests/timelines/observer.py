"""What becomes of a journal, noted as it happens: incidents, alarms, faults, the story. It only reads, and holds nobody up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from iotcore.journal.database import connect_readonly


class Observer:
    """Looks when somebody has written."""

    def __init__(self, journal: Path, note: Callable[..., None], *, details: bool = True) -> None:
        self._journal = journal
        self._note = note
        self._details = details
        self._connection: Any = None
        self._story = 0
        self._opened = 0
        self._was: dict[str, dict[Any, Any]] = {kind: {} for kind in ("incident", "alarm", "fault", "acknowledged")}

    def look(self) -> None:
        if self._connection is None:
            if not self._journal.exists():
                return
            self._connection = connect_readonly(self._journal)
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'fault'").fetchone() is None:
            return  # it is being made
        if self._details:
            self._look_closely()
        else:
            for number, name, premises in self._connection.execute(
                "SELECT rowid, id, premises FROM incident WHERE rowid > ? ORDER BY rowid", (self._opened,)
            ).fetchall():
                self._opened = number
                self._note("incident", id=name, premises=premises, state="open")

    def _look_closely(self) -> None:
        self._changes(
            "incident",
            "SELECT id, premises, state FROM incident ORDER BY rowid",
            lambda row: {"id": row[0], "premises": row[1], "state": row[2]},
        )
        self._changes(
            "alarm",
            "SELECT id, device, rule, severity, state, cleared_ms IS NULL FROM alarm ORDER BY id",
            lambda row: {"device": row[1], "rule": row[2], "severity": row[3], "state": row[4], "holds": bool(row[5])},
        )
        self._changes(
            "acknowledged",
            "SELECT id, channel, event, incident, part FROM outbox WHERE acknowledged_ms IS NOT NULL ORDER BY id",
            lambda row: {"by": row[1], "event": row[2], "incident": row[3], "part": row[4]},
        )
        self._changes(
            "fault",
            "SELECT device || ' ' || reason, device, reason, cleared_ms IS NULL FROM fault ORDER BY first_ms",
            lambda row: {"device": row[1], "reason": row[2], "stands": bool(row[3])},
        )
        told = "SELECT id, incident, kind, by, detail FROM incident_event WHERE id > ? ORDER BY id"
        for number, incident, kind, by, detail in self._connection.execute(told, (self._story,)).fetchall():
            self._story = number
            self._note("story", what=kind, by=by, incident=incident, detail=detail)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _changes(self, kind: str, query: str, facts: Callable[[Any], dict[str, Any]]) -> None:
        was = self._was[kind]
        for row in self._connection.execute(query).fetchall():
            now = facts(row)
            if was.get(row[0]) != now:
                was[row[0]] = now
                self._note(kind, **now)

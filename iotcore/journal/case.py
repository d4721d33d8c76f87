"""Everything about one incident, and the alarms that stand without one: what pages and REST show. Read-only."""

from __future__ import annotations

from typing import Any

import msgspec

from iotcore.journal import shelf, story
from iotcore.journal.database import Connection
from iotcore.journal.flaps import CALM_MS, FLAPPING
from iotcore.journal.records import Notice
from iotcore.journal.states import Kept, State, state_of
from iotcore.journal.timeline import Timeline, timeline

STANDING_LIMIT = 500  # alarms without an incident that are shown at once
COLUMNS = (
    "id, incident, device, rule, severity, state, notice, raised_ms, cleared_ms, acknowledged_ms, acknowledged_by, latched, "
    "repeats, flaps, flap_run, flap_ms"
)


class Alarm(msgspec.Struct, frozen=True):
    """One alarm. `state` as operators name it (`states`); `flapping`: it comes and goes, and is neither closed nor hidden."""

    id: int
    incident: str
    device: str
    point: str
    premises: str
    rule: str
    severity: str
    kept: str
    state: State
    reason: str
    value: float | bool | str | None
    unit: str
    raised_ms: float
    cleared_ms: float | None
    acknowledged_ms: float | None
    acknowledged_by: str
    latched: bool
    repeats: int
    flaps: int
    flapping: bool
    shelved_until_ms: float | None = None
    shelved_by: str = ""
    shelved_why: str = ""


class Told(msgspec.Struct, frozen=True):
    """A line of the story."""

    at_ms: float
    kind: str
    by: str
    detail: str


class Case(msgspec.Struct, frozen=True):
    """An incident whole: its timeline, its alarms, its story, what was done about it; ms UTC, None where it has not happened."""

    line: Timeline
    alarms: tuple[Alarm, ...]
    story: tuple[Told, ...]
    silenced_ms: float | None
    silenced_by: str
    owner_said: str
    owner_ms: float | None
    owner_by: str
    held: bool
    held_ms: float | None
    released_ms: float | None
    closed_by: str


def read(connection: Connection, incident: str, now_ms: float) -> Case | None:
    """One incident; None when it is unknown."""
    line = timeline(connection, incident)
    if line is None:
        return None
    row = connection.execute(
        "SELECT silenced_ms, silenced_by, owner_said, owner_ms, owner_by, hold, held_ms, released_ms, closed_by "
        "FROM incident WHERE id = ?",
        (incident,),
    ).fetchone()
    rows = connection.execute(f"SELECT {COLUMNS} FROM alarm WHERE incident = ? ORDER BY id", (incident,)).fetchall()  # noqa: S608
    return Case(
        line=line,
        alarms=tuple(_alarm(one, {}, now_ms) for one in rows),
        story=tuple(Told(one.at_ms, one.kind, one.by, one.detail) for one in story.told(connection, incident)),
        silenced_ms=row[0],
        silenced_by=row[1] or "",
        owner_said=row[2] or "",
        owner_ms=row[3],
        owner_by=row[4] or "",
        held=row[5] is not None,
        held_ms=row[6],
        released_ms=row[7],
        closed_by=row[8] or "",
    )


def standing(connection: Connection, now_ms: float) -> list[Alarm]:
    """The alarms that stand without an incident, and those of what is disabled; the newest first."""
    put = {(one.device, one.rule): one for one in shelf.shelved(connection, now_ms)}
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM alarm WHERE incident IS NULL AND state IN ('active', 'disabled') "  # noqa: S608 - constants
        "AND (state = 'active' OR cleared_ms IS NULL) ORDER BY id DESC LIMIT ?",
        (STANDING_LIMIT,),
    )
    return [_alarm(row, put, now_ms) for row in rows.fetchall()]


def alarm(connection: Connection, number: int, now_ms: float) -> Alarm | None:
    """One alarm by its number."""
    row = connection.execute(f"SELECT {COLUMNS} FROM alarm WHERE id = ?", (number,)).fetchone()  # noqa: S608 - constants
    if row is None:
        return None
    return _alarm(row, {(one.device, one.rule): one for one in shelf.shelved(connection, now_ms)}, now_ms)


def _alarm(row: Any, put: dict[tuple[str, str], shelf.Shelved], now_ms: float) -> Alarm:
    number, incident, device, rule, severity, state, notice, *rest = row
    raised, cleared, taken, by, latched, repeats, flaps, run, last = rest
    first = msgspec.json.decode(notice, type=Notice)
    aside = put.get((device, rule))
    kept = Kept(state, severity, cleared is not None, taken is not None)
    return Alarm(
        id=number,
        incident=incident or "",
        device=device,
        point=first.point,
        premises=first.premises,
        rule=rule,
        severity=severity,
        kept=state,
        state=state_of(kept, shelved=aside is not None),
        reason=first.reason,
        value=first.value,
        unit=first.unit,
        raised_ms=raised,
        cleared_ms=cleared,
        acknowledged_ms=taken,
        acknowledged_by=by or "",
        latched=bool(latched),
        repeats=repeats,
        flaps=flaps,
        flapping=state == "active" and run >= FLAPPING and last is not None and now_ms - last < CALM_MS,
        shelved_until_ms=aside.until_ms if aside else None,
        shelved_by=aside.by if aside else "",
        shelved_why=aside.reason if aside else "",
    )

"""One incident whole, for whoever looks back at it: as much as a paper holds, however long it went on. Read-only.

A fire in a building with a panel may have ten thousand points: the first of them are here, and how many there were. Of the story,
the first lines of each kind, and how many; what each receiver was told is summed up by kind of notice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from iotcore.journal import failures
from iotcore.journal.case import Told
from iotcore.journal.database import Connection, snapshot
from iotcore.journal.failures import Failure
from iotcore.journal.paths import PREFIX
from iotcore.journal.records import Event, Notice

POINTS = 100  # first-in first
LINES = 30  # of each kind of the story
STANDING = 50  # troubles that stood at the premises
MOMENTS = (
    *("detector_ms", "received_ms", "decided_ms", "durable_ms", "acknowledged_ms", "closed_ms", "silenced_ms", "owner_ms"),
    *("held_ms", "released_ms"),
)
WORDS = ("premises", "state", "acknowledged_by", "closed_by", "silenced_by", "owner_said", "owner_by")
DEVICES_AT_ONCE = 500  # in one query: a panel's building has thousands


Devices = Collection[str]  # of a premises


class Point(msgspec.Struct, frozen=True):
    """A point in the order in which it spoke; `notice` is what its alarm said, None of one that another device's rule named."""

    place: int
    device: str
    point: str
    at_ms: float
    notice: Notice | None


class Way(msgspec.Struct, frozen=True):
    """What a receiver was told by one channel, by kind of notice: one alarm, one restore, any number of updates; ms UTC.

    `failed` counts attempts, `failures` says why as far as the journal knows; `withheld` were restored and wait for a person.
    """

    channel: str
    event: Event
    count: int
    acknowledged: int
    posted_ms: float
    sent_ms: float | None
    acknowledged_ms: float | None  # the first
    last_acknowledged_ms: float | None
    failed: int
    last_error: str
    reply: str
    failures: tuple[Failure, ...] = ()
    withheld: int = 0


class Standing(msgspec.Struct, frozen=True):
    """A trouble of a device there, or of a path, that stood during the incident; `cleared_ms` None: it still does."""

    device: str
    what: str  # the reason of a fault, or the rule of an alarm
    severity: str
    since_ms: float
    cleared_ms: float | None


class Review(msgspec.Struct, frozen=True):
    """An incident as the journal knows it at `cursor`, its last change; ms UTC, None where it has not happened."""

    incident: str
    premises: str
    state: str
    notice: Notice
    detector_ms: float
    received_ms: float
    decided_ms: float
    durable_ms: float | None
    acknowledged_ms: float | None
    acknowledged_by: str
    closed_ms: float | None
    closed_by: str
    silenced_ms: float | None
    silenced_by: str
    owner_said: str
    owner_ms: float | None
    owner_by: str
    held_ms: float | None
    released_ms: float | None
    points: tuple[Point, ...]
    points_in_all: int
    devices_in_all: int
    story: tuple[Told, ...]
    story_in_all: dict[str, int]  # by kind
    ways: tuple[Way, ...]
    standing: tuple[Standing, ...]
    standing_in_all: int
    cursor: int

    @property
    def sent_ms(self) -> float | None:
        """When the first frame of the alarm left."""
        return min((way.sent_ms for way in self.alarms() if way.sent_ms is not None), default=None)

    @property
    def delivered_ms(self) -> float | None:
        """When the first receiver had acknowledged the alarm."""
        return min((way.acknowledged_ms for way in self.alarms() if way.acknowledged_ms is not None), default=None)

    def alarms(self) -> list[Way]:
        """How the alarm itself was told."""
        return [way for way in self.ways if way.event == "alarm"]

    def lines(self, *kinds: str) -> list[Told]:
        """The lines of the story of these kinds."""
        return [line for line in self.story if line.kind in kinds]

    def moments(self) -> list[tuple[str, float | None]]:
        """Every step of the alarm contract, in the order of the road."""
        return [
            ("detector", self.detector_ms),
            ("received", self.received_ms),
            ("decided", self.decided_ms),
            ("durable", self.durable_ms),
            ("sent", self.sent_ms),
            ("delivered", self.delivered_ms),
            ("acknowledged", self.acknowledged_ms),
        ]


def premises_of(connection: Connection, incident: str) -> str:
    """Where it burned; "" for an unknown incident."""
    row = connection.execute("SELECT premises FROM incident WHERE id = ?", (incident,)).fetchone()
    return str(row[0]) if row else ""


def read(connection: Connection, incident: str, devices: Devices, now_ms: float) -> Review | None:
    """Look back at an incident, all of it at one moment; None when it is unknown. `devices` are those of its premises."""
    with snapshot(connection):
        row = connection.execute(
            f"SELECT {', '.join(MOMENTS)}, {', '.join(WORDS)}, notice FROM incident WHERE id = ?",  # noqa: S608 - constants
            (incident,),
        ).fetchone()
        if row is None:
            return None
        moments: dict[str, Any] = {name: row[name] for name in MOMENTS}
        words: dict[str, Any] = {name: row[name] or "" for name in WORDS}
        points, devices_in_all, points_in_all = _points(connection, incident)
        ways = _ways(connection, incident)
        until_ms = now_ms if row["closed_ms"] is None else row["closed_ms"]
        names = [*devices, *(f"{PREFIX}{way.channel}" for way in ways if way.event == "alarm")]
        standing = sorted(_standing(connection, names, row["received_ms"], until_ms), key=lambda one: (one.since_ms, one.device))
        cursor = connection.execute("SELECT coalesce(max(id), 0) FROM change").fetchone()[0]
        return Review(
            incident=incident,
            notice=_notice(row["notice"]),
            **moments,
            **words,
            points=points,
            points_in_all=points_in_all,
            devices_in_all=devices_in_all,
            story=_story(connection, incident),
            story_in_all=_counts(connection, incident),
            ways=ways,
            standing=tuple(standing[:STANDING]),
            standing_in_all=len(standing),
            cursor=cursor,
        )


def _points(connection: Connection, incident: str) -> tuple[tuple[Point, ...], int, int]:
    """The first points with what their alarms said; how many devices and points there were in all."""
    rows = connection.execute(
        "SELECT place, device, point, at_ms FROM incident_point WHERE incident = ? ORDER BY place LIMIT ?", (incident, POINTS)
    ).fetchall()
    said: dict[tuple[str, str], Notice] = {}
    told = "SELECT notice FROM alarm WHERE incident = ? ORDER BY id LIMIT ?"
    for (text,) in connection.execute(told, (incident, 2 * POINTS)).fetchall():
        notice = _notice(text)
        said.setdefault((notice.device, notice.point), notice)
    devices, points = connection.execute(
        "SELECT count(DISTINCT device), count(*) FROM incident_point WHERE incident = ?", (incident,)
    ).fetchone()
    found = tuple(Point(row[0], row[1], row[2], row[3], said.get((row[1], row[2]))) for row in rows)
    return found, devices, points


def _story(connection: Connection, incident: str) -> tuple[Told, ...]:
    rows = connection.execute(
        "SELECT at_ms, kind, by, detail FROM (SELECT id, at_ms, kind, by, detail, "
        "row_number() OVER (PARTITION BY kind ORDER BY id) AS nth FROM incident_event WHERE incident = ?) AS line "
        "WHERE nth <= ? ORDER BY id",
        (incident, LINES),
    )
    return tuple(Told(*row) for row in rows.fetchall())


def _counts(connection: Connection, incident: str) -> dict[str, int]:
    rows = connection.execute("SELECT kind, count(*) FROM incident_event WHERE incident = ? GROUP BY kind", (incident,))
    return {row[0]: row[1] for row in rows.fetchall()}


def _ways(connection: Connection, incident: str) -> tuple[Way, ...]:
    rows = connection.execute(
        "SELECT channel, event, count(*), count(acknowledged_ms), min(created_ms), min(sent_ms), min(acknowledged_ms), "
        "max(acknowledged_ms), CAST(sum(attempts) AS BIGINT), coalesce(max(last_error), ''), coalesce(max(reply), '') "
        "FROM outbox WHERE incident = ? GROUP BY channel, event ORDER BY min(id)",
        (incident,),
    ).fetchall()
    known = failures.of_incident(connection, incident)
    waiting = connection.execute(
        "SELECT channel, event, count(*), min(created_ms), min(sent_ms) FROM parked WHERE incident = ? AND decision IS NULL "
        "GROUP BY channel, event ORDER BY min(id)",
        (incident,),
    ).fetchall()
    held = {(row[0], row[1]): row for row in waiting}
    ways = []
    for row in rows:
        why = tuple(one for one in known if (one.channel, one.event) == (row[0], row[1]))
        parked = held.pop((row[0], row[1]), None)
        ways.append(msgspec.structs.replace(Way(*row), failures=why, withheld=0 if parked is None else parked[2]))
    ways += [Way(row[0], row[1], 0, 0, row[3], row[4], None, None, 0, "", "", withheld=row[2]) for row in held.values()]
    return tuple(ways)


def _standing(connection: Connection, names: Collection[str], from_ms: float, until_ms: float) -> Iterator[Standing]:
    """Faults, and alarms that opened no incident. Of a fault that came again later the journal knows the latest time only."""
    wanted = list(names)
    for start in range(0, len(wanted), DEVICES_AT_ONCE):
        some = wanted[start : start + DEVICES_AT_ONCE]
        among = f"device IN ({', '.join('?' * len(some))})"
        faults = connection.execute(
            f"SELECT device, reason, 'trouble', first_ms, cleared_ms FROM fault WHERE {among} "  # noqa: S608 - marks
            "AND first_ms <= ? AND (cleared_ms IS NULL OR cleared_ms >= ?)",
            (*some, until_ms, from_ms),
        ).fetchall()
        alarms = connection.execute(
            f"SELECT device, rule, severity, raised_ms, coalesce(reset_ms, cleared_ms) FROM alarm WHERE {among} "  # noqa: S608
            "AND incident IS NULL AND state IN ('active', 'ended', 'reset', 'disabled', 'released') AND raised_ms <= ? "
            "AND (coalesce(reset_ms, cleared_ms) IS NULL OR coalesce(reset_ms, cleared_ms) >= ?)",
            (*some, until_ms, from_ms),
        ).fetchall()
        yield from (Standing(*row) for row in (*faults, *alarms))


def _notice(text: str) -> Notice:
    return msgspec.json.decode(text, type=Notice)

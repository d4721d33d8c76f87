"""The paths to the receivers: which are up, since when, and as troubles of their own which are not.

A path of which nothing is heard for its limit is at fault, `path_down` of `path:<receiver>`; the limit is a timer, so it holds
over a restart and a stepped clock, and any replica's hearing counts. `undelivered` is a fault of a receiver that has not
acknowledged some notice for too long, on neither of its paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from iotcore.journal import hedge
from iotcore.journal.database import Connection

PREFIX = "path:"  # of the names that stand in place of a device's
DOWN, UNDELIVERED = "path_down", "undelivered"
MAX_LATE = 10_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS path (
    name     TEXT PRIMARY KEY,           -- of the receiver
    up       INTEGER NOT NULL,
    since_ms DOUBLE PRECISION NOT NULL,  -- when it became so
    heard_ms DOUBLE PRECISION,           -- the last valid acknowledgement, of whatever
    reason   TEXT NOT NULL               -- why the last link test failed; '': it did not
);
"""


class Path(NamedTuple):
    """How a path is; ms UTC."""

    name: str
    up: bool
    since_ms: float
    heard_ms: float | None
    reason: str
    undelivered: bool


def overdue(connection: Connection, alternates: Mapping[str, str], before_ms: float) -> list[tuple[str, str, str]]:
    """Incident, event and channel of what no path has had acknowledged since that moment, oldest first."""
    covered = hedge.covered(connection, alternates)
    rows = connection.execute(
        "SELECT incident, event, part, channel FROM outbox WHERE acknowledged_ms IS NULL AND created_ms < ? ORDER BY id LIMIT ?",
        (before_ms, MAX_LATE),
    ).fetchall()
    return [(incident, event, channel) for incident, event, part, channel in rows if not covered(incident, event, part, channel)]


def shown(connection: Connection) -> list[Path]:
    """How every path is, for the page and the doctor."""
    late = standing(connection)
    rows = connection.execute("SELECT name, up, since_ms, heard_ms, reason FROM path ORDER BY name").fetchall()
    return [Path(row[0], bool(row[1]), row[2], row[3], row[4], row[0] in late) for row in rows]


def standing(connection: Connection) -> frozenset[str]:
    """The receivers whose fault `undelivered` stands."""
    rows = connection.execute("SELECT device FROM fault WHERE reason = ? AND cleared_ms IS NULL", (UNDELIVERED,)).fetchall()
    return frozenset(device.removeprefix(PREFIX) for (device,) in rows if device.startswith(PREFIX))

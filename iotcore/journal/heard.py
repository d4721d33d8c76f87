"""Who was heard when: what supervision keeps over a restart.

Times in `listened_s` are seconds in which a fire process (`by`) listened, counted on over its restarts; a device's is written at
most once a minute, the process's own with each commit. Functions run inside the caller's transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from iotcore.journal.database import Connection

SCHEMA = """
CREATE TABLE IF NOT EXISTS heard (
    device     TEXT PRIMARY KEY,
    by         TEXT NOT NULL,              -- the fire process that heard it
    listened_s DOUBLE PRECISION NOT NULL,  -- when, in listening time of that process
    wall_ms    DOUBLE PRECISION NOT NULL,  -- when, ms UTC: for the readings that came in the minute after
    boot       TEXT NOT NULL,              -- of its last reading; '' when it never said anything
    seq        BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS listened (
    by         TEXT PRIMARY KEY,
    machine    TEXT NOT NULL,              -- which start of the machine
    uptime_s   DOUBLE PRECISION NOT NULL,  -- since it, when this process heard for the last time
    wall_ms    DOUBLE PRECISION NOT NULL,
    listened_s DOUBLE PRECISION NOT NULL
);
"""


class Heard(NamedTuple):
    """When a device was heard last, or since when it is waited for (`boot` is "")."""

    device: str
    by: str
    listened_s: float
    wall_ms: float
    boot: str
    seq: int


class Clocked(NamedTuple):
    """How far a fire process had listened, by the machine's uptime and by the wall."""

    by: str
    machine: str
    uptime_s: float
    wall_ms: float
    listened_s: float


class Stored(NamedTuple):
    """What is on disk, or is to be written there. `gone` are devices that are registered no more: nothing is kept of them."""

    heard: tuple[Heard, ...] = ()
    clocks: tuple[Clocked, ...] = ()
    gone: tuple[str, ...] = ()


NOTHING = Stored()


def load(connection: Connection) -> Stored:
    """Everything that is known."""
    heard = connection.execute("SELECT device, by, listened_s, wall_ms, boot, seq FROM heard").fetchall()
    clocks = connection.execute("SELECT by, machine, uptime_s, wall_ms, listened_s FROM listened").fetchall()
    return Stored(tuple(Heard(*row) for row in heard), tuple(Clocked(*row) for row in clocks))


def save(connection: Connection, stored: Stored) -> None:
    """Write what one turn has heard, and forget who is gone."""
    connection.executemany("DELETE FROM heard WHERE device = ?", [(device,) for device in stored.gone])
    connection.executemany(
        "INSERT INTO heard (device, by, listened_s, wall_ms, boot, seq) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE "
        "SET by = excluded.by, listened_s = excluded.listened_s, wall_ms = excluded.wall_ms, boot = excluded.boot, "
        "seq = excluded.seq",
        stored.heard,
    )
    connection.executemany(
        "INSERT INTO listened (by, machine, uptime_s, wall_ms, listened_s) VALUES (?, ?, ?, ?, ?) ON CONFLICT (by) DO UPDATE "
        "SET machine = excluded.machine, uptime_s = excluded.uptime_s, wall_ms = excluded.wall_ms, "
        "listened_s = excluded.listened_s",
        stored.clocks,
    )

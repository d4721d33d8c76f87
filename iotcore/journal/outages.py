"""What is out of service or in walk test, as receivers are to be told of it: begun once, ended once, whoever looked first.

A row is made when a disablement or a walk test begins to hold, with all that will be said of it: what is removed from the
registry meanwhile can still be told. An end is final. `told` says who knows what of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from iotcore.journal.database import Connection
from iotcore.journal.records import Notice, Outage

KEPT_MS = 31 * 86_400_000.0  # an end waits for so long for a receiver that is not there
AT_ONCE = 1_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS outage (
    id        TEXT PRIMARY KEY,         -- of a disablement or walk test
    kind      TEXT NOT NULL,            -- disablement | walk
    notice    TEXT NOT NULL,            -- what is said when it begins
    receivers TEXT NOT NULL,            -- JSON, of the response plan; none: all
    begun_ms  DOUBLE PRECISION NOT NULL,
    ended_ms  DOUBLE PRECISION
);
CREATE INDEX IF NOT EXISTS outage_standing ON outage (begun_ms) WHERE ended_ms IS NULL;
"""


class Begun(NamedTuple):
    """One that has begun to hold at `begun_ms` (UTC), and which receivers are told; none named: all."""

    id: str
    kind: Outage
    notice: Notice
    receivers: tuple[str, ...]
    begun_ms: float


def begin(connection: Connection, found: Iterable[Begun], channels: Collection[str]) -> None:
    """Keep those that are not known yet; a plan whose receivers are all gone from the settings tells all of `channels`."""
    for one in found:
        receivers = [name for name in one.receivers if name in channels]
        connection.execute(
            "INSERT INTO outage (id, kind, notice, receivers, begun_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (one.id, one.kind, _text(one.notice), _text(receivers), one.begun_ms),
        )


def end(connection: Connection, ids: Collection[str], now_ms: float) -> None:
    """These are over; what was over for `KEPT_MS` is forgotten."""
    for id_ in ids:
        connection.execute("UPDATE outage SET ended_ms = ? WHERE id = ? AND ended_ms IS NULL", (now_ms, id_))
    connection.execute("DELETE FROM outage WHERE ended_ms < ?", (now_ms - KEPT_MS,))


def standing(connection: Connection) -> frozenset[str]:
    """Those that nobody knows to be over."""
    return frozenset(id_ for (id_,) in connection.execute("SELECT id FROM outage WHERE ended_ms IS NULL").fetchall())


def to_tell(connection: Connection, channel: str, kinds: Collection[str]) -> list[tuple[float, str, Outage]]:
    """Since when (ms UTC), id and kind of what stands and what this channel is told of."""
    rows = connection.execute(
        "SELECT begun_ms, id, kind, receivers FROM outage WHERE ended_ms IS NULL ORDER BY begun_ms, id LIMIT ?", (AT_ONCE,)
    ).fetchall()
    return [
        (since_ms, id_, kind) for since_ms, id_, kind, only in rows if kind in kinds and channel in (_names(only) or (channel,))
    ]


def notice(connection: Connection, id_: str) -> Notice | None:
    """What is said of one when it begins; None when it is forgotten."""
    row = connection.execute("SELECT notice FROM outage WHERE id = ?", (id_,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Notice)


def _names(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str])


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()

"""Changes: what pages, the feed and other processes follow, in the order of the commits."""

from __future__ import annotations

from iotcore.journal.database import Connection


def note_change(connection: Connection, kind: str, key: str, at_ms: float) -> None:
    """Announce a change to whoever follows the journal, in the transaction that makes it."""
    connection.execute("INSERT INTO change (kind, key, at_ms) VALUES (?, ?, ?)", (kind, key, at_ms))

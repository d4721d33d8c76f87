"""Refused by several processes, kept once: each fire process sees every message, and each refuses the same ones.

A row says who has refused its message. A process that refuses a message which another has kept within `SAME_MS` puts its name
beside and keeps nothing; the same message again is another occurrence for each of them. The order does not matter, and what one
that died did not keep is kept by the one that lives.
"""

from __future__ import annotations

from collections.abc import Iterable

from iotcore.journal.database import Connection
from iotcore.journal.quarantine import MAX_PAYLOAD_BYTES, MAX_TEXT, culprit
from iotcore.wire.arrival import Refusal

SAME_MS = 60_000.0  # a process that lags further behind keeps it again: seen twice is better than not at all


def not_kept_yet(connection: Connection, refusals: Iterable[Refusal], owner: str | None, now_ms: float) -> list[Refusal]:
    """Those that no other process has kept; the rest is noted on the rows that have them."""
    if owner is None:
        return list(refusals)
    return [one for one in refusals if not _noted(connection, one, owner, now_ms)]


def _noted(connection: Connection, refusal: Refusal, owner: str, now_ms: float) -> bool:
    row = connection.execute(
        "SELECT id FROM quarantine WHERE culprit = ? AND at_ms > ? AND more = 0 AND reason = ? AND topic = ? AND payload = ? "
        "AND kept_by <> '' AND kept_by NOT LIKE ? ORDER BY id LIMIT 1",
        (culprit(refusal), now_ms - SAME_MS, refusal.reason, refusal.topic[:MAX_TEXT], refusal.payload[:MAX_PAYLOAD_BYTES],
         f"%{_mark(owner)}%"),
    ).fetchone()  # fmt: skip
    if row is None:
        return False
    connection.execute("UPDATE quarantine SET kept_by = kept_by || ? WHERE id = ?", (_mark(owner), row[0]))
    return True


def _mark(owner: str) -> str:
    return f"[{owner}]"

"""The outbox: notices on their way, leased for a second so that another process takes over from a dead one.

Order within a channel is kept: a notice is leased only when every earlier one of its channel is done.
"""

from __future__ import annotations

import msgspec

from iotcore.journal.database import transaction
from iotcore.journal.journal import Journal, note_change
from iotcore.journal.records import Notice, OutboxRow


class SqlOutbox:
    """The outbox rows of a journal; implements `iotcore.dispatch.outbox.OutboxPort`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None:
        """The oldest unfinished notice of a channel, if it is due and nobody else holds it; ours until `now_ms + lease_ms`."""
        with self._journal.lock:
            row = self._journal.connection.execute(
                "SELECT id, incident, number, attempts, notice, lease_owner, lease_until_ms, next_at_ms FROM outbox "
                "WHERE channel = ? AND acknowledged_ms IS NULL ORDER BY id LIMIT 1",
                (channel,),
            ).fetchone()
            if row is None or row[7] > now_ms or (row[5] not in (None, owner) and row[6] > now_ms):
                return None
            with transaction(self._journal.connection) as connection:
                taken = connection.execute(
                    "UPDATE outbox SET lease_owner = ?, lease_until_ms = ? WHERE id = ? AND acknowledged_ms IS NULL "
                    "AND (lease_owner IS NULL OR lease_owner = ? OR lease_until_ms <= ?)",
                    (owner, now_ms + lease_ms, row[0], owner, now_ms),
                )
        if taken.rowcount == 0:
            return None
        return OutboxRow(row[0], row[1], channel, row[2], row[3], msgspec.json.decode(row[4], type=Notice))

    def sent(self, row_id: int, at_ms: float) -> None:
        """The first frame of this notice has left."""
        self._update(row_id, "sent_ms = coalesce(sent_ms, ?)", at_ms)

    def acknowledged(self, row_id: int, at_ms: float, reply: str) -> None:
        """The receiver's own valid acknowledgement is here: the delivery is over."""
        self._update(row_id, "acknowledged_ms = ?, reply = ?, last_error = NULL, lease_until_ms = 0", at_ms, reply)

    def retry(self, row_id: int, at_ms: float, reason: str, next_at_ms: float) -> None:
        """An attempt failed at `at_ms`; the next one is due at `next_at_ms`."""
        self._update(
            row_id,
            "attempts = attempts + 1, failed_ms = ?, last_error = ?, next_at_ms = ?, lease_until_ms = 0, lease_owner = NULL",
            at_ms, reason, next_at_ms,
        )  # fmt: skip

    def _update(self, row_id: int, assignments: str, *values: float | str) -> None:
        with self._journal.lock, transaction(self._journal.connection) as connection:
            incident = connection.execute(
                f"UPDATE outbox SET {assignments} WHERE id = ? RETURNING incident",  # noqa: S608 - constants of this module
                (*values, row_id),
            ).fetchone()
            if incident:
                note_change(connection, "delivery", incident[0], self._journal.now_ms())

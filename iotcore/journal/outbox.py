"""The outbox: notices on their way, leased for a second so that another process takes over from a dead one.

Order is kept within an incident and a channel: neither an update nor a restore overtakes its alarm, and nothing waits for an
update. A notice that its receiver refuses, again and again, holds back no other incident.
"""

from __future__ import annotations

import logging

import msgspec

from iotcore.journal import failures, hedge, parked, posting, story
from iotcore.journal.changes import note_change
from iotcore.journal.database import transaction
from iotcore.journal.journal import Journal
from iotcore.journal.records import Notice, OutboxRow

log = logging.getLogger(__name__)

REJECTED = "rejected"  # how the reason begins when a receiver understood and said no
MAX_WAIT_MS = 120_000.0  # nobody asks for a longer wait; a moment further ahead was written before the clock was set back

# the oldest that is due, that nobody else holds, and that is the first of its incident
_DUE = """
SELECT id, incident, number, attempts, notice, part FROM outbox AS one
WHERE channel = :channel AND acknowledged_ms IS NULL
  AND (next_at_ms <= :now OR next_at_ms > :now + :max_wait)
  AND (lease_owner IS NULL OR lease_owner = :owner OR lease_until_ms <= :now OR lease_until_ms > :now + :max_wait)
  AND {kind} AND NOT EXISTS (
    SELECT 1 FROM outbox AS earlier WHERE earlier.channel = one.channel AND earlier.incident = one.incident
    AND earlier.acknowledged_ms IS NULL AND earlier.event <> 'update' AND earlier.id < one.id)
ORDER BY id LIMIT 1
"""
_NEXT = (_DUE.format(kind="event <> 'update'"), _DUE.format(kind="event = 'update'"))  # nothing waits behind an update
_TAKE = """
UPDATE outbox SET lease_owner = :owner, lease_until_ms = :until WHERE id = :id AND acknowledged_ms IS NULL
  AND (lease_owner IS NULL OR lease_owner = :owner OR lease_until_ms <= :now OR lease_until_ms > :now + :max_wait)
"""


class SqlOutbox:
    """The outbox rows of a journal; implements `iotcore.dispatch.outbox.OutboxPort`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None:
        """The oldest notice of a channel that is due, free and the first of its incident; ours until `now_ms + lease_ms`."""
        asked = {"channel": channel, "now": now_ms, "owner": owner, "max_wait": MAX_WAIT_MS}
        with self._journal.reading() as connection:
            found = (connection.execute(query, asked).fetchone() for query in _NEXT)
            row = next(filter(None, found), None)
            if row is None:
                return None
            with transaction(connection):
                taken = connection.execute(_TAKE, {**asked, "id": row[0], "until": now_ms + lease_ms})
        if taken.rowcount == 0:
            return None
        return OutboxRow(row[0], row[1], channel, row[2], row[3], msgspec.json.decode(row[4], type=Notice), row[5])

    def renew(self, row_id: int, owner: str, now_ms: float, lease_ms: float) -> bool:
        """Keep a leased notice until `now_ms + lease_ms`; False when somebody else has it, or it is done."""
        with self._journal.writing() as connection:
            renewed = connection.execute(
                "UPDATE outbox SET lease_until_ms = ? WHERE id = ? AND lease_owner = ? AND acknowledged_ms IS NULL",
                (now_ms + lease_ms, row_id, owner),
            )
        return bool(renewed.rowcount)

    def release(self, owner: str) -> int:
        """A process has ended: what was leased to it is free. How many notices that were."""
        with self._journal.writing() as connection:
            freed = connection.execute(
                "UPDATE outbox SET lease_owner = ?, lease_until_ms = 0 "
                "WHERE (lease_owner = ? OR lease_owner LIKE ?) AND acknowledged_ms IS NULL",
                (hedge.HELD, owner, f"{owner}/%"),  # its slots (`iotcore.dispatch.outbox`)
            )
        return freed.rowcount

    def sent(self, row_id: int, at_ms: float) -> None:
        """The first frame of this notice has left."""
        self._update(row_id, "sent_ms = coalesce(sent_ms, ?)", at_ms)

    def acknowledged(self, row_id: int, at_ms: float, reply: str) -> None:
        """The receiver's own valid acknowledgement is here: the delivery is over."""
        self._update(row_id, "acknowledged_ms = ?, reply = ?, last_error = NULL, lease_until_ms = 0", at_ms, reply)

    def retry(self, row_id: int, at_ms: float, reason: str, next_at_ms: float) -> None:
        """An attempt failed at `at_ms`; the next is due at `next_at_ms`. A rejection is told in the story, each reason once.

        What was rejected for an hour is left to a person (`iotcore.journal.parked`).
        """
        with self._journal.writing() as connection:
            found = "SELECT incident, channel, event, last_error FROM outbox WHERE id = ?"
            row = connection.execute(found, (row_id,)).fetchone()
            if row is None:
                return
            connection.execute(
                "UPDATE outbox SET attempts = attempts + 1, failed_ms = ?, last_error = ?, next_at_ms = ?, lease_until_ms = 0, "
                "lease_owner = NULL WHERE id = ?",
                (at_ms, reason, next_at_ms, row_id),
            )
            incident, channel, event, before = row
            failures.note(connection, incident, channel, event, reason, at_ms)
            if reason.startswith(REJECTED) and reason != before:
                story.tell(connection, incident, story.REJECTED, at_ms, channel, reason.partition(": ")[2])
            if reason.startswith(REJECTED) and parked.rejected_for_long(connection, row_id, at_ms):
                parked.give_up(connection, incident, channel, at_ms)
                log.critical("%s has REJECTED %s for too long and is asked no more: iotcore notice list", channel, incident)
            note_change(connection, "delivery", incident, self._journal.now_ms())

    def hedge(self, channel: str, alternate: str, now_ms: float, after_ms: float) -> int:
        """Post what `channel` has not had acknowledged for `after_ms` to `alternate` too, each once; how many that were.

        A copy that nobody has begun to send is withdrawn when `channel` has acknowledged after all.
        """
        asked = (channel, alternate, now_ms, after_ms)
        with self._journal.reading() as connection:
            if hedge.spare(connection, channel, alternate):
                with transaction(connection):
                    for row_id, incident, event in hedge.spare(connection, channel, alternate):
                        connection.execute("DELETE FROM outbox WHERE id = ?", (row_id,))
                        said = f"{event}: {channel} has acknowledged"
                        story.tell(connection, incident, story.WITHDRAWN, self._journal.now_ms(), alternate, said)
            if not hedge.due(connection, *asked):
                return 0
            with transaction(connection):
                found = hedge.due(connection, *asked)
                for one in found:
                    posting.post(
                        connection, alternate, one.incident, posting.notice_of(one.notice), self._journal.now_ms(), one.part
                    )
                    story.tell(
                        connection, one.incident, story.HEDGED, self._journal.now_ms(), alternate, f"{one.event}: {channel}"
                    )
        return len(found)

    def _update(self, row_id: int, assignments: str, *values: float | str) -> None:
        with self._journal.writing() as connection:
            incident = connection.execute(
                f"UPDATE outbox SET {assignments} WHERE id = ? RETURNING incident",  # noqa: S608 - constants of this module
                (*values, row_id),
            ).fetchone()
            if incident:
                note_change(connection, "delivery", incident[0], self._journal.now_ms())

"""The journal's outbox, guarded: what is on its way when the journal falls silent goes on from memory, by the emergency.

dispatcher ─► guarded ─┬─ the journal answers ─► its outbox
                       └─ stalled, or it refuses ─► emergency: adopts the notice, keeps its acknowledgement
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.emergency import Emergency
from iotcore.journal.records import OutboxRow

FRESH_S = 30.0  # since it was last ours: an older one may have been delivered by a replica, and its incident closed since
MAX_ROWS = 10_000


class Outbox(Protocol):
    """What is guarded (`iotcore.journal.outbox.SqlOutbox`)."""

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None: ...

    def renew(self, row_id: int, owner: str, now_ms: float, lease_ms: float) -> bool: ...

    def sent(self, row_id: int, at_ms: float) -> None: ...

    def acknowledged(self, row_id: int, at_ms: float, reply: str) -> None: ...

    def retry(self, row_id: int, at_ms: float, reason: str, next_at_ms: float) -> None: ...

    def hedge(self, channel: str, alternate: str, now_ms: float, after_ms: float) -> int: ...


@dataclass(slots=True)
class _Ours:
    row: OutboxRow
    seen_s: float
    sent_ms: float | None = None


class GuardedOutbox:
    """Implements `iotcore.dispatch.outbox.OutboxPort`; none of its calls waits for a journal that is known to be silent."""

    def __init__(self, outbox: Outbox, emergency: Emergency, clock: Clock) -> None:
        self._outbox = outbox
        self._emergency = emergency
        self._clock = clock
        self._ours: dict[int, _Ours] = {}
        self._lock = threading.Lock()

    def given(self, rows: Iterable[OutboxRow]) -> None:
        """A commit has made these, leased to us."""
        with self._lock:
            for row in rows:
                self._note(row)

    def stalled(self) -> None:
        """The journal does not answer: what is ours goes on from memory."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            fresh = [one.row for one in self._ours.values() if now_s - one.seen_s <= FRESH_S]
            self._ours.clear()
        self._emergency.adopt(fresh)

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None:
        """As the journal says; while it is silent there is nothing to send from it."""
        if self._emergency.stalled:
            return None
        row = self._outbox.lease(channel, owner, now_ms, lease_ms)
        if row is not None and self._emergency.handles(row.incident):
            return None  # this very call has waited for a late commit: it is on its way already, and settled in a moment
        if row is not None:
            with self._lock:
                self._note(row)
        return row

    def renew(self, row_id: int, owner: str, now_ms: float, lease_ms: float) -> bool:
        """Keep it; while the journal is silent nobody can take it."""
        if self._emergency.stalled:
            return True
        with self._lock:
            if row_id in self._ours:
                self._ours[row_id].seen_s = self._clock.monotonic_s()
        return self._outbox.renew(row_id, owner, now_ms, lease_ms)

    def sent(self, row_id: int, at_ms: float) -> None:
        """The first frame has left; a journal that does not take it holds nothing up."""
        with self._lock:
            one = self._ours.get(row_id)
            if one is not None and one.sent_ms is None:
                one.sent_ms = at_ms
        if self._emergency.stalled:
            return
        try:
            self._outbox.sent(row_id, at_ms)
        except StoreError:
            if one is None:
                raise

    def acknowledged(self, row_id: int, at_ms: float, reply: str) -> None:
        """The delivery is over; the journal is told when it answers."""
        with self._lock:
            one = self._ours.pop(row_id, None)
        if one is None or not self._emergency.stalled:
            try:
                self._outbox.acknowledged(row_id, at_ms, reply)
            except StoreError:
                if one is None:
                    raise
            else:
                return
        self._emergency.adopt([one.row])
        self._emergency.settle(one.row.incident, one.row.channel, at_ms, reply, one.sent_ms)

    def retry(self, row_id: int, at_ms: float, reason: str, next_at_ms: float) -> None:
        """An attempt failed; without the journal the next one is the emergency's."""
        with self._lock:
            one = self._ours.get(row_id)
        if one is None or not self._emergency.stalled:
            try:
                self._outbox.retry(row_id, at_ms, reason, next_at_ms)
            except StoreError:
                if one is None:
                    raise
            else:
                return
        with self._lock:
            self._ours.pop(row_id, None)
        self._emergency.adopt([one.row])

    def hedge(self, channel: str, alternate: str, now_ms: float, after_ms: float) -> int:
        """As the journal says; while it is silent the emergency hedges its own."""
        return 0 if self._emergency.stalled else self._outbox.hedge(channel, alternate, now_ms, after_ms)

    def _note(self, row: OutboxRow) -> None:
        self._ours.pop(row.id, None)
        self._ours[row.id] = _Ours(row, self._clock.monotonic_s())
        if len(self._ours) > MAX_ROWS:
            del self._ours[next(iter(self._ours))]

"""An outbox in memory: the dispatcher's tests run on it, and `OutboxContract` proves that it behaves as the journal does."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, replace

import msgspec

from iotcore.clock import Clock, SystemClock
from iotcore.errors import StoreFull
from iotcore.journal.records import LEASE_MS, Event, OutboxRow
from iotcore.journal.timeline import Delivery
from tests.support.fire import notice

MAX_WAIT_MS = 120_000.0


@dataclass
class _Kept:
    row: OutboxRow
    created_ms: float = 0.0
    owner: str | None = None
    until_ms: float = 0.0
    next_at_ms: float = 0.0
    attempts: int = 0
    sent_ms: float | None = None
    acknowledged_ms: float | None = None
    reply: str | None = None
    last_error: str | None = None


class MemoryOutbox:
    """Implements `OutboxPort` and `Bench`. While `full` is set, every call says that the disk is full."""

    def __init__(self, channels: tuple[str, ...] = ("arc", "cad"), clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.full = False
        self.leases = 0
        self.renewals = 0
        self.created_ms = 0.0  # when what is posted is said to have been made; 0: now
        self._channels = channels
        self._rows: list[_Kept] = []
        self._lock = threading.Lock()
        self._numbers = {channel: itertools.cycle(range(1, 10_000)) for channel in channels}

    @property
    def outbox(self) -> MemoryOutbox:
        return self

    def alarm(self, premises: str, created_ms: float = 0.0) -> str:
        self.created_ms = created_ms
        incident = f"F20261122-020000-{len(self._rows):06X}"
        self._post(incident, premises, "alarm")
        return incident

    def restore(self, incident: str) -> None:
        self._post(incident, "p1", "restore")

    def update(self, incident: str) -> None:
        self._post(incident, "p1", "update", 1)

    def deliveries(self, incident: str) -> list[Delivery]:
        with self._lock:
            return [
                Delivery(
                    one.row.channel,
                    one.row.notice.event,
                    one.attempts,
                    one.sent_ms,
                    one.acknowledged_ms,
                    one.reply,
                    one.last_error,
                )
                for one in self._rows
                if one.row.incident == incident
            ]

    def _post(self, incident: str, premises: str, event: Event, part: int = 0) -> None:
        told = msgspec.structs.replace(notice(premises=premises), incident=incident, event=event)
        with self._lock:
            for channel in self._channels:
                row = OutboxRow(len(self._rows), incident, channel, next(self._numbers[channel]), 0, told, part)
                self._rows.append(_Kept(row, created_ms=self.created_ms or self._clock.wall_ms()))

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None:
        with self._locked():
            open_incidents = set()
            for one in self._rows:
                if one.row.channel != channel or one.acknowledged_ms is not None:
                    continue
                first = one.row.incident not in open_incidents
                if one.row.notice.event != "update":
                    open_incidents.add(one.row.incident)
                due = not now_ms < one.next_at_ms <= now_ms + MAX_WAIT_MS
                free = one.owner in (None, owner) or not now_ms < one.until_ms <= now_ms + MAX_WAIT_MS
                if first and due and free:
                    self.leases += 1
                    one.owner, one.until_ms = owner, now_ms + lease_ms
                    return replace(one.row, attempts=one.attempts)
        return None

    def lease_all(self, owner: str, now_ms: float) -> list[OutboxRow]:
        """Lease what there is, as the commit that makes the notices does."""
        with self._locked():
            for one in self._rows:
                one.owner, one.until_ms = owner, now_ms + LEASE_MS
            return [one.row for one in self._rows]

    def renew(self, row_id: int, owner: str, now_ms: float, lease_ms: float) -> bool:
        with self._locked():
            one = self._rows[row_id]
            if one.owner != owner or one.acknowledged_ms is not None:
                return False
            self.renewals += 1
            one.until_ms = now_ms + lease_ms
            return True

    def sent(self, row_id: int, at_ms: float) -> None:
        with self._locked():
            one = self._rows[row_id]
            one.sent_ms = at_ms if one.sent_ms is None else one.sent_ms

    def acknowledged(self, row_id: int, at_ms: float, reply: str) -> None:
        with self._locked():
            one = self._rows[row_id]
            one.acknowledged_ms, one.reply, one.last_error = at_ms, reply, None

    def retry(self, row_id: int, at_ms: float, reason: str, next_at_ms: float) -> None:
        del at_ms
        with self._locked():
            one = self._rows[row_id]
            one.attempts += 1
            one.last_error, one.next_at_ms, one.owner = reason, next_at_ms, None

    def hedge(self, channel: str, alternate: str, now_ms: float, after_ms: float) -> int:
        with self._locked():
            told = {(one.row.incident, one.row.notice.event, one.row.part) for one in self._rows if one.row.channel == alternate}
            due = [
                one.row
                for one in self._rows
                if one.row.channel == channel
                and one.acknowledged_ms is None
                and one.row.notice.event != "restore"
                and not now_ms - after_ms < one.created_ms <= now_ms + after_ms
                and (one.row.incident, one.row.notice.event, one.row.part) not in told
            ]
            for row in due:
                number = next(self._numbers.setdefault(alternate, itertools.cycle(range(1, 10_000))))
                twin = OutboxRow(len(self._rows), row.incident, alternate, number, 0, row.notice, row.part)
                self._rows.append(_Kept(twin, created_ms=now_ms))
            return len(due)

    def _locked(self) -> threading.Lock:
        if self.full:
            raise StoreFull("the test's disk is full")
        return self._lock

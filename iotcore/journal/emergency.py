"""Emergency: fires that the journal did not take in time are kept in the emergency log and sent at once; it has them later.

    commit fails or is late ─► take: same incident id, own number ─► emergency log ─► send ─► acknowledged ─► emergency log
                                                                                     │ journal answers again
    what the journal had leased to us and nobody acknowledged ─► adopt ──────────────┘ └► carried: one commit ─► freed

An incident's name follows from what raised it, so that this process, its replicas and the journal name the same fire alike. An
open incident of the premises is joined, not opened again: its first notice says where it burns. A hold does not count here:
nobody could end it. Rows are sent until their receiver acknowledges, also after a restart; what the journal takes over keeps its
number and its acknowledgement. What the log cannot take is in memory alone, and sent all the same.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from iotcore.clock import Clock
from iotcore.journal.emergency_log import Answered, EmergencyLog, Freed, Opened, Record
from iotcore.journal.records import Carried, OutboxRow, Raise

log = logging.getLogger(__name__)

FIRST_NUMBER = 9_000  # the journal's own DC-09 numbers end below: a receiver never sees one number for two notices
NUMBERS = 250  # of each replica: 9000-9249, 9250-9499, …
ADOPT_AFTER_MS = 1_000.0  # a row that is on its way already has so long to be acknowledged, the length of a lease
MAX_ROWS = 40_000  # of ten channels, 4,000 fires: as many as the log holds


@dataclass(slots=True)
class _Way:
    """One notice to one channel. `opened` is None for one that the journal had before it fell silent."""

    row: OutboxRow
    opened: Opened | None
    attempts: int = 0
    next_at_ms: float = 0.0
    until_ms: float = 0.0  # leased to a send
    sent_ms: float | None = None
    answered: Answered | None = None

    def now(self) -> OutboxRow:
        """The row as it stands, with its attempts."""
        row = self.row
        return OutboxRow(row.id, row.incident, row.channel, row.number, self.attempts, row.notice)


class Emergency:
    """Of one replica; implements `iotcore.dispatch.outbox.OutboxPort`. Safe to call from any thread.

    `name` gives the incident that a cause opens. `stalled` is set by whoever commits: the journal does not answer.
    """

    def __init__(
        self, kept: EmergencyLog, channels: Iterable[str], clock: Clock, name: Callable[[Raise], str], *, replica: int = 1
    ) -> None:
        self.stalled = False
        self.unlogged = 0  # fires that are in memory alone
        self.taken = 0  # fires that were sent from here, since the start
        self._log = kept
        self._channels = tuple(channels)
        self._clock = clock
        self._name = name
        self._first = FIRST_NUMBER + (replica - 1) * NUMBERS
        self._next = 0
        self._ids = itertools.count(1)
        self._ways: dict[tuple[str, str], _Way] = {}  # incident, channel → its notice
        self._keys: dict[int, tuple[str, str]] = {}  # by the id of the row
        self._premises: dict[str, str] = {}  # premises → the incident that is open there, here or in the journal
        self._lock = threading.RLock()  # of what is in memory; never held while the disk is waited for
        self._disk = threading.Lock()  # of the log, in calls that block

    @property
    def fires(self) -> int:
        """How many of them the journal does not have."""
        with self._lock:
            return len({incident for incident, _ in self._ways})

    def open(self) -> int:
        """Read what the last run left; how many fires of it the journal does not have."""
        with self._disk:
            found = self._log.open()
            with self._lock:
                early = bool(self._ways)
                for record in found:
                    self._replay(record)
            if early:  # a fire that came while it was being opened
                self._log.rewrite(self._records())
        return self.fires

    def close(self) -> None:
        """Close the log; what it holds stays."""
        with self._disk:
            self._log.close()

    @property
    def has_room(self) -> bool:
        """Whether the log's room is put aside."""
        return self._log.held

    # What the lane says

    def note_open(self, premises: str, incident: str) -> None:
        """An incident is open there, by the journal."""
        with self._lock:
            self._premises[premises] = incident

    def note_closed(self, premises: str) -> None:
        """None is, any more."""
        with self._lock:
            self._premises.pop(premises, None)

    def burns(self, premises: str) -> bool:
        """Whether an incident is open there, as far as is known."""
        with self._lock:
            return premises in self._premises

    def note_all_open(self, found: Mapping[str, str]) -> None:
        """These are open, by the journal, and no others but what began here."""
        with self._lock:
            ours = {way.row.notice.premises: way.row.incident for way in self._ways.values() if way.opened is not None}
            self._premises = {**ours, **found}

    def take(self, raises: Iterable[Raise]) -> list[Opened]:
        """Of these live fires, those that begin an incident: they are on their way from now on. Keep them with `keep`."""
        found = []
        with self._lock:
            for cause in raises:
                premises = cause.notice.premises
                if premises in self._premises:
                    continue
                incident = self._premises[premises] = self._name(cause)
                told = [channel for channel in self._channels if channel in cause.receivers] or self._channels
                numbers = dict.fromkeys(told, self._number())
                opened = Opened(incident, self._clock.wall_ms(), cause, numbers)
                self._put(opened)
                self.taken += 1
                found.append(opened)
        return found

    def keep(self, opened: Sequence[Record]) -> bool:
        """Write them to the log; blocks, and stops nobody who does not. False: they are in memory alone, which is loud."""
        with self._disk:
            if self._log.append(opened) or self._log.rewrite(self._records()):
                return True
        fires = sum(isinstance(one, Opened) for one in opened)
        self.unlogged += fires
        if fires:
            log.critical("the emergency log does not take %d fires: they are in memory alone, and sent all the same", fires)
        return False

    def adopt(self, rows: Iterable[OutboxRow]) -> int:
        """Go on with notices that the journal has and that are on their way; how many are new here."""
        count = 0
        with self._lock:
            for row in rows:
                key = (row.incident, row.channel)
                if key in self._ways or row.notice.event != "alarm" or len(self._ways) >= MAX_ROWS:
                    continue
                ours = OutboxRow(next(self._ids), row.incident, row.channel, row.number, row.attempts, row.notice)
                self._add(_Way(ours, None, row.attempts, self._clock.wall_ms() + ADOPT_AFTER_MS))
                count += 1
        return count

    def settle(self, incident: str, channel: str, at_ms: float, reply: str, sent_ms: float | None = None) -> None:
        """A receiver has acknowledged a notice; the journal could not be told."""
        with self._lock:
            way = self._ways.get((incident, channel))
            if way is None or way.answered is not None:
                return
            way.answered = answered = Answered(incident, channel, way.sent_ms or sent_ms, at_ms, reply)
        if way.opened is not None:
            self.keep([answered])

    def handles(self, incident: str) -> bool:
        """Whether its notices are on their way from here."""
        with self._lock:
            return any(key[0] == incident for key in self._ways)

    # What the journal takes over

    def carried(self) -> tuple[Carried, ...]:
        """All that the journal does not have yet, to be made part of a commit."""
        now_ms = self._clock.wall_ms()
        with self._lock:
            return tuple(
                Carried(
                    incident=way.row.incident,
                    channel=way.row.channel,
                    number=way.row.number,
                    cause=way.opened.cause if way.opened else None,
                    attempts=way.attempts,
                    sent_ms=way.answered.sent_ms if way.answered else way.sent_ms,
                    acknowledged_ms=way.answered.at_ms if way.answered else None,
                    reply=way.answered.reply if way.answered else None,
                    busy=way.answered is None and way.until_ms > now_ms,
                )
                for way in self._ways.values()
            )

    def freed(self, carried: Iterable[Carried]) -> None:
        """The journal has these as they were; blocks. One that is being sent, or was acknowledged since, is carried once more."""
        with self._lock:
            gone = set[str]()
            for one in carried:
                way = self._ways.get((one.incident, one.channel))
                if way is not None and not one.busy and (way.answered is None or one.acknowledged_ms is not None):
                    self._drop((one.incident, one.channel))
                    gone.add(one.incident)
            freed = [Freed(incident) for incident in gone if not any(key[0] == incident for key in self._ways)]
            none_left = not self._ways
        if not freed:
            return
        with self._disk:
            if not ((not none_left and self._log.append(freed)) or self._log.rewrite(self._records())):
                log.error("what the journal has taken over stays in the emergency log, and is sent again after a restart")

    # The outbox, for the dispatcher. Times are ms UTC on its clock

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None:  # noqa: ARG002 - ours alone
        """The oldest notice that is due."""
        with self._lock:
            for (_, of), way in self._ways.items():
                if of == channel and way.answered is None and max(way.next_at_ms, way.until_ms) <= now_ms:
                    way.until_ms = now_ms + lease_ms
                    return way.now()
        return None

    def renew(self, row_id: int, owner: str, now_ms: float, lease_ms: float) -> bool:  # noqa: ARG002 - ours alone
        """Keep a leased notice; False when the journal has it by now."""
        with self._lock:
            way = self._of(row_id)
            if way is not None:
                way.until_ms = now_ms + lease_ms
            return way is not None

    def sent(self, row_id: int, at_ms: float) -> None:
        """The first frame has left."""
        with self._lock:
            way = self._of(row_id)
            if way is not None and way.sent_ms is None:
                way.sent_ms = at_ms

    def acknowledged(self, row_id: int, at_ms: float, reply: str) -> None:
        """The receiver's own acknowledgement is here."""
        with self._lock:
            way = self._of(row_id)
        if way is not None:
            self.settle(way.row.incident, way.row.channel, at_ms, reply)

    def retry(self, row_id: int, at_ms: float, reason: str, next_at_ms: float) -> None:  # noqa: ARG002 - the dispatcher logs it
        """An attempt failed; the next is due at `next_at_ms`."""
        with self._lock:
            way = self._of(row_id)
            if way is not None:
                way.attempts += 1
                way.next_at_ms, way.until_ms = next_at_ms, 0.0

    def hedge(self, channel: str, alternate: str, now_ms: float, after_ms: float) -> int:
        """Tell the alternate what its primary has not acknowledged in time; how many notices that is."""
        with self._lock:
            late = [
                way
                for (incident, of), way in self._ways.items()
                if of == channel and way.answered is None and way.opened is not None
                and way.opened.at_ms <= now_ms - after_ms and (incident, alternate) not in self._ways
            ]  # fmt: skip
            for way in late:
                row = OutboxRow(next(self._ids), way.row.incident, alternate, way.row.number, 0, way.row.notice)
                self._add(_Way(row, way.opened))
        return len(late)

    def _of(self, row_id: int) -> _Way | None:
        key = self._keys.get(row_id)
        return self._ways.get(key) if key is not None else None

    def _put(self, opened: Opened) -> None:
        notice = structs.replace(opened.cause.notice, incident=opened.incident)
        for channel, number in opened.numbers.items():
            if (opened.incident, channel) in self._ways:
                continue
            self._add(_Way(OutboxRow(next(self._ids), opened.incident, channel, number, 0, notice), opened))

    def _add(self, way: _Way) -> None:
        key = (way.row.incident, way.row.channel)
        self._ways[key] = way
        self._keys[way.row.id] = key

    def _drop(self, key: tuple[str, str]) -> None:
        way = self._ways.pop(key, None)
        if way is not None:
            del self._keys[way.row.id]

    def _number(self) -> int:
        number = self._first + self._next
        self._next = (self._next + 1) % NUMBERS
        return number

    def _replay(self, record: Record) -> None:
        if isinstance(record, Opened):
            self._put(record)
            self._premises[record.cause.notice.premises] = record.incident
            self._next = max((n - self._first + 1 for n in record.numbers.values()), default=0) % NUMBERS
        elif isinstance(record, Answered):
            way = self._ways.get((record.incident, record.channel))
            if way is not None:
                way.answered = record
        else:
            for key in [key for key in self._ways if key[0] == record.incident]:
                self._drop(key)

    def _records(self) -> list[Record]:
        """What still counts, for the other area."""
        with self._lock:
            ways = [way for way in self._ways.values() if way.opened is not None]
        opened = {way.row.incident: way.opened for way in ways if way.opened is not None}
        return [*opened.values(), *(way.answered for way in ways if way.answered is not None)]

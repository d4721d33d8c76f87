"""What one turn of the fire lane gathers: arrivals decoded, refused or deduplicated, judged by the rules, thinned where too many.

                       ┌─ drill ─► rules, apart ─────────────────► its own row, unless a fire is in the turn
    arrival ─► decode ─┼─ refused ───────────────────────────────► quarantine
                       ├─ presence ──────────────────────────────► faults
                       └─ reading ─► known? ─► rules ─► throttle ─► stored, coalesced or counted

Every reading meets the rules, whatever the rate; throttling decides only what is stored. Nothing here is durable: a turn is
carried to the journal by `lane_commit`, or forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from iotcore import metrics
from iotcore.alarms.coalesce import Coalescing
from iotcore.alarms.decisions import Decision
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.drilled import Drilled
from iotcore.alarms.engine import Engine
from iotcore.alarms.judged import Judged
from iotcore.alarms.lane_notice import is_live_fire, old, raised
from iotcore.alarms.lane_timers import LaneTimers
from iotcore.alarms.supervised import NOTHING_TOLD, Supervised
from iotcore.clock import Clock
from iotcore.journal.conduct import Conduct
from iotcore.journal.faults import Faults
from iotcore.journal.journal import Journal
from iotcore.journal.progress import Progress, Stage
from iotcore.journal.quarantine import Row
from iotcore.journal.records import Batch, Cleared, Raise, Tried
from iotcore.journal.retry import handled
from iotcore.journal.skew import Skews
from iotcore.journal.throttle import Throttle
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.wire.arrival import DRILL_REFUSED, Arrival, Decoded, Presence, Refusal

log = logging.getLogger(__name__)

Decode = Callable[[Arrival, Directory, float], Decoded]


@dataclass(slots=True)
class Turn:
    """What one turn gathers before its commit."""

    stage: Stage
    readings: list[Reading] = field(default_factory=list)
    raises: list[Raise] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    presence: dict[str, bool] = field(default_factory=dict)
    cleared: list[Cleared] = field(default_factory=list)
    late: list[tuple[int, Decision, Reading]] = field(default_factory=list)  # with the place of its raise
    drills: list[Tried] = field(default_factory=list)
    throttled: int = 0
    settled: tuple[int, ...] = ()  # rows of the quarantine that are tried again
    returned: list[Refusal] = field(default_factory=list)
    alarms_only: bool = False
    by_time: bool = False  # no reading decided: a timer did
    fires_only: bool = False  # the journal does not answer, and as much waits for it as may
    left: int = 0  # readings that were understood and not taken
    unkept: int = 0  # what is neither stored nor receipted for want of a journal: its sender says it again

    @property
    def fires(self) -> list[Raise]:
        """What must reach a receiver, whatever the journal does."""
        return [one for one in self.raises if is_live_fire(one)]


class Gathering:
    """What the lane knows of its devices while it gathers; one for a lane, used by one turn at a time."""

    def __init__(
        self,
        decode: Decode,
        directory: Callable[[], Directory],
        engine: Engine,
        journal: Journal,
        clock: Clock,
        *,
        throttle: Throttle,
        configured: Callable[[Presence], None],
        supervised: Supervised | None = None,
        exempt: Exempt | None = None,
        drilled: Drilled,
    ) -> None:
        standing, now_s = journal.standing_faults(), clock.monotonic_s()
        self.decode = decode
        self.directory = directory
        self.engine = engine
        self.faults = Faults(standing)
        self.duplicates = self.throttled = 0
        self._clock = clock
        self._configured = configured
        self._progress = Progress(journal.progress(), now_s)
        self._throttle = throttle
        self._coalescing = Coalescing()
        self._skews = Skews()
        self._conduct = Conduct("fire", standing, now_s)
        self._conduct.tracked(self._progress, self._progress.tracks, now_s, clock.wall_ms())
        self._supervised = supervised
        self._exempt = exempt or Exempt()
        self._drilled = drilled
        self._judged = Judged()
        engine.excuse(lambda *one: self._exempt.excused(self.directory(), *one))
        self.timers = LaneTimers(engine, clock)

    def begin(self, *, alarms_only: bool = False, fires_only: bool = False) -> Turn:
        """An empty turn. Its batch must be made before the next one begins."""
        return Turn(self._progress.stage(self._clock.monotonic_s()), alarms_only=alarms_only, fires_only=fires_only)

    def batch(self, turn: Turn) -> Batch:
        """The turn as one transaction. From now on its readings count as handled: a batch is never given up, only late."""
        peaks = self._coalescing.take_peaks()
        turn.readings += peaks
        self.throttled += turn.throttled - len(peaks)
        now_s = self._clock.monotonic_s()
        self._conduct.tracked(self._progress, turn.stage.changed, now_s, self._clock.wall_ms())
        for device in self._conduct.judge(self.faults, self._throttle, now_s):
            self._coalescing.forget(device)
        skews = self._skews.take_measured()
        for skew_ms in skews.values():
            metrics.clock_skew.labels("fire").observe(skew_ms / 1000.0)
        told = self._supervised.commit(self.faults) if self._supervised is not None else NOTHING_TOLD
        raised, cleared = self.faults.take()
        self._progress.apply(turn.stage.changed)
        return Batch(
            readings=tuple(turn.readings),
            raises=(*turn.raises, *told.raises),
            cleared_alarms=(*turn.cleared, *told.cleared),
            refusals=tuple(turn.refusals),
            faults=raised,
            cleared=cleared,
            presence=tuple(turn.presence.items()),
            progress=tuple(turn.stage.rows()),
            conduct=tuple(self._conduct.take(skews)),
            settled=turn.settled,
            returned=tuple(turn.returned),
            heard=told.heard,
            timers=self.timers.changed(),
            drills=() if turn.fires else tuple(turn.drills),  # a fire waits for nothing; a drill is said again
        )

    def gather(self, arrivals: Sequence[Arrival], turn: Turn) -> None:
        """All that these arrivals say, into the turn. One that our own code fails on is refused, and stops no other."""
        directory = self.directory()
        for arrival in arrivals:
            try:
                self._gather(arrival, directory, turn)
            except Exception as error:
                log.exception("a message on %s failed in our own code", arrival.topic)
                turn.refusals.append(Refusal("crashed", repr(error), arrival.topic, "", arrival.payload))
        self._look_back(turn)
        for refusal in turn.refusals:
            if refusal.device in directory.devices:
                self.faults.refused(refusal)
            elif refusal.reason.startswith(DRILL_REFUSED):
                self._drilled.refused(refusal)
            metrics.refused.labels("fire", refusal.reason.partition(":")[0]).inc()
        if turn.fires_only:
            turn.unkept += len(turn.refusals) + len(turn.presence)
            turn.refusals.clear()
            turn.presence.clear()

    def _gather(self, arrival: Arrival, directory: Directory, turn: Turn) -> None:
        decoded = self.decode(arrival, directory, self._clock.wall_ms())
        turn.refusals += [handled(one, turn.stage) if one.identities and not turn.fires_only else one for one in decoded.refusals]
        if decoded.presence is not None:
            self._note_presence(decoded.presence, directory, turn)
        if decoded.drill and not turn.fires_only:
            device = decoded.drill[-1].device
            turn.drills.append(self._drilled.judged(decoded.drill, directory.devices[device], directory, self._clock.wall_ms()))
        for reading in decoded.readings:
            self._take(reading, arrival, directory.devices[reading.device], turn)

    def take_again(self, reading: Reading, row: Row, binding: Binding, turn: Turn) -> None:
        """What the row was kept for is stored though it counts as handled; anything else only if it is new."""
        identity = (reading.boot, reading.seq)
        if not turn.stage.take(reading.device, *identity) and identity not in row.identities and row.reason != "unknown_point":
            return
        turn.readings.append(reading)
        told = self.engine.evaluate(reading, binding, old=old(reading), now_s=self._clock.monotonic_s())
        self._decided(told, reading, binding, turn)

    def _take(self, reading: Reading, arrival: Arrival, binding: Binding, turn: Turn) -> None:
        if binding.domain != "fire":
            detail = f"{binding.device} is of domain {binding.domain}: it belongs on the field broker"
            turn.refusals.append(Refusal("wrong_broker", detail, arrival.topic, binding.device, arrival.payload))
            turn.left += 1
            return
        if self._is_repeat(reading, turn):
            return
        now_s = self._clock.monotonic_s()
        reading = self._skews.judge(reading, now_s)
        if self._supervised is not None:
            self._supervised.heard(reading, binding, now_s)
        again = bool(self._judged) and reading in self._judged
        told = [] if again else self.engine.evaluate(reading, binding, old=old(reading), now_s=now_s)
        decisions = [one for one in told if one.change == "raise"]
        if turn.alarms_only and (again or not self.engine.alarming(reading, old=old(reading))):
            self._leave(reading, told, arrival, turn)
            return
        fires = [d for d in decisions if d.severity == "alarm"]
        if turn.fires_only and (not fires or reading.test or old(reading)):
            self.engine.take_back(told, reading, old=old(reading))
            self._judged.add(reading)
            turn.unkept += 1
            return
        if reading.retained and not fires:
            turn.refusals.append(
                Refusal("retained", "a retained reading is history", arrival.topic, reading.device, arrival.payload)
            )
            return
        turn.stage.add(reading.device, reading.boot, reading.seq)
        if self._throttle.admit(reading.device, binding.spec.interval_s, now_s, backlog=reading.backlog):
            self._coalescing.admitted(reading)
            turn.readings.append(reading)
        elif self._coalescing.keeps(reading, decided=bool(decisions)):
            turn.readings.append(reading)
        else:
            turn.throttled += 1
        self.faults.accepted(reading)
        self._decided(told, reading, binding, turn)
        if decisions and reading.backlog:
            turn.late += [(len(turn.raises) - n, decision, reading) for n, decision in enumerate(decisions[::-1], 1)]

    def _decided(self, told: Sequence[Decision], reading: Reading, binding: Binding, turn: Turn) -> None:
        """What the rules said of a reading that is taken."""
        for decision in told:
            if decision.change == "raise":
                turn.raises.append(self._raise(decision, reading, binding))
            else:
                self._end(decision, reading, turn)

    def tick(self, turn: Turn) -> None:
        """What time has decided by now, into the turn; the cause is the reading that armed it."""
        directory = self.directory()
        for timed in self.engine.tick(self._clock.monotonic_s()):
            binding = directory.devices.get(timed.reading.device)
            if binding is None:
                continue
            if timed.decision.change == "clear":
                self._end(timed.decision, timed.reading, turn)
            else:
                one = self._raise(timed.decision, timed.reading, binding)
                turn.raises.append(replace(one, historical=one.historical or timed.old))

    def _end(self, decision: Decision, reading: Reading, turn: Turn) -> None:
        """A rule holds no more, by the live stream: a test or what is late ends nothing."""
        if not (reading.test or reading.backlog or reading.retained):
            turn.cleared.append(Cleared(reading.device, decision.rule, self._clock.wall_ms()))

    def _is_repeat(self, reading: Reading, turn: Turn) -> bool:
        """Whether it counts as handled already: then its sender has not seen the receipt, and this turn sends it again."""
        if turn.stage.is_new(reading.device, reading.boot, reading.seq):
            return False
        if not turn.fires_only:
            turn.stage.repeat(reading.device, reading.boot, reading.seq)
        metrics.duplicates.labels("fire").inc()
        self.duplicates += 1
        return True

    def _leave(self, reading: Reading, decisions: Sequence[Decision], arrival: Arrival, turn: Turn) -> None:
        """It came where only alarms are taken, and is none. One refusal says it for a whole message."""
        if decisions:
            self.engine.take_back(decisions, reading, old=old(reading))
        self._judged.add(reading)
        if not turn.left:
            detail = f"the certificate that {arrival.topic.split('/')[3]} has shown has run out: only alarms are taken"
            turn.refusals.append(Refusal("expired", detail, arrival.topic, reading.device, arrival.payload))
        turn.left += 1

    def _look_back(self, turn: Turn) -> None:
        """A late fire that is over by what its device has told since is a record; one of which nothing more is told is not."""
        for at, decision, reading in turn.late:
            if self.engine.cleared(decision, reading):
                turn.raises[at] = replace(turn.raises[at], historical=True)

    def _note_presence(self, presence: Presence, directory: Directory, turn: Turn) -> None:
        """A will or a birth; a gateway's will is the trouble of all its fire children."""
        self._configured(presence)
        turn.presence[presence.device] = online = presence.message.state == "online"
        if online:
            self.faults.online(presence.device)
            return
        children = [b.device for b in directory.devices.values() if b.publisher == presence.device and b.domain == "fire"]
        for device in (presence.device, *children):
            self.faults.offline(device)

    def _raise(self, decision: Decision, reading: Reading, binding: Binding) -> Raise:
        directory = self.directory()
        one = raised(decision, reading, binding, directory, self._clock.wall_ms())
        return self._exempt.judged(one, reading, binding, directory, immediate=decision.immediate)

"""What one turn of the fire lane gathers: arrivals decoded, refused or deduplicated, judged by the rules, thinned where too many.

    arrival ─► decode ─┬─ refused ───────────────────────────────► quarantine
                       ├─ presence ──────────────────────────────► faults
                       └─ reading ─► known? ─► rules ─► throttle ─► stored, coalesced or counted

Every reading meets the rules, whatever the rate; throttling decides only what is stored. Nothing here is durable: a turn is
carried to the journal by `lane_commit`, or forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from iotcore import metrics
from iotcore.alarms.coalesce import Coalescing
from iotcore.alarms.decisions import Decision
from iotcore.alarms.disabled import Exempt
from iotcore.alarms.engine import Engine
from iotcore.alarms.judged import Judged
from iotcore.alarms.lane_notice import old, raised
from iotcore.clock import Clock
from iotcore.journal.faults import Faults
from iotcore.journal.progress import Stage
from iotcore.journal.quarantine import Row
from iotcore.journal.records import Raise
from iotcore.journal.retry import handled
from iotcore.journal.skew import Skews
from iotcore.journal.throttle import Throttle
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.wire.arrival import Arrival, Decoded, Presence, Refusal

Decode = Callable[[Arrival, Directory, float], Decoded]
Heard = Callable[[Reading, Binding, float], None]  # supervision: this device has spoken


@dataclass(slots=True)
class Turn:
    """What one turn gathers before its commit."""

    stage: Stage
    readings: list[Reading] = field(default_factory=list)
    raises: list[Raise] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    presence: dict[str, bool] = field(default_factory=dict)
    late: list[tuple[int, Decision, Reading]] = field(default_factory=list)  # with the place of its raise
    throttled: int = 0
    settled: tuple[int, ...] = ()  # rows of the quarantine that are tried again
    returned: list[Refusal] = field(default_factory=list)
    alarms_only: bool = False
    left: int = 0  # readings that were understood and not taken


class Gathering:
    """What the lane knows of its devices while it gathers; one for a lane, used by one turn at a time."""

    def __init__(
        self,
        decode: Decode,
        directory: Callable[[], Directory],
        engine: Engine,
        clock: Clock,
        *,
        faults: Faults,
        throttle: Throttle,
        configured: Callable[[Presence], None],
        heard: Heard,
        exempt: Exempt | None = None,
    ) -> None:
        self.decode = decode
        self.directory = directory
        self.engine = engine
        self.faults = faults
        self.throttle = throttle
        self.coalescing = Coalescing()
        self.skews = Skews()
        self.duplicates = 0
        self._clock = clock
        self._configured = configured
        self._heard = heard
        self._exempt = exempt or Exempt()
        self._judged = Judged()

    def gather(self, arrivals: Sequence[Arrival], turn: Turn) -> None:
        """All that these arrivals say, into the turn."""
        directory = self.directory()
        for arrival in arrivals:
            decoded = self.decode(arrival, directory, self._clock.wall_ms())
            turn.refusals += [handled(one, turn.stage) if one.identities else one for one in decoded.refusals]
            if decoded.presence is not None:
                self._note_presence(decoded.presence, directory, turn)
            for reading in decoded.readings:
                self._take(reading, arrival, directory.devices[reading.device], turn)
        self._look_back(turn)
        for refusal in turn.refusals:
            if refusal.device in directory.devices:
                self.faults.refused(refusal)
            metrics.refused.labels("fire", refusal.reason.partition(":")[0]).inc()

    def take_again(self, reading: Reading, row: Row, binding: Binding, turn: Turn) -> None:
        """What the row was kept for is stored though it counts as handled; anything else only if it is new."""
        identity = (reading.boot, reading.seq)
        if not turn.stage.take(reading.device, *identity) and identity not in row.identities and row.reason != "unknown_point":
            return
        turn.readings.append(reading)
        told = self.engine.evaluate(reading, binding, old=old(reading), now_s=self._clock.monotonic_s())
        turn.raises += [self._raise(decision, reading, binding) for decision in told if decision.opens]

    def _take(self, reading: Reading, arrival: Arrival, binding: Binding, turn: Turn) -> None:
        if binding.domain != "fire":
            detail = f"{binding.device} is of domain {binding.domain}: it belongs on the field broker"
            turn.refusals.append(Refusal("wrong_broker", detail, arrival.topic, binding.device, arrival.payload))
            turn.left += 1
            return
        if not turn.stage.is_new(reading.device, reading.boot, reading.seq):
            turn.stage.repeat(reading.device, reading.boot, reading.seq)
            metrics.duplicates.labels("fire").inc()
            self.duplicates += 1
            return
        now_s = self._clock.monotonic_s()
        reading = self.skews.judge(reading, now_s)
        self._heard(reading, binding, now_s)
        again = bool(self._judged) and reading in self._judged
        told = [] if again else self.engine.evaluate(reading, binding, old=old(reading), now_s=now_s)
        decisions = [one for one in told if one.opens]
        if turn.alarms_only and (again or not self.engine.alarming(reading, old=old(reading))):
            self._leave(reading, told, arrival, turn)
            return
        fires = [d for d in decisions if d.severity == "alarm"]
        if reading.retained and not fires:
            turn.refusals.append(
                Refusal("retained", "a retained reading is history", arrival.topic, reading.device, arrival.payload)
            )
            return
        turn.stage.add(reading.device, reading.boot, reading.seq)
        if self.throttle.admit(reading.device, binding.spec.interval_s, now_s, backlog=reading.backlog):
            self.coalescing.admitted(reading)
            turn.readings.append(reading)
        elif self.coalescing.keeps(reading, decided=bool(decisions)):
            turn.readings.append(reading)
        else:
            turn.throttled += 1
        self.faults.accepted(reading)
        turn.raises += [self._raise(decision, reading, binding) for decision in decisions]
        if decisions and reading.backlog:
            turn.late += [(len(turn.raises) - n, decision, reading) for n, decision in enumerate(decisions[::-1], 1)]

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


def unheard(reading: Reading, binding: Binding, now_s: float) -> None:
    """Nobody supervises this lane."""

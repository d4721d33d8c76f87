"""Frozen records that the journal keeps and hands out. Times are milliseconds UTC, with fractions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from iotcore.journal.conduct import Row as Conducted
from iotcore.journal.facts import Measured, Near, Number, Person
from iotcore.journal.heard import NOTHING, Stored
from iotcore.journal.progress import Row
from iotcore.reading import Reading
from iotcore.registry.directory import InTest
from iotcore.wire.arrival import Refusal

FIRE_SEVERITY = "alarm"  # the only severity that opens an incident and is dispatched
LEASE_MS = 1000.0  # a dead process's notices are taken over after this (wire contract)

Severity = Literal["pre-alarm", "alarm", "supervisory", "trouble", "advisory"]
Event = Literal["alarm", "update", "restore", "test"]  # an update: a later point of the same episode, or facts that came after


Purpose = Literal["fire", "exercise", "test"]
Outage = Literal["disablement", "walk"]


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a receiver is told: enough to send a crew without asking back.

    Fields with a default came later: what was stored before them is read with the default.
    """

    incident: str
    event: Event
    hazard: str  # smoke | heat | co | manual | flame | waterflow | fire (a panel that does not say what kind)
    severity: Severity
    premises: str
    premises_name: str
    address: str
    latitude: float
    longitude: float
    account: str
    zone: str
    zone_number: int
    zone_name: str
    floor: str
    device: str
    point: str
    value: float | bool | str | None
    unit: str
    rule: str
    reason: str
    occurred_ms: float
    delayed: bool = False
    unconfirmed: bool = False
    title: str = ""  # what people call the detector
    location: str = ""  # where in the building it hangs
    risk_class: str = ""  # of the building: low | medium | high | very_high
    hydrants: str = ""
    people: tuple[Person, ...] = ()  # who has the keys first
    signals: tuple[Near, ...] = ()  # traffic signals, the nearest first
    stations: tuple[Near, ...] = ()  # air stations, likewise
    air: tuple[Measured, ...] = ()  # what they measured last; never in the first message, which waits for nothing
    numbers: tuple[Number, ...] = ()  # to be called, in this order
    decided_ms: float = 0.0  # of the incident's first alarm; 0 in what was stored before it was kept
    made_ms: float = 0.0  # of this message, where it is not the first
    purpose: Purpose = "fire"
    points: tuple[str, ...] = ()  # of the episode so far, "device/point", first-in first
    escalated: int = 0  # the step of the ladder by which it is told again: nobody has acknowledged it
    owner_said: str = ""  # confirmed | denied, by the owner, in parallel
    outage: Outage | Literal[""] = ""  # no alarm: something is out of service or in walk test, of a restore no longer


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One notice on its way to one channel. `number` is the channel's own sequence number (1–9999): a re-send repeats it."""

    id: int
    incident: str
    channel: str
    number: int
    attempts: int
    notice: Notice
    part: int = 0  # of updates: 1, 2, …


@dataclass(frozen=True, slots=True)
class Hold:
    """How long a new incident's notices wait: `t1_s` for an acknowledgement, and from there `t2_s` for a reset (`held`)."""

    t1_s: float
    t2_s: float


@dataclass(frozen=True, slots=True)
class Raise:
    """A decision to alarm: one transaction makes of it a cause, an alarm, an incident (or joins one) and outbox rows.

    `notice` is complete but for the incident's id. A `test`, `historical` or `disabled` one is recorded and never dispatched.
    One without a `hold` (a call point, waterflow, a plan that asks for none) ends the hold of the incident that it joins.
    """

    boot: str
    seq: int
    notice: Notice
    detector_ms: float
    received_ms: float
    decided_ms: float
    test: bool = False
    historical: bool = False
    in_test: InTest | None = None  # the test mode that its device was in, of a live fire or a marked one
    can_mark: bool = True  # its device has a way to say that it is tested
    hold: Hold | None = None
    latched: bool = True  # it stands until a reset; a fire always does
    disabled: str = ""  # the disablement that its point is under
    walk: str = ""  # the walk test that it proves something in; it is a `test` then
    points: tuple[str, ...] = ()  # "device/point" that corroborate it
    receivers: tuple[str, ...] = ()  # channels to be told; empty, or none of them known: all
    answer_s: float = 30.0  # somebody has to acknowledge it within this, or it is escalated (the alarm contract, 5)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a simulated drill said in a device's place; `notice` None: no rule calls it a fire."""

    drill: str
    device: str
    notice: Notice | None
    detector_ms: float
    received_ms: float
    decided_ms: float


@dataclass(frozen=True, slots=True)
class Cleared:
    """A rule's condition on a device has returned to normal."""

    device: str
    rule: str
    at_ms: float


def incident_id(one: Raise, draw: int = 0) -> str:
    """A name that people can say on the radio and machines can sort: F + the detector's UTC time + six hex digits.

    Whoever makes an incident of the same reading gives it the same name; one that is taken is drawn again with the next `draw`.
    """
    at = datetime.fromtimestamp(one.detector_ms / 1000.0, UTC)
    told = f"{one.notice.premises}|{one.notice.device}|{one.boot}|{one.seq}|{draw}"
    return f"F{at:%Y%m%d-%H%M%S}-{hashlib.sha256(told.encode()).hexdigest()[:6].upper()}"


@dataclass(frozen=True, slots=True)
class Carried:
    """A notice that went out without the journal (`emergency`), and what became of it; the journal takes it over by its incident.

    `cause` is what opened the incident; None: the journal had it before.
    """

    incident: str
    channel: str
    number: int
    cause: Raise | None
    attempts: int
    sent_ms: float | None
    acknowledged_ms: float | None
    reply: str | None
    busy: bool  # it is being sent right now: nobody else should


@dataclass(frozen=True, slots=True)
class Timing:
    """Timers of rules that began (key, in how many seconds they are due, what they are) and those that are over."""

    began: tuple[tuple[str, float, str], ...] = ()
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one turn of the fire lane makes durable, in one transaction."""

    readings: tuple[Reading, ...] = ()
    raises: tuple[Raise, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()  # device, reason
    cleared: tuple[tuple[str, str], ...] = ()
    presence: tuple[tuple[str, bool], ...] = ()  # device, online
    progress: tuple[Row, ...] = ()
    conduct: tuple[Conducted, ...] = ()
    settled: tuple[int, ...] = ()  # rows of the quarantine that a person's retry has used up
    returned: tuple[Refusal, ...] = ()  # what of them is refused again
    carried: tuple[Carried, ...] = ()  # what went out without the journal
    timers: Timing = Timing()
    cleared_alarms: tuple[Cleared, ...] = ()
    heard: Stored = NOTHING
    drills: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a live fire went: its device, the premises that burns, and the incident, whose episode may be closed already."""

    device: str
    premises: str
    incident: str
    closed: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit made: the incidents it opened, and their notices, leased to the process that committed them.

    `past` are raises of an episode that was reset after their reading: whoever evaluated them has to unlatch, to raise again.
    """

    opened: tuple[str, ...]
    leased: tuple[OutboxRow, ...] = ()
    tests: tuple[int, ...] = ()  # alarms of devices in test mode, by their number
    placed: tuple[Placed, ...] = ()  # where its fires went
    released: tuple[str, ...] = ()  # incidents whose hold ended: their notices are among the leased
    updated: tuple[str, ...] = ()  # incidents with an update in the outbox
    past: tuple[Raise, ...] = ()
    drills: tuple[str, ...] = ()  # that were heard, by their ids


@dataclass(frozen=True, slots=True)
class TestAlarm:
    """An alarm of a device in test mode. `incident` is None for one that was marked as a test, else what it opened or joined.

    `proves`: it was marked, or its device cannot mark a test. ms UTC.
    """

    __test__ = False  # for pytest

    id: int
    device: str
    by: str
    mode_ms: float
    incident: str | None
    proves: bool
    rule: str
    point: str
    detector_ms: float
    received_ms: float
    decided_ms: float
    durable_ms: float | None
    back_ms: float | None

    @property
    def latency_ms(self) -> float | None:
        """From the detector's moment until it was durable; None while it is not."""
        return None if self.durable_ms is None else round(self.durable_ms - self.detector_ms, 3)

    def moments(self) -> list[tuple[str, float]]:
        """The moments that have happened, in the order of the road, ms UTC."""
        every = {
            "detector": self.detector_ms,
            "received": self.received_ms,
            "decided": self.decided_ms,
            "durable": self.durable_ms,
            "back": self.back_ms,
        }
        return [(name, at_ms) for name, at_ms in every.items() if at_ms is not None]

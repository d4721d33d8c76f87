"""A unit as its line polls it: which layout its firmware has, what was read so far, and what of it is told.

A unit tells its version after each connection and each interval; until it has, and while it is one that its spec does not
know, nothing of it is decoded and every point is bad. On a serial line a unit that failed is first asked a question of another
length than all others and than the one before, so that late answers are known as such: there are no transaction ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from drivers.modbus import layout
from drivers.modbus.layout import Key, Layout, Read, Step
from drivers.modbus.questions import Fault, Question, Reply
from drivers.modbus.report import Report
from drivers.modbus.schedule import Job
from iotcore.reading import Quality, Value
from iotcore.specs import decode, firmware
from iotcore.specs.model import DeviceSpec, ModbusLimits
from iotcore.specs.stuck import Stuck
from iotcore.wire.modbus_address import ModbusAddress

NO_LIMITS = ModbusLimits()


class Purpose(Enum):
    """Why a unit is asked something."""

    PROBE = "whether it answers, and answers this"
    VERSION = "which firmware it has"
    STEP = "its points"


class Outcome(Enum):
    """What an answer means for the turn it was asked in."""

    STAY = "the step is still to come"
    NEXT = "the step is done"
    END = "nothing more of this job is worth asking"
    CHANGED = "the unit has other jobs now"


class Told(NamedTuple):
    """Values that go out together."""

    values: tuple[Value, ...]
    is_event: bool
    test: bool


@dataclass(slots=True)
class _Poll:
    """What a job has so far."""

    words: dict[Key, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    why: str = ""


class Unit:
    """One device. `spec` has the points that are fitted; `trouble` is why it is not asked at all.

    No poll interval is above `longest_s`.
    """

    def __init__(
        self,
        device: str,
        domain: str,
        spec: DeviceSpec,
        address: ModbusAddress | None,
        *,
        trouble: str = "",
        longest_s: float | None = None,
    ) -> None:
        self.device = device
        self.domain = domain
        self.spec = spec
        self.address = address
        self.trouble = trouble
        self.limits = spec.modbus or NO_LIMITS
        self._longest_s = longest_s
        self.version = address.firmware if address else ""
        self._base = layout.of(spec)
        self._asks_version = self._base.version if not self.version and not trouble else None
        self._version_due_s = -1.0
        self._suspect = False
        self._losses = 0  # questions that were not answered in time: the next probe has another length
        self._unknown = ""  # why nothing can be decoded: the firmware is unknown
        self._polls: dict[int, _Poll] = {}
        self._known: dict[tuple[int, int], tuple[Sequence[int], tuple[Value, ...]]] = {}  # the last words of a step, decoded
        self._failing: dict[int, str] = {}
        self.layout: Layout = self._base
        self._set_layout(firmware.layout(spec, self.version))

    @property
    def failing(self) -> str:
        """Why the last poll of one of its groups failed, or ""."""
        return next(iter(self._failing.values()), "")

    def jobs(self) -> tuple[Job, ...]:
        """What its line schedules."""
        asked = not self.trouble and (not self._unknown or self._asks_version is not None)
        return tuple(
            Job(self.device, number, read.fire, self.poll_s(read), len(read.steps) if asked else 0)
            for number, read in enumerate(self.layout.reads)
        )

    def poll_s(self, read: Read) -> float:
        """How often a group is read."""
        return read.poll_s if self._longest_s is None else min(read.poll_s, self._longest_s)

    def question(self, job: Job, step: int, now_s: float) -> tuple[Purpose, Question]:
        """What to ask in a turn for this step."""
        probes = self.layout.probes
        if self._suspect and probes and self.address is not None and self.address.is_rtu:
            return Purpose.PROBE, probes[self._losses % len(probes)]
        if self._asks_version is not None and (self._unknown or now_s >= self._version_due_s):
            return Purpose.VERSION, self._asks_version.question
        return Purpose.STEP, self.layout.reads[job.group].steps[step].question

    def heard(self, purpose: Purpose, job: Job, step: int, reply: Reply, now_s: float) -> Outcome:
        """An answer of a living unit; `dead` and `ended` are for the others."""
        self._suspect = reply.fault is Fault.WRONG
        if purpose is Purpose.PROBE and not self._suspect:
            return Outcome.STAY
        if purpose is Purpose.VERSION:
            return self._heard_version(reply, now_s)
        poll = self._polls.setdefault(job.group, _Poll())
        read = self.layout.reads[job.group]
        if purpose is Purpose.PROBE:
            poll.why = reply.why
            poll.failures.update((point, reply.why) for point in read.points if point not in poll.values)
            return Outcome.END
        asked = read.steps[step]
        if reply.why:
            poll.why = poll.why or reply.why
            for point in asked.points:
                poll.failures.setdefault(point, reply.why)
        elif read.keeps_words:
            poll.words.update(zip(asked.keys, reply.words, strict=True))
        found = self._values(job.group, step, asked, poll, reply)
        if self._watched:
            found = self._stuck.judge(found, poll.words, now_s)
        for value in found:
            poll.values[value.point] = value
        return Outcome.NEXT

    def _values(self, group: int, step: int, asked: Step, poll: _Poll, reply: Reply) -> tuple[Value, ...]:
        """What an answer makes known; of the same words as the last time, the same values."""
        if reply.why or asked.decoders is None:
            return decode.values(asked.complete, poll.words, poll.failures)
        known = self._known.get((group, step))
        if known is not None and known[0] == reply.words:
            return known[1]
        found = tuple([decoder(reply.words) for decoder in asked.decoders])
        self._known[group, step] = (reply.words, found)
        return found

    def lost(self) -> None:
        """It does not answer: what comes back may be late, and may be another unit, with another firmware."""
        self._suspect = True
        self._losses += 1
        self.ask_version_again()

    def ask_version_again(self) -> None:
        """Before anything else of it is decoded."""
        self._version_due_s = -1.0

    def event(self, job: Job, step: int) -> Told | None:
        """Changes of fire points that this step completed, for at once; None when there are none."""
        poll = self._polls[job.group]
        values = [poll.values[name] for name in self.layout.reads[job.group].steps[step].complete.points]
        changes = self._report.changes(values, fire=True)
        return self._out(changes, poll, is_event=True) if changes else None

    def ended(self, job: Job, now_s: float, why: str = "") -> Told | None:
        """A job is over; `why`: what was not read by then is bad, for this reason. None when nothing of it is to be told."""
        poll = self._polls.pop(job.group, None) or _Poll()
        read = self.layout.reads[job.group]
        why = why or self._unknown
        if len(poll.values) < len(read.points):
            for name in read.points:
                if name not in poll.values:
                    poll.values[name] = Value(name, None, Quality.BAD, poll.failures.get(name) or why or "not_read")
        if failed := why or poll.why:
            self._failing[job.group] = failed
        else:
            self._failing.pop(job.group, None)
        values = tuple(map(poll.values.__getitem__, read.points))
        is_due = self._report.is_due(job.group, job.poll_s, now_s)
        if is_due and not read.fire:
            self._report.all_told(job.group, now_s)
            return self._out(values, poll, is_event=False)
        changes = self._report.changes(values, fire=read.fire)
        if is_due:
            self._report.all_told(job.group, now_s)
            return self._out(values, poll, is_event=bool(changes))
        return self._out(changes, poll, is_event=read.fire) if changes else None

    def forget(self) -> None:
        """A reading was lost on the way: the next poll tells everything."""
        self._report.forget()

    def _heard_version(self, reply: Reply, now_s: float) -> Outcome:
        assert self._asks_version is not None
        if reply.why:
            self.version, self._unknown = "", reply.why
            return Outcome.END
        words = dict(zip(self._asks_version.keys, reply.words, strict=True))
        told = firmware.version(self.spec, words)
        self._version_due_s = now_s + self.spec.interval_s
        known = firmware.layout(self.spec, told) if told is not None else None
        was, self.version = (self.layout, self._unknown), told or ""
        wanted = self._base if known is None else layout.of(known)
        if wanted is not self.layout or bool(was[1]) != (known is None):
            self._set_layout(known)
        if wanted is not was[0]:
            return Outcome.CHANGED
        return Outcome.END if self._unknown else Outcome.STAY

    def _set_layout(self, known: DeviceSpec | None) -> None:
        self._unknown = firmware.UNKNOWN if known is None else ""
        self.layout = self._base if known is None else layout.of(known)
        self._polls.clear()
        self._failing.clear()
        self._known.clear()
        self._watched = layout.watched(self.layout.spec)
        self._stuck = Stuck(self.layout.spec)
        self._report = Report(self.layout.spec)

    def _out(self, values: tuple[Value, ...], poll: _Poll, *, is_event: bool) -> Told:
        self._report.told(values)
        return Told(values, is_event, self._is_test(poll.values))

    def _is_test(self, values: Mapping[str, Value]) -> bool:
        """Only the test mark of this very poll counts: an old one must not hide a fire."""
        mark = self.spec.test
        value = values.get(mark.point) if mark else None
        return mark is not None and value is not None and value.quality is Quality.GOOD and value.value in mark.values

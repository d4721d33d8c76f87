"""Supervised: supervision in the hands of the fire lane: silences become faults and trouble alarms of the lane's own commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from iotcore.alarms.decisions import Decision, Reason
from iotcore.alarms.lane_notice import raised
from iotcore.alarms.signs import LIFE_CHECK, MISSING, REMOVED, Sign, Signs
from iotcore.alarms.supervise import LINK_DOWN, SILENT, Moment, Silence, Supervision
from iotcore.clock import Clock, Uptime
from iotcore.journal.faults import Faults
from iotcore.journal.heard import NOTHING, Stored
from iotcore.journal.journal import Journal
from iotcore.journal.records import Cleared, Raise
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec

TROUBLES = frozenset({SILENT, LINK_DOWN, LIFE_CHECK, MISSING, REMOVED})  # alarms of their own; a rule tells battery and tamper
NOWHERE = DeviceSpec("link", "", "", "gateway", "canonical", "", "", 60.0)  # our own link is of no model


class Told(NamedTuple):
    """What supervision adds to a commit."""

    raises: Sequence[Raise] = ()
    cleared: Sequence[Cleared] = ()
    heard: Stored = NOTHING


NOTHING_TOLD = Told()


class Supervised:
    """Of one lane; `uptime` is the machine's, `by` this process's name among several."""

    def __init__(
        self, journal: Journal, directory: Callable[[], Directory], clock: Clock, uptime: Uptime, *, by: str = "fire"
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._uptime = uptime
        now_s, standing = clock.monotonic_s(), journal.standing_faults()
        self.supervision = Supervision(directory(), journal.heard(), standing, self._moment(), now_s, by=by)
        self._signs = Signs(standing)

    def heard(self, reading: Reading, binding: Binding, now_s: float) -> None:
        """A reading was accepted."""
        self.supervision.heard(reading, binding, now_s)
        self._signs.judge(reading)

    def recalled(self, reading: Reading) -> None:
        """A reading of the last process, which the journal still holds; before the first `tick`."""
        self.supervision.recalled(reading)
        self._signs.judge(reading)

    def tick(self, *, hears: bool) -> bool:
        """Look at those whose time has come; whether there is something to commit."""
        now_s = self._clock.monotonic_s()
        self.supervision.follow(self._directory(), now_s)
        self.supervision.tick(now_s, hears=hears)
        return self.supervision.is_due(now_s)

    def commit(self, faults: Faults) -> Told:
        """What has begun and is over becomes faults, and a part of the commit that is about to be made."""
        silences, over = self.supervision.take()
        signs, ended = self._signs.take()
        began: list[Silence | Sign] = [*silences, *signs]
        for device, reason in (*over, *ended):
            faults.over(device, reason)
        for one in began:
            faults.note(one.device, one.reason)
        raises = [self._raise(one) for one in began if one.reason in TROUBLES]
        now_ms = self._clock.wall_ms()
        cleared = [Cleared(device, reason, now_ms) for device, reason in (*over, *ended) if reason in TROUBLES]
        return Told(raises, cleared, self.supervision.take_heard(self._moment(), self._clock.monotonic_s()))

    def _raise(self, one: Silence | Sign) -> Raise:
        """A trouble alarm. Its cause is the last reading that was heard: several processes that see the same make one."""
        now_ms = self._clock.wall_ms()
        directory = self._directory()
        binding = directory.devices.get(one.device)
        if binding is None:  # our own link, or a gateway that nobody has registered
            binding = Binding(one.device, one.device, NOWHERE, "", one.device, "")
        for_s = round(one.for_s, 1) if isinstance(one, Silence) else 0.0
        reason, point = (Reason.SILENT, "") if isinstance(one, Silence) else (Reason.ACTIVE, one.point)
        last = Reading(one.device, one.boot, one.seq, "reading", now_ms - for_s * 1000.0, now_ms, ())
        decision = Decision(one.reason, reason, "trouble", "fault", point, for_s or None, "s" if for_s else "")
        return replace(raised(decision, last, binding, directory, now_ms), latched=False)

    def _moment(self) -> Moment:
        return Moment(self._uptime.machine, self._uptime.seconds(), self._clock.wall_ms())

"""Supervised: supervision in the hands of the fire lane: silences become faults and trouble alarms of the lane's own commits."""

from __future__ import annotations

from collections.abc import Callable

from iotcore.alarms.decisions import Decision, Reason
from iotcore.alarms.lane_notice import raised
from iotcore.alarms.supervise import LINK_DOWN, SILENT, Moment, Silence, Supervision
from iotcore.clock import Clock, Uptime
from iotcore.journal.faults import Faults
from iotcore.journal.heard import Stored
from iotcore.journal.journal import Journal
from iotcore.journal.records import Raise
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec

TROUBLES = frozenset({SILENT, LINK_DOWN})  # what is an alarm of its own; the others are marks of a cause, or of a place
NOWHERE = DeviceSpec("link", "", "", "gateway", "canonical", "", "", 60.0)  # our own link is of no model


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
        self.heard = self.supervision.heard
        self.recalled = self.supervision.recalled

    def tick(self, *, hears: bool) -> bool:
        """Look at those whose time has come; whether there is something to commit."""
        now_s = self._clock.monotonic_s()
        self.supervision.follow(self._directory(), now_s)
        self.supervision.tick(now_s, hears=hears)
        return self.supervision.is_due(now_s)

    def commit(self, faults: Faults) -> tuple[list[Raise], Stored]:
        """What has begun and is over becomes faults; the trouble alarms, and what is to be kept of who was heard when."""
        began, over = self.supervision.take()
        for device, reason in over:
            faults.over(device, reason)
        for one in began:
            faults.note(one.device, one.reason)
        raises = [self._raise(one) for one in began if one.reason in TROUBLES]
        return raises, self.supervision.take_heard(self._moment(), self._clock.monotonic_s())

    def _raise(self, silence: Silence) -> Raise:
        """A trouble alarm. Its cause is the last reading that was heard: several processes that see the same silence make one."""
        now_ms = self._clock.wall_ms()
        directory = self._directory()
        binding = directory.devices.get(silence.device)
        if binding is None:  # our own link, or a gateway that nobody has registered
            binding = Binding(silence.device, silence.device, NOWHERE, "", silence.device, "")
        last = Reading(silence.device, silence.boot, silence.seq, "reading", now_ms - silence.for_s * 1000.0, now_ms, ())
        decision = Decision(silence.reason, Reason.SILENT, "trouble", "fault", "", round(silence.for_s, 1), "s")
        return raised(decision, last, binding, directory, now_ms)

    def _moment(self) -> Moment:
        return Moment(self._uptime.machine, self._uptime.seconds(), self._clock.wall_ms())

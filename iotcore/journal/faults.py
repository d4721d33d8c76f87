"""Faults: what is wrong with a device right now, judged from what it sends. Pure; both lanes use it.

A fault has a name that operators rely on: `bad:<point>:<why>`, `clock_past`, `clock_future`, `clock_skew`, `refused:<reason>`,
`offline`, `gap`, `throttled`. It stays until the device shows the opposite: a good value of that point, a plausible clock, an
accepted reading, a live one, a while without losses or without flooding. Others are told by whoever knows:
`certificate_ending`, `certificate_expired`, `cloned` (`app/troubles.py`); `silent`, `gateway_silent`, `never_heard`
(`alarms/supervise.py`); `flapping:<rule>` (`journal/flaps.py`); `life_check`, `missing`, `removed`,
`tamper`, `battery` (`alarms/signs.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from iotcore.reading import Quality, Reading
from iotcore.wire.arrival import Refusal

OFFLINE = "offline"
MAX_STANDING = 32  # reasons kept for one device: a device chooses its own words for why a value is bad
MAX_WHY = 40  # characters
THEIR_WORDS = ("bad:", "refused:")  # whatever else a fault is called, it is one of a few names of ours
Fault = tuple[str, str]  # device, reason


class Faults:
    """The faults that stand, and what has been raised and cleared since the last `take`."""

    def __init__(self, standing: Iterable[Fault] = ()) -> None:
        self._standing: dict[str, set[str]] = {}
        self._raised: dict[Fault, None] = {}
        self._cleared: dict[Fault, None] = {}
        for device, reason in standing:
            self._standing.setdefault(device, set()).add(reason)

    def standing(self, device: str) -> frozenset[str]:
        """What is wrong with a device."""
        return frozenset(self._standing.get(device, ()))

    def refused(self, refusal: Refusal) -> None:
        """A message was not accepted: the fault of the device that it names, or of a publisher that spoke for another."""
        if refusal.device:
            culprit = refusal.topic.split("/")[3] if refusal.reason == "wrong_publisher" else refusal.device
            self._raise(culprit, f"refused:{refusal.reason}")

    def offline(self, device: str) -> None:
        """Its broker said that it is gone, or its gateway is."""
        self._raise(device, OFFLINE)

    def online(self, device: str) -> None:
        """It said that it is there."""
        self._clear(device, OFFLINE)

    def note(self, device: str, reason: str) -> None:
        """Something about the way it delivers is wrong (`conduct`), until `over`; noted again it only stands."""
        if reason not in self._standing.get(device, ()):
            self._raise(device, reason)

    def over(self, device: str, reason: str) -> None:
        """What `note` said is over."""
        self._clear(device, reason)

    def exactly(self, wrong: Collection[Fault], family: Collection[str]) -> bool:
        """What somebody else knows: of the reasons in `family` these stand, and no others. Whether that differs from before."""
        wanted, before = frozenset(wrong), len(self._raised) + len(self._cleared)
        for device, standing in self._standing.items():
            for reason in [one for one in standing if one in family and (device, one) not in wanted]:
                self._clear(device, reason)
        for device, reason in wanted:
            self.note(device, reason)
        return len(self._raised) + len(self._cleared) != before

    def accepted(self, reading: Reading) -> None:
        """Judge a reading: bad values and an odd clock are faults; good ones end them."""
        device = reading.device
        if reading.clean is not None and not reading.clock_fault and not self._standing.get(device):
            return  # nearly always
        now = {f"bad:{v.point}:{v.why[:MAX_WHY]}" for v in reading.values if v.quality is Quality.BAD}
        if reading.clock_fault:
            now.add(reading.clock_fault)
        standing = self._standing.get(device)
        if standing:
            points = tuple(f"bad:{v.point}:" for v in reading.values)
            for reason in [r for r in standing if r not in now and (r.startswith((*points, "clock_", "refused:")))]:
                self._clear(device, reason)
            if not reading.backlog and OFFLINE in standing:
                self._clear(device, OFFLINE)
        for reason in now:
            self._raise(device, reason)

    def take(self) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
        """What was raised and cleared since the last call, for the batch's transaction."""
        raised, cleared = tuple(self._raised), tuple(self._cleared)
        self._raised.clear()
        self._cleared.clear()
        return raised, cleared

    def _raise(self, device: str, reason: str) -> None:
        standing = self._standing.setdefault(device, set())
        if len(standing) >= MAX_STANDING and reason not in standing and reason.startswith(THEIR_WORDS):
            return
        standing.add(reason)
        self._cleared.pop((device, reason), None)
        self._raised[device, reason] = None

    def _clear(self, device: str, reason: str) -> None:
        standing = self._standing.get(device, set())
        if reason in standing:
            standing.discard(reason)
            self._raised.pop((device, reason), None)
            self._cleared[device, reason] = None

"""Signs: what a fire device says is wrong with itself, as named faults that end when it says the opposite. Pure.

    life_check   a word that should always move stands still: what the gateway tells is old       until no point is bad for it
    missing      a point that should be there is not (FFh of a panel), never "normal"             until it is there again
    removed      a detector is off its base, or a module out of its panel                          likewise
    tamper       its housing was opened, or it was moved                                           until its point says false
    battery      its battery is low, by its own word or below `LOW_PERCENT`                        until it is changed

A reading may tell a part of the points: of each fault it is known which points bear it. Held back and retained readings are not
looked at: what a device says of itself is of now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from iotcore.journal.faults import Fault
from iotcore.reading import Quality, Reading, Value

LIFE_CHECK, MISSING, REMOVED, TAMPER, BATTERY = "life_check", "missing", "removed", "tamper", "battery"
SIGNS = frozenset({LIFE_CHECK, MISSING, REMOVED, TAMPER, BATTERY})
OF_WHY = {"life_check": LIFE_CHECK, "not_present": MISSING, "missing": MISSING, "removed": REMOVED}  # bad:why of a value
OF_POINT = {"tamper": TAMPER, "removed": REMOVED, "battery_low": BATTERY}  # points that say true
BAD = Quality.BAD
LOW_PERCENT, CHARGED_PERCENT = 15.0, 25.0  # as the shipped rule battery-low: weeks of warning for a cell that lasts years


class Sign(NamedTuple):
    """A fault that began, by this reading and this point of it."""

    device: str
    reason: str
    boot: str
    seq: int
    point: str


class Signs:
    """What stands of all devices of one lane. `standing` are the faults in the journal; who bears them is learnt again."""

    def __init__(self, standing: Iterable[Fault] = ()) -> None:
        self._bearing: dict[str, dict[str, set[str]]] = {}  # device → fault → points
        for device, reason in standing:
            if reason in SIGNS:
                self._bearing.setdefault(device, {})[reason] = set()
        self._began: list[Sign] = []
        self._over: list[Fault] = []

    def judge(self, reading: Reading) -> None:
        """Look at what a reading says of its device."""
        clean, known = reading.clean, self._bearing.get(reading.device)
        if known is None and not (clean.get("battery", 100.0) < LOW_PERCENT if clean is not None else _is_news(reading.told)):
            return  # nearly always
        if reading.backlog or reading.retained:
            return
        for value in reading.values:
            if value.quality is BAD:
                if value.why in OF_WHY:  # what is bad for another reason says nothing of these
                    self._bears(reading, value.point, OF_WHY[value.why])
            elif (value.value is True or value.point == "battery") and (reason := self._says(reading.device, value)):
                self._bears(reading, value.point, reason)
            elif known is not None:
                self._ends(reading.device, value.point, "")
        if known is not None and not all(known.values()):
            self._ends(reading.device, "", "")  # it stood before a restart, and nothing bears it now

    def take(self) -> tuple[list[Sign], list[Fault]]:
        """What began and what is over since the last call."""
        told = self._began, self._over
        self._began, self._over = [], []
        return told

    def _says(self, device: str, value: Value) -> str:
        """The fault that a good value says; "" for none."""
        if value.value is True:
            return OF_POINT.get(value.point, "")
        if isinstance(value.value, float | int):
            low = BATTERY in self._bearing.get(device, {})
            return BATTERY if value.value < (CHARGED_PERCENT if low else LOW_PERCENT) else ""
        return ""

    def _bears(self, reading: Reading, point: str, reason: str) -> None:
        known = self._bearing.setdefault(reading.device, {})
        if reason not in known:
            known[reason] = set()
            self._began.append(Sign(reading.device, reason, reading.boot, reading.seq, point))
        known[reason].add(point)
        if len(known) > 1:
            self._ends(reading.device, point, reason)

    def _ends(self, device: str, point: str, but: str) -> None:
        """A point bears no fault any more, `but` this one."""
        known = self._bearing.get(device, {})
        for reason, points in list(known.items()):
            if reason != but:
                points.discard(point)
                if not points:
                    del known[reason]
                    self._over.append((device, reason))
        if not known:
            self._bearing.pop(device, None)


def _is_news(told: tuple[Value, ...]) -> bool:
    """Whether one of them could begin a fault; quick, for every reading is asked."""
    for value in told:
        said = value.value
        if said is True or value.quality is BAD:
            return True
        if value.point == "battery" and isinstance(said, float | int) and said < LOW_PERCENT:
            return True
    return False

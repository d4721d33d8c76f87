"""Coalesce: what of a fire device above its rate is stored; all of it is judged by the rules, whatever becomes of it here.

    admitted by `Throttle` ───────────────────────────────► stored: begins an interval
    above the rate ─┬ a rule decided ─────────────────────► stored
                    ├ a state, quality or flag changed ───► stored
                    ├ a value higher than any since ──────► the turn's highest of each point is stored with the turn
                    └ nothing new ────────────────────────► counted

Nothing waits here from one turn to the next: a turn's acknowledgement follows the commit that holds its highest values, so that a
crash takes nothing that was acknowledged but the repeats. What one device can store above its rate is so many readings a turn as
it has numbers, and its changes of state, which are never dropped (architecture, The alarm contract, 6). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from iotcore.reading import Quality, Reading, Scalar

_Flags = tuple[bool, bool, bool]  # test, backlog, retained
_State = tuple[Scalar | None, Quality, str]


@dataclass(slots=True)
class _Known:
    """What is known of a device since it came above its rate."""

    flags: _Flags | None = None
    states: dict[str, _State] = field(default_factory=dict)
    highest: dict[str, float] = field(default_factory=dict)


class Coalescing:
    """What is stored of devices above their rate. Bounded by the devices that are, each by its spec's points."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._peaks: dict[tuple[str, str], Reading] = {}  # device, point → the highest of this turn

    def admitted(self, reading: Reading) -> None:
        """A reading that is stored in any case; for a device that was above its rate it begins a new interval."""
        known = self._known.get(reading.device)
        if known is not None:
            _changed(known, reading)
            known.highest.clear()
            _higher(known, reading)

    def keeps(self, reading: Reading, *, decided: bool) -> bool:
        """Whether a reading above its device's rate is stored at once; else it may still be one of `take_peaks`."""
        known = self._known.get(reading.device)
        first = known is None
        if known is None:
            known = self._known[reading.device] = _Known()
        changed = _changed(known, reading)
        higher = _higher(known, reading)
        stored = first or changed or decided
        for point in higher:
            if stored:
                self._peaks.pop((reading.device, point), None)
            else:
                self._peaks[reading.device, point] = reading
        return stored

    def take_peaks(self) -> list[Reading]:
        """The readings of this turn with the highest value of a point since its interval began, in the order they came."""
        if not self._peaks:
            return []
        peaks, self._peaks = self._peaks, {}
        return sorted({one.identity: one for one in peaks.values()}.values(), key=lambda one: (one.received_ms, one.seq))

    def forget(self, device: str) -> None:
        """The device has calmed down."""
        self._known.pop(device, None)


def _changed(known: _Known, reading: Reading) -> bool:
    """Take over the reading's states, qualities and flags; whether any was another before."""
    flags = (reading.test, reading.backlog, reading.retained)
    changed = flags != known.flags
    if changed:
        known.flags = flags
        known.highest.clear()
    for said in reading.values:
        state = (said.value if isinstance(said.value, bool | str) else None, said.quality, said.why)
        if known.states.get(said.point) != state:
            known.states[said.point] = state
            changed = True
    return changed


def _higher(known: _Known, reading: Reading) -> list[str]:
    """The points of which this reading has the highest value since the interval began; take them over. NaN is no value."""
    higher = []
    for said in reading.values:
        value = said.value
        if isinstance(value, bool | str) or value is None or said.quality is Quality.BAD:
            continue
        if value > known.highest.get(said.point, -inf):
            known.highest[said.point] = value
            higher.append(said.point)
    return higher

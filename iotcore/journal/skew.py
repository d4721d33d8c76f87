"""Skew: how far a device's clock is from ours, and what of its times can be believed. Pure; both lanes use it.

    late = receive time − ts − age_ms  =  the network's delay − how far the clock is ahead

The network only ever delays, so the least `late` of a window is the clock's error and little more: of a thousand readings that
waited in a queue, one that did not wait is enough. Hence:

    ahead    shows in any one reading: nothing arrives before it is sent
    behind   only when a whole window (HALF_WINDOW_S and LEAST_READINGS) had no reading that was less late: after an outage of
             ours the broker hands over what it held, all of it late and unmarked, and no clock is wrong

A device is over its limit until its clock is within half of it again. Then, and only for readings that are themselves that far
off, the receive time stands for `ts` (wire contract, Time), with what the clock said kept beside: the fault `clock_skew`, which
ends with the first plausible reading. Backlog is corrected and never measured: its age is the sender's word.
"""

from __future__ import annotations

from math import inf

from msgspec import structs

from iotcore.reading import Reading

LIMIT_MS = 60_000.0  # the finest mean that is kept is one minute: a reading this far off falls into another
HALF_WINDOW_S = 60.0
LEAST_READINGS = 3  # in half a window; a slow device has longer windows
MAX_DEVICES = 200_000  # a city has half of these; retired ones are not told apart
CLOCK_SKEW = "clock_skew"


class _Device:
    """One device's window: the least lateness of this half and of the one before, ms."""

    __slots__ = ("before_ms", "count", "ends_s", "least_ms", "over")

    def __init__(self, now_s: float) -> None:
        self.ends_s = now_s + HALF_WINDOW_S
        self.least_ms = inf
        self.before_ms = inf
        self.count = 0
        self.over = False


class Skews:
    """The clocks of one lane's devices, at most `MAX_DEVICES`; beyond that all are measured anew."""

    def __init__(self, limit_ms: float = LIMIT_MS) -> None:
        self._half_ms = limit_ms / 2
        self._devices: dict[str, _Device] = {}
        self._measured: dict[str, float] = {}

    def judge(self, reading: Reading, now_s: float) -> Reading:
        """The reading, with its receive time in place of `ts` when its device's clock is over the limit."""
        late_ms = reading.received_ms - reading.observed_ms - reading.age_ms
        if late_ms == 0.0 or reading.clock_fault:  # it told no time, or one that was replaced already
            return reading
        device = self._devices.get(reading.device)
        if device is not None and not device.over and now_s < device.ends_s and -self._half_ms < late_ms < self._half_ms:
            if not reading.backlog and not reading.retained:  # nearly always
                device.count += 1
                device.least_ms = min(device.least_ms, late_ms)
            return reading
        if device is None:
            if len(self._devices) >= MAX_DEVICES:
                self._devices.clear()
            device = self._devices[reading.device] = _Device(now_s)
        plausible = -self._half_ms < late_ms < self._half_ms
        if not reading.backlog and not reading.retained:
            device.count += 1
            device.least_ms = min(device.least_ms, late_ms)
            if now_s >= device.ends_s or device.over or not plausible:
                self._measure(reading.device, device, late_ms, now_s)
        if plausible or not device.over:
            return reading
        received_ms = reading.received_ms - reading.age_ms
        return structs.replace(reading, observed_ms=received_ms, claimed_ms=int(reading.observed_ms), clock_fault=CLOCK_SKEW)

    def skew_ms(self, device: str) -> float | None:
        """How far a device's clock is ahead (negative: behind), ms, with the delay of its network; None: not known."""
        known = self._devices.get(device)
        if known is None or (least_ms := min(known.least_ms, known.before_ms)) == inf:
            return None
        return -least_ms

    def take_measured(self) -> dict[str, float]:
        """Devices whose half window has ended since the last call, with their skew in ms: for the metric and the page."""
        measured, self._measured = self._measured, {}
        return measured

    def _measure(self, name: str, device: _Device, late_ms: float, now_s: float) -> None:
        """Begin the next half window when it is time, with this reading; decide whether the clock is over the limit."""
        if now_s >= device.ends_s and device.count > LEAST_READINGS:
            self._measured[name] = -device.least_ms
            device.before_ms, device.least_ms = device.least_ms, late_ms
            device.ends_s, device.count = now_s + HALF_WINDOW_S, 1
        least_ms = min(device.least_ms, device.before_ms)
        if device.over:
            device.over = not -self._half_ms < least_ms < self._half_ms
        elif least_ms < -2 * self._half_ms or (least_ms > 2 * self._half_ms and device.before_ms != inf):
            device.over = True

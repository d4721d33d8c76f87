"""Throttle: how many readings of one device are kept, so that a babbling one costs its neighbours nothing. Pure; for both lanes.

    allowed = TIMES × one reading every `interval_s` of its spec, and a credit to begin with:
              LIVE_CREDIT_S      what 10 h of silence held back (re-sends come as fast as the link carries them)
              BACKLOG_CREDIT_S   what 8 days held back, for readings that say `backlog`; neither uses up the other's
              at least LEAST_CREDIT readings of either kind

Why thin out and not average: what is kept of a device above its rate is still ten readings where its spec promises one, each as
the device said it, with its own identity and time. A mean would be a reading that no device ever made, and would have to wait in
memory between acknowledgement and disk. What is not kept counts as handled: the device is receipted, so that it neither stalls
nor sends the same again for ever; the loss is counted, per device too, and shown as its fault `throttled`. The fire lane keeps
more (`iotcore.alarms.coalesce`): every raise, every change of state, and the highest values.

One number a device: when its account would be empty if it kept to its rate (the generic cell rate algorithm, ITU-T I.371).
"""

from __future__ import annotations

TIMES = 10.0  # above its spec's rate × 10 a device is throttled
LONGEST_INTERVAL_S = 100.0  # one in 10 s is always allowed: specs of sleepers promise one a day and tell every event
LIVE_CREDIT_S = 3_600.0  # at ten times the rate: what 10 h of outage held back
BACKLOG_CREDIT_S = 69_120.0  # what 8 days held back; wire contract, Time: a source time may be 7 days old
LEAST_CREDIT = 5_000  # readings
CALM_S = 60.0  # without anything above the rate, and the fault is over
MAX_DEVICES = 200_000  # accounts kept at once; a city has half of these devices


class Throttle:
    """The accounts of one lane's devices; `times` 0 throttles nobody. `now_s` is monotonic time and never runs backwards."""

    def __init__(
        self,
        *,
        times: float = TIMES,
        live_credit_s: float = LIVE_CREDIT_S,
        backlog_credit_s: float = BACKLOG_CREDIT_S,
        least_credit: int = LEAST_CREDIT,
    ) -> None:
        self._share = 1.0 / times if times else 0.0
        self._longest_step_s = LONGEST_INTERVAL_S * self._share
        self._live_credit_s = live_credit_s
        self._backlog_credit_s = backlog_credit_s
        self._least_credit = least_credit
        self._due_s: dict[str, float] = {}
        self._backlog_due_s: dict[str, float] = {}
        self._last_over_s: dict[str, float] = {}  # of devices above their rate
        self._counts: dict[str, int] = {}

    def admit(self, device: str, interval_s: float, now_s: float, *, backlog: bool = False) -> bool:
        """Whether a reading is within what its device is allowed; one that is not is counted."""
        accounts = self._backlog_due_s if backlog else self._due_s
        step_s = interval_s * self._share if interval_s < LONGEST_INTERVAL_S else self._longest_step_s
        due_s = accounts.get(device)
        if due_s is None:
            if len(accounts) >= MAX_DEVICES:
                _forget_some(accounts, now_s)
        elif due_s > now_s:
            ahead_s = due_s - now_s
            credit_s = self._backlog_credit_s if backlog else self._live_credit_s
            if ahead_s > credit_s and ahead_s > self._least_credit * step_s:
                self._last_over_s[device] = now_s
                self._counts[device] = self._counts.get(device, 0) + 1
                return False
            accounts[device] = due_s + step_s
            return True
        accounts[device] = now_s + step_s
        return True

    def over(self, device: str, now_s: float) -> bool:
        """Whether the device has been above its rate within the last `CALM_S`."""
        last_s = self._last_over_s.get(device)
        if last_s is None or now_s - last_s < CALM_S:
            return last_s is not None
        del self._last_over_s[device]
        return False

    def take_counts(self) -> dict[str, int]:
        """How many readings of each device were not kept since the last call."""
        counts, self._counts = self._counts, {}
        return counts


def _forget_some(accounts: dict[str, float], now_s: float) -> None:
    """An account that is full is as good as none; when too many are in use, those nearest to full are given anew."""
    for device in [device for device, due_s in accounts.items() if due_s <= now_s]:
        del accounts[device]
    for device in sorted(accounts, key=lambda device: accounts[device])[: max(0, len(accounts) - MAX_DEVICES // 2)]:
        del accounts[device]

"""How often whom was refused: an address that is refused again and again waits, and the audit cannot be flooded.

Guessing is hopeless (128 bits); these limits bound what it costs us. A window has 60 s. An IPv6 address counts with its /64: one
subscriber has all of it. When all together are refused more often than `OVERALL`, each address has one try in a window.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from iotcore.clock import Clock

WINDOW_S = 60.0
PER_ADDRESS = 20  # refusals of one address in a window; a technician mistypes a token, and a device asks a few times
OVERALL = 300  # refusals of all addresses in a window
AUDITED = 100  # of them, those with an entry of their own in the audit: 144,000 a day at most
MAX_ADDRESSES = 10_000  # remembered; the one that was refused longest ago is forgotten first
IPV6_PREFIX = 64
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Counted:
    """Refusals since a moment, s on the monotonic clock."""

    since_s: float
    count: int = 0


class Refusals:
    """One listener's account of whom it refused."""

    def __init__(self, clock: Clock, per_address: int = PER_ADDRESS, overall: int = OVERALL, audited: int = AUDITED) -> None:
        self._clock = clock
        self._per_address, self._overall, self._audited = per_address, overall, audited
        self._addresses: OrderedDict[str, _Counted] = OrderedDict()
        self._all = _Counted(clock.monotonic_s())
        self.limited = 0  # requests answered with "wait", ever

    def must_wait(self, address: str) -> float:
        """How long `address` has to wait, s; 0: it may ask."""
        now_s = self._clock.monotonic_s()
        counted = self._addresses.get(_subscriber(address))
        if counted is None or now_s - counted.since_s >= WINDOW_S:
            return 0.0
        if counted.count < self._per_address and not self._overrun(now_s):
            return 0.0
        self.limited += 1
        return max(1.0, WINDOW_S - (now_s - counted.since_s))

    def note(self, address: str) -> str:
        """Count a refusal. What becomes of it in the audit: "each", "burst" (this entry says it of those that follow), or ""."""
        now_s, key = self._clock.monotonic_s(), _subscriber(address)
        counted = self._addresses.pop(key, None)
        if counted is None or now_s - counted.since_s >= WINDOW_S:
            counted = _Counted(now_s)
        counted.count += 1
        self._addresses[key] = counted
        while len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        if now_s - self._all.since_s >= WINDOW_S:
            self._all = _Counted(now_s)
        self._all.count += 1
        if counted.count == self._per_address or self._all.count == self._overall:
            log.warning("enrolments are refused again and again: %d in a minute, last %s", self._all.count, address)
        if self._all.count <= self._audited:
            return "each"
        return "burst" if self._all.count == self._audited + 1 else ""

    @property
    def lately(self) -> int:
        """Refusals in this window."""
        return self._all.count if self._clock.monotonic_s() - self._all.since_s < WINDOW_S else 0

    def bursting(self) -> bool:
        """Whether somebody tries again and again: an address at its limit, or all of them together."""
        now_s = self._clock.monotonic_s()
        return self._overrun(now_s) or any(
            one.count >= self._per_address and now_s - one.since_s < WINDOW_S for one in self._addresses.values()
        )

    def state(self) -> dict[str, Any]:
        """For `iotcore doctor`."""
        return {"refused_lately": self.lately, "refused_burst": self.bursting()}

    def _overrun(self, now_s: float) -> bool:
        return self._all.count >= self._overall and now_s - self._all.since_s < WINDOW_S


def _subscriber(address: str) -> str:
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ipaddress.IPv6Network((known, IPV6_PREFIX), strict=False))
    return address

"""What Mosquitto's own log gives away: one identity at two addresses, a burst of refused connections, a queue that overflows.

    Client d1 already connected, closing old connection.          2.0: the next line says who took over, and from where
    Client d1 [10.0.0.5:40112] disconnected: session taken over.  2.1
    New client connected from 10.0.0.9:51004 as d1 (p5, …)

A session that is taken over from another address is nothing yet: a device on a mobile network changes its address and leaves its
old connection behind. Two that hold one key throw each other out, and *come back*: the alarm is for addresses that return.
Pure but for a lock: the log is read on a thread. Everything kept is bounded.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from iotcore.clock import Clock

WINDOW_S = 600.0
CROSSINGS = 3  # takeovers from another address within WINDOW_S, over fewer addresses than a wanderer would have: A, B, A, B
BURST = 30  # refused connections within BURST_S; a city's devices that all come back after an outage are let in
BURST_S = 60.0
SUSPECT = 3  # connections that came to nothing; fewer are of somebody who tried the port
SHOWN_S = 3_600.0  # an alarm stays so long after the last that was seen of it
MAX_NAMES = 20_000  # as many as a broker takes connections
MAX_CLONES = 100
MAX_OVERFLOWS = 100
MAX_ADDRESSES = 1_000
TOLD_ADDRESSES = 5

T = TypeVar("T")
CONNECTED = re.compile(r"New client connected from (\S+):\d+ as (\S+) \(")
TAKEN = re.compile(r"Client (\S+) (?:already connected, closing old connection|\[\S+\] disconnected: session taken over)\.")
OPENED = re.compile(r"New connection from (\S+):\d+ on port")
OVERFLOW = re.compile(r"Outgoing messages are being dropped for client (\S+)\.")
REFUSED = re.compile(
    r"OpenSSL Error[^\[]*\[0\]: (?!.*unexpected eof)|Client connection from \S+ failed: error|not authorised|"
    r"bad user ?name or password"
)


@dataclass(slots=True)
class Clone:
    """A name that two hold; times are ms UTC, `takeovers` those from another address in this episode."""

    name: str
    addresses: tuple[str, ...]
    since_ms: float
    last_ms: float
    takeovers: int

    def __str__(self) -> str:
        return f"{self.name} connects from {' and '.join(self.addresses)} by turns"


@dataclass(slots=True)
class Burst:
    """Connections that were refused, more than BURST in BURST_S; `addresses` those that were let in least."""

    since_ms: float
    last_ms: float
    refused: int
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        where = ", ".join(self.addresses) or "nobody knows where"
        return f"{self.refused} connections were refused in a burst, most likely from {where}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands. `refused` counts since the start."""

    clones: tuple[Clone, ...] = ()
    burst: Burst | None = None
    overflows: tuple[str, ...] = ()
    refused: int = 0


@dataclass(slots=True)
class _Crossings:
    """The last takeovers of a name from another address: when, and where to."""

    moments: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=16))


class BrokerWatch:
    """Hears the log of one broker; `alarm` is called once for each episode, in words."""

    def __init__(self, clock: Clock, alarm: Callable[[str], None]) -> None:
        self._clock = clock
        self._alarm = alarm
        self._lock = threading.Lock()
        self._where: OrderedDict[str, str] = OrderedDict()  # the address of each name
        self._taken: OrderedDict[str, None] = OrderedDict()  # names whose next connection takes over
        self._crossings: OrderedDict[str, _Crossings] = OrderedDict()
        self._clones: OrderedDict[str, Clone] = OrderedDict()
        self._overflows: OrderedDict[str, float] = OrderedDict()
        self._refusals: deque[float] = deque(maxlen=BURST)
        self._refused = 0
        self._burst: Burst | None = None
        self._left_out: OrderedDict[str, list[float]] = OrderedDict()  # address → since, opened, of these let in

    def hear(self, line: str) -> None:
        """A line of the log."""
        with self._lock:
            if found := CONNECTED.search(line):
                self._connected(found[1], found[2])
            elif found := TAKEN.search(line):
                _put(self._taken, found[1], None, MAX_NAMES)
            elif found := OPENED.search(line):
                self._address(found[1])[1] += 1
            elif found := OVERFLOW.search(line):
                self._overflow(found[1])
            elif REFUSED.search(line):
                self._refusal()

    def seen(self) -> Seen:
        """What stands now."""
        now_ms = self._clock.wall_ms()
        with self._lock:
            for name in [one.name for one in self._clones.values() if now_ms - one.last_ms > SHOWN_S * 1000.0]:
                del self._clones[name]
            for name in [name for name, at_ms in self._overflows.items() if now_ms - at_ms > SHOWN_S * 1000.0]:
                del self._overflows[name]
            if self._burst is not None and now_ms - self._burst.last_ms > SHOWN_S * 1000.0:
                self._burst = None
            return Seen(tuple(self._clones.values()), self._burst, tuple(self._overflows), self._refused)

    def _connected(self, address: str, name: str) -> None:
        self._address(address)[2] += 1
        before = self._where.get(name)
        _put(self._where, name, address, MAX_NAMES)
        if name not in self._taken:
            return
        del self._taken[name]
        if before is None or before == address:
            return
        now_s = self._clock.monotonic_s()
        crossings = self._crossings.get(name) or _Crossings()
        _put(self._crossings, name, crossings, MAX_NAMES)
        crossings.moments.append((now_s, before, address))
        lately = [(source, target) for at_s, source, target in crossings.moments if now_s - at_s <= WINDOW_S]
        addresses = dict.fromkeys(address for pair in lately for address in pair)
        if len(lately) >= CROSSINGS and len(addresses) < len(lately):
            self._cloned(name, tuple(addresses)[:TOLD_ADDRESSES])

    def _cloned(self, name: str, addresses: tuple[str, ...]) -> None:
        now_ms = self._clock.wall_ms()
        known = self._clones.get(name)
        if known is None:
            known = Clone(name, addresses, now_ms, now_ms, CROSSINGS)
            self._alarm(f"CLONE? {known}: two hold its key; revoke it and enrol the true one anew (iotcore device revoke {name})")
        else:
            known = Clone(
                name,
                tuple(dict.fromkeys([*known.addresses, *addresses]))[:TOLD_ADDRESSES],
                known.since_ms,
                now_ms,
                known.takeovers + 1,
            )
        _put(self._clones, name, known, MAX_CLONES)

    def _refusal(self) -> None:
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        self._refused += 1
        self._refusals.append(now_s)
        if len(self._refusals) < BURST or now_s - self._refusals[0] > BURST_S:
            return
        if self._burst is None or now_ms - self._burst.last_ms > SHOWN_S * 1000.0:
            self._burst = Burst(now_ms, now_ms, BURST, self._suspects())
            self._alarm(f"{self._burst}; see the broker's log for why")
        else:
            self._burst = Burst(self._burst.since_ms, now_ms, self._burst.refused + 1, self._suspects())

    def _suspects(self) -> tuple[str, ...]:
        """The addresses from which most connections were opened that nobody was let in by."""
        now_s = self._clock.monotonic_s()
        lately = Counter(
            {at: opened - let_in for at, (since_s, opened, let_in) in self._left_out.items() if now_s - since_s <= WINDOW_S}
        )
        return tuple(address for address, count in lately.most_common(TOLD_ADDRESSES) if count >= SUSPECT)

    def _overflow(self, name: str) -> None:
        if name not in self._overflows:
            self._alarm(f"messages for {name} are dropped: its queue is full; is it there?")
        _put(self._overflows, name, self._clock.wall_ms(), MAX_OVERFLOWS)

    def _address(self, address: str) -> list[float]:
        """Since when, how many were opened from there, how many of these were let in."""
        now_s = self._clock.monotonic_s()
        entry = self._left_out.get(address)
        if entry is None or now_s - entry[0] > WINDOW_S:
            entry = [now_s, 0.0, 0.0]
        _put(self._left_out, address, entry, MAX_ADDRESSES)
        return entry


def _put(table: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    """Keep `value` as the newest; the oldest goes when there are more than `most`."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > most:
        table.popitem(last=False)

"""Live: one task polls the view, tells what differs as numbered events, and fans them out.

    view ──every 200 ms──► differences ──► history (bounded) ──► one bounded queue for each subscriber

A subscriber who is too slow is cut off and counted; its browser connects again and goes on from the event it last saw, or gets
everything when that is too long ago. No event for 5 s means a heartbeat; the page says so when even that stays away.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from iotcore.clock import Clock
from iotcore.errors import IotError
from iotcore.off_loop import Threads
from iotcore.web.view import Shown, View

POLL_S = 0.2  # wire contract, Changes
BEAT_S = 5.0
HISTORY_EVENTS = 512
QUEUE_EVENTS = 128
SUBSCRIBER_LIMIT = 200  # browsers at once; one more is asked to come back later
REST_FACTOR = 4.0  # devices are read again after this many times what reading them took: a large city costs a fifth of a core
MS_PER_S = 1000.0

Kind = Literal["incidents", "devices", "status", "beat"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """What differs: `changed` items (each with its `id`), and those that `left`. A beat has neither."""

    number: int
    kind: Kind
    changed: tuple[Shown, ...] = ()
    left: tuple[Shown, ...] = ()
    drawn: dict[Any, bytes] = field(default_factory=dict)  # by language and what may be seen: drawn once, sent to all of them

    @property
    def gone(self) -> tuple[str, ...]:
        """The ids of those that left."""
        return tuple(item["id"] for item in self.left)


class Subscriber:
    """One browser's queue; None in it means: cut off."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE_EVENTS + 1)

    def offer(self, event: Event) -> bool:
        """Queue an event; False when the queue is full."""
        if self._queue.qsize() >= QUEUE_EVENTS:
            return False
        self._queue.put_nowait(event)
        return True

    def cut(self) -> None:
        """End the stream after what is queued; a full queue keeps one place for this."""
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        return await self._queue.get()


class Live:
    """The state that all pages show, and who watches it."""

    def __init__(self, view: View, clock: Clock, processes: Callable[[], Mapping[str, Any]] | None = None) -> None:
        self._view = view
        self._clock = clock
        self._processes = processes
        self._thread = Threads("view")  # of its own: pages that wait for a database must not keep the stream waiting for a thread
        self._seen: set[str] = set()
        self._devices_due_s = 0.0
        self._devices_stale = True
        self._subscribers: set[Subscriber] = set()
        self._history: deque[Event] = deque(maxlen=HISTORY_EVENTS)
        self._number = 0
        self.epoch = secrets.token_hex(4)  # numbers of another start of this process mean nothing
        self.incidents: dict[str, Shown] = {}
        self.devices: dict[str, Shown] = {}
        self.status: dict[str, Shown] = {}
        self.dropped = 0
        self.polled_s = float("-inf")

    @property
    def cursor(self) -> str:
        """Where a page drawn now goes on from."""
        return f"{self.epoch}-{self._number}"

    @property
    def watching(self) -> int:
        """How many browsers are connected."""
        return len(self._subscribers)

    async def run(self) -> None:
        """Poll until cancelled; a registry or file that fails is tried again."""
        beat_s = self._clock.monotonic_s()
        while True:
            try:
                await self.poll()
            except IotError:
                log.exception("the page cannot be brought up to date")
            if self._clock.monotonic_s() - beat_s >= BEAT_S:
                beat_s = self._clock.monotonic_s()
                self._tell(Event(self._number, "beat"))
            await asyncio.sleep(POLL_S)

    async def poll(self) -> None:
        """Read what changed and tell it."""
        await self._read()
        self.polled_s = self._clock.monotonic_s()

    async def device(self, name: str) -> Shown | None:
        """One device with all its details, as it is now."""
        return await self._thread(lambda: self._view.device(name))

    async def _read(self) -> None:
        changed = await self._thread(self._view.changed)
        self._devices_stale = self._devices_stale or changed
        if changed or not self.status:
            incidents, readable = await self._thread(lambda: (self._view.incidents(), self._view.readable()))
            if readable["journal"]:  # else the last ones stay, under a banner that says so
                self._differ("incidents", self.incidents, incidents)
        start_s = self._clock.monotonic_s()
        if self._devices_stale and start_s >= self._devices_due_s:
            self._devices_stale = False
            self._differ("devices", self.devices, await self._thread(self._view.devices))
            now_s = self._clock.monotonic_s()
            self._devices_due_s = now_s + REST_FACTOR * (now_s - start_s)
        self._differ("status", self.status, [await self._thread(self._status)])

    def subscribe(self, after: str) -> tuple[Subscriber, list[Event] | None] | None:
        """A queue for a browser that last saw event `after`, and what it has missed: None means too much, send everything.

        None instead of a pair: there are too many browsers already.
        """
        if len(self._subscribers) >= SUBSCRIBER_LIMIT:
            return None
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        return subscriber, self._missed(after)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forget a browser that has left."""
        self._subscribers.discard(subscriber)

    def close(self) -> None:
        """End every stream."""
        for subscriber in self._subscribers:
            subscriber.cut()
        self._thread.close()

    def _missed(self, after: str) -> list[Event] | None:
        epoch, _, text = after.partition("-")
        if epoch != self.epoch or not text.isdecimal():
            return None
        number = int(text)
        oldest = self._history[0].number if self._history else self._number + 1
        if number > self._number or number < oldest - 1:
            return None
        return [event for event in self._history if event.number > number]

    def _differ(self, kind: Kind, known: dict[str, Shown], now: Sequence[Shown]) -> None:
        """Bring `known` up to `now` and tell the difference."""
        changed = tuple(item for item in now if known.get(item["id"]) != item)
        left = tuple(known[name] for name in known.keys() - {item["id"] for item in now})
        if not changed and not left:
            return
        known.clear()
        known.update((item["id"], item) for item in now)
        self._number += 1
        event = Event(self._number, kind, changed, left)
        self._history.append(event)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        for subscriber in [one for one in self._subscribers if not one.offer(event)]:
            self._subscribers.discard(subscriber)
            self.dropped += 1
            subscriber.cut()

    def _status(self) -> Shown:
        told = self._processes() if self._processes is not None else None
        beating = set(told) if told is not None else None
        self._seen |= beating or set()
        fire = any(_is_fire(name) for name in self._seen)
        return {
            "id": "status",
            "refused": self._view.refused(),
            "readable": self._view.readable(),
            "paths": self._view.paths(),
            "processes": {name: name in beating for name in sorted(self._seen | (set() if fire else {"fire"}))}
            if beating is not None
            else {},
            "stalled": any(one.get("journal_stalled") is not None for name, one in (told or {}).items() if _is_fire(name)),
        }


def _is_fire(name: str) -> bool:
    return name.partition("-")[0] == "fire"

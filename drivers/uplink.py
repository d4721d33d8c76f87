"""Uplink: a gateway's outbox to the broker, for ever.

on each connection: birth (retained) → subscribe to receipts → live readings as they are kept, backlog in between (see `rounds`)

A reading leaves the outbox only by the core's receipt; the broker's PUBACK proves nothing. A live reading goes first and
unmarked; whatever was held back (no link, no receipt, a stalled broker) goes out marked as backlog with its age. One uplink
speaks to one broker with one certificate: a gateway with fire children runs two, each with an outbox of its own.

A new certificate is tried by going over to it (`go_over`): the connection with the old one is closed properly, so that no will is
published, and opened with the new one; readings of that moment stay live. When the broker does not take the new one, the old one
is used again at once. A trial beside the living connection is not possible: name = client id, it would throw us out ourselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiomqtt
import msgspec

from drivers.mqtt.link import NO_SUBSCRIBERS, Link, Protocol
from drivers.outbox import Outbox, Row, held_back
from drivers.rounds import RESEND_S, WINDOW, Rounds
from iotcore.clock import Clock
from iotcore.errors import Refused, StoreError
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReceiptMessage, StatusMessage, encode

LIVE_LIMIT = 1_000  # readings kept but not yet handed to the link; beyond this the oldest wait for their round
LIVE_AGE_MS = 5_000  # a reading that waited longer for the link is not "live" any more, and says so
PAGE = 50  # backlog rows between two looks at the live queue
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0  # between attempts to connect, with full jitter
STEADY_S = 5.0  # a connection that lasted this long was a good one: the next attempt need not wait
FAILURE_CODES = 0x80  # MQTT 5, 2.4: reason codes from here on are errors
GIVE_WAY_S = 0.001  # a look at whether what is urgent has gone
MOST_LOOKS = 20  # then one row goes all the same: a fire that never ends must not silence everything else
DRAIN_S = 2.0  # before going over: how long to wait for the broker to take what is on its way


@dataclass(slots=True)
class Counters:
    """What became of the publishes of an uplink, since its start."""

    published: int = 0
    resent: int = 0  # of these, marked as backlog
    unmatched: int = 0  # thrown away by the broker: nobody subscribes
    refused: int = 0  # refused by the broker: rights, quota
    live_overflow: int = 0  # left to their round because the live queue was full
    unreadable: int = 0  # messages from the core that make no sense
    connections: int = 0


@dataclass(frozen=True, slots=True)
class _Trial:
    """Another way to meet the broker; `said` becomes "" when it works, else why not."""

    endpoint: Endpoint
    said: asyncio.Future[str]


class Uplink:
    """Publishes as `publisher`; `run` never returns and survives every failure of the broker."""

    def __init__(
        self,
        endpoint: Endpoint,
        publisher: str,
        outbox: Outbox,
        clock: Clock,
        *,
        protocol: Protocol = "5",
        firmware: str = "",
        resend_s: float = RESEND_S,
        window: int = WINDOW,
    ) -> None:
        self.connected = False
        self.last_error = ""
        self.counters = Counters()
        self.endpoint = endpoint  # used for the next connection
        self.urgent: Callable[[], bool] = _nothing  # whether something on another uplink of this process goes first
        self._publisher = publisher
        self._outbox = outbox
        self._clock = clock
        self._protocol: Protocol = protocol
        self._firmware = firmware
        self._resend_s = resend_s
        self._window = window
        self._live: deque[Row] = deque()
        self._wake = asyncio.Event()
        self._rounds = Rounds(outbox.boot, 0.0)
        self._trial: _Trial | None = None
        self._asked = asyncio.Event()  # somebody wants us to go over
        self._left_s: float | None = None  # since when we are between two connections on purpose
        self._down = f"{topics.ROOT}/+/{publisher}/down/#"
        self._status_topic = topics.up("gateway", publisher, "status", publisher)

    async def run(self) -> None:
        """Connect, publish, connect again; ends only by cancellation, and then says goodbye."""
        self._outbox.kept = self._kept
        pause_s = FIRST_PAUSE_S
        while _wanted():
            began_s = self._clock.monotonic_s()
            trial = self._trial
            try:
                await self._connection(trial)
                continue  # it ended because we are to go over
            except (aiomqtt.MqttError, OSError, StoreError) as error:
                self.last_error = str(error)
            finally:
                self.connected = False
            if trial is not None and self._end_trial(trial, self.last_error or "no connection"):
                continue  # back to what worked, at once
            self._left_s = None
            steady = self._clock.monotonic_s() - began_s > STEADY_S
            pause_s = FIRST_PAUSE_S if steady else min(2.0 * pause_s, LONGEST_PAUSE_S)
            await _until_set(self._asked, random.uniform(0.0, pause_s))  # noqa: S311 - jitter, not a secret

    async def go_over(self, endpoint: Endpoint) -> str:
        """Meet the broker by `endpoint` from now on, if it takes us: "" then, else why not, and everything is as before."""
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._trial = _Trial(endpoint, said)
        self._asked.set()
        try:
            return await said
        finally:
            self._trial = None
            self._asked.clear()

    def _end_trial(self, trial: _Trial, said: str) -> bool:
        """Tell what came of it; whether it was still open."""
        if self._trial is trial:
            self._trial = None
            self._asked.clear()
        if trial.said.done():
            return False
        trial.said.set_result(said)
        return True

    async def _connection(self, trial: _Trial | None) -> None:
        """One connection; returns when somebody wants us to go over, and raises when it is lost."""
        offline = encode(StatusMessage(state="offline"))
        will = aiomqtt.Will(self._status_topic, offline, qos=1, retain=True)
        endpoint = trial.endpoint if trial else self.endpoint
        async with Link(endpoint, self._publisher, will, self._protocol) as link:
            await link.listen(self._down)
            birth = StatusMessage(state="online", boot=self._outbox.boot, fw=self._firmware)
            await link.offer(self._status_topic, encode(birth), retain=True)
            if trial is not None and self._end_trial(trial, ""):
                self.endpoint = endpoint
            self._begin_rounds()
            self.connected, self.last_error = True, ""
            self.counters.connections += 1
            await self._both(link, offline)

    def _begin_rounds(self) -> None:
        """What was kept before this connection goes out in the first round; what came while going over is live still."""
        now_s = self._outbox.now_s()
        if self._left_s is None:
            self._live.clear()
        since_s = now_s if self._left_s is None else self._left_s
        self._rounds = Rounds(self._outbox.boot, since_s, resend_s=self._resend_s, window=self._window)
        self._left_s = None

    async def _both(self, link: Link, offline: bytes) -> None:
        """Receive and send until one of them fails, or we are to go over.

        No TaskGroup: in CPython 3.11 it can leave `cancelling()` raised for ever.
        """
        asked = asyncio.create_task(self._asked.wait())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._receive(link)), asyncio.create_task(self._send(link)), asked]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError):
                await link.offer(self._status_topic, offline, retain=True)  # a proper goodbye: the broker drops the will
            raise
        finally:
            over = asked.done() and not asked.cancelled()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        if over:
            self._left_s = self._outbox.now_s()
            await link.stop_listening(self._down)
            await link.settled(DRAIN_S)

    def _kept(self, rows: Sequence[Row]) -> None:
        if not self.connected and self._left_s is None:
            return
        self._live.extend(rows)
        while len(self._live) > LIVE_LIMIT:
            self._live.popleft()
            self.counters.live_overflow += 1
        self._wake.set()

    async def _receive(self, link: Link) -> None:
        async for message in link.messages:
            try:
                topic = topics.parse(str(message.topic))
                if topic.kind != "receipt" or not isinstance(message.payload, bytes):
                    continue  # commands and configuration are not for this driver
                receipt = msgspec.json.decode(message.payload, type=ReceiptMessage)
            except (Refused, msgspec.DecodeError):
                self.counters.unreadable += 1
                continue
            self._outbox.receipt(topic.device, receipt)
            self._rounds.receipted(topic.device, receipt.boot, receipt.up_to)
            self._wake.set()

    async def _send(self, link: Link) -> None:
        backlog: deque[Row] = deque()
        while True:
            self._wake.clear()
            await self._give_way()
            if self._live:
                row = self._live.popleft()
                await self._offer(link, row, late=self._outbox.age_ms(row) > LIVE_AGE_MS)
            elif backlog:
                row = backlog.popleft()
                self._rounds.sent(row, self._outbox.now_s())
                await self._offer(link, row, late=True)
            elif room := self._rounds.room(self._outbox.now_s()):
                page = await self._outbox.page(self._rounds.cursor, min(room, PAGE))
                backlog.extend(self._rounds.choose(page, self._outbox.now_s()))
            else:
                now_s = self._outbox.now_s()
                await _until_set(self._wake, max(0.01, self._rounds.next_s(now_s) - now_s))

    @property
    def pending(self) -> bool:
        """Whether a live reading is on its way from the outbox to the wire."""
        return self._outbox.pending or (self.connected and bool(self._live))

    async def _give_way(self) -> None:
        """Let others have the event loop after each row, and what is urgent as long as it needs, but not for ever."""
        await asyncio.sleep(0)
        for _ in range(MOST_LOOKS):
            if not self.urgent():
                return
            await asyncio.sleep(GIVE_WAY_S)

    async def _offer(self, link: Link, row: Row, *, late: bool) -> None:
        payload = held_back(row, self._outbox.age_ms(row)) if late else row.body
        answer = await link.offer(topics.up(row.domain, self._publisher, row.kind, row.device), payload)
        self.counters.published += 1
        self.counters.resent += late
        answer.add_done_callback(functools.partial(self._answered, row))

    def _answered(self, row: Row, answer: asyncio.Future[int]) -> None:
        if answer.cancelled() or not self._failed(answer.result()):
            return
        self._rounds.refused(row, self._outbox.now_s())
        self._wake.set()

    def _failed(self, code: int) -> bool:
        self.counters.unmatched += code == NO_SUBSCRIBERS
        self.counters.refused += code >= FAILURE_CODES
        return code == NO_SUBSCRIBERS or code >= FAILURE_CODES


async def _until_set(event: asyncio.Event, limit_s: float) -> None:
    """Wait for `event`, but not longer than `limit_s`."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return


def _nothing() -> bool:
    """Nothing is urgent."""
    return False


def _wanted() -> bool:
    """False once this task was cancelled: `asyncio.wait_for` inside aiomqtt may swallow that (CPython before 3.12)."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()

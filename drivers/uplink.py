"""Uplink: a gateway's outbox to the broker, for ever.

on each connection: birth (retained) → subscribe to receipts → live readings as they are kept, backlog in between (see `rounds`)

A reading leaves the outbox only by the core's receipt; the broker's PUBACK proves nothing. A live reading goes first and
unmarked; whatever was held back (no link, no receipt, a stalled broker) goes out marked as backlog with its age. One uplink
speaks to one broker with one certificate: a gateway with fire children runs two, each with an outbox of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

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
        self._endpoint = endpoint
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
        self._status_topic = topics.up("gateway", publisher, "status", publisher)

    async def run(self) -> None:
        """Connect, publish, connect again; ends only by cancellation, and then says goodbye."""
        self._outbox.kept = self._kept
        pause_s = FIRST_PAUSE_S
        while _wanted():
            began_s = self._clock.monotonic_s()
            try:
                await self._connection()
            except (aiomqtt.MqttError, OSError, StoreError) as error:
                self.last_error = str(error)
            finally:
                self.connected = False
            steady = self._clock.monotonic_s() - began_s > STEADY_S
            pause_s = FIRST_PAUSE_S if steady else min(2.0 * pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(random.uniform(0.0, pause_s))  # noqa: S311 - jitter, not a secret

    async def _connection(self) -> None:
        offline = encode(StatusMessage(state="offline"))
        will = aiomqtt.Will(self._status_topic, offline, qos=1, retain=True)
        async with Link(self._endpoint, self._publisher, will, self._protocol) as link:
            await link.listen(f"{topics.ROOT}/+/{self._publisher}/down/#")
            birth = StatusMessage(state="online", boot=self._outbox.boot, fw=self._firmware)
            await link.offer(self._status_topic, encode(birth), retain=True)
            self._rounds = Rounds(self._outbox.boot, self._clock.monotonic_s(), resend_s=self._resend_s, window=self._window)
            self._live.clear()  # kept under the last connection: the first round takes them
            self.connected, self.last_error = True, ""
            self.counters.connections += 1
            await self._both(link, offline)

    async def _both(self, link: Link, offline: bytes) -> None:
        """Receive and send until one of them fails. No TaskGroup: in CPython 3.11 it can leave `cancelling()` raised for ever."""
        tasks = [asyncio.create_task(self._receive(link)), asyncio.create_task(self._send(link))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError):
                await link.offer(self._status_topic, offline, retain=True)  # a proper goodbye: the broker drops the will
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    def _kept(self, rows: Sequence[Row]) -> None:
        if not self.connected:
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
            if self._live:
                row = self._live.popleft()
                await self._offer(link, row, late=self._outbox.age_ms(row) > LIVE_AGE_MS)
            elif backlog:
                row = backlog.popleft()
                self._rounds.sent(row, self._clock.monotonic_s())
                await self._offer(link, row, late=True)
            elif room := self._rounds.room(self._clock.monotonic_s()):
                page = await self._outbox.page(self._rounds.cursor, min(room, PAGE))
                backlog.extend(self._rounds.choose(page, self._clock.monotonic_s()))
            else:
                now_s = self._clock.monotonic_s()
                await self._woken(max(0.01, self._rounds.next_s(now_s) - now_s))

    async def _woken(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _offer(self, link: Link, row: Row, *, late: bool) -> None:
        payload = held_back(row, self._outbox.age_ms(row)) if late else row.body
        answer = await link.offer(topics.up(row.domain, self._publisher, row.kind, row.device), payload)
        self.counters.published += 1
        self.counters.resent += late
        answer.add_done_callback(functools.partial(self._answered, row))

    def _answered(self, row: Row, answer: asyncio.Future[int]) -> None:
        if answer.cancelled() or not self._failed(answer.result()):
            return
        self._rounds.refused(row, self._clock.monotonic_s())
        self._wake.set()

    def _failed(self, code: int) -> bool:
        self.counters.unmatched += code == NO_SUBSCRIBERS
        self.counters.refused += code >= FAILURE_CODES
        return code == NO_SUBSCRIBERS or code >= FAILURE_CODES


def _wanted() -> bool:
    """False once this task was cancelled: `asyncio.wait_for` inside aiomqtt may swallow that (CPython before 3.12)."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()

"""One connection of the ingest client, from CONNECT to its end; a new one is made for every reconnect.

    reader (mqttium) ──► pump ──► Inbox ──► lane commits ──► acknowledge ──► PUBACK
                          waits while the inbox is full, so TCP holds the broker back

A fresh client each time keeps no acknowledgement state across connections: the broker redelivers what was not acknowledged, and
an acknowledgement of an earlier connection cannot hit a packet identifier that means another message now.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mqttium import MQTTError, MQTTProtocolVersion, MQTTTimeoutError, ProtocolError, QoS
from mqttium.api import AsyncClient, Message, Properties, SubscribeOptions

from drivers.mqtt.inbox import Inbox
from iotcore.clock import Clock
from iotcore.wire.arrival import Arrival, Endpoint

RECEIVE_MAXIMUM = 65_535  # MQTT 5, 3.1.2.11.3: no limit; Mosquitto 2.0 overruns a smaller one after a resume (ADR 0001)
READER_QUEUE = 1_000  # messages between the library's reader and the pump
CONNECT_TIMEOUT_S = 10.0
SUBSCRIBE_TIMEOUT_S = 600.0  # SUBACK waits behind a backlog that a slow lane may need minutes for; dead links are the watch's job
CLOSE_TIMEOUT_S = 2.0
PROBE_FILTER = "iotcore/probe"  # never subscribed; UNSUBACK (0x11, no subscription existed) proves both directions
RETAIN_IF_NEW = 1  # MQTT 5, 3.8.3.1: retained messages only for a subscription that did not exist


@dataclass(frozen=True, slots=True)
class Terms:
    """How to connect. `version` 3.1.1 is for the embedded amqtt broker, which leaves a version 5 CONNECT without any answer."""

    endpoint: Endpoint
    client_id: str
    filters: tuple[str, ...]
    version: Literal["5", "3.1.1"]
    tls: bool
    session_expiry_s: int
    keepalive_s: int


class Connection:
    """Delivers into `inbox`; `up` once its subscriptions stand, until it ends. `more` are filters besides those of the terms."""

    def __init__(self, terms: Terms, inbox: Inbox, clock: Clock, on_up: Callable[[], None], more: Sequence[str] = ()) -> None:
        self.up = False
        self._on_up = on_up
        self._terms = terms
        self._inbox = inbox
        self._clock = clock
        self._five = terms.version == "5"
        self._client = AsyncClient(
            terms.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311,
            clean_start=False,
            keepalive=terms.keepalive_s,
            ping_timeout=float(terms.keepalive_s),
            connect_timeout=CONNECT_TIMEOUT_S,
            connect_properties=Properties({"session_expiry_interval": terms.session_expiry_s}) if self._five else None,
            manual_ack=True,
            max_inbound_inflight=RECEIVE_MAXIMUM,
            max_iterator_messages=READER_QUEUE,
            max_iterator_bytes=None,  # the broker's max_packet_size bounds a message, the inbox their sum
        )
        self._arrived = 0
        self._acks: deque[Message] = deque()
        self._ack_due = asyncio.Event()
        self._more = tuple(more)
        self._more_changed = asyncio.Event()

    async def run(self) -> None:
        """Connect and serve; it ends only by an error or by cancellation.

        Raises:
            MQTTError, OSError (in an ExceptionGroup once connected): why this connection ended.
        """
        terms = self._terms
        context = await asyncio.to_thread(terms.endpoint.tls) if terms.tls else None  # anew each time: certificates rotate
        try:
            answer = await self._client.connect(terms.endpoint.host, terms.endpoint.port, ssl=context)
            if answer.session_present:
                self._note_up()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump())
                tasks.create_task(self._send_acknowledgements())
                tasks.create_task(self._subscribe())
                tasks.create_task(self._watch())
        finally:
            self.up = False
            await self._close()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Queue PUBACKs; the library sends them in arrival order."""
        self._acks += messages
        self._ack_due.set()

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue a QoS 1 publication; a lane that waited here could not empty the inbox that its PUBACK is stuck behind.

        Raises:
            MQTTError: not connected, or the bounded queue of unacknowledged publications is full (FlowControlError).
        """
        self._client.publish_nowait(topic, payload, qos=QoS.AT_LEAST_ONCE)

    async def _pump(self) -> None:
        inbox, wall_ms = self._inbox, self._clock.wall_ms
        async for message in self._client.messages():
            if inbox.full:
                await inbox.space()
            inbox.put(Arrival(message.topic, message.payload, message.retain, wall_ms(), (self, message)))
            self._arrived += 1
        raise MQTTError(self._client.stats().last_disconnect_error or "the connection was closed")

    async def _send_acknowledgements(self) -> None:
        while True:
            await self._ack_due.wait()
            self._ack_due.clear()
            await self._flush()

    async def _flush(self) -> None:
        while self._acks:
            with contextlib.suppress(ProtocolError):  # acknowledged twice, by a lane or after a cancelled await: harmless
                await self._client.ack(self._acks[0])
            self._acks.popleft()

    def subscribe(self, more: Sequence[str]) -> None:
        """Hear `more` in place of the last ones; the difference is subscribed and unsubscribed."""
        self._more = tuple(more)
        self._more_changed.set()

    async def _subscribe(self) -> None:
        """Subscribe on every connection: the broker may have lost the session, or it may hold an older set of filters."""
        options = SubscribeOptions(qos=QoS.AT_LEAST_ONCE, retain_handling=RETAIN_IF_NEW if self._five else 0)
        stand: set[str] = set()
        while True:
            self._more_changed.clear()
            wanted = {*self._terms.filters, *self._more}
            if new := sorted(wanted - stand):
                await self._client.subscribe([(topic, options) for topic in new], timeout=SUBSCRIBE_TIMEOUT_S)
            self._note_up()
            if old := sorted(stand - wanted):
                await self._client.unsubscribe(old, timeout=SUBSCRIBE_TIMEOUT_S)
            stand = wanted
            await self._more_changed.wait()

    def _note_up(self) -> None:
        if not self.up:
            self.up = True
            self._on_up()

    async def _watch(self) -> None:
        """End a connection whose reader or link is dead although the library calls it connected.

        Silence for a keepalive period is probed with a round trip of our own. A full inbox is our lane's doing, not silence.
        """
        while True:
            seen = self._arrived
            await asyncio.sleep(self._terms.keepalive_s)
            if self._arrived != seen or self._inbox.full:
                continue
            try:
                await self._client.unsubscribe(PROBE_FILTER, timeout=float(self._terms.keepalive_s))
            except MQTTTimeoutError as error:
                if self._arrived == seen and not self._inbox.full:
                    raise MQTTTimeoutError("no answer to a probe: the link or the reader is dead") from error

    async def _close(self) -> None:
        with contextlib.suppress(MQTTError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._flush()
        with contextlib.suppress(MQTTError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client.disconnect()

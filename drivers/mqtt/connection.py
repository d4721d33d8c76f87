"""One connection of the ingest client, from CONNECT to its end; a new one is made for every reconnect.

    CONNECT ──► CONNACK ──► SUBSCRIBE ─ ─ ► SUBACK          reading goes on meanwhile: a backlog comes before SUBACK
                              └──► every few seconds: PINGREQ, and a heartbeat to ourselves

A fresh one each time keeps no acknowledgement state across connections: the broker redelivers what was not acknowledged.

The heartbeat goes the whole road: broker → stream → inbox → lane. Once it has come back, silence means that the link, our reader
or the broker's memory of our subscriptions is gone, whatever PINGRESP says. A lane that holds arrivals may be why the broker is
silent (its own limit of unacknowledged messages): then only PINGRESP counts, and while the inbox is full nothing does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drivers.mqtt import packets
from drivers.mqtt.inbox import Inbox
from drivers.mqtt.packets import Connack, Packet, ProtocolError
from drivers.mqtt.publishes import Topics
from drivers.mqtt.stream import LinkLost, Stream
from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import DeliveryError
from iotcore.wire.arrival import Endpoint

log = logging.getLogger(__name__)

Version = Literal["5", "3.1.1"]
CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
BEAT_S = 2.0
SILENT_BEATS = 3  # then it is dead: 6 to 8 s, which leaves the time to connect anew within 10
HEARTBEAT_EXPIRY_S = 30  # a heartbeat that its connection did not live to see need not wait in the broker
MID_LIMIT = 65_535  # MQTT 5, 2.2.1
SUBSCRIBE_MID = MID_LIMIT  # publications take the others
PUBLISH_LIMIT = 10_000  # publications that wait for the broker's answers to earlier ones; then `busy`
SHUTDOWN_TLS_S = 2.0
HEARTBEAT = "iotcore/heartbeat/"  # followed by the client id


@dataclass(frozen=True, slots=True)
class Terms:
    """How to connect. `heartbeat` False: for a connection that lives for moments."""

    endpoint: Endpoint
    client_id: str
    filters: tuple[str, ...]
    given_up: tuple[str, ...]
    tls: bool
    session_expiry_s: int
    keepalive_s: int
    heartbeat: bool

    @property
    def heartbeat_topic(self) -> str:
        return HEARTBEAT + self.client_id if self.heartbeat else ""

    @property
    def beat_s(self) -> float:
        """Between two heartbeats; the broker gives up on us after 1.5 times the keepalive (MQTT 5, 3.1.2.10)."""
        return min(BEAT_S, self.keepalive_s / 2.0)


@dataclass(slots=True)
class Counts:
    """What became of what an ingest published, over all its connections."""

    unmatched: int = 0  # receipts that nobody subscribed to: thrown away by the broker
    refused: int = 0  # receipts that the broker refused: rights, quota


class Connection:
    """Delivers into `inbox`; `up` once its subscriptions stand, until it ends. `token` names its first arrival."""

    def __init__(
        self,
        terms: Terms,
        version: Version,
        *,
        inbox: Inbox,
        clock: Clock,
        counts: Counts,
        token: int,
        on_up: Callable[[], None],
        more: Sequence[str] = (),
    ) -> None:
        self.up = False
        self.answer: Connack | None = None
        self._terms = terms
        self._five = version == "5"
        self._counts = counts
        self._on_up = on_up
        self._answered = asyncio.Event()
        self._topics = Topics(terms.heartbeat_topic)
        self._stream = Stream(inbox, clock, self._topics, token, five=self._five, on_packet=self._packet)
        self.acknowledge = self._stream.acknowledge
        self._more = tuple(more)  # filters that are wanted besides those of the terms
        self._stand: set[str] = set()  # those of them that stand, or are asked for
        self._asked: tuple[str, ...] = ()  # of the SUBSCRIBE or UNSUBSCRIBE that waits for its answer
        self._open: dict[int, str] = {}  # publications without the broker's answer: packet identifier → topic
        self._queued: deque[tuple[str, bytes]] = deque()
        self._last_mid = 0
        self._most_open = 0
        self._subscribed = False  # the broker has said so
        self._beats = False  # whether the heartbeat is subscribed too
        self._beat_sent = -1  # how many had come back when the last one was sent
        self._proven = False  # a heartbeat has come back
        self._arrived = 0  # at the last beat
        self._chunks = 0
        self._silent_beats = 0

    async def run(self, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Connect and serve; it ends only by an error or by cancellation.

        Raises:
            LinkLost, ProtocolError, OSError: why this connection ended, or did not come about.
        """
        try:
            await self._connect()
            await self._greet(answer_timeout_s)
            self._subscribe()
            while not self._stream.ended.done():
                await asyncio.wait({self._stream.ended}, timeout=self._terms.beat_s)
                self._beat()
            raise self._stream.ended.result()
        finally:
            self.up = False
            await self._stream.close(packets.GOODBYE, CLOSE_TIMEOUT_S)

    @property
    def holding(self) -> bool:
        """Whether the broker waits for acknowledgements."""
        return self._stream.unacknowledged > 0

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a QoS 1 publication, or queue it behind those that the broker has not answered.

        Raises:
            DeliveryError: `busy`, when too many wait already.
        """
        if len(self._open) < self._most_open and not self._queued:
            self._send(topic, payload)
        elif len(self._queued) < PUBLISH_LIMIT:
            self._queued.append((topic, payload))
        else:
            raise DeliveryError("busy", f"{PUBLISH_LIMIT} publications wait for the broker's answer")

    async def _connect(self) -> None:
        terms = self._terms
        context = await asyncio.to_thread(terms.endpoint.tls) if terms.tls else None  # anew each time: certificates rotate
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(
                    lambda: self._stream,
                    terms.endpoint.host,
                    terms.endpoint.port,
                    ssl=context,
                    ssl_shutdown_timeout=SHUTDOWN_TLS_S if context else None,
                )
        except TimeoutError as error:
            raise LinkLost("no_connection", f"none within {CONNECT_TIMEOUT_S:.0f} s") from error

    async def _greet(self, timeout_s: float) -> None:
        """CONNECT, and wait for the broker's answer."""
        terms, stream = self._terms, self._stream
        stream.write(
            packets.connect(
                terms.client_id, five=self._five, keepalive_s=terms.keepalive_s, session_expiry_s=terms.session_expiry_s
            )
        )
        answered = asyncio.ensure_future(self._answered.wait())
        try:
            either: set[asyncio.Future[Any]] = {answered, stream.ended}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered.cancel()
        if self.answer is None:
            if stream.ended.done():
                raise stream.ended.result()
            raise LinkLost("no_answer", f"no CONNACK within {timeout_s:.0f} s")
        if self.answer.code:
            raise LinkLost("refused", f"the broker does not let {terms.client_id} in: {self.answer.said}")
        self._most_open = min(self.answer.receive_maximum, MID_LIMIT - 1)
        if self.answer.session_present:
            self._note_up()

    def _subscribe(self) -> None:
        """Subscribe on every connection: the broker may have lost the session, or it may hold an older set of filters."""
        self._asked = tuple(one for one in (*self._terms.filters, self._terms.heartbeat_topic) if one)
        self._stream.write(packets.subscribe(SUBSCRIBE_MID, self._asked, five=self._five))

    def subscribe(self, more: Sequence[str]) -> None:
        """Hear `more`, besides the filters of the terms, in place of the last ones."""
        self._more = tuple(more)
        if self.up and not self._asked:
            self._ask()

    def _ask(self) -> None:
        """For one difference at a time between what is wanted more and what stands."""
        new, old = set(self._more) - self._stand, self._stand - set(self._more)
        self._asked = tuple(sorted(new or old))
        if new:
            self._stream.write(packets.subscribe(SUBSCRIBE_MID, self._asked, five=self._five))
        elif old:
            self._stream.write(packets.unsubscribe(SUBSCRIBE_MID, self._asked, five=self._five))
        self._stand = self._stand | new if new else self._stand - old

    def _note_up(self) -> None:
        if not self.up:
            self.up = True
            self._on_up()

    # What the broker says, other than PUBLISH

    def _packet(self, chunk: bytes, packet: Packet) -> None:
        kind = packet.head & 0xF0
        if self.answer is None:
            if kind != packets.CONNACK:
                raise ProtocolError(f"{packet.head:#04x} comes before CONNACK")
            self.answer = packets.connack(chunk, packet, five=self._five)
            self._answered.set()
        elif kind == packets.PUBACK:
            self._published(*packets.puback(chunk, packet))
        elif kind == packets.SUBACK:
            self._granted(packets.suback(chunk, packet, five=self._five)[1])
        elif kind == packets.UNSUBACK:
            self._ask()
        elif kind == packets.DISCONNECT:
            self._stream.end(LinkLost("disconnected", f"by the broker: {packets.goodbye(chunk, packet)[1]}"))
        elif kind != packets.PINGRESP:
            raise ProtocolError(f"a broker does not send {packet.head:#04x}")

    def _granted(self, codes: bytes) -> None:
        if self._stand:  # never at the first answer. A lane must hear the contract; a vendor's topic costs only itself
            refused = [one for one, code in zip(self._asked, codes, strict=False) if code >= packets.FAILURE_CODES]
            if refused:
                log.warning("the broker does not let %s hear %s", self._terms.client_id, ", ".join(refused))
        else:
            self._first_granted(codes)
            if self._terms.given_up:  # only now: what two filters match may come twice, but never falls between them
                self._asked = tuple(self._terms.given_up)
                self._stream.write(packets.unsubscribe(SUBSCRIBE_MID, self._asked, five=self._five))
                return  # one question at a time: they share a packet identifier
        self._ask()

    def _first_granted(self, codes: bytes) -> None:
        wanted = len(self._terms.filters)
        for topic_filter, code in zip(self._terms.filters, codes, strict=False):
            if code >= packets.FAILURE_CODES:
                name = packets.NAMES.get(code, "")
                self._stream.end(LinkLost("not_subscribed", f"{topic_filter} is not granted: {code:#04x} {name}"))
        if len(codes) < wanted:
            raise ProtocolError(f"SUBACK with {len(codes)} codes for {wanted} filters")
        self._subscribed = True
        self._beats = len(codes) > wanted and codes[wanted] < packets.FAILURE_CODES
        self._note_up()

    def _published(self, mid: int, code: int) -> None:
        """The broker's answer to a publication."""
        topic = self._open.pop(mid, "")
        if topic and topic == self._terms.heartbeat_topic:
            if code == packets.NO_SUBSCRIBERS:
                self._stream.end(LinkLost("not_subscribed", "the broker has lost our subscriptions"))
            elif code >= packets.FAILURE_CODES:
                self._beats = False
                log.warning("the broker refuses the heartbeat %s: give us the right to publish and read it", topic)
        elif topic:
            self._count(code)
        while self._queued and len(self._open) < self._most_open:
            self._send(*self._queued.popleft())

    def _count(self, code: int) -> None:
        """What the broker did not accept; the sender repeats itself for want of a receipt."""
        client = self._terms.client_id
        if code == packets.NO_SUBSCRIBERS:
            self._counts.unmatched += 1
            metrics.ingest_unaccepted.labels(client, "no_subscribers").inc()
        elif code >= packets.FAILURE_CODES:
            self._counts.refused += 1
            metrics.ingest_unaccepted.labels(client, "refused").inc()

    def _send(self, topic: str, payload: bytes, expiry_s: int = 0) -> None:
        mid = self._last_mid % (MID_LIMIT - 1) + 1
        while mid in self._open:
            mid = mid % (MID_LIMIT - 1) + 1
        self._last_mid = mid
        self._open[mid] = topic
        self._stream.write(packets.publish(topic, payload, mid, five=self._five, expiry_s=expiry_s))

    # The watch

    def _beat(self) -> None:
        """End a connection that is dead; else send a PINGREQ, and a heartbeat unless the last one is still on its way."""
        stream = self._stream
        self._proven = self._proven or self._topics.beats > 0
        arrived, came = stream.arrived != self._arrived, stream.chunks != self._chunks
        self._arrived, self._chunks = stream.arrived, stream.chunks
        strict = (self._proven or not self._subscribed) and not stream.unacknowledged
        heard = stream.paused or (arrived if strict else came)
        self._silent_beats = 0 if heard else self._silent_beats + 1
        if self._silent_beats >= SILENT_BEATS:
            what = (
                "no heartbeat came back: the link, the reader or the subscription" if self._proven else "the link or the reader"
            )
            stream.end(LinkLost("silent", f"{what} is dead"))
            return
        stream.write(packets.PING)
        back = self._beat_sent != self._topics.beats
        if self._beats and (back or self._silent_beats) and len(self._open) < self._most_open:
            self._beat_sent = self._topics.beats
            self._send(self._terms.heartbeat_topic, b"", HEARTBEAT_EXPIRY_S)

    def _silence(self) -> str:
        """What has not been heard for too long."""
        if not self._subscribed:
            return "the broker does not answer to our subscriptions"
        if self._proven:
            return "no heartbeat comes back: the link, our reader or the broker's memory of our subscriptions is gone"
        return "the broker says nothing at all: the link or our reader is dead"

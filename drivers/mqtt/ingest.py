"""The ingest client of a lane: QoS 1 with acknowledgement after the lane's commit (docs/adr/0001).

One connection, one certificate, one client id; MQTT 5 with a session that outlives the process, so that the broker keeps what
comes while a lane is down. It reconnects for ever and never drops: a full inbox holds the broker back.

    async with Ingest(endpoint, "svc.fire.1.in", ["iot/v1/fire/+/up/#"], clock) as ingest:
        while True:
            arrivals = await ingest.take(500)
            ...                                # one commit for all of them
            ingest.acknowledge(arrivals)
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

from drivers.mqtt.connection import ANSWER_TIMEOUT_S, Connection, Counts, Terms, Version
from drivers.mqtt.inbox import Inbox
from drivers.mqtt.packets import ProtocolError
from drivers.mqtt.stream import LinkLost
from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import DeliveryError
from iotcore.wire.arrival import Arrival, Endpoint

log = logging.getLogger(__name__)

SESSION_EXPIRY_S = 7 * 86_400  # at least a day: a lane that is down for a weekend misses nothing the broker can hold
INBOX_BYTES = 64 * 1024 * 1024
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 5.0
STABLE_S = 10.0  # a connection that lived so long resets the back-off
KEEPALIVE_S = 10
CANCEL_AGAIN_S = 2.0  # a cancellation can get lost (CPython 3.11: TaskGroup when a child fails in it, wait_for when done in it)
TRY_FIVE_S = 3.0  # how long a broker that may not know version 5 has for its answer; amqtt gives none
TOKENS_EACH = 1 << 40  # arrivals of one connection; a token of an earlier one never means anything on a later one
_NO_FIVE = frozenset({"no_answer", "closed"})  # what brokers without version 5 do instead of refusing it


class Ingest:
    """Async context manager; entering does not wait for the broker, `connected` and `last_error` tell how it stands.

    A session belongs to `client_id`, and filters that an earlier process subscribed stay in it: those of `given_up` are taken
    back on every connection, after `filters` stand. What the broker holds for them already still arrives.
    `retry_most_s` bounds the back-off, drawn with full jitter from 0 up to it. `version` "auto": 5 where the broker has it, else
    3.1.1. `tls` False is for tests on loopback.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client_id: str,
        filters: Sequence[str],
        clock: Clock,
        *,
        given_up: Sequence[str] = (),
        queue_limit: int = 10_000,
        version: Literal["5", "3.1.1", "auto"] = "5",
        tls: bool = True,
        keepalive_s: int = KEEPALIVE_S,
        retry_most_s: float = RETRY_MOST_S,
        session_expiry_s: int = SESSION_EXPIRY_S,
        heartbeat: bool = True,
    ) -> None:
        self.last_error = ""
        self.connections = 0  # how many times it has been connected; more than one means it was lost in between
        self.counts = Counts()
        self.turns = 0  # how often the lane took, acknowledged, or said that it works
        self.version: Version = "3.1.1" if version == "3.1.1" else "5"  # what the next connection speaks
        self._try_both = version == "auto"
        self._terms = Terms(endpoint, client_id, tuple(filters), tuple(given_up), tls, session_expiry_s, keepalive_s, heartbeat)
        self._clock = clock
        self._retry_most_s = retry_most_s
        self._inbox = Inbox(queue_limit, INBOX_BYTES)
        self._connection: Connection | None = None
        self._more: tuple[str, ...] = ()
        self._attempts = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_connected(), name=f"ingest {self._terms.client_id}")
        self._task.add_done_callback(lambda _: self._inbox.wake())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Send the acknowledgements given so far, leave the session to the broker."""
        self._closing = True
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CANCEL_AGAIN_S)

    @property
    def connected(self) -> bool:
        """Whether the broker has answered and the subscriptions stand."""
        return self._connection is not None and self._connection.up

    @property
    def waiting(self) -> int:
        """Arrivals that no lane has taken yet."""
        return len(self._inbox)

    @property
    def oldest_s(self) -> float:
        """How long the oldest of them has waited; 0 when there is none."""
        oldest_ms = self._inbox.oldest_ms
        return 0.0 if oldest_ms is None else max(0.0, (self._clock.wall_ms() - oldest_ms) / 1000.0)

    @property
    def holding(self) -> bool:
        """Whether arrivals wait for the lane, or for its acknowledgement."""
        return self._inbox.beats > 0 or len(self._inbox) > 0 or (self._connection is not None and self._connection.holding)

    def subscribe(self, filters: Sequence[str]) -> None:
        """Hear these too from now on, besides the filters it was made with, in place of those of the last call."""
        more = tuple(filters)
        if more != self._more:
            self._more = more
            if self._connection is not None:
                self._connection.subscribe(more)

    def working(self) -> None:
        """The lane says that it lives although it does not come back for more: its disk is full, say, and it tries again."""
        self.turns += 1

    async def take(self, limit: int) -> list[Arrival]:
        """Wait for at least one arrival; up to `limit` of those that are there, in the broker's order."""
        self.turns += 1
        while not (arrivals := self._taken(limit)):
            if self._task is None:
                raise RuntimeError("take() outside the ingest's context")
            if self._task.done():
                self._task.result()  # raises what ended it: a defect, since every failure of a broker is retried
            await self._inbox.wait()
        self.turns += 1
        return arrivals

    def _taken(self, limit: int) -> list[Arrival]:
        """What the inbox has, without our own heartbeats: those have come the whole way now."""
        arrivals = self._inbox.take(limit)
        if self._inbox.beats and arrivals:
            topic = self._terms.heartbeat_topic
            beats = [arrival for arrival in arrivals if arrival.topic == topic]
            if beats:
                self._inbox.beats -= len(beats)
                if self._connection is not None:
                    self._connection.acknowledge(beats)  # and no turn of the lane's
                return [arrival for arrival in arrivals if arrival.topic != topic]
        return arrivals

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Acknowledge after the commit; what came over a lost connection is ignored, because the broker delivers it again."""
        self.turns += 1
        if self._connection is not None:
            self._connection.acknowledge(arrivals)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 on this connection, for receipts: it does not wait for the broker's answer, the sender's repeat does.

        Raises:
            DeliveryError: `not_connected`, or `busy` (too many publications without the broker's answer).
        """
        if self._connection is None or not self._connection.up:
            raise DeliveryError("not_connected", self.last_error)
        self._connection.publish(topic, payload)

    async def _keep_connected(self) -> None:
        attempt = 0
        while not self._closing:
            connection = self._next_connection()
            started_s = self._clock.monotonic_s()
            try:
                await connection.run(TRY_FIVE_S if self._try_both and self.version == "5" else ANSWER_TIMEOUT_S)
            except (LinkLost, ProtocolError, OSError) as error:
                self._note(error, connection)
            attempt = 0 if self._clock.monotonic_s() - started_s >= STABLE_S else attempt + 1
            most_s = 0.0 if self._closing else min(self._retry_most_s, RETRY_FIRST_S * 2.0 ** min(attempt, 16))
            await asyncio.sleep(random.uniform(0.0, most_s))  # noqa: S311 -- jitter, not a secret

    def _next_connection(self) -> Connection:
        self._attempts += 1
        token = self._attempts * TOKENS_EACH
        self._connection = Connection(
            self._terms,
            self.version,
            inbox=self._inbox,
            clock=self._clock,
            counts=self.counts,
            token=token,
            on_up=self._on_up,
            more=self._more,
        )
        return self._connection

    def _note(self, error: LinkLost | ProtocolError | OSError, connection: Connection) -> None:
        """Say what ended a connection, and choose what the next one speaks."""
        reason = error.reason if isinstance(error, LinkLost) else "protocol" if isinstance(error, ProtocolError) else "link"
        self.last_error = f"{type(error).__name__}: {error}"
        if connection.answer is not None and not connection.answer.code:
            metrics.ingest_reconnects.labels(self._terms.client_id, reason).inc()
            log.warning("%s lost its broker: %s", self._terms.client_id, self.last_error)
        elif self._try_both and (connection.answer.wrong_version if connection.answer else reason in _NO_FIVE):
            self.version = "3.1.1" if self.version == "5" else "5"  # and back, when that does not work either

    def _on_up(self) -> None:
        if self._try_both:
            self._try_both = False
            if self.version == "3.1.1":
                log.warning("%s speaks MQTT 3.1.1: its broker knows no version 5", self._terms.client_id)
        self.connections += 1
        self.last_error = ""

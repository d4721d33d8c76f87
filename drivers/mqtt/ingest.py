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
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

from mqttium import FlowControlError, MQTTError, NotConnectedError
from mqttium.api import Message

from drivers.mqtt.connection import Connection, Terms
from drivers.mqtt.inbox import Inbox
from iotcore.clock import Clock
from iotcore.errors import DeliveryError
from iotcore.wire.arrival import Arrival, Endpoint

SESSION_EXPIRY_S = 7 * 86_400  # at least a day: a lane that is down for a weekend misses nothing the broker can hold
INBOX_BYTES = 64 * 1024 * 1024
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 5.0
STABLE_S = 10.0  # a connection that lived so long resets the back-off
KEEPALIVE_S = 10
CANCEL_AGAIN_S = 2.0  # a cancellation can get lost (CPython 3.11: TaskGroup when a child fails in it, wait_for when done in it)


class Ingest:
    """Async context manager; entering does not wait for the broker, `connected` and `last_error` tell how it stands.

    A session belongs to `client_id`: filters that are no longer wanted stay in it, so a changed role takes a new name.
    `retry_most_s` bounds the back-off, drawn with full jitter from 0 up to it. `version` "3.1.1" is for the embedded amqtt
    broker. `tls` False is for tests on loopback.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client_id: str,
        filters: Sequence[str],
        clock: Clock,
        *,
        queue_limit: int = 10_000,
        version: Literal["5", "3.1.1"] = "5",
        tls: bool = True,
        keepalive_s: int = KEEPALIVE_S,
        retry_most_s: float = RETRY_MOST_S,
        session_expiry_s: int = SESSION_EXPIRY_S,
    ) -> None:
        self.last_error = ""
        self.connections = 0  # how many times it has been connected; more than one means it was lost in between
        self._terms = Terms(endpoint, client_id, tuple(filters), version, tls, session_expiry_s, keepalive_s)
        self._clock = clock
        self._retry_most_s = retry_most_s
        self._inbox = Inbox(queue_limit, INBOX_BYTES)
        self._connection: Connection | None = None
        self._more: tuple[str, ...] = ()
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

    def subscribe(self, filters: Sequence[str]) -> None:
        """Hear these too from now on, besides the filters it was made with, in place of those of the last call."""
        more = tuple(filters)
        if more != self._more:
            self._more = more
            if self._connection is not None:
                self._connection.subscribe(more)

    async def take(self, limit: int) -> list[Arrival]:
        """Wait for at least one arrival; up to `limit` of those that are there, in the broker's order."""
        while not (arrivals := self._inbox.take(limit)):
            if self._task is None:
                raise RuntimeError("take() outside the ingest's context")
            if self._task.done():
                self._task.result()  # raises what ended it: a defect, since every failure of a broker is retried
            await self._inbox.wait()
        return arrivals

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Acknowledge after the commit; what came over a lost connection is ignored, because the broker delivers it again."""
        current = self._connection
        messages: list[Message] = [message for connection, message in (a.token for a in arrivals) if connection is current]
        if current is not None and messages:
            current.acknowledge(messages)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 on this connection, for receipts: it does not wait for the broker's answer, the sender's repeat does.

        Raises:
            DeliveryError: `not_connected`, `busy` (too many publications without the broker's answer) or `refused`.
        """
        if self._connection is None or not self._connection.up:
            raise DeliveryError("not_connected", self.last_error)
        try:
            self._connection.publish(topic, payload)
        except NotConnectedError as error:
            raise DeliveryError("not_connected", str(error)) from error
        except FlowControlError as error:
            raise DeliveryError("busy", str(error)) from error
        except MQTTError as error:
            raise DeliveryError("refused", str(error), recoverable=False) from error

    async def _keep_connected(self) -> None:
        attempt = 0
        while not self._closing:
            connection = self._connection = Connection(self._terms, self._inbox, self._clock, self._on_up, self._more)
            started_s = self._clock.monotonic_s()
            try:
                await connection.run()
            except* (MQTTError, OSError) as errors:
                self.last_error = "; ".join(_leaves(errors))
            attempt = 0 if self._clock.monotonic_s() - started_s >= STABLE_S else attempt + 1
            most_s = 0.0 if self._closing else min(self._retry_most_s, RETRY_FIRST_S * 2.0 ** min(attempt, 16))
            await asyncio.sleep(random.uniform(0.0, most_s))  # noqa: S311 -- jitter, not a secret

    def _on_up(self) -> None:
        self.connections += 1
        self.last_error = ""


def _leaves(errors: BaseExceptionGroup[BaseException]) -> list[str]:
    texts: list[str] = []
    for error in errors.exceptions:
        texts += _leaves(error) if isinstance(error, BaseExceptionGroup) else [f"{type(error).__name__}: {error}"]
    return texts

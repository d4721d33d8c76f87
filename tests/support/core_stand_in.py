"""A stand-in for the core on a real broker: takes what devices publish and, when told to, receipts it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiomqtt
import msgspec

from drivers.mqtt.link import Link, Protocol
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage, ReceiptMessage, encode

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Taken:
    """One message from a device, retained or not."""

    topic: topics.Topic
    payload: bytes
    retained: bool
    at_s: float = 0.0  # monotonic

    @property
    def message(self) -> ReadingMessage:
        return msgspec.json.decode(self.payload, type=ReadingMessage)


class CoreStandIn:
    """Subscribes to everything that goes up; `receipting` may change at any time. Connects again when the broker returns."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        receipting: bool = True,
        name: str = "core",
        topic_filter: str = "iot/v1/+/+/up/#",
        protocol: Protocol = "5",
    ) -> None:
        self.receipting = receipting
        self._name = name
        self._topic_filter = topic_filter
        self._protocol: Protocol = protocol
        self.taken: list[Taken] = []
        self._endpoint = endpoint
        self._stored: dict[tuple[str, str], set[int]] = {}
        self._up_to: dict[tuple[str, str], int] = {}
        self._subscribed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: Link | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        await asyncio.wait_for(self._subscribed.wait(), 10.0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    @property
    def readings(self) -> list[Taken]:
        return [taken for taken in self.taken if taken.topic.kind in {"reading", "event"}]

    def stored(self, device: str, boot: str) -> set[int]:
        return self._stored.get((device, boot), set())

    async def publish(self, topic: str, payload: bytes) -> None:
        assert self._client is not None
        await self._client.offer(topic, payload)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._connection()
            await asyncio.sleep(0.05)

    async def _connection(self) -> None:
        async with Link(self._endpoint, self._name, None, self._protocol) as client:
            await client.listen(self._topic_filter)
            self._client = client
            self._subscribed.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                taken = Taken(topics.parse(str(message.topic)), message.payload, message.retain, time.monotonic())
                self.taken.append(taken)
                if taken.topic.kind in {"reading", "event"} and self.receipting:
                    await self._receipt(client, taken)

    async def _receipt(self, client: Link, taken: Taken) -> None:
        message = taken.message
        key = (taken.topic.device, message.boot)
        stored = self._stored.setdefault(key, set())
        stored.add(message.seq)
        up_to = self._up_to.get(key, 0)
        while up_to + 1 in stored:
            up_to += 1
        self._up_to[key] = up_to
        if up_to:
            topic = topics.down(taken.topic.domain, taken.topic.publisher, "receipt", taken.topic.device)
            await client.offer(topic, encode(ReceiptMessage(boot=message.boot, up_to=up_to, ts=0)))


async def until(condition: Callable[[], object], what: str, limit_s: float = 15.0) -> None:
    """Wait until `condition` holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        await asyncio.sleep(POLL_S)

"""A canonical MQTT device made from its spec: what a maker's firmware would do to keep the wire contract.

Independent of the platform's own drivers: it is the other side that the core is tested against. It keeps each report in memory
until the core's cumulative receipt, sends it again (marked as backlog, with its age) after a reconnect and after 30 s, announces
itself by a retained birth message and leaves a will. Hundreds of them run in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import aiomqtt
import msgspec
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY

from iotcore.errors import Refused
from iotcore.specs.model import DeviceSpec
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage, ReceiptMessage, Scalar, StatusMessage, encode

RESEND_S = 30.0  # wire contract, Payloads
MEMORY_LIMIT = 1_000  # reports a small device can hold; the oldest goes first, and is counted
KEEPALIVE_S = 20
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
LATE_S = 5.0  # a report that waited longer for the broker says so
REFUSED_RETRY_S = 2.0  # nobody subscribes, or no right: the broker threw it away
LINK_LIMIT_S = 5.0  # for the broker's answer to connect, subscribe and publish
NO_SUBSCRIBERS, FIRST_FAILURE = 0x10, 0x80  # MQTT 5, 3.4.2.1: reason codes of a PUBACK


@dataclass(slots=True)
class Held:
    """A report in the device's memory, by its own monotonic clock."""

    message: ReadingMessage
    kind: str
    made_s: float
    due_s: float
    tries: int = 0


@dataclass(slots=True)
class Counters:
    """What became of the reports since the device's start."""

    reported: int = 0
    published: int = 0
    resent: int = 0  # of the published, marked as backlog
    receipted: int = 0
    dropped: int = 0  # lost because the memory was full
    connections: int = 0
    as_is: int = 0  # of `send_as_is`, published


class MqttDevice:
    """An async context manager: connects in the background, for ever; `report` never waits for the network."""

    def __init__(
        self,
        device: str,
        spec: DeviceSpec,
        endpoint: Endpoint,
        *,
        firmware: str = "sim-1",
        mqtt: Literal["5", "3.1.1"] = "5",
        resend_s: float = RESEND_S,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.device = device
        self.spec = spec
        self.boot = secrets.token_hex(4)
        self.connected = False
        self.last_error = ""
        self.counters = Counters()
        self._domain = topics.DOMAIN_OF_CLASS[spec.device_class]
        self._endpoint = endpoint
        self._firmware = firmware
        self._mqtt = mqtt
        self._resend_s = resend_s
        self._memory_limit = memory_limit
        self._held: dict[int, Held] = {}  # by number, in its order
        self._raw: deque[tuple[str, bytes, bool]] = deque(maxlen=memory_limit)
        self._next = 1
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"device {self.device}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()  # whatever ended it before its time

    @property
    def held(self) -> int:
        """Reports without a receipt."""
        return len(self._held)

    async def report(
        self,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        *,
        test: bool = False,
        kind: Literal["reading", "event"] = "reading",
        ts: int | None = None,
    ) -> int:
        """Say `values` now; returns the report's number. It is held until the core receipts it.

        `ts` (ms UTC) is what the device's clock says, for a clock that is wrong or a replay; None: the machine's.
        """
        number, self._next = self._next, self._next + 1
        message = ReadingMessage(
            boot=self.boot,
            seq=number,
            values=dict(values),
            q=dict(q or {}),
            ts=time.time_ns() // 1_000_000 if ts is None else ts,
            fw=self._firmware,
            test=test,
        )
        if len(self._held) >= self._memory_limit:
            del self._held[next(iter(self._held))]
            self.counters.dropped += 1
        self._held[number] = Held(message, kind, time.monotonic(), time.monotonic())
        self.counters.reported += 1
        self._news.set()
        return number

    def send_as_is(
        self, payload: bytes, *, kind: str = "reading", domain: str = "", device: str = "", retain: bool = False
    ) -> None:
        """Publish any bytes once, as a faulty device would; `domain` and `device` are of the topic, its own by default."""
        self._raw.append((topics.up(domain or self._domain, self.device, kind, device or self.device), payload, retain))
        self._news.set()

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while _wanted():
            began_s = time.monotonic()
            try:
                await self._connection()
            except (aiomqtt.MqttError, OSError) as error:
                self.last_error = str(error)
            finally:
                self.connected = False
            pause_s = FIRST_PAUSE_S if time.monotonic() - began_s > LINK_LIMIT_S else min(2.0 * pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(random.uniform(0.0, pause_s))

    async def _connection(self) -> None:
        will = aiomqtt.Will(self._status_topic, encode(StatusMessage(state="offline")), qos=1, retain=True)
        async with _Client(self._endpoint, self.device, will, self._mqtt) as client:
            await client.subscribe(f"{topics.ROOT}/{self._domain}/{self.device}/down/#", qos=1)
            birth = StatusMessage(state="online", boot=self.boot, fw=self._firmware)
            await client.publish(self._status_topic, encode(birth), qos=1, retain=True)
            self.connected, self.last_error = True, ""
            self.counters.connections += 1
            connected_s = time.monotonic()
            for held in self._held.values():
                held.due_s = connected_s
            listening = asyncio.create_task(self._listen(client))
            sending = asyncio.create_task(self._send(client, connected_s))
            try:
                await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.publish(will.topic, will.payload, qos=1, retain=True)
                raise
            finally:
                for task in (listening, sending):
                    task.cancel()
                await asyncio.wait({listening, sending})
            for task in (listening, sending):
                if not task.cancelled():
                    task.result()

    @property
    def _status_topic(self) -> str:
        return topics.up(self._domain, self.device, "status", self.device)

    async def _listen(self, client: _Client) -> None:
        async for message in client.messages:
            try:
                topic = topics.parse(str(message.topic))
                if topic.kind != "receipt" or not isinstance(message.payload, bytes):
                    continue
                receipt = msgspec.json.decode(message.payload, type=ReceiptMessage)
            except (Refused, msgspec.DecodeError):
                continue
            if receipt.boot == self.boot:
                for number in [number for number in self._held if number <= receipt.up_to]:
                    del self._held[number]
                    self.counters.receipted += 1

    async def _send(self, client: _Client, connected_s: float) -> None:
        while _wanted():
            self._news.clear()
            if self._raw:
                topic, payload, retain = self._raw.popleft()
                await client.publish(topic, payload, qos=1, retain=retain)
                self.counters.as_is += 1
                continue
            held = self._most_urgent(connected_s)
            if held is not None:
                await self._publish(client, held, late=held.tries > 0 or held.made_s < connected_s)
                continue
            next_s = min((held.due_s for held in self._held.values()), default=time.monotonic() + self._resend_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, next_s - time.monotonic())):
                    await self._news.wait()

    def _most_urgent(self, connected_s: float) -> Held | None:
        """What was made under this connection and not sent yet; else the oldest that is due."""
        now_s = time.monotonic()
        due = None
        for held in self._held.values():
            if held.tries == 0 and held.made_s >= connected_s:
                return held
            if due is None and held.due_s <= now_s:
                due = held
        return due

    async def _publish(self, client: _Client, held: Held, *, late: bool) -> None:
        age_s = time.monotonic() - held.made_s
        message = held.message
        if late or age_s > LATE_S:
            message = msgspec.structs.replace(message, backlog=True, age_ms=int(age_s * 1000.0))
            self.counters.resent += 1
        self.counters.published += 1
        held.tries += 1
        held.due_s = time.monotonic() + self._resend_s
        await client.publish(topics.up(self._domain, self.device, held.kind, self.device), encode(message), qos=1)
        if client.last_code == NO_SUBSCRIBERS or client.last_code >= FIRST_FAILURE:
            held.due_s = time.monotonic() + REFUSED_RETRY_S


def _wanted() -> bool:
    """False once this task was cancelled: `asyncio.wait_for` inside aiomqtt may swallow that (CPython before 3.12)."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()


class _Client(aiomqtt.Client):
    """aiomqtt, plus the reason code of the last PUBACK (reports go out one after the other), and a clean end at any time."""

    def __init__(self, endpoint: Endpoint, name: str, will: aiomqtt.Will, mqtt: str) -> None:
        five = mqtt == "5"
        super().__init__(
            endpoint.host,
            endpoint.port,
            identifier=name,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            clean_start=True if five else MQTT_CLEAN_START_FIRST_ONLY,
            clean_session=None if five else True,
            will=will,
            timeout=LINK_LIMIT_S,
            keepalive=KEEPALIVE_S,
            tls_context=endpoint.tls(),
        )
        self.last_code = 0

    async def __aenter__(self) -> Self:
        lost = self._disconnected
        connecting = asyncio.ensure_future(super().__aenter__())
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:  # the connection is made on a thread: see it through, then end it
            with contextlib.suppress(aiomqtt.MqttError):
                await connecting
                await super().__aexit__(None, None, None)
            raise
        except aiomqtt.MqttError:
            self._client.disconnect()
            raise
        if lost.done():  # broken right after its CONNACK: aiomqtt has already put a new future in its place
            raise aiomqtt.MqttError("disconnected at once") from lost.exception()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            await super().__aexit__(kind, error, trace)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # fetched, so that asyncio does not complain

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        self.last_code = reason_code.value
        super()._on_publish(client, userdata, mid, reason_code, properties)

"""A canonical MQTT device made from its spec: what a maker's firmware would do to keep the wire contract.

Independent of the platform's own drivers: it is the other side that the core is tested against. It keeps each report in memory
until the core's cumulative receipt, sends it again (marked as backlog, with its age) after a reconnect and after 30 s, announces
itself by a retained birth message and leaves a will. Thousands of them run in one process. It misbehaves when told to, by the
faults of `mqtt_faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Self

import aiomqtt
import msgspec

from iotcore.errors import Refused
from iotcore.specs.model import DeviceSpec
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage, ReceiptMessage, Scalar, StatusMessage, encode
from simulators import mqtt_faults
from simulators.enrol import expired
from simulators.mqtt_client import LINK_LIMIT_S, Client
from simulators.mqtt_faults import REORDER_LIMIT_S, Fault, Faults

RESEND_S = 30.0  # wire contract, Payloads
MEMORY_LIMIT = 1_000  # reports a small device can hold; the oldest goes first, and is counted
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
LATE_S = 5.0  # a report that waited longer for the broker says so
REFUSED_RETRY_S = 2.0  # nobody subscribes, or no right: the broker threw it away
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
        link_limit_s: float = LINK_LIMIT_S,
    ) -> None:
        self.device = device
        self.spec = spec
        self.boot = secrets.token_hex(4)
        self.connected = False
        self.last_error = ""
        self.counters = Counters()
        self.faults = Faults()  # begun and ended by `begin` and `end`
        self.told: dict[str, Scalar | None] = {}  # the last report's values
        self._domain = topics.DOMAIN_OF_CLASS[spec.device_class]
        self._endpoint = endpoint
        self._firmware = firmware
        self._mqtt = mqtt
        self._resend_s = resend_s
        self._memory_limit = memory_limit
        self._link_limit_s = link_limit_s
        self._held: dict[int, Held] = {}  # by number, in its order
        self._raw: deque[tuple[str, bytes, bool]] = deque(maxlen=memory_limit)
        self._next = 1
        self._burst = 0  # of a window of `Reorder`, still to go out
        self._news = asyncio.Event()
        self._link_news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._flapping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"device {self.device}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._task is not None
        tasks = [task for task in (self._task, self._flapping) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
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
        """Say `values` now; returns the report's number, 0 when a fault keeps it silent. It is held until the core receipts it.

        `ts` (ms UTC) is what the device's clock says, for a clock that is wrong or a replay; None: the machine's.
        """
        if self.faults.now(mqtt_faults.Silent) is not None:
            return 0
        self.told = self.faults.seen(values, self.told, time.monotonic())
        number, self._next = self._next, self._next + 1
        message = ReadingMessage(
            boot=self.boot,
            seq=number,
            values=self.told,
            q=dict(q or {}),
            ts=self.faults.stamp(time.time_ns() // 1_000_000 if ts is None else ts),
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

    def begin(self, fault: Fault) -> None:
        """Misbehave from now on, until `end`; `Oversized` and `Raw` happen at once and only once."""
        match fault:
            case mqtt_faults.Oversized(size):
                self.send_as_is(_oversized(size))
            case mqtt_faults.Raw(payload, retain):
                self.send_as_is(payload.encode(), retain=retain)
            case _:
                self.faults.begin(fault, time.monotonic())
        if isinstance(fault, mqtt_faults.Flap):
            self._end_flapping()
            self._flapping = asyncio.create_task(self._flap(fault), name=f"device {self.device} flaps")
        self._link_news.set()

    def end(self, fault: Fault) -> None:
        """Behave again."""
        self.faults.end(fault)
        if isinstance(fault, mqtt_faults.Flap):
            self._end_flapping()
        self._link_news.set()

    def _end_flapping(self) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None

    async def _flap(self, fault: mqtt_faults.Flap) -> None:
        while _wanted():
            await self.report(self.told, kind="event")
            await asyncio.sleep(fault.every_s)

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while _wanted():
            await self._until_plugged_in()
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
        async with Client(self._identified(), self.device, will, self._mqtt, limit_s=self._link_limit_s) as client:
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
            cut = asyncio.create_task(self._until_cut(client))
            try:
                await asyncio.wait({listening, sending, cut}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.publish(will.topic, will.payload, qos=1, retain=True)
                raise
            finally:
                for task in (listening, sending, cut):
                    task.cancel()
                await asyncio.wait({listening, sending, cut})
            for task in (listening, sending):
                if not task.cancelled():
                    task.result()

    def _identified(self) -> Endpoint:
        """The endpoint, with the certificate that the device shows now."""
        fault = self.faults.now(mqtt_faults.ExpiredCertificate)
        if fault is None:
            return self._endpoint
        files = mqtt_faults.existing(fault) or expired(self.device, self._endpoint.cert_file.parent)
        return replace(self._endpoint, cert_file=files[0], key_file=files[1])

    async def _until_plugged_in(self) -> None:
        while _wanted() and self.faults.is_cut(time.monotonic()):
            self.last_error = "the cable is out"
            await self._link_changes()

    async def _until_cut(self, client: Client) -> None:
        shown = self.faults.now(mqtt_faults.ExpiredCertificate)
        while _wanted():
            if self.faults.is_cut(time.monotonic()) or self.faults.now(mqtt_faults.ExpiredCertificate) is not shown:
                client.pull_cable()
                return
            await self._link_changes()

    async def _link_changes(self) -> None:
        """Wait until a fault of the link begins, ends or turns."""
        self._link_news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.faults.cut_changes_in_s(time.monotonic())):
                await self._link_news.wait()

    @property
    def _status_topic(self) -> str:
        return topics.up(self._domain, self.device, "status", self.device)

    async def _listen(self, client: Client) -> None:
        async for message in client.messages:
            try:
                topic = topics.parse(str(message.topic))
                if topic.kind != "receipt" or not isinstance(message.payload, bytes):
                    continue
                receipt = msgspec.json.decode(message.payload, type=ReceiptMessage)
            except (Refused, msgspec.DecodeError):
                continue
            if receipt.boot == self.boot and self.faults.now(mqtt_faults.Deaf) is None:
                for number in [number for number in self._held if number <= receipt.up_to]:
                    del self._held[number]
                    self.counters.receipted += 1

    async def _send(self, client: Client, connected_s: float) -> None:
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
        reorder = self.faults.now(mqtt_faults.Reorder)
        if reorder is not None:
            return self._newest(reorder, now_s)
        due = None
        for held in self._held.values():
            if held.tries == 0 and held.made_s >= connected_s:
                return held
            if due is None and held.due_s <= now_s:
                due = held
        return due

    def _newest(self, reorder: mqtt_faults.Reorder, now_s: float) -> Held | None:
        """The last of a window that is full (or has waited long enough), then the one before it, and so on."""
        due = [held for held in self._held.values() if held.due_s <= now_s]
        waiting = [held for held in due if held.tries == 0]
        if not self._burst and waiting and (len(waiting) >= reorder.window or waiting[0].made_s < now_s - REORDER_LIMIT_S):
            self._burst = len(waiting)
        if self._burst and waiting:
            self._burst -= 1
            return waiting[-1]
        return next((held for held in due if held.tries), None)

    async def _publish(self, client: Client, held: Held, *, late: bool) -> None:
        age_s = time.monotonic() - held.made_s
        message = held.message
        if late or age_s > LATE_S:
            message = msgspec.structs.replace(message, backlog=True, age_ms=int(age_s * 1000.0))
            self.counters.resent += 1
        self.counters.published += 1
        held.tries += 1
        held.due_s = time.monotonic() + self._resend_s
        duplicate = self.faults.now(mqtt_faults.Duplicate)
        for _ in range(duplicate.copies if duplicate is not None else 1):
            await client.publish(topics.up(self._domain, self.device, held.kind, self.device), encode(message), qos=1)
        if client.last_code == NO_SUBSCRIBERS or client.last_code >= FIRST_FAILURE:
            held.due_s = time.monotonic() + REFUSED_RETRY_S


def _wanted() -> bool:
    """False once this task was cancelled: `asyncio.wait_for` inside aiomqtt may swallow that (CPython before 3.12)."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()


def _oversized(size: int) -> bytes:
    """A reading that is sound but for its length, of a boot of its own: its missing receipt holds up no other."""
    empty = encode(ReadingMessage(boot=secrets.token_hex(4), seq=1, values={"filler": ""}))
    return empty.replace(b'""', b'"' + b"x" * max(0, size - len(empty)) + b'"')

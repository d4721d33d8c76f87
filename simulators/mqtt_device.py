"""A canonical MQTT device made from its spec: what a maker's firmware would do to keep the wire contract.

Independent of the platform's own drivers: it is the other side that the core is tested against. It keeps each report in memory
until the core's cumulative receipt, sends it again (marked as backlog, with its age) after a reconnect and after 30 s, announces
itself by a retained birth message and leaves a will. A fire device with an `alternate` listener says by HTTPS what MQTT does not
answer within 3 s (`fail_over`). Thousands of them run in one process. It misbehaves when told to, by the faults of `mqtt_faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from math import inf
from types import TracebackType
from typing import Any, Literal, Self

import aiomqtt
import msgspec

from iotcore.errors import DeliveryError, Refused
from iotcore.specs.model import DeviceSpec
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage, ReceiptMessage, ReportedConfig, Scalar, StatusMessage, encode
from simulators import mqtt_faults
from simulators.fail_over import NO_ANSWER_PAUSE_S, FailOver, Held
from simulators.https_alarm import post
from simulators.mqtt_client import LINK_LIMIT_S, Client
from simulators.mqtt_faults import REORDER_LIMIT_S
from simulators.mqtt_link import FIRST_FAILURE, LONGEST_PAUSE_S, MEMORY_LIMIT, NO_SUBSCRIBERS, MqttLink, wanted

RESEND_S = 30.0  # wire contract, Payloads
LATE_S = 5.0  # a report that waited longer for the broker says so
REFUSED_RETRY_S = 2.0  # nobody subscribes, or no right: the broker threw it away
WINDOW_POLL_S = 0.05
CABLE_LOOK_S = 0.05  # while the cable is out, and something is due


class MqttDevice(MqttLink):
    """Holds each report until its receipt and sends it again; a birth and a will tell whether it is there."""

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
        longest_pause_s: float = LONGEST_PAUSE_S,
        alternate: Endpoint | None = None,
    ) -> None:
        super().__init__(
            device,
            spec,
            endpoint,
            mqtt=mqtt,
            memory_limit=memory_limit,
            link_limit_s=link_limit_s,
            longest_pause_s=longest_pause_s,
        )
        self.boot = secrets.token_hex(4)
        self._domain = topics.DOMAIN_OF_CLASS[spec.device_class]
        self._firmware = firmware
        self._config: ReportedConfig | None = None
        self._resend_s = resend_s
        self._held: dict[int, Held] = {}  # by number, in its order
        self._next = 1
        self._fail_over = None if alternate is None else FailOver(alternate, self.lost_s)
        self._post_news = asyncio.Event()
        self._posting: asyncio.Task[None] | None = None
        self._burst = 0  # of a window of `Reorder`, still to go out

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._fail_over is not None:
            self._posting = asyncio.create_task(self._post(self._fail_over), name=f"device {self.device} by HTTPS")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.wait({self._posting})
        await super().__aexit__(kind, error, trace)

    @property
    def over_https(self) -> bool:
        """Whether MQTT is given up for now."""
        return self._fail_over is not None and self._fail_over.active

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
        self._post_news.set()
        return number

    def send_as_is(
        self, payload: bytes, *, kind: str = "reading", domain: str = "", device: str = "", retain: bool = False
    ) -> None:
        """Publish any bytes once, as a faulty device would; `domain` and `device` are of the topic, its own by default."""
        self._raw.append((topics.up(domain or self._domain, self.device, kind, device or self.device), payload, retain))
        self._news.set()

    def take_config(self, version: int, body: Mapping[str, Any]) -> None:
        """Be set to `body` since it took wanted version `version`: said now, and in each birth from now on."""
        self._config = ReportedConfig(version=version, body=dict(body))
        self.send_as_is(self._birth(), kind="status", retain=True)

    def _birth(self) -> bytes:
        return encode(StatusMessage(state="online", boot=self.boot, fw=self._firmware, config=self._config))

    def _will(self) -> aiomqtt.Will:
        return aiomqtt.Will(self._status_topic, encode(StatusMessage(state="offline")), qos=1, retain=True)

    async def _greet(self, client: Client) -> None:
        await client.subscribe(self._down, qos=1)
        await client.publish(self._status_topic, self._birth(), qos=1, retain=True)

    async def _leave(self, client: Client) -> None:
        """Nothing more comes after this: closing a socket with something unread is a reset, and would bring out the will."""
        await client.unsubscribe(self._down)

    def _conversation(self, client: Client) -> list[Coroutine[Any, Any, None]]:
        connected_s = time.monotonic()
        for held in self._held.values():
            held.due_s = connected_s
        return [self._listen(client), self._send(client, connected_s)]

    def _oversized(self, size: int) -> bytes:
        """A reading that is sound but for its length, of a boot of its own: its missing receipt holds up no other."""
        empty = encode(ReadingMessage(boot=secrets.token_hex(4), seq=1, values={"filler": ""}))
        return empty.replace(b'""', b'"' + b"x" * max(0, size - len(empty)) + b'"')

    @property
    def _down(self) -> str:
        return f"{topics.ROOT}/{self._domain}/{self.device}/down/#"

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
                if self._fail_over is not None:
                    self._fail_over.active = False
                for number in [number for number in self._held if number <= receipt.up_to]:
                    self._receipted(self._held.pop(number))

    def _receipted(self, held: Held) -> None:
        """The core has it, and it is forgotten here."""
        self.counters.receipted += 1
        self.counters.longest_wait_s = max(self.counters.longest_wait_s, time.monotonic() - held.made_s)

    def _not_connected(self) -> None:
        super()._not_connected()
        if self._fail_over is not None:
            self._fail_over.lost_s = self.lost_s
            self._post_news.set()

    async def _post(self, way: FailOver) -> None:
        """Say by HTTPS what MQTT does not answer in time, for ever."""
        while wanted():
            self._post_news.clear()
            now_s = time.monotonic()
            wait_s = way.next_s(self._held.values(), connected=self.connected) - now_s
            if wait_s <= 0.0 and not self.faults.is_cut(now_s):
                await self._post_due(way, now_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == inf else max(wait_s, CABLE_LOOK_S)):
                    await self._post_news.wait()

    async def _post_due(self, way: FailOver, now_s: float) -> None:
        """One post. Without an answer the same again a little later; an answer that is not yes is the re-send's business."""
        due = way.due(self._held, now_s, connected=self.connected)
        if not way.active:
            way.active = True
            self.counters.fail_overs += 1
        late = [(now_s - one.made_s, one) for _, one in due]
        messages = [
            msgspec.structs.replace(one.message, backlog=age_s > LATE_S, age_ms=int(age_s * 1000.0) if age_s > LATE_S else 0)
            for age_s, one in late
        ]
        identity = self._identified()
        at = replace(way.at, cert_file=identity.cert_file, key_file=identity.key_file)
        try:
            answer = await post(at, self.device, messages, kind="events" if due[0][1].kind == "event" else "readings")
        except DeliveryError as error:
            self.last_error = str(error)
            pause_s = NO_ANSWER_PAUSE_S
        else:
            self.counters.posted += answer.taken
            pause_s = answer.retry_s or self._resend_s
            if self.faults.now(mqtt_faults.Deaf) is None:
                for number in [number for number in self._held if number <= answer.up_to.get(self.boot, 0)]:
                    self._receipted(self._held.pop(number))
        for _, one in due:
            one.post_s = time.monotonic() + pause_s

    async def _send(self, client: Client, connected_s: float) -> None:
        while wanted():
            self._news.clear()
            if await self._send_raw(client):
                continue
            held = self._most_urgent(connected_s)
            if held is not None:
                await self._publish(client, held, late=held.tries > 0 or held.made_s < connected_s)
                continue
            next_s = min((held.due_s for held in self._held.values()), default=time.monotonic() + self._resend_s)
            if self.faults.now(mqtt_faults.Reorder) is not None:  # what is due waits for its window
                next_s = max(next_s, time.monotonic() + WINDOW_POLL_S)
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
        self.counters.unmatched += client.last_code == NO_SUBSCRIBERS
        if client.last_code == NO_SUBSCRIBERS or client.last_code >= FIRST_FAILURE:
            held.due_s = time.monotonic() + REFUSED_RETRY_S

"""What every simulated MQTT device has: a link to its broker that is made again for ever, and the faults that it may have.

run: plugged in? ─► connect with the certificate that it shows now ─► subclass `_converse`s ─► lost, cut or cancelled ─► again
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self

import aiomqtt

from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import Scalar
from simulators import mqtt_faults
from simulators.enrol import expired
from simulators.mqtt_client import LINK_LIMIT_S, Client
from simulators.mqtt_faults import Fault, Faults

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
OVER_LIMIT_S, OVER_LOOK_S = 10.0, 0.01
NO_SUBSCRIBERS, FIRST_FAILURE = 0x10, 0x80  # MQTT 5, 3.4.2.1: reason codes of a PUBACK
MEMORY_LIMIT = 1_000  # reports a small device can hold; the oldest goes first, and is counted


@dataclass(slots=True)
class Counters:
    """What became of the reports since the device's start."""

    reported: int = 0
    published: int = 0
    resent: int = 0  # of the published, marked as backlog
    receipted: int = 0
    unmatched: int = 0  # of the published, thrown away by the broker because nobody subscribes: not accepted
    longest_wait_s: float = 0.0  # for a receipt
    dropped: int = 0  # lost because the memory was full
    connections: int = 0
    as_is: int = 0  # of `send_as_is`, published
    posted: int = 0  # said by HTTPS, and taken
    fail_overs: int = 0  # times that MQTT was given up for HTTPS


class MqttLink(ABC):
    """An async context manager: connects in the background, for ever; `report` never waits for the network."""

    def __init__(
        self,
        device: str,
        spec: DeviceSpec,
        endpoint: Endpoint,
        *,
        mqtt: Literal["5", "3.1.1"] = "5",
        user: str | None = None,
        password: str | None = None,
        memory_limit: int = MEMORY_LIMIT,
        link_limit_s: float = LINK_LIMIT_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self.device = device
        self.spec = spec
        self.connected = False
        self.lost_s = time.monotonic()  # since when it is not connected, while it is not
        self.last_error = ""
        self.counters = Counters()
        self.faults = Faults()  # begun and ended by `begin` and `end`
        self.told: dict[str, Scalar | None] = {}  # the last report's values
        self._endpoint = endpoint
        self._mqtt = mqtt
        self._user, self._password = user, password
        self._memory_limit = memory_limit
        self._link_limit_s = link_limit_s
        self._longest_pause_s = longest_pause_s
        self._raw: deque[tuple[str, bytes, bool]] = deque(maxlen=memory_limit)
        self._news = asyncio.Event()
        self._link_news = asyncio.Event()
        self._over = asyncio.Event()  # somebody wants us to meet the broker by another endpoint
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

    @abstractmethod
    async def report(
        self,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        *,
        kind: Literal["reading", "event"] = "reading",
    ) -> int:
        """Say `values` now, with the quality of those that are not good; the report's number, 0 when a fault keeps it silent."""

    @abstractmethod
    def send_as_is(self, payload: bytes, *, retain: bool = False) -> None:
        """Publish any bytes once on its own topic, as a faulty device would."""

    def begin(self, fault: Fault) -> None:
        """Misbehave from now on, until `end`; `Oversized` and `Raw` happen at once and only once."""
        match fault:
            case mqtt_faults.Oversized(size):
                self.send_as_is(self._oversized(size))
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

    async def go_over(self, endpoint: Endpoint, limit_s: float = OVER_LIMIT_S) -> bool:
        """Say goodbye and meet the broker by `endpoint` (a new certificate); False, and back, when it does not take us."""
        before, connections = self._endpoint, self.counters.connections
        self._endpoint = endpoint
        self._over.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not (self.connected and self.counters.connections > connections):  # noqa: ASYNC110 - another task's doing
                    await asyncio.sleep(OVER_LOOK_S)
                return True
        self._endpoint = before
        self._over.set()
        return False

    def met_by(self, endpoint: Endpoint) -> None:
        """Meet the broker by `endpoint` from the next connect on."""
        self._endpoint = endpoint

    def _end_flapping(self) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None

    async def _flap(self, fault: mqtt_faults.Flap) -> None:
        while wanted():
            await self.report(self.told, kind="event")
            await asyncio.sleep(fault.every_s)

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while wanted():
            await self._until_plugged_in()
            began_s = time.monotonic()
            try:
                await self._connection()
            except (aiomqtt.MqttError, OSError) as error:
                self.last_error = str(error)
            finally:
                self._not_connected()
            if self._over.is_set():
                continue
            pause_s = FIRST_PAUSE_S if time.monotonic() - began_s > LINK_LIMIT_S else min(2.0 * pause_s, self._longest_pause_s)
            await asyncio.sleep(random.uniform(0.0, pause_s))

    def _not_connected(self) -> None:
        """The link is gone, or could not be made."""
        self.lost_s = time.monotonic() if self.connected else self.lost_s
        self.connected = False

    async def _connection(self) -> None:
        will = self._will()
        async with Client(
            self._identified(),
            self.device,
            will,
            self._mqtt,
            user=self._user,
            password=self._password,
            limit_s=self._link_limit_s,
        ) as client:
            await self._greet(client)
            self.connected, self.last_error = True, ""
            self.counters.connections += 1
            talking = [asyncio.create_task(work) for work in self._conversation(client)]
            self._over.clear()
            over = asyncio.create_task(self._over.wait())
            tasks = {*talking, asyncio.create_task(self._until_cut(client)), over}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                if will is not None:
                    with contextlib.suppress(aiomqtt.MqttError):
                        await client.publish(will.topic, will.payload, qos=will.qos, retain=will.retain)
                raise
            finally:
                left = over.done() and not over.cancelled()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            if left:
                await self._leave(client)
                return
            for task in talking:
                if not task.cancelled():
                    task.result()

    @abstractmethod
    def _oversized(self, size: int) -> bytes:
        """A payload of its kind, of so many bytes."""

    def _will(self) -> aiomqtt.Will | None:
        """What the broker shall say when the link breaks."""
        return None

    async def _greet(self, client: Client) -> None:
        """What is said and asked for right after a connect."""
        del client

    async def _leave(self, client: Client) -> None:
        """What is done before a goodbye."""
        del client

    @abstractmethod
    def _conversation(self, client: Client) -> list[Coroutine[Any, Any, None]]:
        """What goes on while the link is there; it ends with the first of them."""

    async def _send_raw(self, client: Client, qos: int = 1) -> bool:
        """Publish the oldest of what is to go out as it is; False when there is none."""
        if not self._raw:
            return False
        topic, payload, retain = self._raw.popleft()
        await client.publish(topic, payload, qos=qos, retain=retain)
        self.counters.as_is += 1
        return True

    def _identified(self) -> Endpoint:
        """The endpoint, with the certificate that the device shows now."""
        fault = self.faults.now(mqtt_faults.ExpiredCertificate)
        if fault is None:
            return self._endpoint
        files = mqtt_faults.existing(fault) or expired(self.device, self._endpoint.cert_file.parent)
        return replace(self._endpoint, cert_file=files[0], key_file=files[1])

    async def _until_plugged_in(self) -> None:
        while wanted() and self.faults.is_cut(time.monotonic()):
            self.last_error = "the cable is out"
            await self._link_changes()

    async def _until_cut(self, client: Client) -> None:
        shown = self.faults.now(mqtt_faults.ExpiredCertificate)
        while wanted():
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


def wanted() -> bool:
    """False once this task was cancelled: `asyncio.wait_for` inside aiomqtt may swallow that (CPython before 3.12)."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()

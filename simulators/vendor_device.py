"""A vendor's MQTT device made from its spec: publishes the maker's own payload on the maker's own topic, as a real one would.

It knows nothing of our contract: no receipts, no numbers, no birth. What it says while its link is down is lost, and counted. It
meets its broker with a certificate (mutual TLS), with a user and a password, or over plain TCP, as its endpoint says.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any, Literal

from iotcore.specs import payload
from iotcore.specs.model import DeviceSpec, MqttSource
from iotcore.wire import thingsboard
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import Scalar
from simulators import mqtt_faults
from simulators.mqtt_client import LINK_LIMIT_S, Client
from simulators.mqtt_link import NO_SUBSCRIBERS, MqttLink, wanted

WAITING_LIMIT = 100  # messages on their way to the broker; the oldest goes first, and is counted


class VendorDevice(MqttLink):
    """An async context manager: connects in the background, for ever; `report` never waits for the network.

    `name` is what the vendor's side calls the device, in its topic; by default the device's own. `qos` as the vendor's firmware
    publishes: most do with 0.
    """

    def __init__(
        self,
        device: str,
        spec: DeviceSpec,
        endpoint: Endpoint,
        *,
        name: str = "",
        qos: Literal[0, 1] = 0,
        mqtt: Literal["5", "3.1.1"] = "3.1.1",
        user: str | None = None,
        password: str | None = None,
        link_limit_s: float = LINK_LIMIT_S,
    ) -> None:
        super().__init__(device, spec, endpoint, mqtt=mqtt, user=user, password=password, link_limit_s=link_limit_s)
        if spec.mqtt is None:
            raise ValueError(f"{spec.model} is no vendor's MQTT device: its spec has no mqtt.topic")
        self._name = name or device
        self.topic = self._topic(spec.mqtt)
        self._qos = qos
        self._waiting: deque[bytes] = deque(maxlen=WAITING_LIMIT)

    async def report(
        self,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        *,
        kind: Literal["reading", "event"] = "reading",
    ) -> int:
        """Publish `values` in the maker's format; `kind` makes no difference to a vendor.

        Raises:
            ValueError: a value or quality that the format cannot hold.
        """
        del kind
        if self.faults.now(mqtt_faults.Silent) is not None:
            return 0
        self.told = self.faults.seen(values, self.told, time.monotonic())
        content = self._wrapped(payload.encode(self.spec, self.told, q))
        self.counters.reported += 1
        if not self.connected or len(self._waiting) == WAITING_LIMIT:
            self.counters.dropped += 1
        if self.connected:
            self._waiting.append(content)
            self._news.set()
        return self.counters.reported

    def send_as_is(self, payload: bytes, *, retain: bool = False) -> None:
        """Publish any bytes once, as a faulty device would."""
        self._raw.append((self.topic, payload, retain))
        self._news.set()

    def _topic(self, source: MqttSource) -> str:
        if source.format == "thingsboard":
            return thingsboard.OWN_TELEMETRY if self.spec.device_class == "gateway" else thingsboard.TELEMETRY
        return source.topic.replace("{device}", self._name)

    def _wrapped(self, content: bytes) -> bytes:
        """As its gateway publishes it, where it stands behind one that names it in the payload."""
        if self.topic != thingsboard.TELEMETRY:
            return content
        entry = {"ts": int(time.time() * 1000.0), "values": json.loads(content)}
        return json.dumps({self._name: [entry]}, ensure_ascii=False).encode()

    def _conversation(self, client: Client) -> list[Coroutine[Any, Any, None]]:
        self._waiting.clear()
        return [self._listen(client), self._send(client)]

    async def _listen(self, client: Client) -> None:
        """Nothing is said to it; this notices the end of the link."""
        async for _ in client.messages:
            pass

    async def _send(self, client: Client) -> None:
        while wanted():
            self._news.clear()
            if await self._send_raw(client, self._qos):
                continue
            reorder = self.faults.now(mqtt_faults.Reorder)
            if len(self._waiting) >= (1 if reorder is None else reorder.window):
                batch = list(self._waiting) if reorder is None else list(reversed(self._waiting))
                self._waiting.clear()
                for content in batch:
                    await self._publish(client, content)
                continue
            await self._news.wait()

    async def _publish(self, client: Client, content: bytes) -> None:
        duplicate = self.faults.now(mqtt_faults.Duplicate)
        for _ in range(duplicate.copies if duplicate is not None else 1):
            await client.publish(self.topic, content, qos=self._qos)
        self.counters.published += 1
        self.counters.unmatched += self._qos > 0 and client.last_code == NO_SUBSCRIBERS

    def _oversized(self, size: int) -> bytes:
        """The maker's payload with blanks behind it: still JSON, or bytes of a wrong length."""
        return payload.encode(self.spec, self.told).ljust(size)

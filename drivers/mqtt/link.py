"""Link: one MQTT connection on the device side (aiomqtt), which also tells what the broker thought of each publish.

aiomqtt's own `publish` forgets the reason code of the PUBACK. With MQTT 5 a broker answers 0x10 "no matching subscribers" to a
message that it threw away: a sender who keeps its copy must not count that as accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal, Self

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from iotcore.wire.arrival import Endpoint

Protocol = Literal["5", "3.1.1"]
KEEPALIVE_S = 15  # a silent link is noticed, and the will published, after 1.5 times this (MQTT 5, 3.1.2.10)
ANSWER_LIMIT_S = 5.0  # CONNACK, SUBACK, DISCONNECT
PUBACK_LIMIT_S = 10.0  # a broker that takes but never answers is as good as gone
INCOMING_LIMIT = 1_000  # receipts and commands not yet looked at; a receipt lost here is repeated by the core
IN_FLIGHT = 20  # unacknowledged publishes; Mosquitto's default receive maximum
NO_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1


class Link(aiomqtt.Client):
    """An async context manager like aiomqtt's client; a new one for each connection, so that paho re-sends nothing by itself."""

    def __init__(self, endpoint: Endpoint, client_id: str, will: aiomqtt.Will | None, protocol: Protocol) -> None:
        modern = protocol == "5"
        super().__init__(
            endpoint.host,
            endpoint.port,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if modern else aiomqtt.ProtocolVersion.V311,
            clean_start=True if modern else paho.MQTT_CLEAN_START_FIRST_ONLY,
            clean_session=None if modern else True,
            will=will,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_LIMIT_S,
            max_inflight_messages=IN_FLIGHT,
            max_queued_incoming_messages=INCOMING_LIMIT,
            tls_context=endpoint.tls(),
        )
        self._offered: dict[int, asyncio.Future[int]] = {}
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def __aenter__(self) -> Self:
        """Connect; a cancellation on the way leaves no half-open connection behind."""
        lost = self._disconnected
        entering = asyncio.ensure_future(super().__aenter__())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError):
                await entering
                await super().__aexit__(None, None, None)
            raise
        except aiomqtt.MqttError:
            self._client.disconnect()
            raise
        if lost.done():  # aiomqtt forgets a connection that broke right after its CONNACK
            raise aiomqtt.MqttError("disconnected at once") from lost.exception()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for answer in self._offered.values():
            answer.cancel()
        self._offered.clear()
        with contextlib.suppress(aiomqtt.MqttError):
            await super().__aexit__(kind, error, trace)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # seen; else asyncio complains of an exception that nobody fetched

    async def listen(self, topic_filter: str) -> None:
        """Subscribe at QoS 1. aiomqtt's own `subscribe` waits for its answer even when the link is gone.

        Raises:
            aiomqtt.MqttError: the link is down.
        """
        await self._answered(self.subscribe(topic_filter, qos=1))

    async def stop_listening(self, topic_filter: str) -> None:
        """Unsubscribe. After this nothing more comes, so that closing is no reset.

        A socket that is closed with something unread is reset, and the broker may then never read our DISCONNECT: it publishes
        the will of somebody who said goodbye.

        Raises:
            aiomqtt.MqttError: the link is down.
        """
        await self._answered(self.unsubscribe(topic_filter))

    async def _answered(self, asking: Coroutine[Any, Any, Any]) -> None:
        asked = asyncio.ensure_future(asking)
        try:
            await asyncio.wait([asked, self._disconnected], return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise aiomqtt.MqttError("disconnected while subscribing")
            asked.result()
        finally:
            asked.cancel()

    async def offer(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[int]:
        """Publish at QoS 1; returns when it is on its way, with a future of the PUBACK's reason code.

        Raises:
            aiomqtt.MqttError: the link is down, or the broker answers none of the last publishes.
        """
        try:
            async with asyncio.timeout(PUBACK_LIMIT_S):
                await self._room.acquire()
        except TimeoutError:
            raise aiomqtt.MqttError(f"no PUBACK within {PUBACK_LIMIT_S:.0f} s") from None
        if self._disconnected.done():  # paho would queue it for a reconnection that never comes
            raise aiomqtt.MqttError("disconnected")
        sent = self._client.publish(topic, payload, 1, retain)
        if sent.rc != paho.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(sent.rc, "not published")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._offered[sent.mid] = answer
        return answer

    async def settled(self, limit_s: float) -> None:
        """Wait until the broker has answered everything that was offered, at most `limit_s`."""
        if self._offered:
            await asyncio.wait(list(self._offered.values()), timeout=limit_s)

    def _on_publish(self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties) -> None:
        super()._on_publish(client, userdata, mid, reason_code, properties)
        answer = self._offered.pop(mid, None)
        if answer is None:
            return
        self._room.release()
        if not answer.done():
            answer.set_result(reason_code.value)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        for _ in range(IN_FLIGHT):
            self._room.release()  # whoever waits to publish finds out now, not after the limit

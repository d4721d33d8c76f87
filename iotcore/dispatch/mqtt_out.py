"""The channel to a system that takes fires from its own MQTT broker: QoS 1, the same JSON as the webhook's.

    reply_topic ""     the broker's PUBACK acknowledges: the broker has it, whoever listens
    reply_topic "…"    whoever takes it answers there {"incident": …, "event": …, "status": "accepted" | "rejected", "reason": …}

One connection, opened by the first notice and kept; it is given up at the first error and opened anew by the next attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import aiomqtt
import msgspec

from iotcore.clock import Clock
from iotcore.dispatch.cad_webhook import Answer, report
from iotcore.errors import DeliveryError
from iotcore.journal.records import Notice, OutboxRow
from iotcore.settings_channels import MqttReceiver

log = logging.getLogger(__name__)

VERSIONS = {"5": aiomqtt.ProtocolVersion.V5, "3.1.1": aiomqtt.ProtocolVersion.V311}
KEEPALIVE_S = 15


class Reply(msgspec.Struct, frozen=True):
    """What whoever takes alarms answers. Other members are ignored."""

    incident: str
    status: str
    event: str = "alarm"
    reason: str = ""
    reference: str = ""


class MqttChannel:
    """Publishes notices to one broker; implements `iotcore.dispatch.outbox.Channel`."""

    def __init__(self, receiver: MqttReceiver, clock: Clock) -> None:
        self._receiver = receiver
        self._clock = clock
        self._stack: contextlib.AsyncExitStack | None = None
        self._client: aiomqtt.Client | None = None
        self._listener: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._waiting: dict[tuple[str, str], asyncio.Future[Reply]] = {}

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Publish a notice; returns what acknowledged it.

        Raises:
            DeliveryError: no acknowledgement; not recoverable when whoever takes alarms rejected it.
        """
        receiver = self._receiver
        try:
            async with asyncio.timeout(receiver.reply_timeout_s):
                client = await self._connected()
                return await self._exchange(client, row, sent)
        except TimeoutError as error:
            await self._give_up()
            raise DeliveryError("no_reply", f"{receiver.reply_timeout_s:g} s") from error
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            await self._give_up()
            raise DeliveryError("connection_lost", str(error)) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._give_up()

    async def _exchange(self, client: aiomqtt.Client, row: OutboxRow, sent: Callable[[float], None]) -> str:
        notice, receiver = row.notice, self._receiver
        key = (notice.incident, notice.event)
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            await client.publish(topic(receiver.topic, notice), msgspec.json.encode(report(notice, row.part)), qos=1)
            sent(self._clock.wall_ms())
            if not receiver.reply_topic:
                return "PUBACK"
            reply = await answer
        finally:
            self._waiting.pop(key, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, where publishing failed before anybody waited for the answer
        if reply.status == "rejected":
            raise DeliveryError("rejected", reply.reason or "no reason given", recoverable=False)
        return f"accepted {reply.reference}".rstrip()

    async def _connected(self) -> aiomqtt.Client:
        async with self._opening:
            if self._client is not None and (self._listener is None or not self._listener.done()):
                return self._client
            await self._close()
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(_client(self._receiver))
                if self._receiver.reply_topic:
                    await client.subscribe(self._receiver.reply_topic, qos=1)
                self._stack = stack.pop_all()
            self._client = client
            self._listener = asyncio.create_task(self._listen(client), name=f"replies to {self._receiver.name}")
            return client

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Hand each answer to whoever waits for it; ends with the connection, so that the next send opens another."""
        try:
            async for message in client.messages:
                try:
                    reply = msgspec.json.decode(bytes(message.payload), type=Reply)
                    msgspec.convert({"status": reply.status}, type=Answer)
                except (msgspec.MsgspecError, TypeError) as error:
                    log.warning("%s: an answer that is none: %s", self._receiver.name, error)
                    continue
                waiting = self._waiting.get((reply.incident, reply.event))
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except aiomqtt.MqttError as error:
            log.info("%s: the connection is gone: %s", self._receiver.name, error)
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(error)

    async def _give_up(self) -> None:
        async with self._opening:
            await self._close()

    async def _close(self) -> None:
        listener, self._listener = self._listener, None
        stack, self._stack = self._stack, None
        self._client = None
        if listener is not None:
            listener.cancel()
            await asyncio.wait({listener})
        if stack is not None:
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                await stack.aclose()


def topic(template: str, notice: Notice) -> str:
    """The topic of a notice; no value of a notice makes it another level or a wildcard."""
    values = {"incident": notice.incident, "event": notice.event, "premises": notice.premises, "account": notice.account}
    return re.sub(r"\{(\w+)\}", lambda found: re.sub(r"[^\w.:-]", "_", values[found[1]]) or "_", template)


def _client(receiver: MqttReceiver) -> aiomqtt.Client:
    return aiomqtt.Client(
        receiver.host,
        receiver.port,
        username=receiver.username or None,
        password=receiver.password or None,
        identifier=receiver.client_id or f"iotcore-{receiver.name}",
        protocol=VERSIONS[receiver.version],
        tls_context=_tls(receiver) if receiver.tls else None,
        timeout=receiver.reply_timeout_s,
        keepalive=KEEPALIVE_S,
    )


def _tls(receiver: MqttReceiver) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=receiver.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if receiver.cert_file:
        context.load_cert_chain(Path(receiver.cert_file), Path(receiver.key_file))
    return context

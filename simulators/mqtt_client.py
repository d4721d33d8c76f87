"""The MQTT connection of a simulated device: aiomqtt, plus what a maker's test needs of it.

The reason code of the last PUBACK (reports go out one after the other), a clean end at any time, a cable that can be pulled, and
the broker's own word when it refuses a certificate. Endpoints without files are plain TCP, as some vendors' devices are.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY

from iotcore.wire.arrival import Endpoint

KEEPALIVE_S = 20
LINK_LIMIT_S = 5.0  # for the broker's answer to connect, subscribe and publish


class Client(aiomqtt.Client):
    """One connection; an async context manager that raises `aiomqtt.MqttError` with the reason when there is none."""

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        will: aiomqtt.Will | None,
        mqtt: str,
        *,
        user: str | None = None,
        password: str | None = None,
        limit_s: float = LINK_LIMIT_S,
    ) -> None:
        five = mqtt == "5"
        self._tls = None if endpoint.ca_file == Path() else _listening_for_alerts(endpoint)
        super().__init__(
            endpoint.host,
            endpoint.port,
            identifier=name,
            username=user,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            clean_start=True if five else MQTT_CLEAN_START_FIRST_ONLY,
            clean_session=None if five else True,
            will=will,
            timeout=limit_s,
            keepalive=KEEPALIVE_S,
            tls_context=self._tls,
        )
        self.last_code = 0

    @property
    def refusal(self) -> str:
        """What the broker's TLS said last ("…alert certificate expired…"); "" when it said nothing."""
        return getattr(self._tls, "alert", "")

    def pull_cable(self) -> None:
        """End the connection without a DISCONNECT: the broker publishes the will."""
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

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
        except aiomqtt.MqttError as error:
            self._client.disconnect()
            raise self._explained(error) from error
        if lost.done():  # broken right after its CONNACK: aiomqtt has already put a new future in its place
            raise self._explained(aiomqtt.MqttError("disconnected at once")) from lost.exception()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            await super().__aexit__(kind, error, trace)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # fetched, so that asyncio does not complain

    def _explained(self, error: aiomqtt.MqttError) -> aiomqtt.MqttError:
        return aiomqtt.MqttError(f"{error} ({self.refusal})") if self.refusal else error

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        self.last_code = reason_code.value
        super()._on_publish(client, userdata, mid, reason_code, properties)


def _listening_for_alerts(endpoint: Endpoint) -> ssl.SSLContext:
    context = endpoint.tls()
    context.sslsocket_class = _Alerted
    return context


class _Alerted(ssl.SSLSocket):
    """Keeps the broker's TLS alert. With TLS 1.3 a refused certificate shows at the first read, where paho forgets why."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            self._keep(error)
            raise

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's signature
        try:
            super().do_handshake(block)
        except OSError as error:
            if isinstance(error, ssl.SSLError):
                self._keep(error)
            self.close()  # paho leaves that to the garbage collector
            raise

    def _keep(self, error: ssl.SSLError) -> None:
        if not isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            self.context.alert = error.reason or str(error)  # type: ignore[attr-defined]  # a note for Client.refusal

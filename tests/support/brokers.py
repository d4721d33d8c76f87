"""Both of our brokers, as they are configured for a city, on Mosquitto or embedded; and clients that misbehave on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, refresh_crl, write_home
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.embedded_broker import EmbeddedBroker
from tests.support.pki import authority, device_files, service_files, trust_file
from tests.support.ports import free_port

Kind = Literal["mosquitto", "amqtt"]
DEADLINE_S = 10.0
POLL_S = 0.02
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"  # MQTT 3.1.1, clean session, 60 s, client id "x"
CONNACK = b"\x20\x02\x00\x00"  # accepted


@dataclass
class Site:
    """An authority and its two brokers."""

    folder: Path
    kind: Kind
    authority: Authority
    homes: dict[BrokerName, BrokerHome]
    running: dict[BrokerName, BrokerProcess | EmbeddedBroker] = field(default_factory=dict)

    def device(self, name: str, anchor: Anchor = Anchor.FIRE) -> ssl.SSLContext:
        """The TLS of a new device."""
        certificate, key, _ = device_files(self.authority, self.folder / "devices", anchor, name)
        return self.tls(certificate, key)

    def service(self, name: str) -> ssl.SSLContext:
        """The TLS of one of our services."""
        return self.tls(*service_files(self.authority, self.folder, name))

    def tls(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """Trust our brokers, show `certificate`."""
        context = ssl.create_default_context(cafile=str(trust_file(self.authority, self.folder)))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context

    def client(
        self,
        broker: BrokerName,
        tls: ssl.SSLContext,
        client_id: str = "whatever",
        *,
        clean_session: bool = True,
        will: aiomqtt.Will | None = None,
    ) -> Client:
        """A client that calls itself `client_id`; a session that is not clean is kept for an hour."""
        modern = self.kind == "mosquitto"
        return Client(self.homes[broker].port, tls, client_id, modern=modern, clean_session=clean_session, will=will)

    def republish(self, broker: BrokerName) -> None:
        """Hand the broker the current revocation lists and have it read them."""
        refresh_crl(self.authority, self.homes[broker])
        self.running[broker].reload()


class Client:
    """An aiomqtt client that keeps the topics it was sent; an async context manager."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext,
        client_id: str,
        *,
        modern: bool,
        clean_session: bool = True,
        will: aiomqtt.Will | None = None,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = 0 if clean_session else 3600
        self.mqtt = aiomqtt.Client(
            "127.0.0.1",
            port,
            identifier=client_id,
            username=user,
            password=password,
            tls_context=tls,
            protocol=aiomqtt.ProtocolVersion.V5 if modern else aiomqtt.ProtocolVersion.V311,
            clean_start=clean_session if modern else 3,  # 3: "not said", what paho wants to hear before MQTT 5
            clean_session=None if modern else clean_session,
            properties=kept if modern else None,
            will=will,
            timeout=DEADLINE_S,
        )
        self.received: list[aiomqtt.Message] = []
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.mqtt.__aenter__()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._reader is not None
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
            await self._reader
        with contextlib.suppress(aiomqtt.MqttError):
            await self.mqtt.__aexit__(kind, error, trace)

    @property
    def topics(self) -> list[str]:
        """What was delivered, in order."""
        return [message.topic.value for message in self.received]

    async def listen(self, *filters: str) -> None:
        """Subscribe to each; a broker that refuses one is as good as one that then delivers nothing."""
        for text in filters:
            with contextlib.suppress(aiomqtt.MqttError):
                await self.mqtt.subscribe(text, qos=1)

    async def say(self, *topics: str, payload: bytes = b"{}", retain: bool = False) -> None:
        """Publish to each at QoS 1; a broker may say that it is not allowed, or be silent about it."""
        for topic in topics:
            with contextlib.suppress(aiomqtt.MqttError):
                await self.mqtt.publish(topic, payload, qos=1, retain=retain)

    async def until(self, enough: Callable[[list[str]], bool]) -> list[str]:
        """Wait until what was delivered is enough; what was delivered."""
        async with asyncio.timeout(DEADLINE_S):
            while not enough(self.topics):
                self._news.clear()
                await self._news.wait()
        return self.topics

    async def pull_cable(self) -> None:
        """End the connection without a DISCONNECT, and wait until we know."""
        connection = self.mqtt._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait([self.mqtt._disconnected])
        self.mqtt._disconnected.exception()

    async def _read(self) -> None:
        async for message in self.mqtt.messages:
            self.received.append(message)
            self._news.set()


async def accepted(site_: Site, broker: BrokerName, tls: ssl.SSLContext) -> bool:
    """Whether the broker answers a CONNECT (MQTT 3.1.1) of this certificate with "accepted".

    With TLS 1.3 a client learns only after its own handshake that the broker did not like its certificate.
    """
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", site_.homes[broker].port, ssl=tls, server_hostname="localhost"
        )
    except OSError:
        return False
    try:
        writer.write(CONNECT)
        async with asyncio.timeout(DEADLINE_S):
            return await reader.readexactly(len(CONNACK)) == CONNACK
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def connect_with(
    port: int, tls: ssl.SSLContext, version: ssl.TLSVersion, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """The same by hand (it blocks), with a TLS version and perhaps a TLS session to resume; and the session to resume later."""
    tls.maximum_version = tls.minimum_version = version
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as plain,
            tls.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
        ):
            connection.sendall(CONNECT)
            return connection.recv(len(CONNACK)) == CONNACK, connection.session
    except OSError:
        return False, None


async def becomes(site_: Site, broker: BrokerName, tls: ssl.SSLContext, *, wanted: bool) -> bool:
    """Whether `accepted` comes to be `wanted` before the deadline: a broker reads new lists in its own time."""
    for _ in range(int(DEADLINE_S / POLL_S)):
        if await accepted(site_, broker, tls) is wanted:
            return True
        await asyncio.sleep(POLL_S)
    return False


@asynccontextmanager
async def site(folder: Path, kind: Kind, names: Sequence[BrokerName] = tuple(BrokerName)) -> AsyncIterator[Site]:
    """The brokers `names`, running."""
    ours = authority(folder)
    homes = {name: BrokerHome(name, folder / "broker" / name.value, free_port()) for name in names}
    made = Site(folder, kind, ours, homes)
    async with contextlib.AsyncExitStack() as stack:
        for name, home in homes.items():
            write_home(ours, home)
            if kind == "mosquitto":
                made.running[name] = stack.enter_context(BrokerProcess(home))
            else:
                made.running[name] = await stack.enter_async_context(EmbeddedBroker(home))
        yield made

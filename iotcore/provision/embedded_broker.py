"""The broker for trying things out where no Mosquitto is installed: amqtt, bent to the same identities and the same access table.

Not for real alarms. What it is not (docs/access.md has the list for people):
- MQTT 3.1.1 and TLS 1.3 only: no message expiry, no reason 0x10 for a message that nobody takes.
- All in memory: a restart forgets sessions, queued and retained messages. Senders keep theirs until the core's receipt.
- A revoked certificate is refused at its next connection, as with Mosquitto; nothing can cut a live session.
- A subscription to more than one may read is refused; Mosquitto grants it and withholds what is not allowed.

amqtt 0.12 by itself asks for no client certificate, lets any client take over any session before it is authenticated, hands every
client the retained messages of everybody's subscriptions, publishes wills unchecked, delivers a resumed session's messages marked
as retained, and forgets what was not acknowledged within 5 s. The classes below mend just that; the version is pinned for them.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, BrokerConfig, ListenerConfig
from amqtt.errors import AMQTTError, BrokerError, MQTTError, NoDataError
from amqtt.mqtt.connack import NOT_AUTHORIZED, ConnackPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import OutgoingApplicationMessage, Session

from iotcore.errors import StartError
from iotcore.provision import session_cut
from iotcore.provision.acl import Access, BrokerName, allowed, may_subscribe
from iotcore.provision.broker import MAX_PACKET_BYTES, BrokerHome

LOUD = "NOT FOR REAL ALARMS: the {} broker is the embedded one, for trying things out. Install Mosquitto for a fire service."
HANDSHAKE_LIMIT_S = 10.0
SHUTDOWN_LIMIT_S = 2.0
CONNECT_LIMIT_S = 10.0
TAKEOVER_LIMIT_S = 5.0
NOT_CUT = "NOT CUT: the embedded {} broker cannot end the session of {}; it stays in until it leaves, then is refused"
CRL_POLL_S = 0.5
MAX_OFFLINE = 5_000  # messages kept for a session that is away; then the oldest go, and are counted
MAX_RETAINED = 10_000  # topics
SEND_TRIES = 12  # of 5 s each, amqtt's own limit for a PUBACK: a consumer may take a minute to commit
GRACE = 1.5  # of the keep-alive (MQTT 3.1.1, 3.1.2.10)
QOS_0 = 0
VERSION_TOPIC = "$SYS/broker/version"


# amqtt has no types, hence the three ignores: what it defines is Any.
class _Handler(BrokerProtocolHandler):  # type: ignore[misc]
    """One connection: a message that is not acknowledged stays the session's; a client that falls silent is cut."""

    async def mqtt_publish(
        self,
        topic: str,
        data: bytes | bytearray,
        qos: int | None,
        retain: bool,  # noqa: FBT001 - amqtt's signature
        ack_timeout: int | None = None,
    ) -> OutgoingApplicationMessage:
        session = self.session
        message = OutgoingApplicationMessage(None, topic, qos, data, retain)
        for _ in range(SEND_TRIES):
            try:
                sent: OutgoingApplicationMessage = await super().mqtt_publish(topic, data, qos, retain, ack_timeout)
            except TimeoutError:
                continue
            except (asyncio.CancelledError, AMQTTError, OSError):
                break  # the connection is gone
            return sent
        if session is not None and qos != QOS_0 and not session.clean_session:
            _keep(session, message)
        return message

    def handle_read_timeout(self) -> None:
        if self._reader_task is not None:
            self._reader_task.cancel()


class _BoundedReader(StreamReaderAdapter):  # type: ignore[misc]
    """A giant's connection is cut at once; closing it in good order would first mean to read it."""

    def __init__(self, reader: asyncio.StreamReader, cut: Callable[[], None]) -> None:
        super().__init__(reader)
        self._cut = cut

    async def read(self, n: int = -1) -> bytes:
        if n > MAX_PACKET_BYTES:
            self._cut()
            raise AMQTTError(f"a packet of {n} bytes; {MAX_PACKET_BYTES} are allowed")
        content: bytes = await super().read(n)
        return content


class _CertificateBroker(Broker):  # type: ignore[misc]
    """amqtt with mTLS, where the certificate's CN is the user name and the client id, and acl.py decides."""

    def __init__(self, name: BrokerName, address: str, tls: ssl.SSLContext) -> None:
        super().__init__(BrokerConfig(listeners={"default": ListenerConfig(bind=address)}, plugins={}))
        self._name = name
        self._tls = tls
        self._ended: dict[str, asyncio.Event] = {}  # names whose former connection somebody waits for to end

    async def _create_server_instance(self, listener_name: str, *where: Any) -> asyncio.Server:
        _, address, port, _ = where
        return await asyncio.start_server(
            partial(self.stream_connected, listener_name=listener_name),
            address,
            port,
            ssl=self._tls,
            ssl_handshake_timeout=HANDSHAKE_LIMIT_S,
            ssl_shutdown_timeout=SHUTDOWN_LIMIT_S,
            backlog=1024,
        )

    async def stream_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str) -> None:
        try:
            await self._client_connected(
                listener_name, _BoundedReader(reader, writer.transport.abort), StreamWriterAdapter(writer)
            )
        except OSError as error:  # it went away in the middle of the connect
            self.logger.info("connection lost: %s", error)
        finally:
            writer.close()

    async def _initialize_client_session(
        self, reader: _BoundedReader, writer: StreamWriterAdapter, *peer: Any
    ) -> tuple[_Handler, Session]:
        """Read the CONNECT; whoever it says it is, it is its certificate. An old connection of the same name ends first."""
        name = _common_name(writer.get_ssl_info())
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                handler, session = await _Handler.init_from_connect(reader, writer, self.plugins_manager)
        except (MQTTError, NoDataError, TimeoutError) as error:
            raise AMQTTError(f"{name or peer}: no CONNECT that can be accepted: {error}") from error
        if not name or not self._may_leave_will(name, session):
            await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
            raise AMQTTError(f"{name or peer} is not authorised")
        session.client_id = session.username = name
        session.keep_alive = int(session.keep_alive * GRACE)
        await self._end_connection_of(name)
        if session.clean_session:
            await self._delete_session(name)
        elif name in self._sessions:
            session = _resumed(self._sessions[name][0], session)
        return handler, session

    def _may_leave_will(self, name: str, session: Session) -> bool:
        return not session.will_flag or allowed(self._name, name, Access.WRITE, str(session.will_topic))

    async def _end_connection_of(self, name: str) -> None:
        session, handler = self._sessions.get(name, (None, None))
        if session is None or session.transitions.state != "connected":
            return
        ended = self._ended.setdefault(name, asyncio.Event())
        await handler.handle_connection_closed()  # its own loop publishes the will and leaves
        try:
            async with asyncio.timeout(TAKEOVER_LIMIT_S):
                await ended.wait()
        except TimeoutError:
            raise AMQTTError(f"{name}: its former connection does not end") from None

    async def _handle_disconnect(self, client_session: Session, *rest: Any) -> None:
        await super()._handle_disconnect(client_session, *rest)
        ended = self._ended.pop(str(client_session.client_id), None)
        if ended is not None:
            ended.set()

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        return bool(session.username)  # TLS and `_initialize_client_session` have seen to it

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        user = str(session.username)
        if action is Action.SUBSCRIBE:
            return may_subscribe(self._name, user, topic)
        return allowed(self._name, user, Access.WRITE if action is Action.PUBLISH else Access.READ, topic)

    async def _publish_retained_messages_for_subscription(self, subscription: tuple[str, int], session: Session) -> None:
        """Only for the session's own subscriptions, only what it may read; without waiting, as the caller walks a live dict."""
        topic_filter, qos = subscription
        handler = self._get_handler(session)
        if handler is None or not any(s is session for s, _ in self._subscriptions.get(topic_filter, [])):
            return
        for topic, kept in self._retained_messages.items():
            if self._matches(topic, topic_filter) and allowed(self._name, str(session.username), Access.READ, topic):
                self._send(handler.mqtt_publish(topic, kept.data, min(qos, kept.qos or QOS_0), retain=True))

    async def _publish_session_retained_messages(self, session: Session) -> None:
        """What waited for this session; it is not retained, whatever amqtt calls it."""
        handler = self._get_handler(session)
        while handler is not None and not session.retained_messages.empty():
            waiting = session.retained_messages.get_nowait()
            self._send(handler.mqtt_publish(waiting.topic, waiting.data, waiting.qos, retain=False))

    async def _retain_broadcast_message(self, broadcast: dict[str, Any], qos: int, target_session: Session) -> None:
        _keep(target_session, OutgoingApplicationMessage(None, broadcast["topic"], qos, broadcast["data"], retain=False))

    async def retain_message(
        self, source_session: Session | None, topic_name: str | None, data: bytes | bytearray | None, qos: int | None = None
    ) -> None:
        if topic_name in self._retained_messages or len(self._retained_messages) < MAX_RETAINED:
            await super().retain_message(source_session, topic_name, data, qos)

    def _send(self, publishing: Any) -> None:
        self._tasks_queue.append(asyncio.ensure_future(publishing))  # the broadcast loop looks after them


class EmbeddedBroker:
    """One embedded broker from the folder of `broker.write_home`; an async context manager."""

    def __init__(self, home: BrokerHome) -> None:
        self.home = home
        self._current: ssl.SSLContext | None = None
        self._broker: _CertificateBroker | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises:
            StartError: the port is taken.
        """
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs each refused client with a trace
        self.reload()
        tls = _server_context(self.home)
        # Called for each handshake, with or without a server name: the way to lists that are newer than the listener.
        tls.sni_callback = lambda connection, _name, _first: setattr(connection, "context", self._current)
        host = f"[{self.home.host}]" if ":" in self.home.host else self.home.host
        broker = _CertificateBroker(self.home.name, f"{host}:{self.home.port}", tls)
        try:
            await broker.start()
        except BrokerError as error:
            raise StartError(
                f"The {self.home.name.value} broker cannot listen on {self.home.host}:{self.home.port}: {error}",
                f"Stop the program that uses the port, or set brokers.{self.home.name.value}.port to another.",
            ) from error
        await broker.retain_message(None, VERSION_TOPIC, b"iotcore embedded (amqtt)", QOS_0)
        self._broker = broker

    def reload(self) -> None:
        """Read the revocation lists anew. Who is connected stays so: only new connections are refused."""
        self._current = _server_context(self.home)

    async def stop(self) -> None:
        """Stop; everything it held is forgotten."""
        if self._broker is not None:
            await self._broker.shutdown()
            self._broker = None


async def run(home: BrokerHome, say: Callable[[str], None]) -> None:
    """Serve until cancelled, and take up new revocation lists by itself; `say` gets loud lines."""
    async with EmbeddedBroker(home) as broker:
        say(LOUD.format(home.name.value))
        known, told = _changed(home.crl), session_cut.wanted(home.folder).keys()
        while True:
            await asyncio.sleep(CRL_POLL_S)
            cuts = session_cut.wanted(home.folder)
            for name in sorted({cuts[one] for one in cuts.keys() - told}):
                say(NOT_CUT.format(home.name.value, name))
            told = cuts.keys()
            if (now := _changed(home.crl)) != known:
                known = now
                broker.reload()


def _server_context(home: BrokerHome) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # with 1.2 a session that is resumed never meets the revocation list
    context.load_cert_chain(home.certificate, home.key)
    context.load_verify_locations(home.trust)
    context.load_verify_locations(home.crl)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.num_tickets = 0  # likewise
    return context


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _common_name(tls: ssl.SSLObject | None) -> str:
    """The CN of the peer's certificate; "" where there is none, or more than one."""
    certificate = tls.getpeercert() if tls is not None else None
    subject: Any = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else ""


def _resumed(before: Session, now: Session) -> Session:
    """The kept session with what the new connection brought."""
    for field in ("will_flag", "will_message", "will_topic", "will_qos", "will_retain", "keep_alive", "clean_session"):
        setattr(before, field, getattr(now, field))
    before.parent = 1
    return before


def _keep(session: Session, message: OutgoingApplicationMessage) -> None:
    if session.retained_messages.qsize() >= MAX_OFFLINE:
        session.retained_messages.get_nowait()
        session.attributes["iotcore.dropped"] = session.attributes.get("iotcore.dropped", 0) + 1
    session.retained_messages.put_nowait(message)

"""How frames travel to a receiver and replies come back: TCP connections, or UDP datagrams. One frame, one reply.

A TCP connection is kept for `idle_s` after an ACK that fits, so that a storm of alarms pays for few handshakes, and no longer,
because a connection that a firewall has forgotten costs a whole reply timeout. A kept one that turns out closed is replaced.
Several may be in use at a time, never two frames on one: receivers exist that read two as one.

A UDP datagram is repeated, the same bytes, while its reply does not come. Each frame has a socket of its own, so that a late
reply reaches nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from iotcore.clock import Clock
from iotcore.dispatch.sia_frame import Reply
from iotcore.errors import DeliveryError
from iotcore.settings_receivers import Dc09Receiver

LINK_IDLE_S = 5.0
MAX_REPLY_BYTES = 8192
REPEAT_S = 1.0  # a lost datagram is sent again after this, then after twice as long, until the reply timeout
MAX_INBOX = 16  # datagrams that wait to be looked at; more are dropped, as the network drops them

Judge = Callable[[bytes], Reply]  # raises DeliveryError for a reply that is no answer to what was sent
Sent = Callable[[float], None]


class Stale(Exception):
    """A reply to an earlier frame."""


class Link(Protocol):
    """A way to a receiver."""

    async def exchange(self, frame: bytes, sent: Sent, judge: Judge) -> Reply:
        """Send a frame; the reply that `judge` takes for its answer.

        Raises:
            DeliveryError: what came instead.
        """

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    reused: bool = False
    expiry: asyncio.TimerHandle | None = None


class _Gone(Exception):
    """The kept connection was closed before it brought a reply."""


class TcpLink:
    """Connections to one receiver, kept while they are of use."""

    def __init__(self, receiver: Dc09Receiver, clock: Clock, *, idle_s: float = LINK_IDLE_S) -> None:
        self._receiver = receiver
        self._clock = clock
        self._idle_s = idle_s
        self._kept: list[_Connection] = []

    async def exchange(self, frame: bytes, sent: Sent, judge: Judge) -> Reply:
        while (kept := self._take()) is not None:
            with contextlib.suppress(_Gone):
                return await self._over(kept, frame, sent, judge)
        return await self._over(await self._open(), frame, sent, judge)

    async def close(self) -> None:
        for kept in list(self._kept):
            self._drop(kept)
            with contextlib.suppress(OSError):
                await kept.writer.wait_closed()

    async def _over(self, link: _Connection, frame: bytes, sent: Sent, judge: Judge) -> Reply:
        """Only a connection that brought an answer is kept: a late reply on it would be taken for the next frame's."""
        answered = False
        try:
            async with asyncio.timeout(self._receiver.reply_timeout_s):
                link.writer.write(frame)
                await link.writer.drain()
                sent(self._clock.wall_ms())
                while True:
                    with contextlib.suppress(Stale):
                        reply = judge(await link.reader.readuntil(b"\r"))
                        break
            answered = reply.kind == "ACK"  # NAK and DUH carry no number: a second one could not be told from the next frame's
        except TimeoutError as error:
            raise DeliveryError("no_reply", f"{self._receiver.reply_timeout_s:g} s") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            if link.reused:
                raise _Gone from error
            raise DeliveryError("connection_lost", str(error)) from error
        except asyncio.LimitOverrunError as error:
            raise DeliveryError("not_a_frame", f"over {MAX_REPLY_BYTES} bytes") from error
        finally:
            if answered:
                self._keep(link)
            else:
                link.writer.close()
        return reply

    async def _open(self) -> _Connection:
        receiver = self._receiver
        try:
            async with asyncio.timeout(receiver.reply_timeout_s):
                return _Connection(*await asyncio.open_connection(receiver.host, receiver.port, limit=MAX_REPLY_BYTES))
        except TimeoutError as error:
            raise DeliveryError("connect_timeout", f"{receiver.host}:{receiver.port}") from error
        except OSError as error:
            raise DeliveryError("connect_failed", f"{receiver.host}:{receiver.port}: {error}") from error

    def _take(self) -> _Connection | None:
        while self._kept:
            link = self._kept.pop()
            if link.expiry is not None:
                link.expiry.cancel()
            if not link.reader.at_eof() and not link.writer.is_closing():
                return link
            link.writer.close()
        return None

    def _keep(self, link: _Connection) -> None:
        link.reused = True
        self._kept.append(link)
        link.expiry = asyncio.get_running_loop().call_later(self._idle_s, self._drop, link)

    def _drop(self, link: _Connection) -> None:
        if link.expiry is not None:
            link.expiry.cancel()
        if link in self._kept:
            self._kept.remove(link)
        link.writer.close()


class _Inbox(asyncio.DatagramProtocol):
    """What came back for one frame, and why the last of it was no answer."""

    def __init__(self) -> None:
        self.wrong: DeliveryError | None = None
        self._came: asyncio.Queue[bytes | Exception] = asyncio.Queue(MAX_INBOX)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr  # a connected socket hears its peer alone
        self._put(data)

    def error_received(self, exc: Exception) -> None:
        self._put(exc)

    async def answer(self, judge: Judge) -> Reply:
        while True:
            came = await self._came.get()
            try:
                if isinstance(came, Exception):
                    raise DeliveryError("connection_lost", str(came)) from came  # noqa: TRY301 - judged as what came else
                return judge(came)
            except DeliveryError as error:
                self.wrong = error
            except Stale:
                continue

    def _put(self, one: bytes | Exception) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._came.put_nowait(one)


class UdpLink:
    """Datagrams to one receiver."""

    def __init__(self, receiver: Dc09Receiver, clock: Clock, *, repeat_s: float = REPEAT_S) -> None:
        self._receiver = receiver
        self._clock = clock
        self._repeat_s = repeat_s

    async def exchange(self, frame: bytes, sent: Sent, judge: Judge) -> Reply:
        host, port, limit_s = self._receiver.host, self._receiver.port, self._receiver.reply_timeout_s
        try:
            transport, inbox = await asyncio.get_running_loop().create_datagram_endpoint(_Inbox, remote_addr=(host, port))
        except OSError as error:
            raise DeliveryError("connect_failed", f"{host}:{port}: {error}") from error
        try:
            async with asyncio.timeout(limit_s):
                return await self._answer(inbox, frame, sent, judge)
        except TimeoutError as error:
            raise inbox.wrong or DeliveryError("no_reply", f"{limit_s:g} s") from error
        finally:
            transport.close()

    async def close(self) -> None:
        """Nothing is kept between two frames."""

    async def _answer(self, inbox: _Inbox, frame: bytes, sent: Sent, judge: Judge) -> Reply:
        """Until the answer is here: a datagram that is none may be anybody's or an old one's, and ends no wait."""
        wait_s = self._repeat_s
        while True:
            inbox.transport.sendto(frame)
            sent(self._clock.wall_ms())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    return await inbox.answer(judge)
            wait_s *= 2.0

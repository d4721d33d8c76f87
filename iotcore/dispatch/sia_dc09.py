"""The channel to an alarm receiving centre: one frame out, one valid ACK back, over TCP.

The connection is kept for `LINK_IDLE_S` after an ACK, so that a storm of alarms pays for one handshake, and no longer, because a
connection that a firewall has forgotten costs a whole reply timeout. A kept one that turns out closed is replaced at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from iotcore.clock import Clock
from iotcore.dispatch import sia_event
from iotcore.dispatch.sia_frame import Address, Reply, message, parse_reply
from iotcore.errors import DeliveryError, Refused
from iotcore.journal.records import OutboxRow
from iotcore.settings_receivers import Dc09Receiver

log = logging.getLogger(__name__)

LINK_IDLE_S = 5.0
MAX_REPLY_BYTES = 8192


@dataclass(frozen=True, slots=True)
class _Link:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    reused: bool = False


class _Gone(Exception):
    """The kept connection was closed before it brought a reply."""


class Dc09Channel:
    """Sends notices to one receiver, one at a time; implements `iotcore.dispatch.outbox.Channel`."""

    def __init__(self, receiver: Dc09Receiver, clock: Clock, *, link_idle_s: float = LINK_IDLE_S) -> None:
        self._receiver = receiver
        self._clock = clock
        self._link_idle_s = link_idle_s
        self._key = receiver.key.encode()
        self._offset_s = 0.0  # the receiver's clock minus ours, learnt from its NAK
        self._kept: _Link | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Deliver a notice; returns the receiver's acknowledgement. `sent` is told ms UTC each time a frame has left.

        Raises:
            DeliveryError: no ACK that is valid and matches number, receiver, line and account.
        """
        address = Address(self._receiver.receiver.upper(), self._receiver.line.upper(), sia_event.account(row.notice))
        reply = await self._ask(row, address, sent)
        if reply.kind == "NAK" and reply.at_s is not None:
            self._offset_s = reply.at_s - self._clock.wall_ms() / 1000.0
            log.warning("%s: its clock differs by %.0f s; sending again by its time", self._receiver.name, self._offset_s)
            reply = await self._ask(row, address, sent)
        problem = _problem(reply, row.number, address)
        if problem is not None:
            self._drop()
            raise problem
        return f"ACK {row.number:04d}"

    async def close(self) -> None:
        """Close the kept connection."""
        if self._kept is not None:
            writer = self._kept.writer
            self._drop()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _ask(self, row: OutboxRow, address: Address, sent: Callable[[float], None]) -> Reply:
        """Send one frame, read one reply; a kept connection that turns out closed is replaced once."""
        content = sia_event.content(row.notice)
        at_s = self._clock.wall_ms() / 1000.0 + self._offset_s
        outgoing = message("SIA-DCS", row.number, address, content, at_s, key=self._key)
        try:
            incoming = await self._exchange(outgoing, sent)
        except _Gone:
            incoming = await self._exchange(outgoing, sent)
        try:
            return parse_reply(incoming, self._key)
        except Refused as error:
            self._drop()
            raise DeliveryError(error.reason, error.detail) from error

    async def _exchange(self, outgoing: bytes, sent: Callable[[float], None]) -> bytes:
        """One frame and the bytes up to the next CR. Only a connection that brought them is kept: a late reply is not ours."""
        link, self._kept = await self._connect(), None
        try:
            async with asyncio.timeout(self._receiver.reply_timeout_s):
                link.writer.write(outgoing)
                await link.writer.drain()
                sent(self._clock.wall_ms())
                incoming = await link.reader.readuntil(b"\r")
            self._keep(link)
        except TimeoutError as error:
            raise DeliveryError("no_reply", f"{self._receiver.reply_timeout_s:g} s") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            if link.reused:
                raise _Gone from error
            raise DeliveryError("connection_lost", str(error)) from error
        except asyncio.LimitOverrunError as error:
            raise DeliveryError("not_a_frame", f"over {MAX_REPLY_BYTES} bytes") from error
        finally:
            if self._kept is None:
                link.writer.close()
        return incoming

    async def _connect(self) -> _Link:
        if self._kept is not None and not self._kept.reader.at_eof() and not self._kept.writer.is_closing():
            self._cancel_expiry()
            return self._kept
        self._drop()
        try:
            async with asyncio.timeout(self._receiver.reply_timeout_s):
                opened = await asyncio.open_connection(self._receiver.host, self._receiver.port, limit=MAX_REPLY_BYTES)
        except TimeoutError as error:
            raise DeliveryError("connect_timeout", self._where()) from error
        except OSError as error:
            raise DeliveryError("connect_failed", f"{self._where()}: {error}") from error
        return _Link(*opened)

    def _keep(self, link: _Link) -> None:
        self._kept = _Link(link.reader, link.writer, reused=True)
        self._expiry = asyncio.get_running_loop().call_later(self._link_idle_s, self._drop)

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _drop(self) -> None:
        self._cancel_expiry()
        if self._kept is not None:
            self._kept.writer.close()
            self._kept = None

    def _where(self) -> str:
        return f"{self._receiver.host}:{self._receiver.port}"


def _problem(reply: Reply, number: int, address: Address) -> DeliveryError | None:
    """Why a reply does not end the delivery; None when it does."""
    if reply.kind == "NAK":
        return DeliveryError("nak", "the receiver refused; check account, key and both clocks")
    if reply.kind == "DUH":
        return DeliveryError("duh", "the receiver does not understand the event; check its code table and the account")
    if reply.number != number:
        return DeliveryError("wrong_number", f"sent {number:04d}, acknowledged {reply.number:04d}")
    if reply.address != address:
        return DeliveryError("wrong_address", f"sent {address}, acknowledged {reply.address}")
    return None

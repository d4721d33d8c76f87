"""The channel to an alarm receiving centre: one frame out, one valid ACK back, over TCP or UDP, in SIA-DCS or ADM-CID.

A NAK with a time is answered at once by the same number and the receiver's time; the difference is kept for the next frames.
Only an ACK that is valid and matches number, receiver, line and account ends a delivery.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from iotcore.clock import Clock
from iotcore.dispatch import sia_contact_id, sia_event
from iotcore.dispatch.sia_frame import Address, Reply, message, parse_reply
from iotcore.dispatch.sia_link import LINK_IDLE_S, Link, Sent, Stale, TcpLink, UdpLink
from iotcore.errors import DeliveryError, Refused
from iotcore.journal.records import Notice, OutboxRow
from iotcore.settings_receivers import Dc09Receiver

log = logging.getLogger(__name__)

LINK_TEST_NUMBER = 0  # of NULL frames, as in the standard's own example: they take no number from events
REMEMBERED = 64  # numbers of the last answers, of which a receiver may repeat itself


class Dc09Channel:
    """Sends notices to one receiver; implements `Channel` and `Supervised` of `iotcore.dispatch`."""

    def __init__(self, receiver: Dc09Receiver, clock: Clock, *, link_idle_s: float = LINK_IDLE_S) -> None:
        self._receiver = receiver
        self._clock = clock
        self._key = receiver.key.encode()
        self._offset_s = 0.0  # the receiver's clock minus ours, learnt from its NAK
        self._link: Link = (
            UdpLink(receiver, clock) if receiver.transport == "udp" else TcpLink(receiver, clock, idle_s=link_idle_s)
        )
        self._one_at_a_time = receiver.parallel == 1
        self._sending = 0
        self._testing: asyncio.Task[None] | None = None
        self._answered: deque[tuple[int, Address]] = deque(maxlen=REMEMBERED)

    async def send(self, row: OutboxRow, sent: Sent) -> str:
        """Deliver a notice; returns the receiver's acknowledgement. `sent` is told ms UTC each time a frame has left.

        Raises:
            DeliveryError: no ACK that is valid and matches number, receiver, line and account.
        """
        address = self._address(sia_event.account(row.notice))
        if self._testing is not None and self._one_at_a_time:
            self._testing.cancel()  # a fire does not wait for the reply to a test
        self._sending += 1
        try:
            await self._delivered(self._receiver.format, row.number, address, self._content(row.notice), sent)
        finally:
            self._sending -= 1
        return f"ACK {row.number:04d}"

    async def supervise(self) -> bool:
        """Ask whether the receiver is there: a NULL frame on the same path, which ends with an ACK as an alarm does.

        False: it was left alone, because a message is under way to a receiver that wants one frame at a time.

        Raises:
            DeliveryError: it is not there, or does not know us.
        """
        address = self._address(self._receiver.account.upper())
        return await self._aside(self._delivered("NULL", LINK_TEST_NUMBER, address, b"]", lambda _: None))

    async def aside(self, row: OutboxRow, sent: Sent = lambda _: None) -> bool:
        """Deliver a notice that is no fire, and that any fire goes before; False when it was left alone. `sent` as of `send`.

        Raises:
            DeliveryError: there is no ACK to it, and why.
        """
        address = self._address(sia_event.account(row.notice))
        return await self._aside(self._delivered(self._receiver.format, row.number, address, self._content(row.notice), sent))

    async def _aside(self, delivery: Coroutine[Any, Any, None]) -> bool:
        if self._one_at_a_time and (self._sending or self._testing is not None):
            delivery.close()
            return False
        testing = asyncio.create_task(delivery)
        self._testing = testing
        try:
            await asyncio.wait({testing})
        finally:
            if self._testing is testing:
                self._testing = None
            testing.cancel()
        if testing.cancelled():
            return False
        testing.result()
        return True

    async def close(self) -> None:
        """Close the kept connections."""
        await self._link.close()

    def _content(self, notice: Notice) -> bytes:
        amount = self._receiver.extended
        if self._receiver.format == "ADM-CID":
            return sia_contact_id.content(notice, "text" if amount == "auto" else amount)
        return sia_event.content(notice, "all" if amount == "auto" else amount)

    def _address(self, account: str) -> Address:
        return Address(self._receiver.receiver.upper(), self._receiver.line.upper(), account)

    async def _delivered(self, kind: str, number: int, address: Address, content: bytes, sent: Sent) -> None:
        reply = await self._ask(kind, number, address, content, sent)
        if reply.kind == "NAK" and reply.at_s is not None:
            self._offset_s = reply.at_s - self._clock.wall_ms() / 1000.0
            log.warning("%s: its clock differs by %.0f s; sending again by its time", self._receiver.name, self._offset_s)
            reply = await self._ask(kind, number, address, content, sent)
        if reply.kind == "NAK":
            raise DeliveryError("nak", "the receiver refused; check account, key and both clocks")
        if reply.kind == "DUH":
            raise DeliveryError("duh", "the receiver does not understand the event; check its code table and the account")
        self._answered.append((number, address))

    async def _ask(self, kind: str, number: int, address: Address, content: bytes, sent: Callable[[float], None]) -> Reply:
        at_s = self._clock.wall_ms() / 1000.0 + self._offset_s
        try:
            frame = message(kind, number, address, content, at_s, key=self._key)
        except ValueError as error:
            raise DeliveryError("not_a_frame", str(error)) from error

        def judge(incoming: bytes) -> Reply:
            try:
                reply = parse_reply(incoming, self._key)
            except Refused as error:
                raise DeliveryError(error.reason, error.detail) from error
            if reply.kind != "ACK" or (reply.number == number and reply.address == address):
                return reply
            if reply.address is not None and (reply.number, reply.address) in self._answered:
                raise Stale  # said twice
            if reply.number != number:
                raise DeliveryError("wrong_number", f"sent {number:04d}, acknowledged {reply.number:04d}")
            raise DeliveryError("wrong_address", f"sent {address}, acknowledged {reply.address}")

        return await self._link.exchange(frame, sent, judge)

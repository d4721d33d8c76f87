"""The byte stream of one connection: one large buffer in, all that is whole in it to the inbox at once, PUBACKs out in one write.

    socket ──► buffer ──► publishes.read ──► Inbox ──► lane commits ──► acknowledge ──► PUBACKs
                 │ pauses while the inbox is full, so TCP holds the broker back
                 └──► every other packet to `on_packet`

Mosquitto writes one TLS record for each PUBLISH: what a read costs is paid by every message. Packet identifiers stay in here, so
that an acknowledgement can never hit one that means another message on a later connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from drivers.mqtt.inbox import Inbox
from drivers.mqtt.packets import Packet, ProtocolError, acknowledgements, split
from drivers.mqtt.publishes import Batch, Topics, read
from iotcore.clock import Clock
from iotcore.errors import IotError
from iotcore.wire.arrival import Arrival

BUFFER_BYTES = 256 * 1024  # what asyncio's TLS takes off the socket at once
NO_MID = b"\x00\x00"  # MQTT 5, 2.2.1: a packet identifier is never 0


class LinkLost(IotError):
    """A connection to a broker ended, or did not come about. `reason` is a name for metrics and tests."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}")


class Stream(asyncio.BufferedProtocol):
    """Ends by itself once: `ended` holds why. `token` is what the first arrival at QoS 1 gets."""

    def __init__(
        self,
        inbox: Inbox,
        clock: Clock,
        topics: Topics,
        token: int,
        *,
        five: bool,
        on_packet: Callable[[bytes, Packet], None],
    ) -> None:
        self.ended: asyncio.Future[IotError | OSError] = asyncio.get_running_loop().create_future()
        self.paused = False  # because the inbox is full
        self.chunks = 0  # times that something came
        self.arrived = 0  # PUBLISH packets
        self.next_token = token
        self._inbox = inbox
        self._clock = clock
        self._topics = topics
        self._five = five
        self._on_packet = on_packet
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._mids: list[bytes] = []  # of what is not acknowledged, in the order it came
        self._first_token = token  # that of _mids[0]
        self._early: set[int] = set()  # acknowledged before others that came before them
        self._closing = False
        self._transport: asyncio.Transport | None = None

    @property
    def unacknowledged(self) -> int:
        """How many arrivals the broker still waits for."""
        return len(self._mids)

    def write(self, packets: bytes) -> None:
        """Send, unless the connection is over."""
        if self._transport is not None and not self.ended.done():
            self._transport.write(packets)

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Send their PUBACKs in one write, in arrival order (MQTT 5, 4.6); one left out holds back all later ones.

        What came over another connection, or was acknowledged before, is passed over.
        """
        first, count = self._first_token, len(arrivals)
        tokens = [arrival.token for arrival in arrivals]
        if tokens != list(range(first, first + count)) or self._early:
            self._early.update(token for token in tokens if first <= token < self.next_token)
            count = 0
            while first + count in self._early:
                self._early.remove(first + count)
                count += 1
        if count:
            self.write(acknowledgements(self._mids[:count]))
            del self._mids[:count]
            self._first_token += count

    async def close(self, last: bytes, limit_s: float) -> None:
        """Send `last` after all that was written, and wait for the end of the connection, at most `limit_s`."""
        if self._transport is None:
            return
        self.write(last)
        self._closing = True
        self._transport.close()
        self._resume()
        await asyncio.wait({self.ended}, timeout=limit_s)
        self._transport.abort()

    def end(self, error: IotError | OSError) -> None:
        """End it now, because of `error`."""
        if not self.ended.done():
            self.ended.set_result(error)
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(exc if isinstance(exc, OSError) else LinkLost("closed", "the broker closed the connection"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's name, -1 as a rule
        """Room for what comes; a packet larger than the buffer makes it grow (the broker's max_packet_size bounds it)."""
        if self._filled == len(self._buffer):
            self._buffer = self._buffer + bytearray(len(self._buffer))
            self._view = memoryview(self._buffer)
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self.chunks += 1
        if self._closing or self.ended.done():
            self._filled = 0
        elif not self.paused:
            self._parse()

    def _parse(self) -> None:
        try:
            self._take_in(bytes(self._view[: self._filled]))
        except ProtocolError as error:
            self.end(error)

    def _take_in(self, chunk: bytes) -> None:
        """Everything whole in `chunk`; what is not, or has no room, stays for the next time."""
        at, now_ms = 0, self._clock.wall_ms()
        while at < len(chunk):
            room = self._inbox.room
            if room <= 0:
                self._pause()
                break
            begin, beats = at, self._topics.beats
            batch = Batch(self._topics, self._five, now_ms, self.next_token)
            at = read(chunk, at, room, batch)
            if NO_MID in batch.mids:
                raise ProtocolError(f"a PUBLISH with packet identifier 0 between byte {begin} and {at}")
            if batch.arrivals:
                self._mids += batch.mids
                self.next_token += len(batch.mids)
                self.arrived += len(batch.arrivals)
                self._inbox.beats += self._topics.beats - beats
                self._inbox.put(batch.arrivals, at - begin)
                continue
            packet = split(chunk, at)
            if packet is None:
                break
            self._on_packet(chunk, packet)
            at = packet.end
        rest = len(chunk) - at
        if at and rest:
            self._view[:rest] = chunk[at:]
        self._filled = rest

    def _pause(self) -> None:
        self.paused = True
        self._inbox.when_half(self._resume)
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self.paused:
            return
        self.paused = False
        if self.ended.done():
            return
        if self._filled and not self._closing:
            self._parse()
        if not self.paused and self._transport is not None and not self.ended.done():
            self._transport.resume_reading()

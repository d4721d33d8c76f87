"""Units that share a port or a serial line, and the conversation of one client with them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from simulators import modbus_pdu as pdus
from simulators.modbus_frames import BrokenStream, Frame, Framing, RtuReader, TcpReader, framed
from simulators.modbus_unit import ModbusDevice
from simulators.modbus_wrong import Answer, Fault, Reset, Sending

QUIET_S = 0.05  # of a byte stream, after which an RTU frame that has not ended never will
BROADCAST = 0  # RTU: every unit obeys a write, none answers; Modbus over Serial Line 1.02, §2.1


class Channel(Protocol):
    """Where answers go."""

    def write(self, content: bytes) -> None: ...

    def close(self) -> None: ...

    def reset(self) -> None: ...


class Bus:
    """Units by id; `fault` is wrong with all of them, and counts before a unit's own."""

    def __init__(self, units: Mapping[int, ModbusDevice], framing: Framing) -> None:
        self.units = dict(units)
        self.framing = framing
        self.fault: Fault | None = None
        self.before: Frame | None = None  # the answer that went out last
        self.busy: dict[int, int] = {}  # unit → requests that it has not finished answering
        self.answered_s: dict[int, float] = {}


class Conversation:
    """Requests of one client as they come, answers as they are due."""

    def __init__(self, bus: Bus, channel: Channel) -> None:
        self._bus = bus
        self._channel = channel
        self._reader = TcpReader() if bus.framing == "tcp" else RtuReader()
        self._loop = asyncio.get_running_loop()
        self._quiet: asyncio.TimerHandle | None = None
        self._due: dict[int, tuple[asyncio.TimerHandle, int | None]] = {}  # answers to come, and the unit that each holds
        self._numbers = 0

    def began(self) -> None:
        """The client is there."""
        if isinstance(self._bus.fault, Reset) and self._bus.fault.when == "connect":
            self._channel.reset()

    def received(self, content: bytes) -> None:
        """Bytes came."""
        try:
            frames = self._reader.feed(content)
        except BrokenStream:
            self._channel.close()
            return
        for i, frame in enumerate(frames):
            self._asked(frame, together=i > 0)
        if self._bus.framing == "rtu":
            if self._quiet is not None:
                self._quiet.cancel()
            self._quiet = self._loop.call_later(QUIET_S, self._silence)

    def ended(self) -> None:
        """The client has gone; what was to be sent to it is not."""
        if self._quiet is not None:
            self._quiet.cancel()
        for number in list(self._due):
            self._done(number).cancel()

    def _silence(self) -> None:
        for frame in self._reader.silence():
            self._asked(frame, together=False)

    def _asked(self, frame: Frame, *, together: bool) -> None:
        """`together`: the client sent this request in one piece with the one before, so it did not wait for the answer."""
        bus = self._bus
        unit = bus.units.get(frame.unit)
        if unit is None:
            self._nobody(frame)
            return
        limits = unit.spec.modbus
        if (limits is None or limits.one_request_at_a_time) and (together or bus.busy.get(frame.unit)):
            unit.overlapped += 1
            self._channel.write(framed(bus.framing, frame._replace(pdu=pdus.refusal(frame.pdu, pdus.BUSY))))
            return
        if limits is not None and self._loop.time() - bus.answered_s.get(frame.unit, -1e9) < limits.min_gap_ms / 1000.0:
            unit.hurried += 1
        fault = bus.fault or unit.fault
        answer = Answer(bus.framing, frame, unit.answer(frame.pdu, fault), bus.before)
        sending = None if unit.silent else (fault or SOUND).sent(answer)
        bus.before = answer.right
        if sending is not None:
            self._send(frame.unit, unit.delay_s, sending, holds=bool(unit.delay_s or (fault or SOUND).holds_unit))

    def _nobody(self, frame: Frame) -> None:
        if self._bus.framing == "tcp":  # a gateway says so; on a serial line nobody is there to say anything
            self._channel.write(framed("tcp", frame._replace(pdu=pdus.refusal(frame.pdu, pdus.NO_RESPONSE))))
        elif frame.unit == BROADCAST and frame.pdu[0] in pdus.WRITE_CODES:
            for unit in self._bus.units.values():
                unit.answer(frame.pdu)

    def _send(self, unit: int, delay_s: float, sending: Sending, *, holds: bool) -> None:
        pieces = [sending.content] if not sending.byte_s else [bytes((byte,)) for byte in sending.content]
        first_s = delay_s + sending.after_s
        if not first_s and not sending.byte_s:
            self._piece(unit, pieces[0], last=True, then=sending.then)
            return
        for i, piece in enumerate(pieces):
            self._numbers += 1
            number = self._numbers
            last = i == len(pieces) - 1
            if holds:
                self._bus.busy[unit] = self._bus.busy.get(unit, 0) + 1
            handle = self._loop.call_later(
                first_s + i * sending.byte_s, self._later, number, unit, piece, last, sending.then if last else ""
            )
            self._due[number] = (handle, unit if holds else None)

    def _later(self, number: int, unit: int, piece: bytes, last: bool, then: str) -> None:  # noqa: FBT001 - call_later passes no keywords
        self._done(number)
        self._piece(unit, piece, last=last, then=then)

    def _done(self, number: int) -> asyncio.TimerHandle:
        handle, unit = self._due.pop(number)
        if unit is not None:
            self._bus.busy[unit] -= 1
        return handle

    def _piece(self, unit: int, piece: bytes, *, last: bool, then: str) -> None:
        if piece:
            self._channel.write(piece)
        if last:
            self._bus.answered_s[unit] = self._loop.time()
        if then == "close":
            self._channel.close()
        elif then == "reset":
            self._channel.reset()


SOUND = Fault()

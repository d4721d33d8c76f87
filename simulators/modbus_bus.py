"""Units that share a port or a serial line, and the conversation of one client with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from simulators import modbus_pdu as pdus
from simulators.modbus_frames import BrokenStream, Frame, Framing, RtuReader, TcpReader, framed
from simulators.modbus_unit import ModbusDevice
from simulators.modbus_wrong import Answer, Fault, Reset, Sending

QUIET_S = 0.05  # of a byte stream, after which an RTU frame that has not ended never will
IN_ORDER_S = 1e-6  # between answers that go out together: timers of one moment have no order
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
        self.listening: list[Channel] = []  # clients as of now; what an RTU line says, the last one to come hears
        self.busy: dict[int, int] = {}  # unit → pieces of answers that it has still to send
        self.answered_s: dict[int, float] = {}
        self.together_s: dict[int, float] = {}  # unit → when it answers everything that it holds back
        self._due: dict[_Piece, asyncio.TimerHandle] = {}

    def later(self, at_s: float, piece: _Piece, send: Callable[[_Piece], None]) -> None:
        """Send a piece at a time of the loop."""
        if piece.holds:
            self.busy[piece.unit] = self.busy.get(piece.unit, 0) + 1
        self._due[piece] = asyncio.get_running_loop().call_at(at_s, self._sent, piece, send)

    def cancel(self, conversation: Conversation | None = None) -> None:
        """Forget what is still to be sent: all of it, or a conversation's."""
        for piece in [piece for piece in self._due if conversation in {None, piece.conversation}]:
            self._forget(piece).cancel()

    def drop(self, unit: int) -> None:
        """Forget what a unit was sending slowly when that fault ended."""
        for piece in [piece for piece in self._due if piece.unit == unit and piece.slow is not None and self.is_over(piece)]:
            self._forget(piece).cancel()

    def is_over(self, piece: _Piece) -> bool:
        """Whether the fault that made it a piece holds no more."""
        return piece.slow is not (self.fault or self.units[piece.unit].fault)

    def _sent(self, piece: _Piece, send: Callable[[_Piece], None]) -> None:
        self._forget(piece)
        send(piece)

    def _forget(self, piece: _Piece) -> asyncio.TimerHandle:
        if piece.holds:
            self.busy[piece.unit] -= 1
        return self._due.pop(piece)


class Conversation:
    """Requests of one client as they come, answers as they are due."""

    def __init__(self, bus: Bus, channel: Channel) -> None:
        self._bus = bus
        self._channel = channel
        self._reader = TcpReader() if bus.framing == "tcp" else RtuReader()
        self._loop = asyncio.get_running_loop()
        self._quiet: asyncio.TimerHandle | None = None

    def began(self) -> None:
        """The client is there."""
        self._bus.listening.append(self._channel)
        if isinstance(self._bus.fault, Reset) and self._bus.fault.when == "connect":
            self._channel.reset()

    def received(self, content: bytes) -> None:
        """Bytes came."""
        try:
            frames = self._reader.feed(content)
        except BrokenStream:
            self._channel.close()
            return
        seen: set[int] = set()
        for frame in frames:
            self._asked(frame, together=frame.unit in seen)
            seen.add(frame.unit)
        if self._bus.framing == "rtu":
            if self._quiet is not None:
                self._quiet.cancel()
            self._quiet = self._loop.call_later(QUIET_S, self._silence)

    def ended(self) -> None:
        """The client has gone; what was to be sent to it is not, but a unit on a serial line talks to whoever listens."""
        self._bus.listening.remove(self._channel)
        if self._quiet is not None:
            self._quiet.cancel()
        if self._bus.framing == "tcp":
            self._bus.cancel(self)

    def _silence(self) -> None:
        for frame in self._reader.silence():
            self._asked(frame, together=False)

    def _asked(self, frame: Frame, *, together: bool) -> None:
        """`together`: the client sent it in one piece with another for this unit, so it did not wait for the answer."""
        bus = self._bus
        unit = bus.units.get(frame.unit)
        if unit is None:
            self._nobody(frame)
            return
        if bus.busy.get(frame.unit):
            bus.drop(frame.unit)
        limits = unit.spec.modbus
        if (limits is None or limits.one_request_at_a_time) and (together or bus.busy.get(frame.unit)):
            unit.overlapped += 1
            if bus.framing == "tcp":  # on a serial line, who sends hears nothing
                self._channel.write(framed("tcp", frame._replace(pdu=pdus.refusal(frame.pdu, pdus.BUSY))))
            return
        if limits is not None and self._loop.time() - bus.answered_s.get(frame.unit, -1e9) < limits.min_gap_ms / 1000.0:
            unit.hurried += 1
        fault = bus.fault or unit.fault
        answer = Answer(bus.framing, frame, unit.answer(frame.pdu, fault), bus.before)
        sending = None if unit.silent else (fault or SOUND).sent(answer)
        bus.before = answer.right
        if sending is not None:
            self._send(frame.unit, unit.delay_s, sending, fault)

    def _nobody(self, frame: Frame) -> None:
        if self._bus.framing == "tcp":  # a gateway says so; on a serial line nobody is there to say anything
            self._channel.write(framed("tcp", frame._replace(pdu=pdus.refusal(frame.pdu, pdus.NO_RESPONSE))))
        elif frame.unit == BROADCAST and frame.pdu[0] in pdus.WRITE_CODES:
            for unit in self._bus.units.values():
                unit.answer(frame.pdu)

    def _send(self, unit: int, delay_s: float, sending: Sending, fault: Fault | None) -> None:
        bus = self._bus
        now_s = self._loop.time()
        first_s = now_s + delay_s + sending.after_s
        if sending.together:
            held_s = bus.together_s.get(unit, 0.0)
            first_s = bus.together_s[unit] = held_s + IN_ORDER_S if held_s > now_s else first_s
        slow = fault if sending.byte_s else None
        contents = [sending.content] if slow is None else [bytes((byte,)) for byte in sending.content]
        pieces = [_Piece(self, unit, content, bool(delay_s or slow), slow) for content in contents]
        pieces[-1].last, pieces[-1].then = True, sending.then
        if first_s <= now_s and slow is None:
            self._piece(pieces[0])
            return
        for i, piece in enumerate(pieces):
            bus.later(first_s + i * sending.byte_s, piece, self._piece)

    def _piece(self, piece: _Piece) -> None:
        bus = self._bus
        if piece.slow is not None and bus.is_over(piece):
            return
        if piece.last:
            bus.answered_s[piece.unit] = self._loop.time()
        channel = self._channel
        if bus.framing == "rtu":
            if not bus.listening:
                return
            channel = bus.listening[-1]
        if piece.content:
            channel.write(piece.content)
        if piece.then == "close":
            channel.close()
        elif piece.then == "reset":
            channel.reset()


@dataclass(slots=True, eq=False)
class _Piece:
    """Bytes of an answer that go out in one piece."""

    conversation: Conversation
    unit: int
    content: bytes
    holds: bool  # the unit is busy until they are out
    slow: Fault | None = None  # which fault makes it one of many
    last: bool = False
    then: str = ""


SOUND = Fault()

"""How an answer goes wrong on the wire: each fault turns the right answer into what is sent instead. Pure: no clock, no network.

Faults of what the registers say are in `modbus_content`; names for all of them in `modbus_faults`.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from simulators.modbus_frames import Frame, Framing, framed

Offset = Annotated[int, Meta(ge=1, le=255)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
READ_CODES = frozenset({1, 2, 3, 4})
OTHER_CODES = {1: 2, 2: 1, 3: 4, 4: 3}  # what a wrong function code looks most like
TWIN = 0x04  # the bits in which a duplicated unit's bytes differ: another value, as plausible as the first
NOISE = b"\xff\x00\xff\x7e"  # what a bus without termination gives when a driver turns around


class Sending(NamedTuple):
    """Bytes to send: after `after_s`, with `byte_s` between them (0: at once), and what becomes of the connection.

    `together`: with what the unit holds back already, if that is sooner.
    """

    content: bytes
    after_s: float = 0.0
    together: bool = False
    byte_s: float = 0.0
    then: Literal["", "close", "reset"] = ""


class Answer(NamedTuple):
    """The right answer to `asked`, and the answer that went out on this connection before it."""

    framing: Framing
    asked: Frame
    pdu: bytes
    before: Frame | None = None

    @property
    def right(self) -> Frame:
        """As a sound unit sends it."""
        return self.asked._replace(pdu=self.pdu)

    @property
    def is_read(self) -> bool:
        """Whether it holds words or bits that were asked for."""
        return self.pdu[0] in READ_CODES

    def bytes_of(self, frame: Frame) -> bytes:
        """A frame in the connection's framing."""
        return framed(self.framing, frame)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to be wrong; this one is none."""

    def sent(self, answer: Answer) -> Sending | None:
        """What goes out instead of the right answer; None: nothing."""
        return Sending(answer.bytes_of(answer.right))


class ExceptionAnswer(Fault, frozen=True):
    """The unit refuses every request with an exception code: 1–4, 6, 10 (0x0A) or 11 (0x0B)."""

    code: Literal[1, 2, 3, 4, 6, 10, 11] = 2


class WrongTransaction(Fault, frozen=True):
    """Another transaction id, by default the one of the next question. RTU frames have none, so there nothing is wrong."""

    by: Offset = 1

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right._replace(transaction=answer.asked.transaction + self.by & 0xFFFF)))


class WrongUnit(Fault, frozen=True):
    """Another unit's id, by default its neighbour's."""

    by: Offset = 1

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right._replace(unit=answer.asked.unit + self.by & 0xFF)))


class WrongFunction(Fault, frozen=True):
    """The answer to another function: input registers for holding registers, coils for discrete inputs."""

    def sent(self, answer: Answer) -> Sending:
        other = OTHER_CODES.get(answer.pdu[0], answer.pdu[0] ^ 0x01)
        return Sending(answer.bytes_of(answer.right._replace(pdu=bytes((other,)) + answer.pdu[1:])))


class ShortFrame(Fault, frozen=True):
    """The last bytes never come."""

    missing: Offset = 3

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right)[: -self.missing])


class FewRegisters(Fault, frozen=True):
    """A sound frame with one register (or byte of bits) less than was asked for."""

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right._replace(pdu=_counted(answer, _content(answer)[:-2]))))


class ManyRegisters(Fault, frozen=True):
    """A sound frame with one register more than was asked for."""

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right._replace(pdu=_counted(answer, _content(answer) + b"\x00\x07"))))


class OverLong(Fault, frozen=True):
    """A frame longer than Modbus allows (260 bytes on TCP, 256 in RTU): the right answer with bytes behind it."""

    by: Annotated[int, Meta(ge=1, le=60_000)] = 300

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right._replace(pdu=answer.pdu + bytes(self.by))))


class LengthTooLarge(Fault, frozen=True):
    """The header (MBAP length; in RTU the byte count) promises more than comes."""

    by: Offset = 4

    def sent(self, answer: Answer) -> Sending:
        return Sending(_length_changed(answer, self.by))


class LengthTooSmall(Fault, frozen=True):
    """The header promises less than comes: the rest looks like the next frame."""

    by: Offset = 2

    def sent(self, answer: Answer) -> Sending:
        return Sending(_length_changed(answer, -self.by))


class TwoFrames(Fault, frozen=True):
    """The answer before this one comes again in the same segment: `old` before the right one, or after it."""

    old: Literal["before", "after"] = "before"

    def sent(self, answer: Answer) -> Sending:
        right = answer.bytes_of(answer.right)
        old = b"" if answer.before is None else answer.bytes_of(answer.before)
        return Sending(old + right if self.old == "before" else right + old)


class Slow(Fault, frozen=True):
    """One byte each `byte_s`."""

    byte_s: Seconds = 1.0

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right), byte_s=self.byte_s)


class Late(Fault, frozen=True):
    """The right answer, too late and without the transaction id of its question (0 instead)."""

    by_s: Seconds = 2.0

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right._replace(transaction=0)), after_s=self.by_s)


class Held(Fault, frozen=True):
    """It keeps its answers for `by_s` and then gives all at once, in order, as a busy unit or a serial server's buffer does."""

    by_s: Seconds = 2.0

    def sent(self, answer: Answer) -> Sending:
        return Sending(answer.bytes_of(answer.right), after_s=self.by_s, together=True)


class Silent(Fault, frozen=True):
    """Takes the connection and the request, and never answers."""

    def sent(self, answer: Answer) -> None:
        del answer


class Close(Fault, frozen=True):
    """Hangs up instead of an answer."""

    def sent(self, answer: Answer) -> Sending:
        del answer
        return Sending(b"", then="close")


class Reset(Fault, frozen=True):
    """The connection is reset (RST): when it is made, instead of an answer, or in the middle of one. Serial lines: silence."""

    when: Literal["connect", "request", "mid_answer"] = "request"

    def sent(self, answer: Answer) -> Sending:
        content = answer.bytes_of(answer.right)
        return Sending(content[: len(content) // 2] if self.when == "mid_answer" else b"", then="reset")


class DuplicateUnit(Fault, frozen=True):
    """Two units have this id: the other one answers `before`, `after`, or at once, so that the bits `collide`."""

    other: Literal["before", "after", "collide"] = "after"

    def sent(self, answer: Answer) -> Sending:
        one = answer.bytes_of(answer.right)
        flipped = bytes(byte ^ TWIN if i % 2 == 0 else byte for i, byte in enumerate(_content(answer)))
        two = answer.bytes_of(answer.right._replace(pdu=_counted(answer, flipped)))
        if self.other == "collide":
            return Sending(bytes(a & b for a, b in zip(one, two, strict=True)))
        return Sending(one + two if self.other == "after" else two + one)


class BadCrc(Fault, frozen=True):
    """A bit of the frame flipped on the way; over MBAP, which has no CRC, nothing is wrong."""

    def sent(self, answer: Answer) -> Sending:
        content = answer.bytes_of(answer.right)
        return Sending(content if answer.framing == "tcp" else content[:-2] + bytes((content[-2] ^ 0x10, content[-1])))


class Noise(Fault, frozen=True):
    """Bytes that nobody sent, before the frame."""

    length: Offset = 3

    def sent(self, answer: Answer) -> Sending:
        return Sending((NOISE * self.length)[: self.length] + answer.bytes_of(answer.right))


def _content(answer: Answer) -> bytes:
    """The words or bits of a read's answer."""
    return answer.pdu[2:] if answer.is_read else b""


def _counted(answer: Answer, content: bytes) -> bytes:
    """The same answer with other content; what is no read's answer stays as it is."""
    return bytes((answer.pdu[0], len(content) & 0xFF)) + content if answer.is_read else answer.pdu


def _length_changed(answer: Answer, by: int) -> bytes:
    if answer.framing == "rtu":
        count = bytes((max(0, answer.pdu[1] + by) & 0xFF,)) if answer.is_read else answer.pdu[1:2]
        return answer.bytes_of(answer.right._replace(pdu=answer.pdu[:1] + count + answer.pdu[2:]))
    frame = answer.bytes_of(answer.right)
    length = max(0, int.from_bytes(frame[4:6], "big") + by) & 0xFFFF
    return frame[:4] + length.to_bytes(2, "big") + frame[6:]

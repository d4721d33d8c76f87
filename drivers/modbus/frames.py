"""Frames around a PDU, and what a stream of bytes answers to a question. Pure.

MBAP (TCP, TLS): a transaction id ties an answer to its question, so anything else that comes is an error at once.
RTU (serial, or tunnelled through TCP): nothing but unit, function code, length and CRC tie them, so a whole frame of another unit
or of another length is somebody's late answer: it is dropped, and the true one still has until the timeout.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pymodbus.framer import FramerRTU

from drivers.modbus.questions import EXCEPTION_BIT, SENDS_BYTE_COUNT, Question, Reply, answer, wrong

MBAP_BYTES = 7  # transaction 2, protocol 2, length 2, unit 1; Modbus Messaging on TCP/IP 1.0b, §3.1.3
LONGEST_PDU = 253  # Modbus Application Protocol 1.1b3, §4.1
LONGEST_FRAME = 260  # an MBAP frame with the longest PDU; an RTU frame is shorter
CRC_BYTES = 2
RTU_EXCEPTION_BYTES = 5  # unit, function code, exception code, CRC
RTU_ECHO_BYTES = {5: 8, 6: 8, 15: 8, 16: 8, 22: 10}  # whole answers of the writes
_HEADER = struct.Struct(">HHHB")


class Heard(NamedTuple):
    """What a stream says so far: an answer, or None while there is none; `left` are the bytes still to be looked at.

    `why` names what was dropped on the way, for the case that no answer comes.
    """

    reply: Reply | None
    left: bytes = b""
    why: str = ""


def mbap(transaction: int, unit: int, pdu: bytes) -> bytes:
    """The frame of a PDU for TCP and TLS."""
    return _HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu


def heard_mbap(stream: bytes, transaction: int, unit: int, question: Question) -> Heard:
    """What `stream` answers; decided as soon as the header is in, and no byte may follow the frame."""
    if len(stream) < MBAP_BYTES:
        return Heard(None, stream)
    told, protocol, length, from_unit = _HEADER.unpack_from(stream)
    if told != transaction or protocol or from_unit != unit or not 1 < length <= LONGEST_PDU + 1:
        part = "protocol" if protocol else "transaction" if told != transaction else "length" if from_unit == unit else "unit"
        return Heard(wrong(part))
    end = MBAP_BYTES - 1 + length
    if len(stream) < end:
        return Heard(None, stream)
    if len(stream) > end:
        return Heard(wrong("extra"))
    return Heard(answer(question, stream[MBAP_BYTES:]))


def rtu(unit: int, pdu: bytes) -> bytes:
    """The frame of a PDU for a serial line."""
    frame = bytes((unit,)) + pdu
    return frame + crc(frame)


def crc(frame: bytes) -> bytes:
    """The checksum as it stands on the line; Modbus over Serial Line 1.02, §2.5.1.2."""
    return FramerRTU.compute_CRC(frame).to_bytes(CRC_BYTES, "big")


def heard_rtu(stream: bytes, unit: int, question: Question) -> Heard:
    """What `stream` answers; whole frames that are not for this question are dropped, and bytes of nobody before the answer."""
    why = ""
    while len(stream) > 1:
        size = _rtu_size(stream)
        if size is None or len(stream) < size:
            return Heard(_behind_noise(stream, unit, question), stream, why)
        frame, rest = stream[:size], stream[size:]
        if size == 0 or crc(frame[:-CRC_BYTES]) != frame[-CRC_BYTES:]:
            return Heard(_behind_noise(stream, unit, question) or wrong("crc" if size else "function"))
        stream = rest
        if frame[0] != unit:
            why = "wrong_reply:unit"
            continue
        reply = answer(question, frame[1:-CRC_BYTES])
        if not reply.why.startswith("wrong_reply"):
            return Heard(_alone(reply, rest, unit))
        why = reply.why
    return Heard(None, stream, why)


def _alone(reply: Reply, rest: bytes, unit: int) -> Reply:
    """An answer that has bytes behind it is one of two if they may be the unit's own; others' late answers are theirs."""
    return wrong("extra") if rest[:1] == bytes((unit,)) else reply


def _behind_noise(stream: bytes, unit: int, question: Question) -> Reply | None:
    """The answer that begins later in a stream whose head makes no sense: a slow neighbour's bytes, a line's own noise."""
    for first in range(1, len(stream) - RTU_EXCEPTION_BYTES + 1):
        if stream[first] == unit and stream[first + 1] & ~EXCEPTION_BIT == question.code:
            end = first + (_rtu_size(stream[first:]) or len(stream))
            frame = stream[first:end]
            if end <= len(stream) and crc(frame[:-CRC_BYTES]) == frame[-CRC_BYTES:]:
                reply = answer(question, frame[1:-CRC_BYTES])
                if not reply.why.startswith("wrong_reply"):
                    return _alone(reply, stream[end:], unit)
    return None


def _rtu_size(stream: bytes) -> int | None:
    """Bytes of the answer that `stream` begins with; None: too early to tell; 0: no answer begins so."""
    code = stream[1]
    if code & EXCEPTION_BIT:
        return RTU_EXCEPTION_BYTES
    if code in SENDS_BYTE_COUNT:
        return 3 + stream[2] + CRC_BYTES if len(stream) > 2 else None  # noqa: PLR2004 - unit, code, byte count
    return RTU_ECHO_BYTES.get(code, 0)

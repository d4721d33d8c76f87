"""Modbus frames as a server sees them: out of a stream of bytes, and into one.

Two framings: MBAP (TCP, TLS) and RTU (serial, RTU over TCP).

Sources: Modbus Messaging on TCP/IP Implementation Guide 1.0b, §3.1.3 (MBAP); Modbus over Serial Line 1.02, §2.5.1 (RTU, CRC).
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

Framing = Literal["tcp", "rtu"]
MBAP = struct.Struct(">HHHB")  # transaction, protocol (0), length of what follows it, unit
LONGEST_PDU = 253  # bytes: 256 of an RTU frame less unit and CRC
SHORTEST_RTU = 4  # bytes: unit, function, CRC
FIXED_REQUESTS = frozenset({1, 2, 3, 4, 5, 6})  # function codes whose request is 8 bytes in an RTU frame
COUNTED_REQUESTS = {15: 6, 16: 6, 23: 10}  # function code → where its RTU request says how many bytes follow
MASK_WRITE = 22
MASK_WRITE_BYTES = 10


class Frame(NamedTuple):
    """What one frame says; RTU has no transaction, so there it is 0."""

    transaction: int
    unit: int
    pdu: bytes


class BrokenStream(Exception):
    """Bytes that no Modbus client sends: where the next frame begins cannot be known."""


def mbap(transaction: int, unit: int, pdu: bytes) -> bytes:
    """An MBAP frame."""
    return MBAP.pack(transaction & 0xFFFF, 0, (len(pdu) + 1) & 0xFFFF, unit & 0xFF) + pdu


def rtu(unit: int, pdu: bytes) -> bytes:
    """An RTU frame."""
    content = bytes((unit & 0xFF,)) + pdu
    return content + crc16(content).to_bytes(2, "little")


def framed(framing: Framing, frame: Frame) -> bytes:
    """The bytes of a frame."""
    return mbap(*frame) if framing == "tcp" else rtu(frame.unit, frame.pdu)


def crc16(content: bytes | bytearray) -> int:
    """CRC-16/MODBUS: polynomial 0xA001 (reflected), begun with 0xFFFF."""
    crc = 0xFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


class TcpReader:
    """Requests in MBAP frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> list[Frame]:
        """The frames that are complete now.

        Raises:
            BrokenStream: a header that is none.
        """
        buffer = self._buffer
        buffer += received
        frames: list[Frame] = []
        while len(buffer) >= MBAP.size:
            transaction, protocol, length, unit = MBAP.unpack_from(buffer)
            if protocol or not 1 < length <= LONGEST_PDU + 1:
                raise BrokenStream
            end = MBAP.size - 1 + length
            if len(buffer) < end:
                break
            frames.append(Frame(transaction, unit, bytes(buffer[MBAP.size : end])))
            del buffer[:end]
        return frames

    def silence(self) -> list[Frame]:
        """Silence means nothing in a TCP stream."""
        return []


class RtuReader:
    """Requests in RTU frames. A frame with a wrong CRC is dropped as a unit drops it; `bad_crc` counts them."""

    def __init__(self) -> None:
        self.bad_crc = 0
        self._buffer = bytearray()

    def feed(self, received: bytes) -> list[Frame]:
        """The frames that are complete now."""
        buffer = self._buffer
        buffer += received
        frames: list[Frame] = []
        while 0 < (end := _request_bytes(buffer)) <= len(buffer):
            if (frame := _unwrapped(buffer[:end])) is not None:
                frames.append(frame)
                del buffer[:end]
            else:
                self.bad_crc += 1
                buffer.clear()
        return frames

    def silence(self) -> list[Frame]:
        """The line is quiet: what is left is a frame of a function unknown here, or rubbish."""
        frame = _unwrapped(self._buffer)
        self.bad_crc += frame is None and bool(self._buffer)
        self._buffer.clear()
        return [] if frame is None else [frame]


def _unwrapped(content: bytearray) -> Frame | None:
    """The frame in `content`; None when its CRC is wrong."""
    if len(content) < SHORTEST_RTU or crc16(content[:-2]) != int.from_bytes(content[-2:], "little"):
        return None
    return Frame(0, content[0], bytes(content[1:-2]))


def _request_bytes(buffer: bytearray) -> int:
    """How long the request at the head of `buffer` is; 0 while that cannot be said."""
    if len(buffer) < SHORTEST_RTU:
        return 0
    function = buffer[1]
    if function in FIXED_REQUESTS:
        return 8
    if function == MASK_WRITE:
        return MASK_WRITE_BYTES
    at = COUNTED_REQUESTS.get(function)
    return 0 if at is None or len(buffer) <= at else at + 1 + buffer[at] + 2


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        found.append(crc)
    return tuple(found)


_CRC = _table()

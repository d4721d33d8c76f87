"""MQTT 5 packets out of a recorded stream, each with the moment at which its last byte passed: PUBLISH and PUBACK, no more."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PUBLISH, PUBACK = 3, 4  # MQTT 5, 2.1.2


class Publish(NamedTuple):
    """MQTT 5, 3.3; `packet` is None at QoS 0."""

    moment: int
    topic: str
    packet: int | None
    payload: bytes


class Puback(NamedTuple):
    """MQTT 5, 3.4."""

    moment: int
    packet: int


def packets(pieces: Iterable[tuple[int, bytes]]) -> Iterator[Publish | Puback]:
    """The packets of one direction."""
    buffer = bytearray()
    for moment, piece in pieces:
        buffer += piece
        while (found := _whole(buffer)) is not None:
            start, end = found
            body, head = bytes(buffer[start:end]), buffer[0]
            del buffer[:end]
            if head >> 4 == PUBLISH:
                yield _publish(moment, head, body)
            elif head >> 4 == PUBACK:
                yield Puback(moment, struct.unpack_from("!H", body)[0])


def _whole(buffer: bytearray) -> tuple[int, int] | None:
    """Where the body of the first packet starts and ends; None while it is not all there."""
    try:
        size, start = _number(buffer, 1)
    except IndexError:
        return None
    return (start, start + size) if len(buffer) >= start + size else None


def _number(content: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5, 1.5.5) and where it ends."""
    value, shift = 0, 0
    while True:
        byte = content[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _publish(moment: int, head: int, body: bytes) -> Publish:
    length = struct.unpack_from("!H", body)[0]
    topic, at, packet = body[2 : 2 + length].decode(), 2 + length, None
    if head & 0b110:
        packet, at = struct.unpack_from("!H", body, at)[0], at + 2
    properties, at = _number(body, at)
    return Publish(moment, topic, packet, body[at + properties :])

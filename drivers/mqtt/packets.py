"""MQTT 3.1.1 and 5 as bytes, as far as a subscriber at QoS 1 needs them. Pure: no socket, no clock.

    to the broker     connect  subscribe  publish  acknowledgements  PING  GOODBYE
    from the broker   split → connack | suback | puback | goodbye      (PUBLISH, the hot one: publishes.py)

The numbers are those of the standards: section 2.2.3 (2.1.4 in version 5) the remaining length, 2.2.2 the properties, 2.4 the
reason codes, and a section of chapter 3 for each packet. What breaks them is a `ProtocolError` that says what and where.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from iotcore.errors import IotError

# The upper four bits of a packet's first byte.
CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 0x20, 0x30, 0x40, 0x90, 0xB0, 0xD0, 0xE0
PING = b"\xc0\x00"
GOODBYE = b"\xe0\x00"
ACKNOWLEDGE = b"\x40\x02"  # PUBACK with nothing but its packet identifier: success, in both versions
# MQTT 5, 3.1.2.11.3: the same as saying nothing, but Mosquitto 2.0 takes it for leave to go beyond its max_inflight_messages. We
# never enforce a smaller one, because after a resume it ignores what it was told (ADR 9).
RECEIVE_MAXIMUM = 65_535
NO_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1
FAILURE_CODES = 0x80  # from here on
NAMES = {  # MQTT 5, 2.4: those a subscriber meets
    0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x84: "unsupported protocol version",
    0x85: "client id not valid", 0x86: "bad user name or password", 0x87: "not authorized", 0x88: "server unavailable",
    0x89: "server busy", 0x8A: "banned", 0x8B: "server shutting down", 0x8D: "keep alive timeout", 0x8E: "session taken over",
    0x8F: "topic filter invalid", 0x93: "receive maximum exceeded", 0x94: "topic alias invalid", 0x95: "packet too large",
    0x96: "message rate too high", 0x97: "quota exceeded", 0x98: "administrative action", 0x9C: "use another server",
    0x9D: "server moved", 0x9F: "connection rate exceeded", 0xA1: "subscription identifiers not supported",
}  # fmt: skip
NAMES_311 = {  # MQTT 3.1.1, 3.2.2.3
    1: "unacceptable protocol version", 2: "client id rejected", 3: "server unavailable", 4: "bad user name or password",
    5: "not authorized",
}  # fmt: skip

# MQTT 5, 2.2.2.2: how long each property's value is; "text" and "bytes" carry their length, "pair" is two texts, "var" a number.
_SIZES: dict[int, int | str] = {
    0x01: 1, 0x02: 4, 0x03: "text", 0x08: "text", 0x09: "bytes", 0x0B: "var", 0x11: 4, 0x12: "text", 0x13: 2, 0x15: "text",
    0x16: "bytes", 0x17: 1, 0x18: 4, 0x19: 1, 0x1A: "text", 0x1C: "text", 0x1F: "text", 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1,
    0x25: 1, 0x26: "pair", 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
_REASON_STRING, _RECEIVE_MAXIMUM = 0x1F, 0x21


class ProtocolError(IotError):
    """The broker sent what MQTT does not allow."""


class Packet(NamedTuple):
    """Where one whole packet lies: its first byte, and the offsets of its body's begin and end."""

    head: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT. `receive_maximum`: how many of our publications it takes before it has answered them."""

    session_present: bool
    code: int
    receive_maximum: int
    said: str

    @property
    def wrong_version(self) -> bool:
        """Whether the broker does not speak our version of MQTT."""
        return self.code in {1, 0x84}  # 3.1.1, 3.2.2.3 and 5, 3.2.2.2


def connect(client_id: str, *, five: bool, keepalive_s: int, session_expiry_s: int) -> bytes:
    """CONNECT that goes on with an earlier session (clean start 0), without a will; the certificate tells who we are."""
    wanted = struct.pack("!BIBH", 0x11, session_expiry_s, _RECEIVE_MAXIMUM, RECEIVE_MAXIMUM)
    properties = length(len(wanted)) + wanted if five else b""
    body = _text("MQTT") + struct.pack("!BBH", 5 if five else 4, 0, keepalive_s) + properties + _text(client_id)
    return b"\x10" + length(len(body)) + body


def subscribe(mid: int, filters: Sequence[str], *, five: bool) -> bytes:
    """SUBSCRIBE at QoS 1; in version 5 retained messages come only for a subscription that did not exist (3.8.3.1)."""
    options = b"\x11" if five else b"\x01"
    body = struct.pack("!H", mid) + (b"\x00" if five else b"") + b"".join(_text(one) + options for one in filters)
    return b"\x82" + length(len(body)) + body


def unsubscribe(mid: int, filters: Sequence[str], *, five: bool) -> bytes:
    """UNSUBSCRIBE; a filter that was not subscribed is no error (MQTT 5, 3.11.3: 0x11)."""
    body = struct.pack("!H", mid) + (b"\x00" if five else b"") + b"".join(map(_text, filters))
    return b"\xa2" + length(len(body)) + body


def publish(topic: str, payload: bytes, mid: int, *, five: bool, expiry_s: int = 0) -> bytes:
    """PUBLISH at QoS 1; `expiry_s`: a broker of version 5 throws it away when nobody fetched it by then."""
    properties = (b"\x05\x02" + struct.pack("!I", expiry_s) if expiry_s else b"\x00") if five else b""
    body = _text(topic) + struct.pack("!H", mid) + properties + payload
    return b"\x32" + length(len(body)) + body


def acknowledgements(mids: Sequence[bytes]) -> bytes:
    """A PUBACK for each of these packet identifiers (two bytes, as they came), in one piece."""
    return ACKNOWLEDGE + ACKNOWLEDGE.join(mids)


def length(size: int) -> bytes:
    """A remaining length: seven bits a byte, the low ones first."""
    out = bytearray()
    while True:
        size, low = divmod(size, 128)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


def split(data: bytes, at: int) -> Packet | None:
    """The packet that begins at `at`; None while it is not all there."""
    number = variable(data, at + 1, min(len(data), at + 5))
    if number is None:
        if len(data) >= at + 5:
            raise ProtocolError(f"a remaining length of more than four bytes at byte {at + 1}")
        return None
    size, start = number
    return Packet(data[at], start, start + size) if start + size <= len(data) else None


def variable(data: bytes, at: int, end: int) -> tuple[int, int] | None:
    """A number of seven bits a byte and where it ends; None when it does not end before `end`."""
    value = shift = 0
    for i in range(at, min(end, at + 4)):
        value |= (data[i] & 0x7F) << shift
        if data[i] < 0x80:  # noqa: PLR2004 - no further byte follows
            return value, i + 1
        shift += 7
    return None


def connack(data: bytes, packet: Packet, *, five: bool) -> Connack:
    """Parse a CONNACK. A broker without version 5 answers in the form of 3.1.1, without properties."""
    _, start, end = packet
    _need(start + 2 <= end, "CONNACK of less than two bytes", start)
    flags, code = data[start], data[start + 1]
    _need(flags <= 1, f"CONNACK flags {flags:#04x}", start)
    found = properties(data, start + 2, end)[0] if five and end > start + 2 else {}
    names = NAMES if code >= FAILURE_CODES else NAMES_311
    said = _said(code, found, names)
    maximum = found.get(_RECEIVE_MAXIMUM, b"\xff\xff")
    return Connack(bool(flags), code, int.from_bytes(maximum, "big"), said)


def suback(data: bytes, packet: Packet, *, five: bool) -> tuple[int, bytes]:
    """The packet identifier of a SUBACK, and a code for each filter in order."""
    _, start, end = packet
    _need(start + 2 <= end, "SUBACK without a packet identifier", start)
    codes = properties(data, start + 2, end)[1] if five else start + 2
    return int.from_bytes(data[start : start + 2], "big"), data[codes:end]


def puback(data: bytes, packet: Packet) -> tuple[int, int]:
    """The packet identifier of a PUBACK and its reason code (0 where none is given)."""
    _, start, end = packet
    _need(start + 2 <= end, "PUBACK without a packet identifier", start)
    return int.from_bytes(data[start : start + 2], "big"), data[start + 2] if end > start + 2 else 0


def goodbye(data: bytes, packet: Packet) -> tuple[int, str]:
    """Why the broker ends the connection (version 5): the reason code, and what it says of it."""
    _, start, end = packet
    if start == end:
        return 0, "normal disconnection"
    found = properties(data, start + 1, end)[0] if end > start + 1 else {}
    return data[start], _said(data[start], found, NAMES)


def properties(data: bytes, at: int, end: int) -> tuple[dict[int, bytes], int]:
    """The properties at `at` with their raw values, and where they end; of those that may repeat, the last one."""
    number = variable(data, at, end)
    _need(number is not None, "no length of properties", at)
    assert number is not None
    size, at = number
    stop = at + size
    _need(stop <= end, "properties longer than their packet", at)
    found: dict[int, bytes] = {}
    while at < stop:
        kind = _SIZES.get(data[at])
        _need(kind is not None, f"unknown property {data[at]:#04x}", at)
        assert kind is not None
        begin, after = _value(data, at + 1, stop, kind)
        found[data[at]] = data[begin:after]
        at = after
    return found, stop


def _value(data: bytes, at: int, stop: int, kind: int | str) -> tuple[int, int]:
    """Where a property's value begins and ends."""
    if kind == "var":
        number = variable(data, at, stop)
        _need(number is not None, "a property's number does not end", at)
        assert number is not None
        return at, number[1]
    if kind == "pair":
        at = _value(data, at, stop, "text")[1]
    if isinstance(kind, str):
        _need(at + 2 <= stop, "a property is cut off", at)
        kind = int.from_bytes(data[at : at + 2], "big")
        at += 2
    _need(at + kind <= stop, "a property is cut off", at)
    return at, at + kind


def _said(code: int, found: dict[int, bytes], names: dict[int, str]) -> str:
    text = found.get(_REASON_STRING, b"").decode("utf-8", "replace")
    return f"{code:#04x} {names.get(code, '')}".rstrip() + (f" ({text})" if text else "")


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("!H", len(raw)) + raw


def _need(holds: bool, what: str, at: int) -> None:  # noqa: FBT001 - an assertion about what came from outside
    if not holds:
        raise ProtocolError(f"{what} at byte {at}")

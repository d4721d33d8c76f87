"""SIA DC-09 on the wire: frames, their checks, their cipher, and the replies of a receiver. Pure: no clock, no I/O.

    LF CRC4 0LLL "ID"seqRrcvrLpref#acct[data][xdata]…_HH:MM:SS,MM-DD-YYYY CR
                 └──────────── body: what CRC and length cover ─────────┘

With a key, ID becomes "*ID" and all behind the first `[` is AES-CBC, zero IV, upper-case hex, padded in front.
Source: ANSI/SIA DC-09, Internet Protocol Event Reporting.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from iotcore.errors import Refused

MAX_BODY_BYTES = 0xFFF  # the length has three hex digits
MAX_NUMBER = 9999  # sequence numbers run 0001-9999 and wrap to 0001
BLOCK_BYTES = 16  # AES
PAD_CHARACTERS = (string.ascii_letters + string.digits).encode()  # anything but | [ ]
TIME_FORMAT = "_%H:%M:%S,%m-%d-%Y"

_FRAME = re.compile(rb"\n([0-9A-Fa-f]{4})0([0-9A-Fa-f]{3})(\".*)\r", re.DOTALL)
_TIME = rb"_\d\d:\d\d:\d\d,\d\d-\d\d-\d{4}"
_ACK = re.compile(rb'"(\*?)ACK"(\d{4})R([0-9A-Fa-f]{1,6})L([0-9A-Fa-f]{1,6})#([0-9A-Fa-f]{3,16})\[(.*)', re.DOTALL)
_ACK_CONTENT = re.compile(rb"(?:[^\[\]|]*\|)?\](?:\[[^\[\]]*\])*(" + _TIME + rb")?")
_ACK_SECRET = re.compile(rb"[^\[\]|]*\|?\](?:\[[^\[\]]*\])*(" + _TIME + rb")")
_NAK = re.compile(rb'"NAK"\d{4}[^\[]*\[[^\]]*\](' + _TIME + rb")?")
_DUH = re.compile(rb'"\*?DUH"')


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        rows.append(crc)
    return tuple(rows)


_CRC_TABLE = _table()


@dataclass(frozen=True, slots=True)
class Address:
    """Who speaks and to whom: receiver number (R), account prefix (L), account (#), upper-case hex digits each."""

    receiver: str
    line: str
    account: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver said. `number` and `address` are those of an ACK; `at_s` is its clock, seconds since 1970 UTC, if given."""

    kind: Literal["ACK", "NAK", "DUH"]
    number: int = 0
    address: Address | None = None
    at_s: float | None = None


def crc16(body: bytes) -> int:
    """CRC-16/ARC: polynomial 0xA001 reflected, initial value 0."""
    crc = 0
    for byte in body:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def frame(body: bytes) -> bytes:
    """Put a body between LF, CRC, length and CR.

    Raises:
        ValueError: the body is longer than the length field can say.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a DC-09 body of {len(body)} bytes; {MAX_BODY_BYTES} is the limit")
    return b"\n%04X%04X%b\r" % (crc16(body), len(body), body)


def unframe(received: bytes) -> bytes:
    """The body of a frame.

    Raises:
        Refused: `not_a_frame`, `bad_length` or `bad_crc`.
    """
    match = _FRAME.fullmatch(received)
    if match is None:
        raise Refused("not_a_frame", repr(received[:80]))
    crc, length, body = int(match[1], 16), int(match[2], 16), match[3]
    if length != len(body):
        raise Refused("bad_length", f"says {length}, has {len(body)}")
    if crc != crc16(body):
        raise Refused("bad_crc", f"says {crc:04X}, is {crc16(body):04X}")
    return body


def timestamp(at_s: float) -> bytes:
    """A time (seconds since 1970) as the end of a body, UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime(TIME_FORMAT).encode("ascii")


def parse_timestamp(text: bytes) -> float | None:
    """Seconds since 1970 of `_HH:MM:SS,MM-DD-YYYY`; None when there is no such date."""
    try:
        return datetime.strptime(text.decode("ascii"), TIME_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def random_pad(count: int) -> bytes:
    """`count` random characters: with the zero IV of the standard, they are all that makes equal alarms look different."""
    return bytes(secrets.choice(PAD_CHARACTERS) for _ in range(count))


def encrypt(content: bytes, key: bytes, pad: Callable[[int], bytes] = random_pad) -> bytes:
    """AES-CBC with zero IV of padding, `|` and content, as upper-case hex. The padding has 1 to 16 bytes, in front."""
    missing = BLOCK_BYTES - (len(content) + 1) % BLOCK_BYTES
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(BLOCK_BYTES))).encryptor()
    return (cipher.update(pad(missing) + b"|" + content) + cipher.finalize()).hex().upper().encode("ascii")


def decrypt(text: bytes, key: bytes) -> bytes:
    """The plain bytes, padding included.

    Raises:
        Refused: `not_cipher_text`: no hex digits, or no whole number of blocks.
    """
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise Refused("not_cipher_text", repr(text[:40])) from error
    if not secret or len(secret) % BLOCK_BYTES:
        raise Refused("not_cipher_text", f"{len(secret)} bytes")
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(BLOCK_BYTES))).decryptor()
    return cipher.update(secret) + cipher.finalize()


def message(
    kind: str,
    number: int,
    address: Address,
    content: bytes,
    at_s: float,
    *,
    key: bytes = b"",
    pad: Callable[[int], bytes] = random_pad,
) -> bytes:
    """A whole frame. `kind` is SIA-DCS, ADM-CID or NULL; `content` is what stands behind the first `[`, without the timestamp.

    Raises:
        ValueError: the number is not one of 0-9999, or the frame is too long.
    """
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"{number} is no DC-09 sequence number")
    plain = content + timestamp(at_s)
    head = f'"{"*" if key else ""}{kind}"{number:04d}R{address.receiver}L{address.line}#{address.account}['
    return frame(head.encode("ascii") + (encrypt(plain, key, pad) if key else plain))


def parse_reply(received: bytes, key: bytes = b"") -> Reply:
    """Read a receiver's reply. With a key, only an encrypted ACK counts: anybody could send a plain one.

    Raises:
        Refused: `not_a_frame`, `bad_length`, `bad_crc`, `not_encrypted`, `not_cipher_text`, `wrong_key` or `not_a_reply`.
    """
    body = unframe(received)
    if nak := _NAK.fullmatch(body):
        return Reply("NAK", at_s=parse_timestamp(nak[1]) if nak[1] else None)
    if _DUH.match(body):
        return Reply("DUH")
    ack = _ACK.fullmatch(body)
    if ack is None:
        raise Refused("not_a_reply", repr(body[:80]))
    if bool(ack[1]) != bool(key):
        raise Refused("not_encrypted" if key else "not_a_reply", repr(body[:80]))
    content = (_ACK_SECRET.fullmatch(decrypt(ack[6], key))) if key else _ACK_CONTENT.fullmatch(ack[6])
    if content is None:
        raise Refused("wrong_key" if key else "not_a_reply", repr(body[:80]))
    address = Address(*(part.decode("ascii").upper() for part in (ack[3], ack[4], ack[5])))
    return Reply("ACK", int(ack[2]), address, parse_timestamp(content[1]) if content[1] else None)

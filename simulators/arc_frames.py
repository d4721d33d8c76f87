"""The frames of an alarm receiving centre's side: checked as strictly as the standard, answered, or answered wrongly on purpose.

Shares no code with the sender, so that each proves the other. Source: ANSI/SIA DC-09, Internet Protocol Event Reporting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

OLDEST_S = 40.0  # a frame's timestamp may be this much behind the receiver's clock (DC-09)
NEWEST_S = 20.0  # and this much ahead of it

_BODY = re.compile(
    r'"(?P<secret>\*?)(?P<kind>SIA-DCS|ADM-CID|NULL)"(?P<number>\d{4})'
    r"R(?P<receiver>[0-9A-F]{1,6})L(?P<line>[0-9A-F]{1,6})#(?P<account>[0-9A-F]{3,16})\[(?P<rest>.*)"
)
_SIA = re.compile(
    r"#?(?P<account>[0-9A-F]*)\|N(?:ri(?P<area>\d+)/?)?(?P<code>[A-Z]{2})(?P<zone>\d*)\](?P<more>(?:\[[^\[\]]*\])*)"
)
_CONTACT_ID = re.compile(
    r"#?(?P<account>[0-9A-F]*)\|(?P<code>[136]\d{3}) (?P<area>\d\d) (?P<zone>\d{3})\](?P<more>(?:\[[^\[\]]*\])?)"
)
_TIME = re.compile(r"^(?P<content>.*)_(?P<time>\d\d:\d\d:\d\d,\d\d-\d\d-\d{4})$")
_INCIDENT = re.compile(r"F\d{8}-\d{6}-[0-9A-F]{6}")


class Fault(Enum):
    """How to misbehave with a frame that deserves an ACK."""

    NONE = "answer as one should"
    SILENCE = "take it and say nothing"
    RESET = "reset the connection"
    CLOSE = "close the connection"
    GARBAGE = "answer with something that is no frame"
    ENDLESS = "answer with bytes that never end a frame"
    DRIP = "answer one byte at a time, and never the last"
    LATE = "acknowledge when the sender has given up"
    TWICE = "acknowledge twice"
    DUH = "say that the event is not understood"
    NAK = "refuse, with the right time"
    NAK_WITHOUT_TIME = "refuse, without a time"
    BAD_CRC = "acknowledge with a wrong CRC"
    BAD_LENGTH = "acknowledge with a wrong length"
    WRONG_NUMBER = "acknowledge another number"
    WRONG_RECEIVER = "acknowledge for another receiver number"
    WRONG_LINE = "acknowledge for another line"
    WRONG_ACCOUNT = "acknowledge for another account"
    OTHER_CIPHER = "acknowledge plainly what came encrypted, or the other way round"
    WRONG_KEY = "acknowledge, encrypted with another key"
    CLOSE_AFTER = "answer as one should, then close the connection"


@dataclass(frozen=True, slots=True)
class Received:
    """An event as an operator would see it. `number` is the sender's; `at_ms` is when its last byte was here, ms UTC."""

    account: str
    code: str
    zone: int
    text: str
    number: int
    at_ms: float
    repeated: bool  # the same incident and code had been here before
    incident: str
    occurred: str  # H, as sent
    location: str
    site: str
    longitude: str
    latitude: str
    frame: bytes


class Unacceptable(Exception):
    """A frame that gets no ACK. `answer` says what it gets: NAK, DUH, or nothing."""

    def __init__(self, reason: str, answer: str) -> None:
        self.reason = reason
        self.answer = answer
        super().__init__(reason)


class Frames:
    """Reads and writes them. `key`: AES, b"" for plain frames; `clock_error_s`: what this side's clock is ahead of the world's.

    `accounts`, when there are any, are all that it knows.
    """

    def __init__(self, key: bytes, clock_error_s: float, accounts: frozenset[str] = frozenset()) -> None:
        self.clock_error_s = clock_error_s
        self._accounts = accounts
        self._key = key

    def read(self, frame: bytes, at_s: float) -> tuple[dict[str, str], str]:
        """Check a frame from outside in; returns its head and its plain content, without padding and timestamp."""
        if frame[:1] != b"\n" or frame[-1:] != b"\r" or len(frame) < len(b'\nCCCC0LLL""\r') or not frame.isascii():
            raise Unacceptable("not_a_frame", "")
        crc, length, body = frame[1:5], frame[5:9], frame[9:-1].decode("ascii")
        if crc != b"%04X" % _crc(frame[9:-1]):
            raise Unacceptable("bad_crc", "")  # the standard: no answer, for the sender cannot be known
        if length != b"0%03X" % len(body):
            raise Unacceptable("bad_length", "")
        match = _BODY.fullmatch(body)
        if match is None:
            raise Unacceptable("not_a_message", "DUH")
        head = match.groupdict()
        rest = head.pop("rest")
        if self._accounts and head["account"] not in self._accounts:
            raise Unacceptable("unknown_account", "NAK")
        if bool(head["secret"]) != bool(self._key):
            raise Unacceptable("wrong_cipher", "NAK")
        if self._key:
            rest = self._decrypted(rest)
        timed = _TIME.match(rest)
        if timed is None:
            raise Unacceptable("no_timestamp", "NAK" if self._key else "DUH")
        said = datetime.strptime(timed["time"], "%H:%M:%S,%m-%d-%Y").replace(tzinfo=timezone.utc).timestamp()  # noqa: UP017 - own code
        if not -OLDEST_S <= said - (at_s + self.clock_error_s) <= NEWEST_S:
            raise Unacceptable("bad_time", "NAK")
        return head, timed["content"]

    def _decrypted(self, rest: str) -> str:
        try:
            cipher = Cipher(algorithms.AES(self._key), modes.CBC(b"\0" * 16)).decryptor()
            text = (cipher.update(bytes.fromhex(rest)) + cipher.finalize()).decode("ascii")
        except ValueError as error:
            raise Unacceptable("cannot_decrypt", "NAK") from error
        padding, bar, content = text.partition("|")
        if not bar or not 1 <= len(padding) <= 16 or "[" in padding or "]" in padding:  # noqa: PLR2004 - one AES block
            raise Unacceptable("bad_padding", "NAK")
        return content

    def event(self, head: dict[str, str], content: str, at_s: float, frame: bytes) -> Received | None:
        """The event in a frame; None for link supervision."""
        if head["kind"] == "NULL":
            return None
        match = (_SIA if head["kind"] == "SIA-DCS" else _CONTACT_ID).fullmatch(content)
        if match is None or match["account"] not in ("", head["account"]):
            raise Unacceptable("not_an_event", "DUH")
        more = {block[0]: block[1:] for block in re.findall(r"\[([^\[\]]+)\]", match["more"])}
        text = more.get("I", "")
        found = _INCIDENT.search(text)
        incident = found[0] if found else f"{head['account']}/{head['number']}"
        return Received(
            account=head["account"],
            code=match["code"],
            zone=int(match["zone"] or match["area"] or 0),
            text=text,
            number=int(head["number"]),
            at_ms=at_s * 1000.0,
            repeated=False,
            incident=incident,
            occurred=more.get("H", ""),
            location=more.get("L", ""),
            site=more.get("S", ""),
            longitude=more.get("X", ""),
            latitude=more.get("Y", ""),
            frame=frame,
        )

    def ack(self, head: dict[str, str], at_s: float, fault: Fault) -> bytes:
        number = f"{int(head['number']) % 9999 + 1:04d}" if fault is Fault.WRONG_NUMBER else head["number"]
        receiver = "FFFFF" if fault is Fault.WRONG_RECEIVER else head["receiver"]
        line = "FFFFF" if fault is Fault.WRONG_LINE else head["line"]
        account = "FFFFFFF" if fault is Fault.WRONG_ACCOUNT else head["account"]
        secret = bool(self._key) != (fault is Fault.OTHER_CIPHER)
        tail = f"]{self._time(at_s)}"
        if secret:
            key = bytes(reversed(self._key or b"B" * 15 + b"A")) if fault in (Fault.WRONG_KEY, Fault.OTHER_CIPHER) else self._key
            padding = "0" * (16 - len(tail) % 16)
            cipher = Cipher(algorithms.AES(key), modes.CBC(b"\0" * 16)).encryptor()
            tail = (cipher.update((padding + tail).encode()) + cipher.finalize()).hex().upper()
        answer = wrapped(f'"{"*" if secret else ""}ACK"{number}R{receiver}L{line}#{account}[{tail}')
        if fault is Fault.BAD_CRC:
            return b"\n%04X" % (int(answer[1:5], 16) ^ 1) + answer[5:]
        if fault is Fault.BAD_LENGTH:
            return answer[:5] + b"%04X" % (int(answer[5:9], 16) + 1) + answer[9:]
        return answer

    def nak(self, at_s: float) -> bytes:
        return wrapped(f'"NAK"0000R0L0A0[]{self._time(at_s)}')

    def duh(self) -> bytes:
        return wrapped('"DUH"0000R0L0A0[]')

    def _time(self, at_s: float) -> str:
        at = datetime(1970, 1, 1) + timedelta(seconds=at_s + self.clock_error_s)  # noqa: DTZ001 - UTC by construction
        return at.strftime("_%H:%M:%S,%m-%d-%Y")


def _crc(body: bytes) -> int:
    """CRC-16/ARC, bit by bit."""
    crc = 0
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def wrapped(body: str) -> bytes:
    """A body between LF, CRC, length and CR."""
    return f"\n{_crc(body.encode()):04X}{len(body):04X}{body}\r".encode()

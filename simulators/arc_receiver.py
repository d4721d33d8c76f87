"""An alarm receiving centre that speaks SIA DC-09 over TCP: checks frames as strictly as the standard, acknowledges, remembers.

Shares no code with the sender, so that each proves the other. For tests it can be told to misbehave, one `Fault` for each frame.
Source: ANSI/SIA DC-09, Internet Protocol Event Reporting.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

OLDEST_S = 40.0  # a frame's timestamp may be this much behind the receiver's clock (DC-09)
NEWEST_S = 20.0  # and this much ahead of it
MAX_RECEIVED = 100_000  # the oldest are forgotten
MAX_FRAME_BYTES = 8192

_BODY = re.compile(
    r'"(?P<secret>\*?)(?P<kind>SIA-DCS|ADM-CID|NULL)"(?P<number>\d{4})'
    r"R(?P<receiver>[0-9A-F]{1,6})L(?P<line>[0-9A-F]{1,6})#(?P<account>[0-9A-F]{3,16})\[(?P<rest>.*)"
)
_CONTENT = re.compile(
    r"#?(?P<account>[0-9A-F]*)\|N(?:ri(?P<area>\d+)/?)?(?P<code>[A-Z]{2})(?P<zone>\d*)\](?P<more>(?:\[[^\[\]]*\])*)"
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


class ArcReceiver:
    """Listens on `host`:`port` (0: any free one) while its context is open. `key`: 16, 24 or 32 characters, "" for plain frames.

    `faults` are used up by the frames that come, one each, in order; after that it behaves. `clock_error_s` is what its clock is
    ahead of the world's. `on_received` is called with each event that it takes, before it answers.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "",
        faults: Iterable[Fault] = (),
        clock_error_s: float = 0.0,
        now_s: Callable[[], float] = time.time,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.faults = deque(faults)
        self.clock_error_s = clock_error_s
        self.received: deque[Received] = deque(maxlen=MAX_RECEIVED)
        self.frames: deque[bytes] = deque(maxlen=MAX_RECEIVED)  # everything that came, acceptable or not
        self.refused: Counter[str] = Counter()  # by reason
        self.incidents: Counter[str] = Counter()  # frames of each incident and code, repeats included
        self.connections = 0
        self._key = key.encode()
        self._now_s = now_s
        self._on_received = on_received
        self._server: asyncio.Server | None = None
        self.open: set[asyncio.StreamWriter] = set()  # connections as of now
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=MAX_FRAME_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.open:
            writer.transport.abort()
        await asyncio.gather(*self._serving)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        try:
            while True:
                frame = await reader.readuntil(b"\r")
                at_s = self._now_s()
                answer, go_on = self._answered(frame, at_s, writer)
                writer.write(answer)
                await writer.drain()
                if not go_on:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def _answered(self, frame: bytes, at_s: float, writer: asyncio.StreamWriter) -> tuple[bytes, bool]:
        """The bytes to answer a frame with, and whether the connection stays."""
        self.frames.append(frame)
        fault = self.faults.popleft() if self.faults else Fault.NONE
        if fault is Fault.RESET:
            writer.transport.abort()
        if fault in _INSTEAD:
            return _INSTEAD[fault]
        try:
            head, content = self._read(frame, at_s)
            event = self._event(head, content, at_s, frame)
        except Unacceptable as no:
            self.refused[no.reason] += 1
            return {"NAK": self._nak(at_s), "DUH": self._duh(), "": b""}[no.answer], True
        if fault is Fault.NAK:
            return self._nak(at_s), True
        if fault is Fault.NAK_WITHOUT_TIME:
            return _wrapped('"NAK"0000R0L0A0[]'), True
        if fault is Fault.DUH:
            return self._duh(), True
        if event is not None:  # an operator sees it now, whatever becomes of the acknowledgement
            self._take(event)
        return b"" if fault is Fault.SILENCE else self._ack(head, at_s, fault), fault is not Fault.CLOSE_AFTER

    def _take(self, event: Received) -> None:
        self.received.append(event)
        self.incidents[f"{event.incident} {event.code}"] += 1
        if self._on_received is not None:
            self._on_received(event)

    def _read(self, frame: bytes, at_s: float) -> tuple[dict[str, str], str]:
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

    def _event(self, head: dict[str, str], content: str, at_s: float, frame: bytes) -> Received | None:
        """The event in a frame; None for link supervision."""
        if head["kind"] == "NULL":
            return None
        match = _CONTENT.fullmatch(content)
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
            repeated=self.incidents[f"{incident} {match['code']}"] > 0,
            incident=incident,
            occurred=more.get("H", ""),
            location=more.get("L", ""),
            site=more.get("S", ""),
            longitude=more.get("X", ""),
            latitude=more.get("Y", ""),
            frame=frame,
        )

    def _ack(self, head: dict[str, str], at_s: float, fault: Fault) -> bytes:
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
        answer = _wrapped(f'"{"*" if secret else ""}ACK"{number}R{receiver}L{line}#{account}[{tail}')
        if fault is Fault.BAD_CRC:
            return b"\n%04X" % (int(answer[1:5], 16) ^ 1) + answer[5:]
        if fault is Fault.BAD_LENGTH:
            return answer[:5] + b"%04X" % (int(answer[5:9], 16) + 1) + answer[9:]
        return answer

    def _nak(self, at_s: float) -> bytes:
        return _wrapped(f'"NAK"0000R0L0A0[]{self._time(at_s)}')

    def _duh(self) -> bytes:
        return _wrapped('"DUH"0000R0L0A0[]')

    def _time(self, at_s: float) -> str:
        at = datetime(1970, 1, 1) + timedelta(seconds=at_s + self.clock_error_s)  # noqa: DTZ001 - UTC by construction
        return at.strftime("_%H:%M:%S,%m-%d-%Y")


_INSTEAD = {
    Fault.RESET: (b"", False),
    Fault.CLOSE: (b"", False),
    Fault.GARBAGE: (b"HTTP/1.1 400 Bad Request\r\n", True),
    Fault.ENDLESS: (b"\n" + b"A" * 20_000, True),
}


def _crc(body: bytes) -> int:
    """CRC-16/ARC, bit by bit."""
    crc = 0
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def _wrapped(body: str) -> bytes:
    return f"\n{_crc(body.encode()):04X}{len(body):04X}{body}\r".encode()

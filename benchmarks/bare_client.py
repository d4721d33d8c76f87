"""A bare MQTT 3.1.1 client over mutual TLS: one blocking socket, packets by hand, so that thousands cost little."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Self

from benchmarks.load import MID_LIMIT, length

TIMEOUT_S = 60.0
CONNACK, PUBLISH, PUBACK, SUBACK = 2, 3, 4, 9  # MQTT 3.1.1, 2.2.1
CLEAN, WILL, WILL_QOS_1, WILL_RETAINED = 0x02, 0x04, 0x08, 0x20  # 3.1.2.3


class BareClient:
    """Connected and known to the broker once it is made.

    Raises:
        OSError: the broker does not answer, or refuses.
    """

    def __init__(self, port: int, name: str, tls: ssl.SSLContext, will: tuple[str, bytes] | None = None) -> None:
        self._mid = 0
        self._owed = 0  # messages that the broker has not acknowledged
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = tls.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise
        self._rest = b""
        flags = CLEAN | (WILL | WILL_QOS_1 | WILL_RETAINED if will else 0)
        said = b"".join(_text(part) for part in ((name, *will) if will else (name,)))
        self._send(0x10, b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x00" + said)  # no keep-alive: it may be silent
        kind, answer = self._packet()
        if kind != CONNACK or answer[1] != 0:
            self.drop()
            raise ConnectionError(f"{name} is refused: {answer!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """As when the power fails: no goodbye, so the broker says the will."""
        self._socket.close()

    def subscribe(self, topic_filter: str) -> None:
        """Hear a filter at QoS 1 from now on."""
        self._mid += 1
        self._send(0x82, struct.pack("!H", self._mid) + _text(topic_filter) + b"\x01")
        kind, answer = self._packet()
        if kind != SUBACK or answer[-1] > 1:
            raise ConnectionError(f"{topic_filter} is refused: {answer!r}")

    def publish(self, messages: Sequence[tuple[str, bytes]], *, retain: bool = False) -> None:
        """Send at QoS 1 in one write; `settle` waits for the acknowledgements."""
        frames = []
        for topic, payload in messages:
            self._mid = self._mid % MID_LIMIT + 1
            body = _text(topic) + struct.pack("!H", self._mid) + payload
            frames.append((b"\x33" if retain else b"\x32") + length(len(body)) + body)
        self._socket.sendall(b"".join(frames))
        self._owed += len(messages)

    def settle(self) -> None:
        """Wait until the broker has acknowledged everything; what it publishes meanwhile is acknowledged and forgotten."""
        while self._owed:
            kind, body = self._packet()
            if kind == PUBACK:
                self._owed -= 1
            elif kind == PUBLISH:
                self._acknowledge(body)

    def receive(self) -> bytes:
        """Wait for the next publication (QoS 1), acknowledge it: its payload."""
        while True:
            kind, body = self._packet()
            if kind == PUBLISH:
                return self._acknowledge(body)

    def _acknowledge(self, body: bytes) -> bytes:
        at = 2 + int.from_bytes(body[:2], "big")
        self._send(0x40, body[at : at + 2])
        return body[at + 2 :]

    def _send(self, head: int, body: bytes) -> None:
        self._socket.sendall(bytes([head]) + length(len(body)) + body)

    def _packet(self) -> tuple[int, bytes]:
        """The next packet: its kind and what follows its length (MQTT 3.1.1, 2.2)."""
        head, size, shift = self._take(1)[0], 0, 0
        while True:
            one = self._take(1)[0]
            size |= (one & 0x7F) << shift
            shift += 7
            if not one & 0x80:
                return head >> 4, self._take(size)

    def _take(self, count: int) -> bytes:
        while len(self._rest) < count:
            more = self._socket.recv(65_536)
            if not more:
                raise ConnectionError("the broker closed the connection")
            self._rest += more
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


def _text(value: str | bytes) -> bytes:
    """MQTT 3.1.1, 1.5.3."""
    encoded = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(encoded)) + encoded

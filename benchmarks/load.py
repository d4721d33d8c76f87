"""A bare QoS 1 publisher: one blocking socket, MQTT 3.1.1 by hand, so that the load costs little beside what is measured.

`python -m benchmarks.load PORT TOPIC COUNT RATE FIRST` publishes COUNT messages (RATE a second, 0 = as fast as the broker
takes them) numbered from FIRST, whose payload is `payload_of(seq)`; it prints the seconds it took.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

MID_LIMIT = 65_535  # MQTT 3.1.1, 2.3.1: packet identifiers are 1..65535
PUBACK_BYTES = 4  # MQTT 3.1.1, 3.4
CONNACK_BYTES = 4  # MQTT 3.1.1, 3.2
TIMEOUT_S = 30.0


class BarePublisher:
    """Publishes with at most `window` messages that the broker has not acknowledged."""

    def __init__(self, port: int, client_id: str, window: int = 500, tls: ssl.SSLContext | None = None) -> None:
        self.window = window
        self._mid = 0
        self._open = 0
        self._torn = 0
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        name = client_id.encode()
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(name)) + name
        self._socket.sendall(b"\x10" + length(len(body)) + body)
        answer = self._socket.recv(CONNACK_BYTES)
        if len(answer) != CONNACK_BYTES or answer[3] != 0:
            raise ConnectionError(f"the broker refused the publisher: {answer!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def send(self, messages: list[tuple[bytes, bytes]], *, retain: bool = False) -> None:
        """Publish (topic, payload) pairs in one write; waits while the window is full."""
        frames, head = [], b"\x33" if retain else b"\x32"  # MQTT 3.1.1, 3.3.1: PUBLISH, QoS 1
        for topic, payload in messages:
            self._mid = self._mid % MID_LIMIT + 1
            body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", self._mid) + payload
            frames.append(head + length(len(body)) + body)
        self._socket.sendall(b"".join(frames))
        self._open += len(messages)
        while self._open > self.window:
            self._receive()

    def drain(self) -> None:
        """Wait until the broker has acknowledged everything."""
        while self._open:
            self._receive()

    def _receive(self) -> None:
        answer = self._socket.recv(65_536)
        if not answer:
            raise ConnectionError("the broker closed the publisher's connection")
        acknowledged, self._torn = divmod(self._torn + len(answer), PUBACK_BYTES)
        self._open -= acknowledged


def payload_of(seq: int) -> bytes:
    """A reading of four values as a device sends it, about 190 bytes; `ts` carries the monotonic clock in ns for latencies."""
    values = {"temperature": 24.1 + seq % 7, "humidity": 71.5, "pm2_5": 18.25, "pm10": 31.0}
    message = {"v": 1, "boot": "9f3c12ab", "seq": seq, "ts": time.monotonic_ns(), "fw": "2.4.1", "values": values}
    return json.dumps(message, separators=(",", ":")).encode()


def publish(
    port: int, topic: str, count: int, *, rate: float = 0.0, first: int = 1, payload: Callable[[int], bytes] = payload_of
) -> float:
    """Publish `count` messages numbered from `first`, `rate` a second (0: as fast as it goes); returns the seconds it took."""
    name, chunk = topic.encode(), 50 if rate == 0 else max(1, int(rate / 500))
    start = time.perf_counter()
    with BarePublisher(port, f"load-{first}-{time.monotonic_ns()}") as publisher:
        for low in range(first, first + count, chunk):
            if rate:
                time.sleep(max(0.0, start + (low - first) / rate - time.perf_counter()))
            publisher.send([(name, payload(seq)) for seq in range(low, min(low + chunk, first + count))])
        publisher.drain()
    return time.perf_counter() - start


def length(size: int) -> bytes:
    """MQTT 3.1.1, 2.2.3: remaining length, seven bits a byte."""
    out = bytearray()
    while True:
        size, low = divmod(size, 128)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


if __name__ == "__main__":
    port, topic, count, rate, first = sys.argv[1:6]
    print(publish(int(port), topic, int(count), rate=float(rate), first=int(first)))

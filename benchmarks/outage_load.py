"""A gateway's load whose rate changes while it goes on: `python -m benchmarks.outage_load PORT GATEWAY DEVICES CA CERT KEY`.

Each line on standard input is a rate, readings a second; it answers with how many readings the broker has acknowledged so far.
DEVICES children speak in turn, each with its own numbers; the value `number` counts all of them. It ends with its input.
"""

from __future__ import annotations

import json
import secrets
import select
import sys
import time
from pathlib import Path

from benchmarks.load import BarePublisher
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint

TICK_S = 0.02  # one write carries what is due since the last
MOST = 200  # messages in one write


class Load:
    """What has been published, and what is due next."""

    def __init__(self, gateway: str, devices: int) -> None:
        self._topics = [topics.up("air", gateway, "reading", child(n)).encode() for n in range(devices)]
        self._boot = secrets.token_hex(4)
        self.count = 0

    def next(self, many: int) -> list[tuple[bytes, bytes]]:
        """So many messages, numbered on."""
        now_ms, devices = time.time_ns() // 1_000_000, len(self._topics)
        numbers = range(self.count, self.count + many)
        self.count += many
        return [(self._topics[n % devices], self._payload(n, n // devices + 1, now_ms)) for n in numbers]

    def _payload(self, number: int, seq: int, now_ms: int) -> bytes:
        values = {"number": number, "temperature": 24.5, "humidity": 71.5, "pressure": 1013.25}
        return json.dumps({"boot": self._boot, "seq": seq, "ts": now_ms, "values": values}, separators=(",", ":")).encode()


def child(number: int) -> str:
    """The name of a device behind the gateway."""
    return f"meter-{number}"


def publish(endpoint: Endpoint, gateway: str, devices: int) -> None:
    """Publish until standard input ends."""
    load, rate, due = Load(gateway, devices), 0.0, 0.0
    with BarePublisher(endpoint.port, gateway, tls=endpoint.tls()) as publisher:
        last_s = time.perf_counter()
        while True:
            if select.select([sys.stdin], [], [], TICK_S)[0]:
                line = sys.stdin.readline()
                if not line:
                    break
                publisher.drain()
                print(load.count, flush=True)
                rate, due = float(line), 0.0
            now_s = time.perf_counter()
            due, last_s = due + (now_s - last_s) * rate, now_s
            while due >= 1.0:
                many = min(int(due), MOST)
                publisher.send(load.next(many))
                due -= many
        publisher.drain()


if __name__ == "__main__":
    port, gateway, devices, *files = sys.argv[1:]
    publish(Endpoint("127.0.0.1", int(port), *(Path(file) for file in files)), gateway, int(devices))

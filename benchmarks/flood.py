"""A flood of readings into the field broker: one device with its certificate that never pauses.

`python -m benchmarks.flood PORT DEVICE DOMAIN CA CERT KEY RATE` publishes QoS 1 over mutual TLS, RATE messages a second or (0) as
fast as the broker takes it, until its standard input closes; then it prints how many messages went out each second.
"""

from __future__ import annotations

import secrets
import select
import sys
import time
from pathlib import Path

from benchmarks.load import BarePublisher
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint

CHUNK = 50  # messages in one write

READING = '{"v":1,"boot":"%s","seq":%d,"ts":%d,"fw":"flood","values":{"plan":3,"cycle_s":90,"offset_s":%d,"lamp_fault":false}}'


def flood(endpoint: Endpoint, domain: str, device: str, rate: float) -> float:
    """Publish until standard input closes; messages per second."""
    topic, boot, seq = topics.up(domain, device, "reading", device).encode(), secrets.token_hex(4), 0
    began_s = time.perf_counter()
    with BarePublisher(endpoint.port, device, tls=endpoint.tls()) as publisher:
        while not select.select([sys.stdin], [], [], max(0.0, began_s + seq / rate - time.perf_counter()) if rate else 0.0)[0]:
            now_ms = time.time_ns() // 1_000_000
            messages = [(topic, (READING % (boot, n, now_ms, n % 90)).encode()) for n in range(seq + 1, seq + 1 + CHUNK)]
            publisher.send(messages)
            seq += CHUNK
        publisher.drain()
    return seq / (time.perf_counter() - began_s)


if __name__ == "__main__":
    port, device, domain, *files, rate = sys.argv[1:]
    print(flood(Endpoint("127.0.0.1", int(port), *(Path(file) for file in files)), domain, device, float(rate)), flush=True)

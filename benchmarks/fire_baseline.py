"""The least that a fire could cost on this machine: broker, subscriber, one durable row, one TCP echo; no rule, no incident.

    publisher ─► Mosquitto (mutual TLS, QoS 1) ─► subscriber ─► one row in SQLite (WAL, synchronous FULL) ─► TCP ─► echo

Blocking sockets in one process, no event loop. `python -m benchmarks.fire_baseline COUNT PER_S` prints one JSON object, ms.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sqlite3
import ssl
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

from benchmarks.bare_client import BareClient
from benchmarks.fire_phase import quantiles
from iotcore.provision.acl import BrokerName
from iotcore.wire import topics
from tests.support.brokers import site

PAYLOAD = '{"v":1,"boot":"9f3c12ab","seq":%d,"ts":%d,"values":{"smoke":0.02,"temperature":31.5,"alarm":true,"battery":97}}'
BYTES = 220  # of a DC-09 frame, encrypted
WARM = 20


def echoing(listener: socket.socket) -> None:
    """Answer each frame as a receiver does, until the other side closes."""
    peer, _ = listener.accept()
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while peer.recv(BYTES, socket.MSG_WAITALL):
            peer.sendall(b"ACK")


def carry(subscriber: BareClient, journal: sqlite3.Connection, receiver: socket.socket, ends_ms: list[float], count: int) -> None:
    """From the broker to the echo's answer."""
    for n in range(count):
        payload = subscriber.receive()
        with journal:
            journal.execute("INSERT INTO reading VALUES (?, ?)", (n, payload))
        receiver.sendall(b"x" * BYTES)
        receiver.recv(16)
        ends_ms.append(time.perf_counter() * 1e3)


async def measure(folder: Path, count: int, per_s: float) -> dict[str, float]:
    """Quantiles of publish → echo, ms."""
    async with site(folder, "mosquitto", [BrokerName.FIRE]) as running:
        port = running.homes[BrokerName.FIRE].port
        tls = running.device("sd-1"), running.service("svc.fire.1.in")
        return await asyncio.to_thread(_measured, folder, port, tls, count, per_s)


def _measured(folder: Path, port: int, tls: tuple[ssl.SSLContext, ssl.SSLContext], count: int, per_s: float) -> dict[str, float]:
    (device, service), topic = tls, topics.up("fire", "sd-1", "event", "sd-1")
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echoing, args=(listener,), daemon=True).start()
    ends_ms: list[float] = []
    begins_ms: list[float] = []
    with (
        closing(listener),
        BareClient(port, "sd-1", device) as publisher,
        BareClient(port, "svc.fire.1.in", service) as subscriber,
        closing(sqlite3.connect(folder / "bare.db", check_same_thread=False)) as journal,
        socket.create_connection(listener.getsockname()) as receiver,
    ):
        receiver.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        journal.execute("PRAGMA journal_mode = WAL")
        journal.execute("PRAGMA synchronous = FULL")
        journal.execute("CREATE TABLE reading (seq INTEGER PRIMARY KEY, body BLOB)")
        subscriber.subscribe("iot/v1/fire/+/up/#")
        carrying = threading.Thread(target=carry, args=(subscriber, journal, receiver, ends_ms, WARM + count))
        carrying.start()
        for n in range(WARM + count):
            time.sleep(random.uniform(0.5, 1.5) / per_s)
            begins_ms.append(time.perf_counter() * 1e3)
            publisher.publish([(topic, (PAYLOAD % (n + 1, time.time_ns() // 10**6)).encode())])
            publisher.settle()
        carrying.join()
    return quantiles([end - begin for begin, end in zip(begins_ms[WARM:], ends_ms[WARM:], strict=True)])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="baseline-") as place:
        print(json.dumps(asyncio.run(measure(Path(place), int(sys.argv[1]), float(sys.argv[2])))))

"""EST enrolments a second, sustained: TLS, request, right, signature, inventory and audit on disk, with the real web process.

`iotcore run web` on a registry in SQLite (synchronous=FULL), as in an installation; a second process plays the devices, each with
a key of its own and a one-time token. Requests are made beforehand: a device's own work is not the platform's.

    new connections  a TLS handshake for each device, as in the field
    keep-alive       a gateway or a factory's bench that enrols many over few connections

At the end the registry must hold exactly the certificates that were answered, and its audit chain must be whole.

`python -m benchmarks.enrol [DEVICES]` takes about a minute; its last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from iotcore.clock import SystemClock
from iotcore.process import home
from iotcore.registry.store import open_registry
from iotcore.registry.tables import TokenRow
from iotcore.registry.tokens import hash_of
from iotcore.settings import check
from iotcore.specs.load import load_folder, shipped_folder
from tests.support.ports import free_port

DEVICES = 4_000  # for each way
AT_ONCE = 48  # devices that ask at the same time
MODEL = "iotcore-mqtt-signal"
TTL_MS = 3_600_000
START_LIMIT_S = 30.0
AIM_PER_S = 200.0
WAYS = ("new connections", "keep-alive")


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one way."""

    seconds: float
    issued: int
    others: int
    latencies_ms: list[float]


def request_of(device: str, token: str) -> bytes:
    """A whole HTTP request, ready to be sent."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device)])
    csr = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    body = base64.b64encode(csr)
    basic = base64.b64encode(f"{device}:{token}".encode()).decode()
    head = (
        "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n"
        f"Authorization: Basic {basic}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Devices:
    """Devices that ask, so many at a time."""

    def __init__(self, port: int, trust: str, way: str) -> None:
        self._port, self._keep = port, way == "keep-alive"
        self._tls = ssl.create_default_context(cafile=trust)
        self.issued = self.others = 0
        self.latencies_ms: list[float] = []

    async def run(self, requests: list[bytes]) -> Figures:
        """Send all of them."""
        waiting = iter(requests)
        started_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._one_after_another(waiting))
        return Figures(time.monotonic() - started_s, self.issued, self.others, self.latencies_ms)

    async def _one_after_another(self, waiting: Iterator[bytes]) -> None:
        streams = None
        for content in waiting:
            began_s = time.monotonic()
            reader, writer = streams or await asyncio.open_connection("localhost", self._port, ssl=self._tls)
            streams = (reader, writer) if self._keep else None
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            if head.startswith(b"HTTP/1.1 200 "):
                self.issued += 1
            else:
                self.others += 1
            self.latencies_ms.append((time.monotonic() - began_s) * 1000.0)
            if not self._keep:
                writer.close()
        if streams:
            streams[1].close()


def play(port: int, trust: str, way: str, requests: list[bytes], answer: Any) -> None:
    """In a process of its own."""
    answer.send(uvloop.run(Devices(port, trust, way).run(requests)))


async def prepare(url: str, names: list[str]) -> dict[str, str]:
    """Register devices, each with a token."""
    tokens = {name: f"token-of-{name}-{os.urandom(8).hex()}" for name in names}
    devices = [{"id": name, "title": name, "model": MODEL} for name in names]
    async with await open_registry(url, SystemClock()) as registry:
        await registry.import_city({"devices": devices}, load_folder(shipped_folder()), "benchmark")
        async with registry.database.writing() as work:
            until = work.now_ms + TTL_MS
            rows = [TokenRow(hash=hash_of(token), device_id=name, expires_ms=until) for name, token in tokens.items()]
            await TokenRow.bulk_create(rows, batch_size=100, using_db=work.db)
            work.note("benchmark", "token.create", "all of them", tokens=len(rows))
    return tokens


async def examined(url: str) -> tuple[int, int, bool]:
    """Certificates of devices, entries of the audit, and whether it is whole."""
    async with await open_registry(url, SystemClock()) as registry:
        certificates = [one for one in await registry.certificates() if not one.cn.startswith("svc.")]
        return len(certificates), (await registry.audit_head()).seq, not await registry.verify_audit()


@contextmanager
def web(folder: Path, port: int) -> Iterator[psutil.Process]:
    """The web process, listening."""
    config = folder / "iotcore.toml"
    config.write_text(
        f'data = "{folder / "data"}"\n[web]\nport = {free_port()}\nest_port = {port}\n[metrics]\nport = 0\n', encoding="utf-8"
    )
    command = [sys.executable, "-m", "iotcore", "run", "web", "--config", str(config)]
    with (folder / "web.log").open("wb") as log:
        process = psutil.Popen(command, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not any(one.laddr.port == port and one.status == "LISTEN" for one in process.net_connections()):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit((folder / "web.log").read_text())
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def measured(way: str, process: psutil.Process, port: int, trust: str, requests: list[bytes]) -> dict[str, float]:
    """One way, with what it cost the web process."""
    ours, theirs = multiprocessing.Pipe()
    before = process.cpu_times()
    player = multiprocessing.Process(target=play, args=(port, trust, way, requests, theirs))
    player.start()
    figures: Figures = ours.recv()
    after = process.cpu_times()
    player.join()
    if figures.others:
        raise SystemExit(f"{figures.others} of {len(requests)} got no certificate")
    ordered = sorted(figures.latencies_ms)
    return {
        "per_s": round(figures.issued / figures.seconds, 1),
        "p50_ms": round(ordered[len(ordered) // 2], 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
        "web_cpu_ms_each": round(1000.0 * (after.user + after.system - before.user - before.system) / figures.issued, 2),
    }


def main() -> None:
    """Measure both ways."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        settings = check({"data": str(folder / "data")}, "benchmark")
        home.prepare(settings, SystemClock())
        names = [f"d{number:06d}" for number in range(count * len(WAYS))]
        tokens = asyncio.run(prepare(settings.registry_url, names))
        requests = [request_of(device, tokens[device]) for device in names]
        trust = str(settings.folder / "certs" / "service-root.pem")
        result: dict[str, Any] = {}
        with web(folder, port) as process:
            for number, way in enumerate(WAYS):
                result[way] = measured(way, process, port, trust, requests[number * count : (number + 1) * count])
                print(f"{way:16} {result[way]}")
        certificates, entries, whole = asyncio.run(examined(settings.registry_url))
    if certificates != len(names) or not whole:
        raise SystemExit(f"{certificates} certificates of {len(names)}; audit whole: {whole}")
    print(
        json.dumps(
            {"aim_per_s": AIM_PER_S, "certificates": certificates, "audit_entries": entries, "audit_whole": whole, **result}
        )
    )


if __name__ == "__main__":
    main()

"""One cell: its own two brokers and telemetry workers, real processes in a folder of its own; and a gateway that speaks to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiomqtt

from iotcore.clock import SystemClock
from iotcore.journal.database import connect_readonly
from iotcore.process import home
from iotcore.process.serve import beats
from iotcore.process.workers import workers
from iotcore.provision.ca import Anchor
from iotcore.settings import Settings, check
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint
from tests.support import commands
from tests.support.pki import device_files
from tests.support.platform import _toml
from tests.support.ports import free_port
from tests.support.services import require

LIMIT_S = 40.0
STOP_LIMIT_S = 15.0
GATEWAY = "gw"
CITY = {
    "devices": [
        {"id": GATEWAY, "title": "Cổng", "model": "iotcore-modbus-gateway"},
        {"id": "a-1", "title": "Trạm khí", "model": "vaisala-aqt530", "parent": GATEWAY,
         "connection": "tcp://127.0.0.1:5020?device_id=1"},
        {"id": "w-1", "title": "Trạm nước", "model": "endress-liquiline-cm44x", "parent": GATEWAY,
         "connection": "tcp://127.0.0.1:5020?device_id=2"},
    ]
}  # fmt: skip
DOMAIN = {GATEWAY: "gateway", "a-1": "air", "w-1": "water"}


class Cell:
    """`with Cell(folder, workers) as cell`; `start` and `stop` name processes as `iotcore up` does."""

    def __init__(
        self, folder: Path, split: Sequence[Sequence[str]], *, store: dict[str, Any] | None = None, registry: str = ""
    ) -> None:
        require("mosquitto")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data, self.config = folder, folder / "data", folder / "iotcore.toml"
        self._document: dict[str, Any] = {
            "data": str(self.data),
            "cell": folder.name,
            "brokers": {name: {"port": free_port(), "run": "mosquitto"} for name in ("fire", "field")},
            "store": store or {"kind": "embedded"},
            "metrics": {"port": 0},
            "registry": {"url": registry},
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.share(split)

    def share(self, split: Sequence[Sequence[str]]) -> None:
        """Share the domains among the workers; the next start follows it."""
        self._document["telemetry"] = [{"domains": list(domains)} for domains in split]
        self.config.write_text(_toml(self._document), encoding="utf-8")

    @property
    def settings(self) -> Settings:
        return check(json.loads(json.dumps(self._document)), "a test")

    def __enter__(self) -> Self:
        self.start("broker-fire", "broker-field", *self.workers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(*self.workers)
        self.stop(*self._running)

    @property
    def workers(self) -> list[str]:
        return [worker.name for worker in workers(self.settings)]

    def iotcore(self, *words: str) -> None:
        done = commands.run(*words, "--config", self.config)
        assert done.returncode == 0, done.stderr

    def start(self, *names: str) -> None:
        """Start processes, and wait until the workers among them are connected."""
        home.prepare(self.settings, SystemClock())
        of_name = {worker.name: ["telemetry", "--worker", str(worker.number)] for worker in workers(self.settings)}
        started_ms = SystemClock().wall_ms()
        for name in names:
            words = of_name.get(name, [name])
            with (self.folder / f"{name}.log").open("ab") as log:
                command = [sys.executable, "-m", "iotcore", "run", *words, "--config", str(self.config)]
                self._running[name] = subprocess.Popen(command, stdout=log, stderr=log)
        for name in names:
            if name in of_name:
                self.until(lambda name=name: self._connected(name, started_ms), f"{name} is connected")  # type: ignore[misc]

    def _connected(self, name: str, since_ms: float) -> bool:
        said = beats(self.data, SystemClock()).get(name, {"at_ms": 0.0})
        return said["at_ms"] > since_ms and bool(said["connected"])

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self, *names: str) -> None:
        processes = [self._running.pop(name) for name in names if name in self._running]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(STOP_LIMIT_S)

    def alive(self, name: str) -> bool:
        return self._running[name].poll() is None

    def rows(self, file: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a file of the data folder holds."""
        with contextlib.closing(connect_readonly(self.data / file)) as connection:
            return [tuple(row) for row in connection.execute(query, values)]

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition, polled."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.logs()[-6000:]}"
            time.sleep(0.05)

    @asynccontextmanager
    async def gateway(self, *, boot: str = "b1") -> AsyncIterator[Gateway]:
        """The gateway, connected with a certificate of this cell's own authority."""
        authority = home.authority(self.settings, SystemClock())
        certificate, key, _ = device_files(authority, self.folder / "devices", Anchor.FIELD, GATEWAY)
        trust = self.data / "certs" / "service-root.pem"
        tls = Endpoint("127.0.0.1", self.settings.brokers.field.port, trust, certificate, key).tls()
        async with aiomqtt.Client(
            "127.0.0.1", self.settings.brokers.field.port, identifier=GATEWAY, tls_context=tls,
            protocol=aiomqtt.ProtocolVersion.V5,
        ) as client:  # fmt: skip
            made = Gateway(client, boot)
            await client.subscribe(f"iot/v1/+/{GATEWAY}/down/receipt/+", qos=1)
            listening = asyncio.create_task(made.listen())
            try:
                yield made
            finally:
                listening.cancel()
                await asyncio.wait({listening})


@dataclass(slots=True)
class Gateway:
    """Says what a test wants, and remembers the receipts."""

    client: aiomqtt.Client
    boot: str
    receipts: dict[str, list[int]] = field(default_factory=dict)

    async def listen(self) -> None:
        async for message in self.client.messages:
            body = json.loads(bytes(message.payload))
            if body["boot"] == self.boot:
                self.receipts.setdefault(str(message.topic).rpartition("/")[2], []).append(body["up_to"])

    async def say(self, device: str, numbers: Sequence[int], value: float = 1.0, *, at_ms: int | None = None) -> None:
        """A reading for each number. A repeat with the same `at_ms` is the same reading."""
        point = {"a-1": "pm10", "w-1": "ph", GATEWAY: "uptime_s"}[device]
        start_ms = at_ms or int(SystemClock().wall_ms())
        for seq in numbers:
            body = {"boot": self.boot, "seq": seq, "ts": start_ms + seq, "values": {point: value}}
            await self.send(topics.up(DOMAIN[device], GATEWAY, "reading", device), json.dumps(body).encode())

    async def send(self, topic: str, payload: bytes) -> None:
        await self.client.publish(topic, payload, qos=1)

    def receipted(self, device: str) -> int:
        return max(self.receipts.get(device, []), default=0)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.02)

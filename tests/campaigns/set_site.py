"""What the set test stands on, all of it real: Mosquitto with our configuration, `iotcore run telemetry`, influxd, a small disk.

    devices ──► link ──► Mosquitto (field, mTLS) ──► link ──► iotcore run telemetry ──► influxd, or telemetry.db
                                                               └ data folder on a tmpfs of its own

`begin` and `end` do to it what the nemesis says. Ports and data stay the same over restarts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from iotcore.clock import SystemClock
from iotcore.process import home
from iotcore.process.serve import beats
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, write_home
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Anchor
from iotcore.registry.store import open_registry
from iotcore.settings import load
from iotcore.specs.load import load_folder
from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from tests.campaigns.nemesis import Fault
from tests.support.influx import Influxd
from tests.support.pki import device_files
from tests.support.ports import free_port
from tests.support.stalling_proxy import StallingProxy

SPECS_FOLDER = Path(__file__).parent / "specs"
MODEL = "set-counter"
WORKER = ("-m", "iotcore", "run", "telemetry")
START_LIMIT_S = 60.0
POLL_S = 0.02
FILL_BYTES = 256 * 1024
StoreKind = Literal["influx1", "embedded"]

SETTINGS = """
data = "{data}"
specs = "{specs}"
[brokers.fire]
run = "external"
port = {fire}
[brokers.field]
run = "external"
port = {field}
[store]
kind = "{store}"
url = "{url}"
"""


class Site:
    """Async context manager; `data` lies on the small disk, everything else beside it."""

    def __init__(self, folder: Path, store: StoreKind, devices: int, worker: Sequence[str] = WORKER) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "iotcore.toml"
        self.store = store
        self.names = [f"set-{number}" for number in range(devices)]
        self.ended_by_itself: list[int] = []  # exit codes of telemetry processes that nobody had killed
        self.influx = Influxd(folder)
        self._worker = worker
        self._stack = AsyncExitStack()
        self._brokers: dict[BrokerName, BrokerProcess] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = True  # whether the telemetry process is to run
        self._filler = self.data / "filler"

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    def endpoint(self, device: str) -> Endpoint:
        """How a device meets the broker: by its own certificate, over the link."""
        files = device_files(self._authority, self.folder / "devices", Anchor.FIELD, device)
        return Endpoint("127.0.0.1", self._links[0].port, self.data / "certs" / "service-root.pem", files[0], files[1])

    async def begin(self, fault: Fault) -> None:
        """Do it."""
        match fault:
            case Fault.KILL_TELEMETRY:
                self._wanted = False
                self._signal("telemetry", signal.SIGKILL)
            case Fault.KILL_BROKER:
                self._brokers[BrokerName.FIELD].kill()
            case Fault.KILL_STORE:
                self.influx.kill()
            case Fault.FILL_DISK:
                self._signal(
                    "store", signal.SIGSTOP
                )  # what the store takes is free again: a disk fills up while it takes nothing
                await asyncio.to_thread(self._fill)
            case Fault.CUT_LINK | Fault.HALT_LINK:
                for link in self._links:
                    (link.cut if fault is Fault.CUT_LINK else link.stall)()
            case _:
                self._signal(fault.victim, signal.SIGSTOP)

    async def end(self, fault: Fault) -> None:
        """Undo it: as a supervisor starts a process again, a person frees a disk, a radio link returns."""
        match fault:
            case Fault.KILL_TELEMETRY:
                self._wanted = True
            case Fault.KILL_BROKER:
                self._brokers[BrokerName.FIELD].start()
            case Fault.KILL_STORE:
                await asyncio.to_thread(self.influx.start)
            case Fault.FILL_DISK:
                self._filler.unlink(missing_ok=True)
                self._signal("store", signal.SIGCONT)
            case Fault.CUT_LINK | Fault.HALT_LINK:
                for link in self._links:
                    (link.mend if fault is Fault.CUT_LINK else link.resume)()
            case _:
                self._signal(fault.victim, signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether there is a telemetry process."""
        return self._process is not None and self._process.poll() is None

    def give_reserve_away(self) -> None:
        """What a spool has put aside is gone, to somebody else."""
        for reserve in self.data.glob("spool-*.reserve"):
            reserve.unlink()

    @property
    def log(self) -> str:
        """What the telemetry processes said."""
        return (self.folder / "telemetry.log").read_text(encoding="utf-8", errors="replace")

    async def _enter(self) -> None:
        ports = {name: free_port() for name in BrokerName}
        self._links = [await self._stack.enter_async_context(StallingProxy(ports[BrokerName.FIELD])) for _ in range(2)]
        store, url = self.store, self.influx.url if self.store == "influx1" else ""
        text = SETTINGS.format(
            data=self.data, specs=SPECS_FOLDER, fire=ports[BrokerName.FIRE], field=self._links[1].port, store=store, url=url
        )
        self.config.write_text(text, encoding="utf-8")
        settings, clock = load(self.config, {}), SystemClock()
        self._authority = home.prepare(settings, clock)
        specs = load_folder(SPECS_FOLDER)
        self.spec: DeviceSpec = specs[MODEL]
        document = {"devices": [{"id": name, "title": name, "model": MODEL} for name in self.names]}
        async with await open_registry(settings.registry_url, clock) as registry:
            await registry.import_city(document, specs, "set test")
        for name, port in ports.items():
            where = BrokerHome(name, self.folder / "broker" / name.value, port)
            write_home(self._authority, where)
            self._brokers[name] = self._stack.enter_context(BrokerProcess(where))
        if self.store == "influx1":
            self._stack.enter_context(self.influx)
        supervisor = asyncio.create_task(self._supervise())
        self._stack.push_async_callback(self._stop, supervisor)
        async with asyncio.timeout(START_LIMIT_S):
            while not beats(self.data, clock).get("telemetry", {}).get("connected"):  # noqa: ASYNC110 - another program's file
                await asyncio.sleep(POLL_S)

    async def _supervise(self) -> None:
        """Start the telemetry process whenever it is wanted and not there; note each end that was its own."""
        while True:
            if self._process is not None and (code := self._process.poll()) is not None:
                if code != -signal.SIGKILL:
                    self.ended_by_itself.append(code)
                self._process = None
            if self._process is None and self._wanted:
                self._process = self._start_telemetry()
            await asyncio.sleep(POLL_S)

    async def _stop(self, supervisor: asyncio.Task[None]) -> None:
        supervisor.cancel()
        with suppress(asyncio.CancelledError):
            await supervisor
        self._signal("telemetry", signal.SIGKILL)
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def _start_telemetry(self) -> subprocess.Popen[bytes]:
        with (self.folder / "telemetry.log").open("ab") as log:
            command = [sys.executable, *self._worker, "--config", str(self.config)]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _signal(self, victim: str, number: signal.Signals) -> None:
        """To the process of a victim; one that is not there gets none."""
        if victim == "telemetry" and self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
        elif victim == "store":
            self.influx.send(number)
        elif victim == "broker" and (pid := self._brokers[BrokerName.FIELD].pid) is not None:
            os.kill(pid, number)

    def _fill(self) -> None:
        """Take every byte that is left, down to the last page, and what the spool's log had put aside before."""
        for spool in self.data.glob("spool-*.db"):
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(spool, timeout=1.0)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:
            for size in (FILL_BYTES, 4096):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

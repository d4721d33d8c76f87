"""The Modbus driver beside bare pymodbus, and a fire among a thousand dead units; on uvloop, the units in other processes.

    bare    AsyncModbusTcpClient of pymodbus, a task for each connection, one read after the other
    link    our `Connection.ask`, in the same way: what its answers are checked for, and no scheduling
    same    the whole `Poller`: schedule, question, answer, decode of eleven points, what is to be told, put
    moving  the same, with other words in every answer

A read is the block of thirteen registers that an AQT530 is read with. Rates are of one client process on one core, CPU time is
that process's own. Rounds of bare and ours take turns and the better of each counts, because other work on the machine only ever
makes them worse.

`fire`: a panel polled each second and 999 dead units: nine behind its own gateway, a third of the others refuse connections, two
thirds accept them and never answer. Its alarm changes at random moments; from the change in the unit to the reading in `put`.

`python -m benchmarks.modbus [SECONDS [CONNECTIONS…]]` takes about two minutes; its last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvloop
from pymodbus.client import AsyncModbusTcpClient

from benchmarks.modbus_units import CHANGING, many_files
from drivers.modbus import questions
from drivers.modbus.connection import Connection
from drivers.modbus.poller import Poller
from iotcore.clock import SystemClock
from iotcore.reading import Scalar
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import load, plan
from iotcore.specs.model import DeviceSpec, ModbusLimits, ModbusWire, Point
from iotcore.wire.modbus_address import Line

SECONDS = 3.0
CONNECTIONS = (1, 100, 1000)
ROUNDS = 3
HOST = "127.0.0.1"
NOBODY = 2000  # from here on nobody listens on loopback
FIRE_POLL_S, FIRE_TIMEOUT_S = 1.0, 0.5
CHANGES = 60
DEAD_BEHIND_THE_GATEWAY = 9
SPEC = load.load_file(load.shipped_folder() / "vaisala-aqt530.yaml")
READ = plan.requests(SPEC)[0]
PANEL = DeviceSpec(
    model="panel", vendor="v", title="t", device_class="fire_panel", protocol="modbus", source="s", verified="v",
    interval_s=60.0, modbus=ModbusLimits(timeout_s=FIRE_TIMEOUT_S),
    points={"fire": Point(kind="bool", modbus=ModbusWire("holding", 0, "uint16", bit=0), poll_s=FIRE_POLL_S)},
)  # fmt: skip


@dataclass(slots=True)
class Units:
    """A process of units; each of its `ports` leads to all of them."""

    process: subprocess.Popen[str]
    ports: list[int]

    def set(self, word: int) -> float:
        """Write register 0; when it was written."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextlib.contextmanager
def units(kind: str, count: int) -> Iterator[Units]:
    """Start a process of units, and end it."""
    command = [sys.executable, "-m", "benchmarks.modbus_units", kind, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Units(process, json.loads(process.stdout.readline()))
        process.stdin.close()


@dataclass(slots=True)
class Rate:
    """Reads of one run."""

    per_s: float
    cpu_us: float


async def _rate(readers: list[Callable[[], Awaitable[None]]], seconds: float) -> Rate:
    """Each reader reads again and again, for so long."""
    reads, until_s = 0, 0.0

    async def repeat(read: Callable[[], Awaitable[None]]) -> None:
        nonlocal reads
        while time.perf_counter() < until_s:
            await read()
            reads += 1

    for read in readers:  # connected before it counts
        await read()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    until_s = began_s + seconds
    await asyncio.gather(*(repeat(read) for read in readers))
    cpu_s = time.process_time() - began_cpu_s
    return Rate(reads / (time.perf_counter() - began_s), cpu_s / reads * 1e6)


async def bare(ports: list[int], seconds: float) -> Rate:
    """Its client alone."""
    clients = [AsyncModbusTcpClient(HOST, port=port) for port in ports]
    for client in clients:
        await client.connect()

    def reader(client: AsyncModbusTcpClient) -> Callable[[], Awaitable[None]]:
        async def read() -> None:
            answer = await client.read_holding_registers(READ.address, count=READ.count, device_id=1)
            if len(answer.registers) != READ.count:
                raise RuntimeError("no answer")

        return read

    try:
        return await _rate([reader(client) for client in clients], seconds)
    finally:
        for client in clients:
            client.close()


async def link(ports: list[int], seconds: float) -> Rate:
    """Our connections alone."""
    question = questions.read_of(READ)
    connections = [Connection(Line("tcp", HOST, port)) for port in ports]

    def reader(connection: Connection) -> Callable[[], Awaitable[None]]:
        async def read() -> None:
            if len((await connection.ask(1, question, 3.0)).words) != READ.count:
                raise RuntimeError("no answer")

        return read

    try:
        return await _rate([reader(connection) for connection in connections], seconds)
    finally:
        for connection in connections:
            connection.close()


@dataclass(slots=True)
class Sink:
    """A `put` that counts, and remembers when a fire point came."""

    puts: int = 0
    fires: list[tuple[float, bool]] = field(default_factory=list)

    async def put(
        self,
        domain: str,
        device: str,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        ts: int | None = None,
        *,
        kind: str = "reading",
        fw: str = "",
        test: bool = False,
    ) -> None:
        del domain, q, ts, kind, fw, test
        self.puts += 1
        if device == "fire" and values.get("fire") is not None:
            self.fires.append((time.monotonic(), values["fire"] is True))


def _directory(addresses: Mapping[str, str], spec: DeviceSpec, domain: str) -> Directory:
    return Directory(
        {name: Binding(name, name, spec, domain, "gateway", "active", connection=address) for name, address in addresses.items()}
    )


@contextlib.asynccontextmanager
async def _polling(directory: Directory, sink: Sink, interval_s: float | None) -> Any:
    poller = Poller(lambda: directory, sink.put, SystemClock(), interval_s=interval_s)
    task = asyncio.create_task(poller.run())
    try:
        yield poller
    finally:
        task.cancel()
        await asyncio.wait([task])


async def polled(ports: list[int], seconds: float, device_id: int) -> Rate:
    """The whole poller, each unit on a connection of its own, as often as it can."""
    addresses = {f"u{port}": f"tcp://{HOST}:{port}?device_id={device_id}" for port in ports}
    sink = Sink()
    async with _polling(_directory(addresses, SPEC, "air"), sink, interval_s=len(ports) / 100_000.0) as running:
        await asyncio.sleep(1.0 + seconds / 3.0)
        polls, began_s, began_cpu_s = running.counters.polls, time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        polls = running.counters.polls - polls
        rate = Rate(polls / (time.perf_counter() - began_s), (time.process_time() - began_cpu_s) / polls * 1e6)
        if running.counters.failed or sink.puts < polls:
            raise RuntimeError(f"{running.counters.failed} polls failed, and {sink.puts} readings came of {polls} and more")
    return rate


async def same(ports: list[int], seconds: float) -> Rate:
    """Units whose words never change."""
    return await polled(ports, seconds, 1)


async def moving(ports: list[int], seconds: float) -> Rate:
    """Units whose words always do."""
    return await polled(ports, seconds, CHANGING)


def rates(ports: list[int], counts: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Bare and ours in turn at each number of connections; the better of the rounds."""
    result = {}
    for count in counts:
        best: dict[str, Rate] = {}
        for _ in range(ROUNDS):
            for name, measure in (("bare", bare), ("link", link), ("same", same), ("moving", moving)):
                rate = uvloop.run(measure(ports[:count], seconds))
                if name not in best or rate.per_s > best[name].per_s:
                    best[name] = rate
        figures: dict[str, float] = {f"{name}_per_s": round(rate.per_s) for name, rate in best.items()}
        figures |= {f"{name}_cpu_us": round(rate.cpu_us, 1) for name, rate in best.items()}
        figures |= {f"{name}_ratio": round(best[name].per_s / best["bare"].per_s, 2) for name in ("link", "same", "moving")}
        result[str(count)] = figures
        print(f"{count} connections: {result[str(count)]}", flush=True)
    return result


async def fire(good: Units, silent: Units, dead: int, changes: int) -> dict[str, float]:
    """Latencies of an alarm among so many dead units, in milliseconds."""
    behind = min(dead, DEAD_BEHIND_THE_GATEWAY)
    addresses = {"fire": f"tcp://{HOST}:{good.ports[0]}?device_id=1"}
    addresses |= {f"behind{n}": f"tcp://{HOST}:{good.ports[0]}?device_id={n + 3}" for n in range(behind)}
    for n in range(dead - behind):
        port = NOBODY + n // 3 if n % 3 == 0 else silent.ports[n]
        addresses[f"dead{n}"] = f"tcp://{HOST}:{port}?device_id=1"
    sink = Sink()
    good.set(0)
    async with _polling(_directory(addresses, PANEL, "fire"), sink, None) as running:
        await asyncio.sleep(10.0 if dead else 2.0)  # the dead have been found
        if len(running.failing) != dead:
            raise RuntimeError(f"{len(running.failing)} units of {dead} are found dead")
        began_cpu_s, began_s = time.process_time(), time.monotonic()
        latencies = [await _change(good, sink, is_on=n % 2 == 0) for n in range(changes)]
        load = (time.process_time() - began_cpu_s) / (time.monotonic() - began_s)
    latencies.sort()
    return {
        "p50_ms": round(latencies[len(latencies) // 2] * 1000.0, 1),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000.0, 1),
        "max_ms": round(latencies[-1] * 1000.0, 1),
        "cpu_cores": round(load, 2),
    }


async def _change(good: Units, sink: Sink, *, is_on: bool) -> float:
    await asyncio.sleep(random.uniform(0.0, FIRE_POLL_S))
    sink.fires.clear()
    set_s = await asyncio.to_thread(good.set, int(is_on))
    limit_s = time.monotonic() + 30.0
    while True:
        for at_s, told in sink.fires:
            if told is is_on:
                return at_s - set_s
        if time.monotonic() > limit_s:
            raise RuntimeError("the fire was never told")
        await asyncio.sleep(0.002)


def main(seconds: float, counts: tuple[int, ...], dead: int, changes: int) -> dict[str, Any]:
    """{"rates": {"1": …}, "fire": {"alone": …, "among_dead": …, "bound_ms": …}, …}."""
    many_files()
    figures: dict[str, Any] = {"cpus": os.cpu_count(), "registers": READ.count}
    with units("good", max(counts)) as good, units("silent", max(dead, 1)) as silent:
        figures["rates"] = rates(good.ports, counts, seconds)
        bound_s = FIRE_POLL_S + FIRE_TIMEOUT_S
        alone = uvloop.run(fire(good, silent, 0, changes))
        among = uvloop.run(fire(good, silent, dead, changes))
        figures["fire"] = {"alone": alone, "among_dead": among, "dead": dead, "bound_ms": bound_s * 1000.0}
        print(f"fire: {figures['fire']}", flush=True)
    return figures


if __name__ == "__main__":
    wanted = sys.argv[1:]
    run_s = float(wanted[0]) if wanted else SECONDS
    many = tuple(int(text) for text in wanted[1:]) or CONNECTIONS
    quick = run_s < 1.0
    print(json.dumps(main(run_s, many, 20 if quick else 999, 4 if quick else CHANGES)))

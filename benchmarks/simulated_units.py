"""1,000 simulated Modbus units in one process on one core, each read once a second: what share of the core they take.

`python -m benchmarks.simulated_units [--units 1000] [--ports 1000] [--seconds 10]` runs the units in a process of their own, made
from a shipped spec, on as many ports as asked for; another process reads all of a unit's requests once a second, by hand, and
checks every answer. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing as mp
import resource
import struct
import time
from multiprocessing.connection import Connection
from typing import Any

from iotcore.reading import Scalar
from iotcore.specs import plan
from iotcore.specs.load import load_folder, shipped_folder
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.modbus_pdu import TABLES

MODEL = "vaisala-aqt530"
FILES = 4096  # open ones: a port and a connection for each unit, on both sides
LAST_ID = 247
CHANGE_S = 2.0  # how often every point of every unit is set anew
CODES = {table: code for code, table in TABLES.items()}
HEAD = struct.Struct(">HHHB")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    if asked.units > asked.ports * LAST_ID:
        parser.error(f"a port has at most {LAST_ID} units")
    result = measure(asked.units, asked.ports, asked.seconds)
    print(
        f"{asked.units} units on {asked.ports} ports, {result['reads_a_s']:.0f} reads a second: "
        f"{result['core_share']:.1%} of a core"
    )
    print(json.dumps(result))


def measure(units: int, ports: int, seconds: float) -> dict[str, Any]:
    """The figures of one run."""
    ours, theirs = mp.get_context("spawn").Pipe()
    server = mp.get_context("spawn").Process(target=_serve, args=(theirs, units, ports), daemon=True)
    server.start()
    try:
        addresses = ours.recv()
        _allow_files()
        reads, wrong, latencies_ms = asyncio.run(_poll(addresses, seconds, ours))
        ours.send("stop")
        cpu_s, wall_s = ours.recv()
    finally:
        server.terminate()
        server.join()
    latencies_ms.sort()
    return {
        "units": units,
        "ports": ports,
        "seconds": round(wall_s, 2),
        "reads": reads,
        "wrong": wrong,
        "reads_a_s": round(reads / wall_s, 1),
        "expected_reads_a_s": units * len(plan.requests(load_folder(shipped_folder())[MODEL])),
        "core_share": round(cpu_s / wall_s, 4),
        "cpu_us_a_read": round(cpu_s / max(1, reads) * 1e6, 1),
        "p50_ms": round(latencies_ms[len(latencies_ms) // 2], 3),
        "p99_ms": round(latencies_ms[len(latencies_ms) * 99 // 100], 3),
    }


def _serve(pipe: Connection, units: int, ports: int) -> None:
    _allow_files()
    asyncio.run(_units(pipe, units, ports))


async def _units(pipe: Connection, units: int, ports: int) -> None:
    spec = load_folder(shipped_folder())[MODEL]
    devices = [ModbusDevice(spec, _values(unit, 0)) for unit in range(units)]
    servers = [ModbusServer({1 + i // ports: devices[i] for i in range(port, units, ports)}) for port in range(ports)]
    for server in servers:
        await server.start()
    pipe.send([(servers[i % ports].port, 1 + i // ports) for i in range(units)])
    loop = asyncio.get_running_loop()
    changing = asyncio.create_task(_change(devices))
    await loop.run_in_executor(None, pipe.recv)  # connections are there
    cpu_s, wall_s = time.process_time(), time.monotonic()
    await loop.run_in_executor(None, pipe.recv)
    pipe.send((time.process_time() - cpu_s, time.monotonic() - wall_s))
    changing.cancel()
    await asyncio.wait([changing])
    for server in servers:
        await server.stop()


def _values(unit: int, turn: int) -> dict[str, Scalar | None]:
    return {"no2": float(unit), "pm25": float(turn % 100), "temperature": 20.0 + unit % 20, "humidity": 60.0}


async def _change(devices: list[ModbusDevice]) -> None:
    """As a scenario does it: one point after the other."""
    turn = 0
    while True:
        turn += 1
        for unit, device in enumerate(devices):
            for point, value in _values(unit, turn).items():
                device.set(point, value)
            if unit % 50 == 0:
                await asyncio.sleep(CHANGE_S / len(devices) * 50)


async def _poll(addresses: list[tuple[int, int]], seconds: float, pipe: Connection) -> tuple[int, int, list[float]]:
    """Reads all units once a second, each at its own moment of it; (reads, wrong answers, latencies in ms)."""
    spec = load_folder(shipped_folder())[MODEL]
    asked = [(CODES[request.table], request.address, request.count) for request in plan.requests(spec)]
    streams = {}
    for port, _ in addresses:
        if port not in streams:
            streams[port] = (*await asyncio.open_connection("127.0.0.1", port), asyncio.Lock())
    pipe.send("go")
    found: list[tuple[bool, float]] = []

    async def read(unit: int, port: int, device_id: int) -> None:
        reader, writer, taken = streams[port]
        loop = asyncio.get_running_loop()
        began_s = loop.time() + unit / len(addresses)
        for turn in range(int(seconds)):
            await asyncio.sleep(max(0.0, began_s + turn - loop.time()))
            for code, address, count in asked:
                async with taken:
                    at_s = loop.time()
                    writer.write(HEAD.pack(turn, 0, 6, device_id) + struct.pack(">BHH", code, address, count))
                    answer = await reader.readexactly(HEAD.size + 2 + 2 * count)
                right = (
                    answer[:2] == turn.to_bytes(2, "big") and answer[6] == device_id and answer[9:11] == unit.to_bytes(2, "big")
                )
                found.append((right, (loop.time() - at_s) * 1000.0))

    async with asyncio.TaskGroup() as tasks:
        for unit, (port, device_id) in enumerate(addresses):
            tasks.create_task(read(unit, port, device_id))
    for _, writer, _ in streams.values():
        writer.transport.abort()
    return len(found), sum(not right for right, _ in found), [latency_ms for _, latency_ms in found]


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    main()

"""What loads the fire benchmark's site from other processes: floods of readings, and fleets of devices."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.fire_city import SITE_FLOOD_DEVICES
from benchmarks.fire_site import Site

FLEETS = 2  # processes that share the crowd's certificates
LINE_BYTES = 16 * 1024 * 1024


@contextmanager
def flooding(site: Site, rate: float = 0.0) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Other processes that publish into the field broker, `rate` a second each or (0) without a pause, until the end."""
    commands = [[sys.executable, "-m", "benchmarks.flood", *site.flood_arguments(d), str(rate)] for d in SITE_FLOOD_DEVICES]
    floods = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands]
    site.also = {f"flood {n}": psutil.Process(flood.pid) for n, flood in enumerate(floods, start=1)}
    try:
        yield floods
    finally:
        site.also = {}
        for flood in floods:
            flood.kill()
            flood.communicate()


async def ended(floods: list[subprocess.Popen[bytes]]) -> float:
    """Let floods end; how many messages a second they published together."""
    said = [await asyncio.to_thread(flood.communicate, b"", 30.0) for flood in floods]
    return sum(float(out) for out, _ in said)


class Fleets:
    """The crowd, in `FLEETS` processes; each command goes to all of them at once."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes

    async def do(self, *command: str) -> list[dict[str, Any]]:
        """What each answered."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(" ".join(command).encode() + b"\n")
        return list(await asyncio.gather(*(_line(process) for process in self._processes)))


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a fleet has ended: {await process.wait()}; its own words are above")
    said: dict[str, Any] = json.loads(line)
    return said


@asynccontextmanager
async def fleets(site: Site, folder: Path) -> AsyncIterator[Fleets]:
    """Every certificate issued, every process started, nobody connected yet."""
    clients = await asyncio.to_thread(site.clients, folder)
    processes = []
    try:
        for n in range(FLEETS):
            plan = folder / f"fleet-{n}.json"
            plan.write_bytes(msgspec.json.encode(clients[n::FLEETS]))
            command = [sys.executable, "-m", "benchmarks.fleet", str(plan)]
            pipe = asyncio.subprocess.PIPE
            processes.append(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE_BYTES))
        await asyncio.gather(*(_line(process) for process in processes))
        site.also = {f"fleet {n}": psutil.Process(process.pid) for n, process in enumerate(processes, start=1)}
        yield Fleets(processes)
    finally:
        site.also = {}
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

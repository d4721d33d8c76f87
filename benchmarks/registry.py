"""Many devices in and out of the registry: how fast, in how much memory, and how long a fire waits to be acknowledged meanwhile.

    devices.csv ─► iotcore import (a process of its own) ─► registry ◄─ acknowledge, every 50 ms (this process)
                   again, unchanged · export · import of the export as a workbook · reading the directory

The import is the command that people use: reading the file, judging all of it, storing it in chunks, each row with its entry in
the audit. Its memory is the largest that the operating system counted as resident. An acknowledgement is an intent in the same
registry, by another process: it must get in between two chunks. The chain of the audit is verified at the end.

`python -m benchmarks.registry [COUNT] [--postgres]` takes about two minutes; its last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from iotcore.app.common import specs_of
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from tests.support.postgres import Postgres

COUNT = 100_000
ASK_S = 0.05
MIB_PER_KIB = 1 / 1024
HEADER = ("id", "title", "model", "serial", "location", "labels")


def write(path: Path, count: int) -> None:
    """A file as a city's traffic department would send it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for n in range(count):
            place = f"Cột đèn, góc {n % 4 + 1}"
            writer.writerow([f"signal-{n:06d}", f"Nút giao {n}", "iotcore-mqtt-signal", f"SN-{n:07d}", place, f"line={n % 9}"])


async def command(folder: Path, *words: str | Path) -> dict[str, Any]:
    """Run `iotcore …` in a process of its own: seconds, CPU seconds, and what it printed."""
    words = tuple(str(word) for word in words)
    begun_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.registry", "--command", *words, "--config", str(folder / "iotcore.toml")),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"iotcore {' '.join(map(str, words))} failed")
    *said, used = out.decode().splitlines()
    return {"seconds": round(time.monotonic() - begun_s, 2), **json.loads(used), "said": "\n".join(said)}


def run_command(words: Sequence[str]) -> None:
    """In the process that is measured: the command, then what it took."""
    from iotcore import cli  # noqa: PLC0415 its time is the command's

    try:
        cli.main(words)
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = round(used.ru_utime + used.ru_stime, 2)
        sys.stdout.write(f"\n{json.dumps({'cpu_s': cpu_s, 'peak_mib': round(used.ru_maxrss * MIB_PER_KIB)})}\n")


async def acknowledge_until(ended: asyncio.Task[Any], registry: Registry) -> list[float]:
    """Acknowledge incident after incident; how long each took, in ms. Before the first row is stored none is counted."""
    waits_ms: list[float] = []
    while not ended.done():
        storing = await registry.last_change() > 0
        begun_s = time.perf_counter()
        if storing:
            await registry.intent("acknowledge", f"incident-{len(waits_ms)}", "benchmark")
            waits_ms.append((time.perf_counter() - begun_s) * 1000.0)
        await asyncio.wait({ended}, timeout=ASK_S)
    return waits_ms


def figures(import_: dict[str, Any], count: int) -> dict[str, Any]:
    """What an import took, and what it said."""
    said = json.loads(import_.pop("said"))
    done = {key: said[key] for key in ("added", "changed", "same", "longest_ms")}
    return {**import_, **done, "rows_per_s": round(count / import_["seconds"])}


async def measure(folder: Path, url: str, count: int) -> dict[str, Any]:
    """All of it, against the registry at `url`."""
    (folder / "data").mkdir()
    (folder / "iotcore.toml").write_text(f"data = {json.dumps(str(folder / 'data'))}\n[registry]\nurl = {json.dumps(url)}\n")
    write(folder / "devices.csv", count)
    async with await open_registry(url) as registry:
        importing = asyncio.create_task(command(folder, "import", folder / "devices.csv", "-o", "json"))
        waits_ms = await acknowledge_until(importing, registry)
        found: dict[str, Any] = {"import": figures(await importing, count)}
        found["acknowledge"] = {
            "count": len(waits_ms),
            "p50_ms": round(statistics.median(waits_ms), 1),
            "p99_ms": round(sorted(waits_ms)[int(0.99 * (len(waits_ms) - 1))], 1),
            "max_ms": round(max(waits_ms), 1),
        }
        print(f"imported: {found}", flush=True)
        found["again"] = figures(await command(folder, "import", folder / "devices.csv", "-o", "json"), count)
        for name in ("csv", "json", "xlsx"):
            found[f"export_{name}"] = await command(folder, "export", "--kind", "devices", "-o", folder / f"out-devices.{name}")
            found[f"export_{name}"].pop("said")
        found["again_xlsx"] = figures(await command(folder, "import", folder / "out-devices.xlsx", "-o", "json"), count)
        begun_s = time.monotonic()
        directory = await registry.directory(specs_of(Settings(data=str(folder))))
        found["directory_s"] = round(time.monotonic() - begun_s, 2)
        assert len(directory.devices) == count
        assert await registry.verify_audit() == []
        entries = (await registry.audit_head()).seq
    return {"count": count, "database": url.partition(":")[0], **found, "audit_entries": entries, "cpus": os.cpu_count()}


def main() -> None:
    """Measure on SQLite or on a PostgreSQL of its own."""
    parser = argparse.ArgumentParser(description="Import, export and acknowledge.")
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="registry-") as name, Postgres() if options.postgres else nullcontext() as server:
        folder = Path(name)
        url = server.url(server.fresh()) if server is not None else f"sqlite://{folder / 'registry.db'}"
        print(json.dumps(asyncio.run(measure(folder, url, options.count))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--command"]:
        run_command(sys.argv[2:])
    else:
        main()

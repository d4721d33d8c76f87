"""The embedded store beside bare SQLite, on one disk in one run: values written a second, then what a page asks of five million.

    EmbeddedStore.write: the spool's bytes, decoded, one transaction a batch  ─┐
    sqlite3.executemany: ready rows, the same table, the same transactions    ─┴─ turn about, a batch each     = ratio

Readings have four values and come as a lane brings them: every device each ten seconds, all devices in turn, in batches as large
as the drain's. Then, in the full file: the mean for each minute over an hour of 100 devices, one device's hour, the last values;
then writing goes on while two other processes ask for that hour without a pause. Wall times are those of a machine that does
nothing else; the CPU times hold beside other work too.

`python -m benchmarks.store [VALUES]` takes a few minutes; its last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotcore.journal.database import connect, transaction
from iotcore.telemetry.drain import WRITE_LINES
from iotcore.telemetry.embedded import CACHE_KIB, SCHEMA, EmbeddedStore, TelemetryFile
from iotcore.telemetry.line import NS_PER_MS
from iotcore.telemetry.queries import TelemetryReader
from iotcore.telemetry.store import Written
from iotcore.telemetry.stores import TELEMETRY_DB

VALUES = 5_000_000
DEVICES = 100
POINTS = ("no2", "o3", "pm25", "temperature")
EVERY_MS = 10_000
START_MS = 1_795_312_800_000  # a whole hour
HOUR_MS, MINUTE_MS = 3_600_000, 60_000
COMPARED_BATCHES = 20  # of each, turn about
READERS = 2
BESIDE_BATCHES = 10  # written while others read
REPEATS = 30
INSERT = "INSERT OR REPLACE INTO value (series, at_ns, value, quality, test) VALUES (?, ?, ?, ?, ?)"


@dataclass(slots=True)
class Spent:
    """Time spent on so many values."""

    values: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @contextlib.contextmanager
    def timed(self, values: int) -> Iterator[None]:
        """Count what happens within."""
        wall_s, cpu_s = time.monotonic(), time.process_time()
        yield
        self.wall_s += time.monotonic() - wall_s
        self.cpu_s += time.process_time() - cpu_s
        self.values += values

    def figures(self) -> dict[str, float]:
        """A rate and the CPU of one value."""
        return {"values_per_s": round(self.values / self.wall_s), "cpu_us_per_value": round(self.cpu_s / self.values * 1e6, 2)}


def reading(number: int) -> tuple[str, int, list[tuple[str, float, int]]]:
    """The reading with this number: device, time in ns, (point, value, quality level) of each point."""
    round_, device = divmod(number, DEVICES)
    at_ns = (START_MS + round_ * EVERY_MS + device) * NS_PER_MS + number % NS_PER_MS
    values = (18.0 + number % 7, 42.0 + number % 11, 18.25 + number % 13, 24.125 + number % 5)
    return f"a{device:04d}", at_ns, [(point, value, 0) for point, value in zip(POINTS, values, strict=True)]


def body_of(first: int, count: int) -> bytes:
    """So many readings as the spool keeps them for this store."""
    records = ((device, at_ns, False, values) for device, at_ns, values in map(reading, range(first, first + count)))
    return b"\n".join(json.dumps(record, separators=(",", ":")).encode() for record in records)


def rows_of(first: int, count: int) -> list[tuple[int, int, float, int, bool]]:
    """The same as ready rows, in the order of the table."""
    return sorted(
        (int(device[1:]) * len(POINTS) + number, at_ns, value, level, False)
        for device, at_ns, values in map(reading, range(first, first + count))
        for number, (_, value, level) in enumerate(values)
    )


async def compare(store: EmbeddedStore, bare_path: Path, batches: int) -> tuple[Spent, Spent]:
    """Write the same batches into the store and into a bare table, turn about; the store's go on from the first reading."""
    ours, bare = Spent(), Spent()

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.executescript(SCHEMA)

    with contextlib.closing(connect(bare_path, prepare)) as connection:
        for number in range(batches):
            rows = rows_of(number * WRITE_LINES, WRITE_LINES)
            with bare.timed(len(rows)), transaction(connection):
                connection.executemany(INSERT, rows)
            await write(store, number * WRITE_LINES, WRITE_LINES, ours)
    return ours, bare


async def write(store: EmbeddedStore, first: int, count: int, spent: Spent) -> None:
    """One batch."""
    body = body_of(first, count)
    with spent.timed(count * len(POINTS)):
        result = await store.write(body, count)
    if result != Written():
        raise RuntimeError(f"the store did not take a batch: {result}")


def ask(path: Path, readings: int) -> dict[str, float]:
    """What a page asks, in ms; p99 is the slowest of the repeats."""
    devices = [f"a{number:04d}" for number in range(DEVICES)]
    end_ms = START_MS + readings // DEVICES * EVERY_MS
    start_ms = float((end_ms - HOUR_MS) // MINUTE_MS * MINUTE_MS)
    reader = TelemetryReader(path)
    try:
        found = reader.intervals(devices, POINTS[0], start_ms, start_ms + HOUR_MS, MINUTE_MS)
        since, until = (int(at_ms - START_MS) // EVERY_MS for at_ms in (start_ms, start_ms + HOUR_MS))
        expected = (min(readings // DEVICES, until) - max(since, 0)) * DEVICES
        if sum(one.values for one in found) != expected:
            raise RuntimeError(f"{expected} values were written in that hour, {sum(one.values for one in found)} came back")
        questions = {
            "minute_means_1h_100_devices": lambda: reader.intervals(devices, POINTS[0], start_ms, start_ms + HOUR_MS, MINUTE_MS),
            "samples_1h_1_device": lambda: reader.samples(devices[0], POINTS[1], start_ms, start_ms + HOUR_MS),
            "latest_all": reader.latest,
        }
        figures = {}
        for name, question in questions.items():
            spent = [_spent_ms(question) for _ in range(REPEATS)]
            walls, cpus = sorted(wall for wall, _ in spent), sorted(cpu for _, cpu in spent)
            figures[f"{name}_p50_ms"] = round(walls[len(walls) // 2], 2)
            figures[f"{name}_p99_ms"] = round(walls[-1], 2)
            figures[f"{name}_cpu_p50_ms"] = round(cpus[len(cpus) // 2], 2)
        return figures
    finally:
        reader.close()


def _spent_ms(question: Callable[[], object]) -> tuple[float, float]:
    wall_s, cpu_s = time.monotonic(), time.process_time()
    question()
    return (time.monotonic() - wall_s) * 1000.0, (time.process_time() - cpu_s) * 1000.0


async def beside_readers(store: EmbeddedStore, path: Path, first: int, batches: int) -> dict[str, float]:
    """Write on while others read the same file."""
    command = [sys.executable, "-m", "benchmarks.store", "--read", str(path), str(first)]
    pipe = asyncio.subprocess.PIPE
    readers = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(READERS)]
    spent = Spent()
    try:
        for reader in readers:
            assert reader.stdout is not None
            await reader.stdout.readline()  # it has its first answer
        for number in range(batches):
            await write(store, first + number * WRITE_LINES, WRITE_LINES, spent)
    finally:
        answers = [int((await reader.communicate(b""))[0].split()[-1]) for reader in readers]
    return {**spent.figures(), "readers": READERS, "reader_answers": sum(answers)}


async def read_until_told(path: Path, readings: int) -> None:
    """A reader: asks for the hour without a pause until its input ends, then says how often it was answered."""
    devices = [f"a{number:04d}" for number in range(DEVICES)]
    start_ms = float(START_MS + readings // DEVICES * EVERY_MS - HOUR_MS)
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    reader = TelemetryReader(path)
    answers = 0
    while not told.done():
        reader.intervals(devices, POINTS[0], start_ms, start_ms + HOUR_MS, MINUTE_MS)
        answers += 1
        if answers == 1:
            print("reading", flush=True)
        await asyncio.sleep(0)
    reader.close()
    print(answers, flush=True)


async def main(values: int) -> dict[str, Any]:
    """Write, ask, write while others ask."""
    readings = values // len(POINTS) // WRITE_LINES * WRITE_LINES
    compared = min(COMPARED_BATCHES, readings // WRITE_LINES)
    beside = min(BESIDE_BATCHES, readings // WRITE_LINES)
    with tempfile.TemporaryDirectory(prefix="store-") as folder:
        path = Path(folder) / TELEMETRY_DB
        async with TelemetryFile(path) as file:
            store = EmbeddedStore(file)
            ours, bare = await compare(store, Path(folder) / "bare.db", compared)
            written = Spent(ours.values, ours.wall_s, ours.cpu_s)
            for first in range(compared * WRITE_LINES, readings, WRITE_LINES):
                await write(store, first, WRITE_LINES, written)
            print(f"{written.values} values are in: {written.figures()}", flush=True)
            answers = await asyncio.to_thread(ask, path, readings)
            print(f"asked: {answers}", flush=True)
            busy = await beside_readers(store, path, readings, beside)
        size = path.stat().st_size  # the log is in it once the last connection is closed
        return {
            "values": written.values,
            "write": written.figures(),
            "bare_sqlite": bare.figures(),
            "ratio_wall": round(bare.wall_s / ours.wall_s, 3),
            "ratio_cpu": round(bare.cpu_s / ours.cpu_s, 3),
            "ask": answers,
            "write_beside_readers": busy,
            "bytes_per_value": round(size / (written.values + beside * WRITE_LINES * len(POINTS)), 1),
            "cpus": os.cpu_count(),
        }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        asyncio.run(read_until_told(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        print(json.dumps(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else VALUES))))

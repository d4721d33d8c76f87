"""telemetry.db with two writers, as with two telemetry workers: each waits for the other, and nothing is refused or lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from iotcore.clock import SystemClock
from iotcore.reading import Reading, Value
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.queries import TelemetryReader
from iotcore.telemetry.store import Written
from tests.support.telemetry_bench import directory

BATCHES, LINES = 6, 2_000
LONGEST_S = 5.0  # SQLite's busy timeout: who waits longer is refused


async def write(path: Path, device: str, waits: list[float]) -> None:
    """A worker's share: full writes to the store, and meanwhile what the page shows, as often as it can."""
    binding, clock = directory().devices[device], SystemClock()
    async with TelemetryFile(path) as file:
        store, panel = EmbeddedStore(file), Panel(file, clock)
        for batch in range(BATCHES):
            readings = [
                Reading(device, "b", seq, "reading", float(seq), float(seq), tuple(Value(f"p{n}", 1.0) for n in range(4)))
                for seq in range(batch * LINES + 1, (batch + 1) * LINES + 1)
            ]
            panel.readings(readings[-1:])
            started_s = time.monotonic()
            body = b"\n".join(store.record(reading, binding) for reading in readings)
            assert await store.write(body, LINES) == Written()
            assert await panel.write(), "what the page shows was refused"
            waits.append(time.monotonic() - started_s)


async def test_two_writers_of_one_file_wait_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    path, waits = tmp_path / "telemetry.db", list[float]()
    await asyncio.gather(write(path, "a1", waits), write(path, "w1", waits))
    assert max(waits) < LONGEST_S
    reader = TelemetryReader(path)
    try:
        for device in ("a1", "w1"):
            assert [one.observed_ms for one in reader.latest(device)] == [BATCHES * LINES] * 4
            assert sum(len(reader.samples(device, f"p{n}", 0.0, 1e9)) for n in range(4)) == 4 * BATCHES * LINES
    finally:
        reader.close()


async def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    async def make(number: int) -> None:
        async with TelemetryFile(tmp_path / f"{number}.db"):
            pass

    for number in range(10):
        await asyncio.gather(*(make(number) for _ in range(4)))

"""A process that writes telemetry.db at full speed and keeps it up: python -m tests.support.telemetry_writer FILE

Each transaction has 500 readings of one device, 10 ms apart, the same number in both points. It says "writing" after the first.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from iotcore.clock import SystemClock
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Store
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.upkeep import Upkeep
from tests.support.shipped import SPECS

START_MS = 1_795_312_800_000  # a whole hour
BATCH = 500
BINDING = Binding("smoke-1", "", SPECS["iotcore-smoke-heat"], "fire", "smoke-1", "active")


async def write(path: Path) -> None:
    """For ever."""
    async with TelemetryFile(path) as file:
        store = EmbeddedStore(file)
        keeping = asyncio.create_task(Upkeep(store, Store(), SystemClock(), lambda: Directory({"smoke-1": BINDING})).run())
        number = 0
        while not keeping.done():
            records = []
            for n in range(number, number + BATCH):
                at_ms = START_MS + n * 10.0
                values = (Value("smoke", float(n)), Value("temperature", float(n)))
                records.append(store.record(Reading("smoke-1", "b", n, "reading", at_ms, at_ms, values), BINDING))
            await store.write(b"\n".join(records), BATCH)
            if not number:
                print("writing", flush=True)  # noqa: T201 - whoever started it waits for this
            number += BATCH
        await keeping


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))

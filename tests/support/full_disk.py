"""A child of `test_spool_disk_full`: fills a small file system through the spool, then drains it while it is full.

Prints one JSON object. Run inside its own mount namespace, so that the file system vanishes with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from iotcore.clock import SystemClock
from iotcore.errors import StoreFull
from iotcore.telemetry.spool import Spool

LINE = os.urandom(20_000).hex().encode()


async def fill(spool: Spool) -> int:
    stored = 0
    while True:
        try:
            await spool.commit([LINE])
        except StoreFull:
            return stored
        stored += 1


async def main(folder: Path) -> None:
    async with Spool(folder / "spool-t.db", SystemClock(), store_format="line", max_bytes=10**9, max_age_s=1e6) as spool:
        stored = await fill(spool)
        drained = 0
        while batches := await spool.newest(1):
            await spool.done([batch.id for batch in batches])
            drained += len(batches)
        again = await fill(spool)
    print(json.dumps({"stored": stored, "drained": drained, "again": again}))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

"""A core in a process of its own: it receipts whatever comes, so that a flood does not slow a test that watches others."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from iotcore.wire.arrival import Endpoint
from tests.support.core_stand_in import CoreStandIn


async def main(port: str, *files: str) -> None:
    """Serve until we are killed."""
    async with CoreStandIn(Endpoint("127.0.0.1", int(port), *map(Path, files))) as core:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            await asyncio.sleep(0.1)
            core.taken.clear()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

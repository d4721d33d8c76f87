"""The feed in a process of its own, to be killed: `python -m tests.support.feed_child FOLDER` follows FOLDER/journal.db."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from iotcore.clock import SystemClock
from iotcore.telemetry.feed import follow_incidents
from iotcore.telemetry.point import PlatformSeries
from iotcore.telemetry.spool import Spool


async def main(folder: Path) -> None:
    spool = Spool(folder / "spool-1.db", SystemClock(), store_format="row1", max_bytes=10**8, max_age_s=3600.0)
    async with spool:
        await follow_incidents(folder / "journal.db", PlatformSeries(spool, "row1", lambda: None))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

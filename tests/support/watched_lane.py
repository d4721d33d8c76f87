"""A lane under the watchdog, as the fire process is, that does what its messages say.

`python -m tests.support.watched_lane PORT NAME FOLDER`; FOLDER/NAME.log gets a line for each start ("start PID") and each message
taken.

    stall   never comes back, the first time      block   blocks the event loop, the first time
    full    the disk is full for 8 s: it tries again and says that it works
    slow    what a slow commit is like: 4 s in a thread
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from drivers.mqtt.ingest import Ingest
from iotcore.clock import SystemClock
from iotcore.process.watchdog import Watchdog
from iotcore.wire.arrival import Endpoint

RETRY_S = 0.25
FULL_S, SLOW_S = 8.0, 4.0


async def obey(ingest: Ingest, order: str, *, again: bool) -> None:
    """Do what one message says."""
    if order == "stall" and not again:
        await asyncio.Event().wait()
    if order == "block" and not again:
        time.sleep(60.0)  # noqa: ASYNC251 - what is tested
    if order == "slow":
        await asyncio.to_thread(time.sleep, SLOW_S)
    end_s = time.monotonic() + FULL_S
    while order == "full" and time.monotonic() < end_s:
        ingest.working()
        await asyncio.sleep(RETRY_S)


async def main(port: int, name: str, folder: Path) -> None:
    """Serve until killed."""
    path = folder / f"{name}.log"

    def say(line: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def took(order: str) -> int:
        return path.read_text(encoding="utf-8").splitlines().count(f"took {order}")

    say(f"start {os.getpid()}")
    endpoint = Endpoint("127.0.0.1", port, Path(), Path(), Path())
    async with Ingest(endpoint, name, [f"orders/{name}"], SystemClock(), tls=False, retry_most_s=0.2) as ingest:
        watch = asyncio.create_task(Watchdog(folder, {"lane": ingest}).run())
        while True:
            for arrival in await ingest.take(1):
                order = arrival.payload.decode()
                say(f"took {order}")
                await obey(ingest, order, again=took(order) > 1)
                ingest.acknowledge([arrival])
                say(f"done {order}")
                assert not watch.done()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))

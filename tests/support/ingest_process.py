"""A lane reduced to its promise, to be killed by tests: take, commit at synchronous=FULL, acknowledge.

`python -m tests.support.ingest_process PORT CLIENT_ID FILTER DATABASE`; prints "ready" once it is connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from pathlib import Path

from drivers.mqtt.ingest import Ingest
from iotcore.clock import SystemClock
from iotcore.wire.arrival import Endpoint


async def store(port: int, client_id: str, topic_filter: str, database: str) -> None:
    endpoint = Endpoint("127.0.0.1", port, Path(), Path(), Path())
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS message (topic TEXT, payload BLOB)")
        async with Ingest(endpoint, client_id, [topic_filter], SystemClock(), tls=False) as ingest:
            while not ingest.connected:  # noqa: ASYNC110 -- a test process; there is no event to wait for
                await asyncio.sleep(0.01)
            print("ready", flush=True)  # noqa: T201 -- told to the test that started it
            while True:
                arrivals = await ingest.take(50)
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO message VALUES (?, ?)", [(a.topic, a.payload) for a in arrivals])
                connection.execute("COMMIT")
                ingest.acknowledge(arrivals)


if __name__ == "__main__":
    asyncio.run(store(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]))

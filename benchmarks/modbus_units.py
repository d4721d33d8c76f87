"""The other side of the Modbus benchmark, in a process of its own: units that answer as fast as Python can, or not at all.

    good    answers every read; device id 2 with other words each time, ids above 2 not at all. A line on standard input
            ("0", "1") becomes the content of register 0, and the moment of that goes out in seconds of the monotonic clock
    silent  takes connections and questions, and never answers

`python -m benchmarks.modbus_units good|silent COUNT` prints its ports first, a JSON list, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import resource
import struct
import sys
import time
from typing import cast

import uvloop

BACKLOG = 4096
CHANGING = 2  # device id
READ = struct.Struct(">HHHBBHH")
HEAD = struct.Struct(">HHHBBB")


class Good(asyncio.Protocol):
    """One connection; all of them share the words."""

    words = bytes(2 * 125)
    answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        transaction, _, _, unit, code, _, count = READ.unpack_from(data)
        if unit == CHANGING:
            Good.answers += 1
            words = struct.pack(">H", Good.answers % 100) * count
        elif unit < CHANGING:
            words = self.words[: 2 * count]
        else:
            return
        self._transport.write(HEAD.pack(transaction, 0, 3 + 2 * count, unit, code, 2 * count) + words)


async def serve(kind: str, count: int) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    factory = Good if kind == "good" else asyncio.Protocol
    servers = [await loop.create_server(factory, "127.0.0.1", 0, backlog=BACKLOG) for _ in range(count)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        Good.words = struct.pack(">H", int(line)) + bytes(2 * 124)
        print(time.monotonic(), flush=True)


def many_files() -> None:
    """As many sockets as the system lets this process have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    many_files()
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))

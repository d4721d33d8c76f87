"""A broker without MQTT 5, before a real one: CONNECT of version 5 is refused as the old standard says, all else passes."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Literal, Self

LEVEL = 8  # where CONNECT has its protocol level, when its length takes one byte: 3.1.1, 3.1.2.2
REFUSED = b"\x20\x02\x00\x01"  # unacceptable protocol version: 3.1.1, 3.2.2.3


class OldBroker:
    """Listens on 127.0.0.1:`port`; `manner`: whether it says why it refuses, or only closes."""

    def __init__(self, target_port: int, manner: Literal["refuses", "closes"]) -> None:
        self.port = 0
        self.fives = 0  # how often version 5 was tried
        self._target_port = target_port
        self._manner = manner
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(LEVEL + 1)
        if first[LEVEL] > 4:
            self.fives += 1
            if self._manner == "refuses":
                writer.write(REFUSED)
            writer.close()
            return
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        other_writer.write(first)
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.create_task(_relay(source, sink))
            self._tasks.add(task)


async def _relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65_536):
                sink.write(chunk)
                await sink.drain()
    finally:
        sink.close()

"""A TCP relay that can go silent with every socket still open, as a dead radio link or a wedged reader does."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class StallingProxy:
    """Relays 127.0.0.1:`port` to `target_port`; while `stalled` is set, bytes of the connections of then go nowhere."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.accepted = 0
        self._open: list[asyncio.Event] = []
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

    def stall(self) -> None:
        """Silence the connections of now; later ones pass."""
        for flowing in self._open:
            flowing.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        flowing = asyncio.Event()
        flowing.set()
        self._open.append(flowing)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.create_task(_relay(source, sink, flowing))
            self._tasks.add(task)


async def _relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    try:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65_536):
                await flowing.wait()
                sink.write(chunk)
                await sink.drain()
    finally:
        sink.close()
        with contextlib.suppress(OSError):
            await sink.wait_closed()

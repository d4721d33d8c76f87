"""A TCP relay that can go silent with every socket still open, as a dead radio link or a wedged reader does, or be cut by RST."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST, as a router that has forgotten the connection


class StallingProxy:
    """Relays 127.0.0.1:`port` to `target_port`; after `stall`, bytes of the connections of then go nowhere until `resume`."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.accepted = 0
        self._open: list[asyncio.Event] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._severed = False
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

    def resume(self) -> None:
        """What was silenced flows on, nothing of it lost."""
        for flowing in self._open:
            flowing.set()

    def cut(self) -> None:
        """Reset every connection, and each new one too, until `mend`."""
        self._severed = True
        self.resume()  # a relay that waits notices its closed sockets
        for writer in self._writers:
            _reset(writer)
        self._writers.clear()
        self._open.clear()

    def mend(self) -> None:
        """New connections pass again."""
        self._severed = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._severed:
            _reset(writer)
            return
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:  # nobody listens there: the caller must see that too
            _reset(writer)
            return
        flowing = asyncio.Event()
        flowing.set()
        self._open.append(flowing)
        self._writers |= {writer, other_writer}
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.create_task(_relay(source, sink, flowing))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


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

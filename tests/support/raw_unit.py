"""A Modbus unit that answers with whatever bytes a test wants, over TCP or on a serial port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import NamedTuple, Self

from drivers.modbus import frames

READ_BYTES = {"mbap": 12, "rtu": 8}


class Ask(NamedTuple):
    """A read as it came."""

    transaction: int
    unit: int
    code: int
    address: int
    length: int
    number: int  # 1 for the first

    def pdu(self, word: int | None = None) -> bytes:
        """A right answer: `word` (by default the number of the question) in each register."""
        return bytes((self.code, 2 * self.length)) + struct.pack(">H", word if word is not None else self.number) * self.length

    def mbap(self, pdu: bytes | None = None) -> bytes:
        return frames.mbap(self.transaction, self.unit, self.pdu() if pdu is None else pdu)

    def rtu(self, pdu: bytes | None = None) -> bytes:
        return frames.rtu(self.unit, self.pdu() if pdu is None else pdu)


Send = Callable[[bytes], Awaitable[None]]
Answer = Callable[[Ask, Send], Coroutine[None, None, None]]


class RawUnit:
    """An async context manager: a TCP server on `port`, each question answered by `answer(ask, send)` in order."""

    def __init__(self, answer: Answer, framing: str = "mbap") -> None:
        self.port = 0
        self.connections = 0
        self.asked: list[Ask] = []
        self._answer = answer
        self._framing = framing
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._talks:
            task.cancel()
        if self._talks:
            await asyncio.wait(self._talks)

    async def on(self, port: str) -> None:
        """Answer on a serial port instead, until cancelled: each unit one question after the other, as units do."""
        end = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        loop.add_reader(end, lambda: reader.feed_data(os.read(end, 1024)))
        tasks: set[asyncio.Task[None]] = set()
        busy: dict[int, asyncio.Lock] = {}

        async def send(data: bytes) -> None:
            os.write(end, data)

        async def in_turn(ask: Ask) -> None:
            async with busy.setdefault(ask.unit, asyncio.Lock()):
                await self._answer(ask, send)

        try:
            while True:
                tasks.add(asyncio.create_task(in_turn(await self._ask(reader))))
        finally:
            loop.remove_reader(end)
            os.close(end)
            for task in tasks:
                task.cancel()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._answer(await self._ask(reader), send)
        finally:
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader) -> Ask:
        frame = await reader.readexactly(READ_BYTES[self._framing])
        if self._framing == "mbap":
            transaction, _, _, unit, code, address, count = struct.unpack(">HHHBBHH", frame)
        else:
            transaction, (unit, code, address, count) = 0, struct.unpack(">BBHH", frame[:6])
        ask = Ask(transaction, unit, code, address, count, len(self.asked) + 1)
        self.asked.append(ask)
        return ask

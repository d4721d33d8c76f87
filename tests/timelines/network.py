"""A network on virtual time: the real channels open their connections to receivers that are in the same event loop.

`asyncio.open_connection` on a `NetworkLoop` ends here. Bytes take `LATENCY_S`; a receiver's place can be dark (nothing is ever
answered) or refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, cast

from tests.simulated.virtual import RUNNING, Process, VirtualLoop

LATENCY_S = 0.002
NOBODY = cast("Process", None)  # the world itself

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Pipe(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, loop: NetworkLoop, port: int, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": ("receiver", port)})
        self._loop = loop
        self._port = port
        self.protocol = protocol
        self.peer: _Pipe | None = None
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._loop.call_later(LATENCY_S, self._bring, bytes(data))

    def _bring(self, data: bytes) -> None:
        peer = self.peer
        if peer is not None and not peer._closing and self._port not in self._loop.dark:
            assert isinstance(peer.protocol, asyncio.Protocol)
            peer.protocol.data_received(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self.protocol.connection_lost, None)
            self._loop.call_later(LATENCY_S, self._hung_up)

    def abort(self) -> None:
        self.close()

    def _hung_up(self) -> None:
        peer = self.peer
        if peer is not None and not peer._closing:
            assert isinstance(peer.protocol, asyncio.Protocol)
            if not peer.protocol.eof_received():
                peer.close()

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol


class NetworkLoop(VirtualLoop):
    """Virtual time with places to connect to, by their port; and processes that can stand still.

    Nothing of a process that is frozen runs before its time: neither its tasks nor its timers, as after a SIGSTOP.
    """

    def __init__(self) -> None:
        self.frozen_until_s: dict[Process, float] = {}
        super().__init__()
        self.places: dict[int, Serve] = {}
        self.dark: set[int] = set()  # ports that answer nothing, not even to a connection
        self.refusing: set[int] = set()

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override] # any arguments
        if not self.frozen_until_s:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(self._when_awake, callback, args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return super().call_at(when, self._when_awake, callback, args, context=context)

    def _when_awake(self, callback: Any, args: tuple[Any, ...]) -> None:
        until_s = self.frozen_until_s.get(RUNNING.get(NOBODY), 0.0) if self.frozen_until_s else 0.0
        if until_s > self.now_s:
            self.call_at(until_s, callback, *args)
        else:
            callback(*args)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """A connection to one of the places."""
        if port in self.dark:
            await asyncio.Event().wait()
        await asyncio.sleep(2 * LATENCY_S)  # SYN, SYN-ACK
        if port in self.refusing or port not in self.places:
            raise ConnectionRefusedError(f"{host}:{port}")
        reader = asyncio.StreamReader(loop=self)
        theirs = _Pipe(self, port, asyncio.StreamReaderProtocol(reader, self.places[port], loop=self))
        ours = _Pipe(self, port, protocol_factory())
        ours.peer, theirs.peer = theirs, ours
        theirs.protocol.connection_made(theirs)
        ours.protocol.connection_made(ours)
        return ours, ours.protocol

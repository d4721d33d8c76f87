"""Simulated units behind real ports: Modbus/TCP, the same over TLS (Modbus Security), RTU over TCP, RTU on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import struct
import termios
import tty
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from iotcore.errors import StartError
from simulators.modbus_bus import Bus, Conversation
from simulators.modbus_frames import Framing
from simulators.modbus_unit import ModbusDevice
from simulators.modbus_wrong import Fault

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s; closing then sends RST
PTY_READ_BYTES = 4096


class ModbusServer:
    """An async context manager: one port (0: any free one), units by device id. It can be stopped and started again there.

    `framing` "rtu" is RTU over TCP, as a serial server passes it on. `tls`: a context of `security`, or None. `fault` is wrong
    with every unit behind the port.
    """

    def __init__(
        self,
        units: Mapping[int, ModbusDevice],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        framing: Framing = "tcp",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.connections = 0  # accepted so far
        self.open: set[asyncio.Transport] = set()  # connections as of now
        self.bus = Bus(units, framing)
        self._tls = tls
        self._server: asyncio.Server | None = None

    @property
    def fault(self) -> Fault | None:
        """What is wrong with the whole port."""
        return self.bus.fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self.bus.fault = fault

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def connection(self, device_id: int = 1, identity: str = "") -> str:
        """The connection string by which the registry knows a unit; over TLS, `identity` names the client certificate."""
        scheme = "tls" if self._tls is not None else "tcp" if self.bus.framing == "tcp" else "rtu+tcp"
        certificate = f"&identity={identity}" if self._tls is not None else ""
        return f"{scheme}://{self.host}:{self.port}?device_id={device_id}{certificate}"

    async def start(self) -> None:
        """Listen; on the same port as before after a stop.

        Raises:
            StartError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Accepted(self), self.host, self.port, ssl=self._tls)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise StartError(f"Port {self.port} on {self.host} is taken", "Choose another one, or 0 for any free one.") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection and refuse new ones."""
        if self._server is not None:
            self.bus.cancel()
            self._server.close()
            self._server = None
            for transport in list(self.open):
                transport.abort()
            await asyncio.sleep(0)  # the transports close on the loop's next turn


class _Accepted(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: ModbusServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections += 1
        self._server.open.add(self._transport)
        self._conversation = Conversation(self._server.bus, self)
        self._conversation.began()

    def data_received(self, data: bytes) -> None:
        self._conversation.received(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self._server.open.discard(self._transport)
        self._conversation.ended()

    def write(self, content: bytes) -> None:
        """Send to the client."""
        if not self._transport.is_closing():
            self._transport.write(content)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def reset(self) -> None:
        """Hang up with RST."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()


class ModbusLine:
    """An async context manager: RTU units on a pseudo-terminal, whose other end `path` a client opens as its serial port.

    Baud rate and parity are whatever the client sets: a pseudo-terminal has no line to time. Faults that need a connection
    (close, reset) are silence here. What a client does not fetch is lost when the terminal is full, counted in `lost_bytes`.
    """

    def __init__(self, units: Mapping[int, ModbusDevice]) -> None:
        self.bus = Bus(units, "rtu")
        self.path = ""
        self.lost_bytes = 0
        self._ends: tuple[int, int] | None = None
        self._conversation: Conversation | None = None

    @property
    def fault(self) -> Fault | None:
        """What is wrong with the whole line."""
        return self.bus.fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self.bus.fault = fault

    async def __aenter__(self) -> Self:
        ours, theirs = os.openpty()  # theirs stays open here too: a client may come and go
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self._ends = (ours, theirs)
        self.path = os.ttyname(theirs)
        self._conversation = Conversation(self.bus, self)
        self._conversation.began()
        asyncio.get_running_loop().add_reader(ours, self._readable, ours)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._ends is not None
        assert self._conversation is not None
        asyncio.get_running_loop().remove_reader(self._ends[0])
        self._conversation.ended()
        self.bus.cancel()
        for end in self._ends:
            os.close(end)
        self._ends = None

    def connection(self, device_id: int = 1, identity: str = "") -> str:
        """The connection string by which the registry knows a unit; a pseudo-terminal takes no parity, and no certificate."""
        del identity
        return f"rtu://{self.path}?parity=N&device_id={device_id}"

    def write(self, content: bytes) -> None:
        """Send to the client."""
        if self._ends is None:
            return
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = os.write(self._ends[0], content)
        self.lost_bytes += len(content) - sent

    def close(self) -> None:
        """A serial line cannot hang up."""

    def reset(self) -> None:
        """A serial line cannot be reset; what the client has not fetched is lost, as when a converter loses power."""
        assert self._ends is not None
        termios.tcflush(self._ends[1], termios.TCIFLUSH)

    def _readable(self, end: int) -> None:
        assert self._conversation is not None
        with contextlib.suppress(BlockingIOError):
            self._conversation.received(os.read(end, PTY_READ_BYTES))


def security(certificate: Path, key: Path, clients: Path) -> ssl.SSLContext:
    """Modbus Security: TLS 1.2 or newer, and no client without a certificate of `clients` (a file of trusted roots).

    Source: MODBUS/TCP Security v36, §6 and §8 (mutual TLS). Roles in certificates are not looked at.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_REQUIRED
    return context

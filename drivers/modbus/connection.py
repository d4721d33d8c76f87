"""One Modbus/TCP connection: reads, and never the late answer of an earlier question.

pymodbus gives up after the unit's own timeout; an outer timeout above it is the last resort. After any timeout, a wrong answer
or a cancellation the socket is closed, so that a late answer finds nobody (units that do not echo the transaction id would have
it taken for the answer to the next question). Read-only: function codes 1 to 4.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from iotcore.specs.plan import Request

DEFAULT_PORT = 502  # Modbus Messaging on TCP/IP Implementation Guide 1.0b, §3.1.3
LAST_DEVICE_ID = 255
OUTER_MARGIN_S = 0.5  # above pymodbus's own timeout


@dataclass(frozen=True, slots=True)
class Address:
    """Where a unit is: a TCP endpoint, and its device id behind it."""

    host: str
    port: int
    device_id: int

    @property
    def line(self) -> tuple[str, int]:
        """Units with the same line share one connection."""
        return (self.host, self.port)


class Reply(NamedTuple):
    """The words (or bits, 0 and 1) that were asked for; or none of them, and why."""

    words: Sequence[int] = ()
    why: str = ""


def parse(connection: str) -> Address:
    """The address in "tcp://host:port?device_id=1".

    Raises:
        ValueError: it is not of this form.
    """
    parts = urlsplit(connection)
    query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    wanted = parts.scheme == "tcp" and parts.hostname and parts.path in {"", "/"} and set(query) <= {"device_id"}
    device_id = query.get("device_id", ["1"])[-1]
    if not wanted or not device_id.isdecimal() or int(device_id) > LAST_DEVICE_ID:
        raise ValueError(f"{connection!r} is not tcp://host:port?device_id=0…{LAST_DEVICE_ID}")
    return Address(parts.hostname or "", parts.port or DEFAULT_PORT, int(device_id))


class Connection:
    """Connects when it is asked something; ask one question at a time. `connects` counts the connections made."""

    def __init__(self, host: str, port: int) -> None:
        self.connects = 0
        self._host = host
        self._port = port
        self._client: AsyncModbusTcpClient | None = None
        self._asking = False

    async def read(self, device_id: int, request: Request, timeout_s: float) -> Reply:
        """Ask a unit. Every failure is a reply that says why: refused, unreachable, timeout, reset, wrong_reply, exception:2."""
        answered = False
        try:
            async with asyncio.timeout(2.0 * timeout_s + OUTER_MARGIN_S):  # one for the connection, one for the answer
                reply = await self._connected(timeout_s) or await self._ask(device_id, request)
            answered = not reply.why or reply.why.startswith("exception:")
        except TimeoutError:
            reply = Reply(why="timeout")
        finally:
            if not answered:
                self.close()
        return reply

    def close(self) -> None:
        """Drop the connection; the next question makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _connected(self, timeout_s: float) -> Reply | None:
        """None when there is a connection, else why there is none."""
        if self._client is not None and self._client.connected:
            self._client.comm_params.timeout_connect = self._client.ctx.comm_params.timeout_connect = timeout_s
            return None
        self.close()
        client = self._client = AsyncModbusTcpClient(
            self._host, port=self._port, timeout=timeout_s, retries=0, reconnect_delay=0, trace_connect=self._on_link
        )
        failure = "timeout"
        create = client.ctx.call_create

        async def create_and_tell() -> Any:
            nonlocal failure
            try:
                return await create()
            except OSError as error:  # pymodbus only logs it
                failure = _name(error)
                raise

        client.ctx.call_create = create_and_tell
        if not await client.connect():
            return Reply(why=failure)
        self.connects += 1
        return None

    async def _ask(self, device_id: int, request: Request) -> Reply:
        client = self._client
        if client is None or not client.connected:
            return Reply(why="reset")
        self._asking = True
        try:
            response = await _question(client, device_id, request)
        except ConnectionError:
            return Reply(why="reset")
        except ModbusException:
            return Reply(why="timeout")
        finally:
            self._asking = False
        if response.isError():
            return Reply(why=f"exception:{response.exception_code}")
        bits = request.table in {"coil", "discrete"}
        words = [int(bit) for bit in response.bits[: request.count]] if bits else list(response.registers)
        if response.function_code != FUNCTION_CODES[request.table] or len(words) != request.count:
            return Reply(why="wrong_reply")
        return Reply(words)

    def _on_link(self, up: bool) -> None:  # noqa: FBT001 - pymodbus calls it so
        """The peer hung up: tell who waits for its answer now, not after the timeout."""
        client = self._client
        if up or client is None or not self._asking or client.ctx.response_future.done():
            return
        client.ctx.response_future.set_exception(ConnectionResetError("the unit hung up"))


FUNCTION_CODES = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}


async def _question(client: AsyncModbusTcpClient, device_id: int, request: Request) -> ModbusPDU:
    match request.table:
        case "coil":
            return await client.read_coils(request.address, count=request.count, device_id=device_id)
        case "discrete":
            return await client.read_discrete_inputs(request.address, count=request.count, device_id=device_id)
        case "holding":
            return await client.read_holding_registers(request.address, count=request.count, device_id=device_id)
        case "input":
            return await client.read_input_registers(request.address, count=request.count, device_id=device_id)


def _name(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "unknown_host" if isinstance(error, socket.gaierror) else "unreachable"

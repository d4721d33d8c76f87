"""Modbus/TCP units made from their specs: real servers on loopback, many in one process.

A `ModbusDevice` is one unit: its words, and how it misbehaves when told to. A `ModbusServer` is one TCP port with one unit, or
several behind a gateway. They only answer reads: a write is refused and counted, because our driver must never try one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.simulator.simcore import SimCore

from iotcore.errors import StartError
from iotcore.reading import Scalar
from iotcore.specs import encode, plan
from iotcore.specs.model import DeviceSpec, Table

TABLES: dict[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}  # by the function code that reads it
BIT_CODES = frozenset({1, 2})


class ModbusDevice:
    """One unit. What was never set reads as zero; an address that its spec's requests do not touch does not exist."""

    def __init__(self, spec: DeviceSpec, values: Mapping[str, Scalar | None] | None = None) -> None:
        self.spec = spec
        self.silent = False  # takes requests and never answers
        self.exception: int | None = None  # answers every request with this exception code
        self.delay_s = 0.0  # thinks this long before it answers
        self.reads = 0
        self.writes_refused = 0
        self.words: dict[tuple[Table, int], int] = {
            (request.table, request.address + i): 0 for request in plan.requests(spec) for i in range(request.count)
        }
        self._values: dict[str, Scalar | None] = dict(values or {})
        self._qualities: dict[str, str] = {}
        self.words.update(encode.image(spec, self._values, self._qualities))

    def set(self, point: str, value: Scalar | None, quality: str | None = None) -> None:
        """Write a point's registers; `quality` is one of the states that its spec knows ("bad:not_assigned").

        Raises:
            ValueError: the value or the state does not fit the point.
        """
        values = {**self._values, point: value}
        qualities = {**self._qualities, point: quality or "good"}
        self.words.update(encode.image(self.spec, values, qualities))
        self._values, self._qualities = values, qualities


class ModbusServer:
    """An async context manager: one port (0: any free one), units by device id. It can be stopped and started again there."""

    def __init__(self, units: Mapping[int, ModbusDevice], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.connections = 0  # accepted so far
        self._units = dict(units)
        self._stopped = asyncio.Event()
        self._server: _Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def connection(self, device_id: int = 1) -> str:
        """The connection string by which the registry knows a unit."""
        return f"tcp://{self.host}:{self.port}?device_id={device_id}"

    async def start(self) -> None:
        """Listen; on the same port as before after a stop.

        Raises:
            StartError: the port is taken.
        """
        self._stopped = asyncio.Event()
        self._server = _Server(self, _Bank(self._units, self._stopped))
        if not await self._server.listen():
            self._server = None
            raise StartError(f"Port {self.port} on {self.host} is taken", "Choose another one, or 0 for any free one.")
        listener = cast(asyncio.Server, self._server.transport)
        self.port = listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection and refuse new ones."""
        if self._server is not None:
            self._stopped.set()
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # the transports close on the loop's next turn


class _Bank(SimCore):
    """What pymodbus asks for values: our units instead of its own register blocks."""

    def __init__(self, units: Mapping[int, ModbusDevice], stopped: asyncio.Event) -> None:
        super().__init__(SimDevice(0, SimData(0, datatype=DataType.REGISTERS)))  # never asked
        self.units = units
        self._stopped = stopped

    async def async_getValues(  # noqa: N802 - pymodbus names it
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        unit = self.units.get(device_id)
        if unit is None:
            return ExcCodes.GATEWAY_NO_RESPONSE
        unit.reads += 1
        table = TABLES[func_code]
        words = [unit.words.get((table, address + i)) for i in range(count)]  # as they were when asked
        if unit.delay_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), unit.delay_s)
        if unit.exception is not None:
            return ExcCodes(unit.exception)
        known = [word for word in words if word is not None]
        if len(known) < count:
            return ExcCodes.ILLEGAL_ADDRESS
        return [bool(word) for word in known] if func_code in BIT_CODES else known

    async def async_setValues(  # noqa: N802 - pymodbus names it
        self, device_id: int, func_code: int, address: int, values: list[int] | list[bool]
    ) -> ExcCodes | None:
        del func_code, address, values
        if device_id in self.units:
            self.units[device_id].writes_refused += 1
        return ExcCodes.ILLEGAL_FUNCTION


class _Server(ModbusTcpServer):
    """pymodbus's server, listening for one `ModbusServer`."""

    def __init__(self, owner: ModbusServer, bank: _Bank) -> None:
        super().__init__(SimDevice(0, SimData(0, datatype=DataType.REGISTERS)), address=(owner.host, owner.port))
        self.bank = self.context = bank
        self._owner = owner

    def callback_new_connection(self) -> ServerRequestHandler:
        self._owner.connections += 1
        return _Conversation(self, None, None, None)  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped


class _Conversation(ServerRequestHandler):
    """One client's connection; a silent unit's answers are thrown away."""

    def server_send(self, pdu: Any, addr: Any) -> None:
        unit = self.server.bank.units.get(pdu.dev_id) if pdu else None
        if unit is None or not unit.silent:
            super().server_send(pdu, addr)  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped

"""Asking a unit from the command line: where it is, and what a technician does about an answer that is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drivers.modbus.connection import Connection, serial_of
from iotcore.errors import StartError
from iotcore.specs.model import DeviceSpec, ModbusLimits, Table
from iotcore.specs.plan import Request
from iotcore.wire import modbus_address
from iotcore.wire.modbus_address import ModbusAddress

Words = dict[tuple[Table, int], int]
DEFAULT_TIMEOUT_S = 1.0  # as ModbusLimits has it
WRONG = "What answered is not the answer: two units with one device id, or the other of tcp:// and rtu+tcp://?"
REMEDIES = {
    "refused": "Nothing listens there: check host and port, and that Modbus is switched on in the unit.",
    "unknown_host": "No such host: check the name, or give its address.",
    "unreachable": "The network does not lead there: check address, cable and firewall.",
    "timeout": "No answer in time: check device id, wiring (A and B swapped?), baud rate and parity; --timeout waits longer.",
    "reset": "The unit hung up: it may take one connection only, so look for another client.",
    "no_such_port": "There is no such serial port: list them with `ls /dev/tty*`.",
    "no_permission": "This user may not open the port: add it to the group that owns it (`ls -l` shows it), then log in anew.",
    "port_in_use": "Another program has the port: stop it first.",
    "no_certificate": "The folder given by --certs lacks NAME.pem, NAME.key or NAME-ca.pem.",
    "server_not_verified": "The unit's certificate is not of the authority in NAME-ca.pem.",
    "tls_refused": "The unit refused our certificate.",
    "exception:1": "The unit does not know this function code: try another table.",
    "exception:2": "The unit has no such address: documents often count from 1, Modbus from 0, so try one less.",
    "exception:3": "The unit does not take this length or value: ask for fewer registers.",
    "exception:4": "The unit failed inside: look at its own display.",
    "exception:6": "The unit is busy: another client may be asking it.",
    "exception:10": "The gateway has no path to the unit: check the gateway's own settings.",
    "exception:11": "The gateway hears nothing of the unit: check device id and wiring behind the gateway.",
}


def remedy(why: str) -> str:
    """What to do about a reason."""
    return REMEDIES.get(why, WRONG if why.startswith("wrong_reply") else "Try again; then look at the line.")


def address_of(connection: str) -> ModbusAddress:
    """Where a unit is. Raises StartError when the string is none."""
    try:
        return modbus_address.parse(connection)
    except ValueError as error:
        raise StartError(str(error), "The forms are in docs/technician.md.") from error


class Asker:
    """One unit, asked one thing after the other with the pause that it needs."""

    def __init__(self, connection: Connection, address: ModbusAddress, timeout_s: float, gap_s: float = 0.0) -> None:
        self._connection = connection
        self._address = address
        self._timeout_s = timeout_s
        self._gap_s = gap_s
        self._asked = False

    async def into(self, request: Request, words: Words) -> str:
        """Read into `words`; why it was not possible, or ""."""
        if self._asked and self._gap_s:
            await asyncio.sleep(self._gap_s)
        self._asked = True
        reply = await self._connection.read(self._address.device_id, request, self._timeout_s)
        words.update(((request.table, request.address + i), word) for i, word in enumerate(reply.words))
        return reply.why


@dataclass(frozen=True, slots=True)
class How:
    """What the command line says of asking and of showing: a timeout of None is the spec's own."""

    timeout_s: float | None = None
    certs: Path | None = None
    output: Literal["table", "json"] = "table"


@asynccontextmanager
async def asking(address: ModbusAddress, how: How, spec: DeviceSpec | None = None) -> AsyncIterator[Asker]:
    """An asker whose connection is closed at the end; times are the spec's unless they are given."""
    limits = spec.modbus if spec is not None and spec.modbus is not None else ModbusLimits(timeout_s=DEFAULT_TIMEOUT_S)
    connection = Connection(address.line, serial_of(address, limits), how.certs)
    try:
        yield Asker(connection, address, how.timeout_s or limits.timeout_s, limits.min_gap_ms / 1000.0)
    finally:
        connection.close()

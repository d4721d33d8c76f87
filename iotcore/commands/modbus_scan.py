"""Which units answer on a line: one short question to each device id, then what those that answered say of themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers.modbus.connection import Connection, serial_of
from drivers.modbus.identify import identify
from drivers.modbus.questions import Fault
from iotcore.commands.modbus_asking import How, address_of, remedy
from iotcore.errors import StartError
from iotcore.specs.plan import Request
from iotcore.wire.modbus_address import DEFAULT_PORTS, ModbusAddress

FIRST, LAST = 1, 247  # ids of units on a serial line; Modbus over Serial Line 1.02, §2.2
QUESTION = Request("holding", 0, 1, ())
NETWORK_TIMEOUT_S, SERIAL_TIMEOUT_S = 0.3, 0.5
ALWAYS = 8  # ids that all answer: then the endpoint does not look at the id


@dataclass(frozen=True, slots=True)
class Found:
    """A unit that answered: with a word, or with an exception, which is an answer, too."""

    device_id: int
    said: str
    identity: dict[str, str]


def where(text: str) -> ModbusAddress:
    """HOST, HOST:PORT, a serial device or a connection string. Raises StartError."""
    if "://" in text:
        return address_of(text)
    if text.startswith("/"):
        return address_of(f"rtu://{text}")
    return address_of(f"tcp://{text}" if ":" in text.rpartition("]")[2] else f"tcp://{text}:{DEFAULT_PORTS['tcp']}")


def ids_of(text: str) -> list[int]:
    """Device ids of "1-247" or "1,5,9-12".

    Raises:
        ValueError: it names none.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{text!r} is not like 1-247 or 1,5,9")
        span = range(int(first), int(last if dash else first) + 1)
        if not span or span[-1] > 255:  # noqa: PLR2004 - a device id is one byte
            raise ValueError(f"{part!r} is no range of device ids, 0 to 255")
        found += span
    return sorted(set(found))


async def scan(place: str, ids: Sequence[int], how: How) -> int:
    """Ask every id once; 1 when nobody answers."""
    address = where(place)
    wait_s = how.timeout_s or (SERIAL_TIMEOUT_S if address.is_rtu else NETWORK_TIMEOUT_S)
    found = await _answers(address, ids, wait_s, how.certs)
    serial = serial_of(address, None)
    named = [replace(one, identity=await identify(replace(address, device_id=one.device_id), serial, wait_s)) for one in found]
    _show(address, named, len(ids), how.output)
    return 0 if named else 1


async def _answers(address: ModbusAddress, ids: Sequence[int], wait_s: float, certs: Path | None) -> list[Found]:
    found = []
    connection = Connection(address.line, serial_of(address, None), certs)
    try:
        for device_id in ids:
            reply = await connection.read(device_id, QUESTION, wait_s)
            if reply.fault is Fault.LINE:
                raise StartError(f"{address.line}: {reply.why}", remedy(reply.why))
            if reply.fault in {Fault.NONE, Fault.EXCEPTION}:
                found.append(Found(device_id, f"answers with {reply.why}" if reply.why else "answers", {}))
            elif reply.fault is Fault.WRONG:
                found.append(Found(device_id, f"{reply.why}: {remedy(reply.why)}", {}))
    finally:
        connection.close()
    return found


def _show(address: ModbusAddress, found: Sequence[Found], asked: int, output: str) -> None:
    rows: list[dict[str, Any]] = [
        {"device_id": one.device_id, "said": one.said, "connection": _connection(address, one.device_id), **one.identity}
        for one in found
    ]
    if output == "json":
        _say(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        identity = ", ".join(f"{key} {text}" for key, text in row.items() if key not in ("device_id", "said", "connection"))
        _say(f"{row['device_id']:>3}  {row['connection']}  {row['said']}{f'  ({identity})' if identity else ''}")
    _say(f"{len(found)} of {asked} device ids answer")
    if not found:
        _say(
            "Nobody: check wiring, baud rate and parity (rtu:///dev/ttyS0?baud=9600&parity=E), or give more time with --timeout."
        )
    elif len(found) == asked >= ALWAYS:
        _say("All of them: this endpoint is one unit that does not look at the device id.")


def _connection(address: ModbusAddress, device_id: int) -> str:
    line = address.line
    settings = {"baud": address.baud, "parity": address.parity, "stop_bits": address.stop_bits, "identity": line.identity or None}
    more = "".join(f"{key}={value}&" for key, value in settings.items() if value is not None)
    return f"{line}?{more}device_id={device_id}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

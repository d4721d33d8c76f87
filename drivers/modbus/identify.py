"""Read Device Identification (function code 43/14): vendor, product and version, where a unit has them. For technicians.

Optional in Modbus and answered by few units: none is no fault. Source: Modbus Application Protocol 1.1b3, §6.21.
"""

from __future__ import annotations

import asyncio

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType

from iotcore.specs.bus import Serial
from iotcore.wire.modbus_address import ModbusAddress

OBJECTS = {0: "vendor", 1: "product", 2: "version", 3: "url", 4: "product_name", 5: "model", 6: "application"}  # §6.21
OUTER_MARGIN_S = 0.5  # above pymodbus's own timeouts
LONGEST = 100  # characters of one object that are shown


async def identify(address: ModbusAddress, serial: Serial, timeout_s: float) -> dict[str, str]:
    """What a unit tells of itself; {} when it tells nothing. Not over TLS."""
    line = address.line
    client: AsyncModbusSerialClient | AsyncModbusTcpClient
    if line.scheme == "rtu":
        client = AsyncModbusSerialClient(
            line.host,
            baudrate=serial.baud,
            parity=serial.parity,
            stopbits=serial.stop_bits,
            timeout=timeout_s,
            retries=0,
            reconnect_delay=0,
        )
    elif line.scheme in {"tcp", "rtu+tcp"}:
        framer = FramerType.RTU if line.scheme == "rtu+tcp" else FramerType.SOCKET
        client = AsyncModbusTcpClient(line.host, port=line.port, framer=framer, timeout=timeout_s, retries=0, reconnect_delay=0)
    else:
        return {}
    try:
        async with asyncio.timeout(2.0 * timeout_s + OUTER_MARGIN_S):
            if not await client.connect():
                return {}
            reply = await client.read_device_information(device_id=address.device_id)
    except (TimeoutError, ModbusException, OSError):
        return {}
    finally:
        client.close()
    if reply.isError():
        return {}
    told: dict[int, bytes | list[bytes]] = getattr(reply, "information", {})
    return {name: _text(told[number]) for number, name in OBJECTS.items() if number in told}


def _text(content: bytes | list[bytes]) -> str:
    whole = b" ".join(content) if isinstance(content, list) else content
    return "".join(letter if letter.isprintable() else "?" for letter in whole.decode("utf-8", "replace"))[:LONGEST].strip()

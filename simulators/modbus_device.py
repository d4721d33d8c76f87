"""Modbus units made from their specs: real servers on loopback, many in one process.

spec + values ─► ModbusDevice ─► ModbusServer   a port: Modbus/TCP, RTU over TCP, TLS; one unit, or several behind a gateway
                      │       └► ModbusLine     a pseudo-terminal: RTU
                    fault        modbus_faults: by name, at once or by a timeline

A unit answers reads. It takes writes only where its spec has a command or where it was told to; any other is refused and counted.
"""

from __future__ import annotations

from simulators.modbus_server import ModbusLine, ModbusServer, security
from simulators.modbus_unit import ModbusDevice

__all__ = ["ModbusDevice", "ModbusLine", "ModbusServer", "security"]

"""A pump that takes writes: its spec, and what an allow-list lets one do to it."""

from __future__ import annotations

from typing import Any

from iotcore.specs.model import Command, DeviceSpec, ModbusLimits, ModbusWire, Point

PUMP = DeviceSpec(
    model="acme-pump",
    vendor="Acme",
    title="Acme pump",
    device_class="water_station",
    protocol="modbus",
    source="Acme map 1",
    verified="a test",
    interval_s=10.0,
    modbus=ModbusLimits(byte_order="CDAB", timeout_s=0.5),
    points={
        "speed": Point(unit="%", scale=0.1, modbus=ModbusWire("holding", 0, "uint16")),
        "mode": Point(kind="enum", states={"0": "off", "1": "auto"}, modbus=ModbusWire("holding", 1, "uint16")),
    },
    commands={
        "set_speed": Command(
            "routine", {"en": "Speed"}, ModbusWire("holding", 10, "uint16"), range=(0, 1000), reads_back="speed"
        ),
        "set_mode": Command("two_person", {"en": "Mode"}, ModbusWire("holding", 11, "uint16"), states={"0": "off", "1": "auto"}),
        "erase": Command("forbidden", {"en": "Erase"}, ModbusWire("holding", 12, "uint16"), range=(1, 1)),
        "run": Command("routine", {"en": "Run"}, ModbusWire("coil", 3, "bit")),
    },
)
SPECS = {"acme-pump": PUMP}
DEVICE: dict[str, Any] = {
    "device": "pump-1",
    "connection": "tcp://10.0.0.9:502?device_id=4",
    "model": "acme-pump",
    "commands": [
        {"name": "set_speed", "range": [0, 500], "every_s": 60},
        {"name": "set_mode", "every_s": 1},
        {"name": "run", "every_s": 1},
    ],
    "registers": [
        {"name": "damping", "modbus": {"table": "holding", "address": 40, "type": "float32"}, "range": [0, 9], "every_s": 5}
    ],
}

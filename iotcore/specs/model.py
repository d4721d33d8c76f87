"""DeviceSpec: a device model as data.

A point has a wire side (where the bytes are) and a meaning side (unit, scale, range). Modbus addresses are stored 0-based.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DeviceClass = Literal["fire_detector", "fire_panel", "air_station", "water_station", "traffic_signal", "gateway"]
RawType = Literal["int16", "uint16", "int32", "uint32", "float32", "float64", "bit"]
ByteOrder = Literal["ABCD", "BADC", "CDAB", "DCBA"]
Table = Literal["holding", "input", "coil", "discrete"]
Kind = Literal["number", "bool", "text"]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$(?!\n)")]
Address = Annotated[int, Meta(ge=0, le=65535)]


class ModbusWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a point stands in a Modbus unit: table, 0-based address, raw type."""

    table: Table
    address: Address
    type: RawType
    bit: Annotated[int, Meta(ge=0, le=15)] | None = None
    byte_order: ByteOrder | None = None  # None: the spec's default


class JsonWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a point stands in a vendor's JSON payload: dotted path. Canonical devices need none: the key is the point's name."""

    path: str


class QualityWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A register that says how good a neighbouring value is: raw number → "good", "uncertain:why" or "bad:why"."""

    table: Table
    address: Address
    states: dict[str, str]  # raw value as decimal text → quality; anything else is bad:unknown_state


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing a device tells. `value = raw * scale + offset`, in `unit`; outside `range` it is bad:out_of_range."""

    unit: str = ""
    kind: Kind = "number"
    scale: float = 1.0
    offset: float = 0.0
    range: tuple[float, float] | None = None
    modbus: ModbusWire | None = None
    json: JsonWire | None = None
    quality: QualityWire | None = None
    sentinels: tuple[float, ...] = ()  # raw values that mean "no value"
    title: dict[str, str] = {}  # language → what people see: {vi: Khói, en: Smoke}


class ModbusLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a unit bears and how its words lie."""

    byte_order: ByteOrder = "ABCD"
    max_registers: Annotated[int, Meta(ge=1, le=125)] = 125
    max_hole: Annotated[int, Meta(ge=0, le=124)] = 8  # registers read for nothing, to join two blocks into one request
    min_gap_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 1.0


class DeviceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of one vendor. `source` names the document the map comes from; `verified` what was checked, and how."""

    model: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$(?!\n)")]
    vendor: str
    title: str
    device_class: DeviceClass
    protocol: Literal["canonical", "modbus", "json"]
    source: str
    verified: str
    interval_s: Annotated[float, Meta(gt=0, le=86_400)]
    points: dict[Name, Point]
    modbus: ModbusLimits | None = None

"""Rules of a wire: where a point, a verdict or a command stands. Each problem names its path and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator

from iotcore.specs import paths, raw
from iotcore.specs.model import DeviceSpec, ModbusLimits, ModbusWire, QualityWire
from iotcore.specs.quality import parse_quality

Found = Iterator[tuple[str, str]]
LAST_ADDRESS = 65535  # Modbus Application Protocol 1.1b3, §4.3
RAW_NUMBER = re.compile(r"(?:-?(?:0|[1-9][0-9]{0,19})|0x[0-9A-Fa-f]{1,16})\Z")
QUALITY_FIELDS = {"modbus": ("table", "address"), "json": ("path",), "bytes": ("offset",)}


def wire_problems(wire: ModbusWire, limits: ModbusLimits) -> Found:
    """Every broken rule of one Modbus wire."""
    if wire.table in raw.BIT_TABLES:
        if wire.type != "bit":
            yield ".modbus.type", f"must be bit in table {wire.table}"
        for key in ("bit", "mask", "byte_order", "length"):
            if getattr(wire, key) is not None:
                yield f".modbus.{key}", f"has no meaning in table {wire.table}: each address is one bit"
        return
    yield from _fields(wire)
    width = raw.width(wire)
    if limits.addresses == "zero_based" and wire.address + width - 1 > LAST_ADDRESS:
        reason = "is above 65535" if wire.address > LAST_ADDRESS else f"leaves no room for the {width} registers of {wire.type}"
        yield ".modbus.address", f"{reason}; 40001 and the like need modbus.addresses: modicon"
    if width > limits.max_registers:
        yield ".modbus.type", f"needs {width} registers in one request; modbus.max_registers is {limits.max_registers}"


def _fields(wire: ModbusWire) -> Found:
    if wire.type == "bit" and wire.bit is None:
        yield ".modbus.bit", "is missing: which bit of the register, 0 the least significant"
    if wire.bit is not None and wire.type not in ("bit", "uint16"):
        yield ".modbus.bit", f"has no meaning for type {wire.type}"
    if wire.mask is not None and (wire.type != "uint16" or wire.bit is not None):
        yield ".modbus.mask", "is a field of a uint16 without bit"
    if wire.type == "string" and wire.length is None:
        yield ".modbus.length", "is missing: how many registers the text takes"
    if wire.type != "string" and wire.length is not None:
        yield ".modbus.length", "is for strings only"


def quality_problems(spec: DeviceSpec, wire: QualityWire) -> Found:
    """Every broken rule of one quality wire."""
    wanted = QUALITY_FIELDS.get(spec.protocol, ())
    for key in ("table", "address", "path", "offset"):
        has = getattr(wire, key) is not None
        if has != (key in wanted):
            yield f".{key}", f"has no meaning for protocol {spec.protocol}" if has else f"is missing: protocol is {spec.protocol}"
    if wire.path is not None:
        yield from path_problems(wire.path, ".path")
    if wire.mask is not None and (spec.protocol not in ("modbus", "bytes") or wire.table in raw.BIT_TABLES):
        yield ".mask", "is a field of a register or byte"
    yield from _states(wire, _most(spec, wire))


def _most(spec: DeviceSpec, wire: QualityWire) -> int:
    """The largest raw value that a quality wire can have."""
    if wire.mask is not None:
        return raw.masked(wire.mask, wire.mask)
    return 1 if wire.table in raw.BIT_TABLES else 0xFF if spec.protocol == "bytes" else 0xFFFF


def _states(wire: QualityWire, most: int) -> Found:
    for number, words in wire.states.items():
        if wire.path is None and (not RAW_NUMBER.match(number) or not 0 <= int(number, 0) <= most):
            yield f".states.{number}", f"is no register value: write a number 0 to {most} in quotes"
        if parse_quality(words) is None:
            yield f".states.{number}", f"{words!r} is not good, uncertain[:why] or bad[:why]"
    if not wire.states:
        yield ".states", "are missing"
    if parse_quality(wire.otherwise) is None:
        yield ".otherwise", f"{wire.otherwise!r} is not good, uncertain[:why] or bad[:why]"


def path_problems(path: str, where: str) -> Found:
    """Whether `path` is one into a JSON payload."""
    try:
        paths.steps(path)
    except ValueError as error:
        yield where, str(error)

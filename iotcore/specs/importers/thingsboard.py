"""A ThingsBoard IoT Gateway's Modbus connector (JSON) → a draft spec of one of its units.

Source: the gateway's documentation of the Modbus connector and its default configuration (3.7). Orders that are not said are
LITTLE there, both of them; texts and single bytes are taken as they come, whatever the order. It asks for each tag by itself, so
a draft fills no holes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from iotcore.errors import ConfigError, Problem
from iotcore.specs import raw
from iotcore.specs.importers.draft import BIT_TABLES, Draft, Imported, Wanted
from iotcore.specs.importers.plain import integer, leftovers, number, refuse_giants, table, tables
from iotcore.specs.importers.report import Unsayable, shown
from iotcore.specs.importers.units import choose

ORIGIN = "ThingsBoard IoT Gateway, Modbus connector"
CODES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
TYPES = {
    **{f"{bits}{kind}": f"{kind}{bits}" for bits in (16, 32, 64) for kind in ("int", "uint")},
    "32float": "float32",
    "64float": "float64",
}
SIZED = {"int": "int", "integer": "int", "long": "int", "uint": "uint", "float": "float", "double": "float"}
ORDERS = {("BIG", "BIG"): "ABCD", ("LITTLE", "BIG"): "BADC", ("BIG", "LITTLE"): "CDAB", ("LITTLE", "LITTLE"): "DCBA"}
RANGE = re.compile(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})\Z")
MOST_OF_A_RANGE = 2000  # points; more is no map of a device

CONNECTION = "says where the unit is: that is `connection` in the registry, not in a spec"
WRITES = "writes are for a person to describe: a command with its safety class"
RETRIES = "the driver has its own way of asking again"
SLAVE_REASONS = {
    **dict.fromkeys(("host", "port", "type", "method", "unitId", "tls", "security", "bytesize", "strict", "repack"), CONNECTION),
    **dict.fromkeys(("retries", "retryOnEmpty", "retryOnInvalid", "connectAttemptTimeMs", "connectAttemptCount"), RETRIES),
    **dict.fromkeys(("waitAfterFailedAttemptsMs",), RETRIES),
    **dict.fromkeys(
        ("sendDataOnlyOnChange", "reportStrategy"), "every reading is told here; `deadband` of a point tells a change at once"
    ),
    **dict.fromkeys(("uplink_converter", "downlink_converter", "converter"), "code is not carried over"),
}
SLAVE_KNOWN = frozenset({
    "deviceName", "deviceType", "pollPeriod", "timeseriesPollPeriod", "attributesPollPeriod", "timeout", "byteOrder", "wordOrder",
    "baudrate", "parity", "stopbits", "delayBetweenRequestsMs", "attributes", "timeseries", "attributeUpdates", "rpc",
})  # fmt: skip
TAG_KNOWN = frozenset({
    "tag", "type", "functionCode", "objectsCount", "registersCount", "registerCount", "address", "divider", "multiplier", "bit",
    "bitTargetType", "variants", "byteOrder", "wordOrder", "tagOverrides",
})  # fmt: skip
TAG_REASONS = {
    "round": "values keep their digits here",
    "reportStrategy": "`deadband` of a point is the nearest thing here",
    "maxRegistersPerRequest": "is `max_registers` of the whole unit here",
}


def read(content: bytes, file: str, wanted: Wanted) -> Imported:
    """The draft spec of one unit of the file.

    Raises:
        ConfigError: it is not JSON, has no unit, has several and none was chosen, or nothing can be carried over.
    """
    draft = Draft(file, ORIGIN)
    try:
        document = table(json.loads(content.decode("utf-8")))
    except RecursionError as error:
        raise ConfigError([Problem(file, "", "nested too deeply")]) from error
    except ValueError as error:  # UnicodeDecodeError is one
        raise ConfigError([Problem(file, "", f"is not JSON: {error}")]) from error
    refuse_giants(document, file)
    units = [(_name(unit, where), (where, unit)) for where, unit in _units(draft, document)]
    where, unit = choose(draft, units, wanted.unit, "units in master.slaves")
    draft.title = str(unit.get("deviceType") or unit.get("deviceName") or "")
    _whole(draft, where, unit)
    for section in ("timeseries", "attributes"):
        for place, tag in tables(unit.get(section), f"{where}.{section}", draft.findings):
            leftovers(tag, TAG_KNOWN, TAG_REASONS, place, draft.findings)
            try:
                _tag(draft, place, tag, unit)
            except Unsayable as why:
                draft.findings.lost(place, shown(tag.get("tag", "a tag")), str(why))
    for section in ("attributeUpdates", "rpc"):
        for place, tag in tables(unit.get(section) or None, f"{where}.{section}", draft.findings):
            draft.findings.lost(place, str(tag.get("tag", "a write")), WRITES)
    return draft.finish(wanted)


def _units(draft: Draft, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Units of this form and of its older one, bare or as the gateway's own API wraps it."""
    for _ in range(3):
        inner = table(document.get("configurationJson")) or (table(next(iter(document.values()))) if len(document) == 1 else {})
        if "master" in document or "server" in document or not inner:
            break
        document = inner
    master, server = table(document.get("master")), table(document.get("server"))
    yield from tables(master.get("slaves"), "master.slaves", draft.findings)
    shared = {key: value for key, value in server.items() if key != "devices"}
    for where, unit in tables(server.get("devices"), "server.devices", draft.findings):
        yield where, shared | unit


def _name(unit: dict[str, Any], where: str) -> str:
    return f"{unit.get('deviceName') or where}/{unit.get('unitId', '')}"


def _whole(draft: Draft, where: str, unit: dict[str, Any]) -> None:
    leftovers(unit, SLAVE_KNOWN, SLAVE_REASONS, where, draft.findings)
    draft.limits["max_hole"] = 0
    period_ms = number(unit.get("pollPeriod", unit.get("timeseriesPollPeriod")))
    draft.interval(None if period_ms is None else period_ms / 1000.0)
    for key, ours, low, high in (
        ("timeout", "timeout_s", 0.001, 60),
        ("delayBetweenRequestsMs", "min_gap_ms", 0, 60_000),
        ("baudrate", "baud", 300, 921_600),
        ("stopbits", "stop_bits", 1, 2),
    ):
        value = number(unit.get(key)) if ours == "timeout_s" else integer(unit.get(key))
        if value is not None:
            draft.limit(ours, value, low, high, f"{where}.{key}")
    if unit.get("parity") in ("N", "E", "O"):
        draft.limit("parity", unit["parity"], 0, 0, where)


def _tag(draft: Draft, where: str, tag: dict[str, Any], unit: dict[str, Any]) -> None:
    """Add the tag's point, or points. Raises Unsayable."""
    findings, said = draft.findings, shown(tag.get("tag", "a tag"))
    table_ = CODES.get(integer(tag.get("functionCode")) or 0)
    if table_ is None:
        raise Unsayable(f"functionCode {shown(tag.get('functionCode'))} reads nothing: 1 to 4 do")
    count = integer(tag.get("objectsCount", tag.get("registersCount", tag.get("registerCount", 1))))
    if count is None or count < 1:
        raise Unsayable(f"objectsCount {shown(tag.get('objectsCount'))} is no count")
    if table_ in BIT_TABLES:
        typed = _coil(tag, count)
    else:
        typed = {"byte_order": _order(tag, unit), **_type(tag, count)}
        if count != (needed := _registers(typed)):
            findings.doubt(where, said, f"objectsCount {count}, but {shown(tag.get('type'))} stands in {needed} registers")
    meaning = {} if typed["type"] in ("bit", "string") else _meaning(tag, typed["type"])
    if tag.get("variants"):
        findings.doubt(where, said, "the gateway passes on a number that variants do not name; here it is bad:unknown_state")
    for name, address in _places(draft, where, tag, count):
        draft.add(where, name, {"table": table_, "address": address, **typed}, **meaning)


def _places(draft: Draft, where: str, tag: dict[str, Any], count: int) -> list[tuple[Any, int | None]]:
    """Name and address of each point of a tag: "10-19" is a run of them."""
    address, said = tag.get("address"), shown(tag.get("tag", "a tag"))
    run = RANGE.match(address) if isinstance(address, str) else None
    if run is None:
        return [(tag.get("tag"), integer(address))]
    addresses = range(int(run[1]), int(run[2]) + 1, count)
    if not 0 < len(addresses) <= MOST_OF_A_RANGE:
        raise Unsayable(f"the range {address} has {len(addresses)} points")
    draft.findings.doubt(where, said, f"a range of {len(addresses)} points, each written out; `repeats` says it shorter")
    own = table(tag.get("tagOverrides"))
    name = said if "${address}" in said else f"{said}_${{address}}"
    return [(own.get(str(one)) or name.replace("${address}", str(one)), one) for one in addresses]


def _order(tag: dict[str, Any], unit: dict[str, Any]) -> str:
    by_byte, by_word = (str(tag.get(key) or unit.get(key) or "LITTLE").upper() for key in ("byteOrder", "wordOrder"))
    if (by_byte, by_word) not in ORDERS:
        raise Unsayable("byteOrder and wordOrder must be BIG or LITTLE")
    return ORDERS[by_byte, by_word]


def _coil(tag: dict[str, Any], count: int) -> dict[str, Any]:
    if count != 1 or str(tag.get("type")).lower() not in {"bit", "bits"}:
        raise Unsayable(f"{count} bits as {shown(tag.get('type'))} cannot be said in a spec: write a point for each")
    return {"type": "bit"}


def _type(tag: dict[str, Any], count: int) -> dict[str, Any]:
    """The type of registers as a spec says it. Raises Unsayable."""
    kind = str(tag.get("type")).lower()
    if kind in {"bit", "bits"}:
        raise Unsayable("the gateway's versions number the bits of a register differently: write type bit, bit 0 the lowest")
    if kind == "string":
        return {"type": "string", "length": count, "byte_order": "ABCD"}
    if kind == "8uint":
        return {"type": "uint16", "mask": 0xFF00, "byte_order": "ABCD"}  # it takes the first byte of the register
    sized = f"{SIZED[kind]}{16 * count}" if kind in SIZED else TYPES.get(kind, "")
    if sized not in raw.LIMITS:
        raise Unsayable(f"type {shown(tag.get('type'))} of {count} registers cannot be said in a spec")
    return {"type": sized}


def _registers(typed: dict[str, Any]) -> int:
    """How many registers a type stands in; a string says so itself."""
    return int(typed["length"]) if typed["type"] == "string" else int(raw.WORDS[typed["type"]])


def _meaning(tag: dict[str, Any], type_: str) -> dict[str, Any]:
    """Scale, or states. Raises Unsayable."""
    divider, multiplier = (number(tag.get(key)) or None for key in ("divider", "multiplier"))
    if divider and multiplier:
        raise Unsayable("has a divider and a multiplier: the gateway's versions differ in which they take; say one scale")
    scale = 1.0 / divider if divider else multiplier or 1.0
    variants = {key: shown(word) for key, word in table(tag.get("variants")).items()}
    if variants and (scale != 1.0 or "float" in type_):
        raise Unsayable("variants of a scaled or fractional number cannot be said in a spec")
    return {"states": variants} if variants else {"scale": scale}

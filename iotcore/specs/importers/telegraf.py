"""Telegraf's `inputs.modbus` (TOML) → a draft spec: the register, request and metric styles of its configuration.

Source: the plug-in's README and its sample configuration (Telegraf 1.34). Telegraf reads only the registers it is told to, so a
draft fills no holes unless the file asked for it.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from iotcore.errors import ConfigError, Problem
from iotcore.specs.importers.draft import BIT_TABLES, Draft, Imported, Wanted
from iotcore.specs.importers.plain import duration_s, integer, leftovers, number, refuse_giants, table, tables
from iotcore.specs.importers.report import Unsayable, shown
from iotcore.specs.importers.units import choose

ORIGIN = "Telegraf inputs.modbus"
LISTS = {"coils": "coil", "discrete_inputs": "discrete", "holding_registers": "holding", "input_registers": "input"}
ORDERS = {
    **{order: order for order in ("ABCD", "BADC", "CDAB", "DCBA")},
    "AB": "ABCD", "BA": "DCBA", "ABCDEFGH": "ABCD", "BADCFEHG": "BADC", "GHEFCDAB": "CDAB", "HGFEDCBA": "DCBA",
    "MSW-BE": "ABCD", "MSW-LE": "BADC", "LSW-BE": "CDAB", "LSW-LE": "DCBA",
}  # fmt: skip
NUMBERS = {kind: kind.lower() for kind in ("INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64")}
TYPES = {**NUMBERS, "FLOAT32": "float32", "FLOAT64": "float64", "STRING": "string", "BIT": "bit"}
REGISTER_TYPES = {**NUMBERS, "FLOAT32-IEEE": "float32", "FLOAT64-IEEE": "float64"}
FIXED = {"FIXED": "int", "UFIXED": "uint", "FLOAT32": "uint"}  # FLOAT32 is the old name of UFIXED in the register style
BYTES = {"UINT8L": 0x00FF, "UINT8H": 0xFF00}
FILLS = frozenset({"max_insert", "aggressive"})  # optimisations that read registers nobody asked for
OUR_MAX_HOLE = 124
TELEGRAF_FILL = 50  # registers, its own default of max_insert
SIGNED = ": a signed byte; read the register as uint16 with a mask"
REMEDIES = {"INT8L": SIGNED, "INT8H": SIGNED, "STRING": " when it takes one byte of each register"}

CONNECTION = "says where the unit is: that is `connection` in the registry, not in a spec"
PLUGIN_REASONS = {
    **dict.fromkeys(("controller", "transmission_mode", "slave_id", "rs485", "data_bits"), CONNECTION),
    **dict.fromkeys(("tags", "name_prefix", "name_suffix", "name_override", "alias"), "names are the registry's here"),
    "busy_retries": "the driver asks again at the next poll, never at once",
    "busy_retries_wait": "the driver asks again at the next poll, never at once",
}
PLUGIN_KNOWN = frozenset({
    "name", "configuration_type", "timeout", "interval", "baud_rate", "parity", "stop_bits", "request", "metric", "workarounds",
    "optimization", "optimization_max_register_fill", "debug_connection", "log_level", "exclude_register_type_tag", *LISTS,
})  # fmt: skip
WORKAROUNDS_KNOWN = frozenset({
    "pause_between_requests", "max_bit_registers_per_request", "max_word_registers_per_request",
})  # fmt: skip
WORKAROUND = "there is no such workaround here; test the unit without it"
WORKAROUND_REASONS = dict.fromkeys(
    ("pause_after_connect", "close_connection_after_gather", "one_request_per_field", "read_coils_starting_at_zero"), WORKAROUND
)
GROUP_KNOWN = frozenset({
    "slave_id", "byte_order", "register", "fields", "measurement", "optimization", "optimization_max_register_fill",
})  # fmt: skip
FIELD_KNOWN = frozenset({
    "name", "address", "type", "data_type", "byte_order", "scale", "register", "bit", "length", "omit", "measurement", "output",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of the file, whatever style it was written in. `words` is what the register style's address list says."""

    where: str
    entry: dict[str, Any]
    table: str
    order: Any
    kind: Any
    address: Any
    words: int | None = None


def read(content: bytes, file: str, wanted: Wanted) -> Imported:
    """The draft spec of one unit of the file.

    Raises:
        ConfigError: it is not TOML, has no `inputs.modbus`, has several units and none was chosen, or holds nothing that can be
            carried over.
    """
    draft = Draft(file, ORIGIN)
    plugins = list(tables(table(table(_toml(content, file)).get("inputs")).get("modbus"), "inputs.modbus", draft.findings))
    names = Counter(str(plugin.get("name")) for _, plugin in plugins)
    units = [
        (
            f"{plugin['name'] if names[str(plugin.get('name'))] == 1 and plugin.get('name') else where}/{unit}",
            (where, plugin, unit),
        )
        for where, plugin in plugins
        for unit in _unit_ids(plugin)
    ]
    where, plugin, unit = choose(draft, units, wanted.unit, "inputs.modbus")
    draft.title = str(plugin.get("name") or "")
    _whole(draft, where, plugin)
    string_location = str(table(plugin.get("workarounds")).get("string_register_location") or "")
    for one in _fields(draft, where, plugin, unit):
        try:
            _point(draft, one, string_location)
        except Unsayable as why:
            draft.findings.lost(one.where, shown(one.entry.get("name", "a point")), str(why))
    return draft.finish(wanted)


def _toml(content: bytes, file: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ConfigError([Problem(file, "", "nested too deeply")]) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ones
        raise ConfigError([Problem(file, "", f"is not TOML: {error}")]) from error
    refuse_giants(document, file)
    return document


def _style(plugin: dict[str, Any]) -> str:
    return str(plugin.get("configuration_type") or "register")


def _unit_ids(plugin: dict[str, Any]) -> list[int]:
    """The device ids that an entry reads; one entry of the register style reads one."""
    default = integer(plugin.get("slave_id"))
    if _style(plugin) not in {"request", "metric"}:
        return [1 if default is None else default]
    groups = plugin.get(_style(plugin))
    ids = [integer(table(group).get("slave_id")) for group in (groups if isinstance(groups, list) else [groups])]
    return sorted({0 if one is None else one for one in ids})


def _whole(draft: Draft, where: str, plugin: dict[str, Any]) -> None:
    """What holds for the unit: times, the serial line, how much it bears."""
    findings = draft.findings
    leftovers(plugin, PLUGIN_KNOWN | {"slave_id"}, PLUGIN_REASONS, where, findings)
    draft.limits["max_hole"] = 0
    draft.interval(duration_s(plugin.get("interval")))
    if (timeout_s := duration_s(plugin.get("timeout"))) is not None:
        draft.limit("timeout_s", timeout_s, 0.001, 60, f"{where}.timeout")
    for key, ours, low, high in (("baud_rate", "baud", 300, 921_600), ("stop_bits", "stop_bits", 1, 2)):
        if (value := integer(plugin.get(key))) is not None:
            draft.limit(ours, value, low, high, f"{where}.{key}")
    if plugin.get("parity") in ("N", "E", "O"):
        draft.limit("parity", plugin["parity"], 0, 0, where)
    around = table(plugin.get("workarounds"))
    leftovers(around, WORKAROUNDS_KNOWN | {"string_register_location"}, WORKAROUND_REASONS, f"{where}.workarounds", findings)
    if (pause_s := duration_s(around.get("pause_between_requests"))) is not None:
        draft.limit("min_gap_ms", round(min(pause_s, 1e6) * 1000.0), 0, 60_000, f"{where}.workarounds")
    for key, ours, high in (
        ("max_word_registers_per_request", "max_registers", 125),
        ("max_bit_registers_per_request", "max_bits", 2000),
    ):
        if (value := integer(around.get(key))) is not None:
            draft.limit(ours, value, 1, high, f"{where}.workarounds.{key}")
    _holes(draft, plugin)


def _holes(draft: Draft, settings: dict[str, Any]) -> None:
    if str(settings.get("optimization")) in FILLS:
        fill = integer(settings.get("optimization_max_register_fill"))
        draft.limits["max_hole"] = max(
            draft.limits["max_hole"], min(OUR_MAX_HOLE, TELEGRAF_FILL if fill is None else max(0, fill))
        )


def _fields(draft: Draft, where: str, plugin: dict[str, Any], unit: int) -> Iterator[_Field]:
    style = _style(plugin)
    if style == "register":
        yield from _register_fields(draft, where, plugin)
    elif style in {"request", "metric"}:
        yield from _grouped_fields(draft, where, plugin, style, unit)
    else:
        draft.findings.lost(where, f"configuration_type {style}", "known are register, request and metric")


def _register_fields(draft: Draft, where: str, plugin: dict[str, Any]) -> Iterator[_Field]:
    for key, table_ in LISTS.items():
        for path, entry in tables(plugin.get(key), f"{where}.{key}", draft.findings):
            addresses = entry.get("address")
            numbers = [integer(one) for one in addresses] if isinstance(addresses, list) else []
            first = numbers[0] if numbers else None
            if first is None or numbers != list(range(first, first + len(numbers))):
                why = f"address {shown(addresses)} is no list of registers that follow each other"
                draft.findings.lost(path, shown(entry.get("name", "a point")), why)
                continue
            yield _Field(path, entry, table_, entry.get("byte_order"), entry.get("data_type"), first, len(numbers))


def _grouped_fields(draft: Draft, where: str, plugin: dict[str, Any], style: str, unit: int) -> Iterator[_Field]:
    for path, group in tables(plugin.get(style), f"{where}.{style}", draft.findings):
        if (integer(group.get("slave_id")) or 0) != unit:
            continue
        leftovers(group, GROUP_KNOWN, {"tags": "tags are the registry's: site, zone, device"}, path, draft.findings)
        _holes(draft, group)
        for place, entry in tables(group.get("fields"), f"{path}.fields", draft.findings):
            if entry.get("omit") is True:
                continue  # only there to fill a hole of a request; the plan does that here
            register = str((entry if style == "metric" else group).get("register") or "holding")
            order = group.get("byte_order") or "ABCD"
            yield _Field(place, entry, register, order, entry.get("type"), integer(entry.get("address")))


def _point(draft: Draft, one: _Field, string_location: str) -> None:
    """Add the field to the draft. Raises Unsayable."""
    entry, said = one.entry, shown(one.entry.get("name", "a point"))
    leftovers(entry, FIELD_KNOWN, {}, one.where, draft.findings)
    if one.table not in LISTS.values():
        raise Unsayable(f"register {one.table!r} is none of coil, discrete, holding, input")
    wire: dict[str, Any] = {"table": one.table, "address": one.address}
    if one.table in BIT_TABLES:
        draft.add(one.where, entry.get("name"), {**wire, "type": "bit"})
        return
    order = ORDERS.get(str(one.order))
    if order is None:
        raise Unsayable(f"byte order {shown(one.order)} is none that is known")
    typed = _type(one, string_location)
    factor = number(entry.get("scale", 1.0))
    if factor is None:
        raise Unsayable(f"scale {shown(entry.get('scale'))} is no number")
    if entry.get("output") not in (None, "", "FLOAT64", "STRING"):
        why = f"output {shown(entry['output'])} is not carried over: a number keeps its fraction here"
        draft.findings.doubt(one.where, said, why)
    scale = None if typed["type"] in ("string", "bit") else factor or 1.0  # 0 means "none" to Telegraf
    draft.add(one.where, entry.get("name"), {**wire, **typed, "byte_order": order}, scale=scale)


def _type(one: _Field, string_location: str) -> dict[str, Any]:
    """The type as a spec says it. Raises Unsayable."""
    kind = shown(one.kind)
    if kind in BYTES:
        return {"type": "uint16", "mask": BYTES[kind]}
    if kind == "BIT":
        return {"type": "bit", "bit": integer(one.entry.get("bit", 0))}
    if kind == "STRING" and string_location not in {"lower", "upper"}:
        return {"type": "string", "length": integer(one.entry.get("length"))}
    found = TYPES.get(kind) if one.words is None else REGISTER_TYPES.get(kind)
    if one.words is not None and kind in FIXED:
        found = f"{FIXED[kind]}{16 * one.words}"
    if found is None or found == "string":
        raise Unsayable(f"type {kind} cannot be said in a spec{REMEDIES.get(kind, '')}")
    if one.words is not None and not found.endswith(str(16 * one.words)):
        raise Unsayable(f"{kind} does not stand in {one.words} registers")
    return {"type": found}

"""An EdgeX device profile (YAML) as device-modbus reads it → a draft spec.

Source: EdgeX's documentation of device profiles and of device-modbus (version 4): it swaps bytes and words of 32-bit types only,
gives 16-bit and 64-bit ones as they come, and reads `startingAddress: 10.1` as register 10, bit 10 (a float, two decimals).
"""

from __future__ import annotations

from typing import Any

from iotcore.errors import ConfigError, Problem
from iotcore.specs import raw, yaml12
from iotcore.specs.importers.draft import BIT_TABLES, Draft, Imported, Wanted
from iotcore.specs.importers.plain import boolean, integer, leftovers, number, refuse_giants, table, tables
from iotcore.specs.importers.report import Unsayable, shown

ORIGIN = "EdgeX device profile"
TABLES = {
    "COILS": "coil",
    "DISCRETES_INPUT": "discrete",
    "DISCRETE_INPUTS": "discrete",
    "INPUT_REGISTERS": "input",
    "HOLDING_REGISTERS": "holding",
}
TYPES = {kind: kind.lower() for kind in ("Int16", "Uint16", "Int32", "Uint32", "Int64", "Uint64", "Float32", "Float64")}
RAW_TYPES = {  # which raw types device-modbus takes for which value types
    "Float32": ("Float32", "Int16", "Uint16"),
    "Float64": ("Float64", "Int16", "Uint16", "Int32"),
}
WHOLE_WORD = 0xFFFF
SWAPPED = frozenset({"int32", "uint32", "float32"})
ORDERS = {(False, False): "ABCD", (True, False): "BADC", (False, True): "CDAB", (True, True): "DCBA"}

PROFILE_KNOWN = frozenset({"name", "manufacturer", "model", "labels", "description", "deviceResources", "apiVersion", "id"})
COMMANDS = "commands are for a person to write, each with its safety class"
PROFILE_REASONS = {"deviceCommands": COMMANDS, "coreCommands": COMMANDS}
RESOURCE_KNOWN = frozenset({"name", "description", "attributes", "properties", "isHidden", "tags", "tag"})
ATTRIBUTES_KNOWN = frozenset({"primaryTable", "startingAddress", "rawType", "isByteSwap", "isWordSwap", "stringRegisterSize"})
PROPERTIES_KNOWN = frozenset({
    "valueType", "type", "readWrite", "units", "minimum", "maximum", "scale", "offset", "mask", "shift", "base",
    "defaultValue", "mediaType", "optional",
})  # fmt: skip
PROPERTY_REASONS = {"assertion": "a range is the nearest thing here; this text is not carried over"}


def read(content: bytes, file: str, wanted: Wanted) -> Imported:
    """The draft spec of a profile.

    Raises:
        ConfigError: it is no YAML (aliases are refused) or no profile, or nothing can be carried over.
    """
    draft = Draft(file, ORIGIN)
    try:
        profile = table(yaml12.parse(content.decode("utf-8")))
    except ValueError as error:  # UnicodeDecodeError is one
        raise ConfigError([Problem(file, "", str(error))]) from error
    refuse_giants(profile, file)
    if "deviceResources" not in profile:
        raise draft.refuse("has no deviceResources: this is no device profile")
    draft.title = " ".join(shown(profile[key]) for key in ("manufacturer", "model") if profile.get(key))
    leftovers(profile, PROFILE_KNOWN, PROFILE_REASONS, "", draft.findings)
    draft.limits["max_hole"] = 0
    for where, resource in tables(profile.get("deviceResources"), "deviceResources", draft.findings):
        one = _Resource(where, shown(resource.get("name", "a resource")), resource, draft)
        try:
            one.add()
        except Unsayable as why:
            draft.findings.lost(where, one.said, str(why))
    return draft.finish(wanted)


class _Resource:
    """One deviceResource on its way into the draft."""

    def __init__(self, where: str, said: str, entry: dict[str, Any], draft: Draft) -> None:
        self.said = said
        self._where = where
        self._entry = entry
        self._draft = draft
        self._attributes = table(entry.get("attributes"))
        properties = table(entry.get("properties"))
        self._properties = table(properties.get("value")) | {key: it for key, it in properties.items() if key != "value"}  # v1

    def add(self) -> None:
        """Add the resource's point. Raises Unsayable."""
        findings = self._draft.findings
        leftovers(self._entry, RESOURCE_KNOWN, {}, self._where, findings)
        leftovers(self._attributes, ATTRIBUTES_KNOWN, {}, f"{self._where}.attributes", findings)
        leftovers(self._properties, PROPERTIES_KNOWN, PROPERTY_REASONS, f"{self._where}.properties", findings)
        access = str(self._properties.get("readWrite", "R"))
        if "R" not in access:
            raise Unsayable(f"is only written: {COMMANDS}")
        if "W" in access:
            findings.lost(self._where, self.said, f"its writing: {COMMANDS}")
        primary = TABLES.get(str(self._attributes.get("primaryTable")).upper())
        if primary is None:
            raise Unsayable(f"primaryTable {shown(self._attributes.get('primaryTable'))} is none of {', '.join(TABLES)}")
        kind = shown(self._properties.get("valueType", self._properties.get("type")))
        address, bit = self._place(kind)
        typed = _one_bit(kind) if primary in BIT_TABLES else self._type(kind, bit)
        meaning = {} if typed["type"] in ("bit", "string") else self._meaning(typed)
        self._draft.add(self._where, self._entry.get("name"), {"table": primary, "address": address, **typed}, **meaning)

    def _doubt(self, why: str) -> None:
        self._draft.findings.doubt(self._where, self.said, why)

    def _place(self, kind: str) -> tuple[int, int]:
        """Register and bit of the startingAddress."""
        start = self._attributes.get("startingAddress")
        whole = integer(start)
        if whole is not None:
            return whole, 0
        head, point, tail = (f"{start:.2f}" if isinstance(start, float) else shown(start)).partition(".")
        register, bit = integer(head), integer(tail)
        if not point or register is None or bit is None or (kind != "Bool" and bit):
            raise Unsayable(f"startingAddress {shown(start)} is no whole number")
        self._doubt(f"startingAddress {shown(start)} is a fraction, which EdgeX reads as register {register}, bit {bit}")
        return register, bit

    def _type(self, kind: str, bit: int) -> dict[str, Any]:
        """The type of a register as a spec says it."""
        if kind == "Bool":
            return {"type": "bit", "bit": bit, "byte_order": "ABCD"}
        if kind == "String":
            return {"type": "string", "length": integer(self._attributes.get("stringRegisterSize")), "byte_order": "ABCD"}
        stored = shown(self._attributes.get("rawType", kind)).capitalize()
        if kind not in TYPES or stored not in RAW_TYPES.get(kind, (kind,)):
            raise Unsayable(f"valueType {kind} with rawType {stored} cannot be said in a spec")
        by_byte, by_word = (boolean(self._attributes.get(key, False)) for key in ("isByteSwap", "isWordSwap"))
        if by_byte is None or by_word is None:
            raise Unsayable("isByteSwap and isWordSwap must be true or false")
        if (by_byte or by_word) and TYPES[stored] not in SWAPPED:
            self._doubt(f"device-modbus ignores isByteSwap and isWordSwap for {stored}, and so does this draft")
            by_byte = by_word = False
        return {"type": TYPES[stored], "byte_order": ORDERS[by_byte, by_word]}

    def _meaning(self, typed: dict[str, Any]) -> dict[str, Any]:
        """Unit, scale, offset and range; a mask goes into `typed`."""
        said = self._properties
        units = said.get("units")
        units = units.get("defaultValue") if isinstance(units, dict) else units
        for key, why in (("base", "a value here is no power"), ("shift", "write a mask: it is shifted down to bit 0 here")):
            if number(said.get(key)) not in (None, 0.0):
                raise Unsayable(f"{key} is not carried over: {why}")
        scale, offset = number(said.get("scale", 1)), number(said.get("offset", 0))
        if scale is None or offset is None:
            raise Unsayable("scale and offset must be numbers")
        scale = scale or 1.0  # 0 is EdgeX's older word for none
        if mask := integer(said.get("mask")):
            if typed["type"] != "uint16" or not 0 < mask <= WHOLE_WORD:
                raise Unsayable(f"mask {mask} is only possible for a Uint16 here")
            typed["mask"] = mask
            scale *= mask & -mask  # EdgeX leaves the field where it is in the word; a mask here shifts it down
        return {"unit": shown(units or ""), "scale": scale, "offset": offset, "range": self._range(typed, scale, offset)}

    def _range(self, typed: dict[str, Any], scale: float, offset: float) -> list[float] | None:
        """Minimum and maximum, no wider than what the register can tell."""
        low, high = number(self._properties.get("minimum")), number(self._properties.get("maximum"))
        if low is None and high is None:
            return None
        ends = (0.0, float(raw.masked(mask, mask))) if (mask := typed.get("mask")) else raw.LIMITS[typed["type"]]
        first, last = sorted(float(end) * scale + offset for end in ends)
        low, high = max(first, first if low is None else low), min(last, last if high is None else high)
        if not low < high:
            self._draft.findings.lost(self._where, self.said, "minimum and maximum are no range of this register")
            return None
        self._doubt("minimum and maximum bound what EdgeX writes; here a reading outside them is bad:out_of_range")
        return [low, high]


def _one_bit(kind: str) -> dict[str, Any]:
    if kind != "Bool":
        raise Unsayable(f"valueType {kind} has no meaning for one bit")
    return {"type": "bit"}

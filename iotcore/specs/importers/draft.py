"""A spec in the making: points as they are found in another platform's file, then the text of a spec that loads.

The loader judges the draft, not a second set of rules here: a point that it refuses is left out with the loader's own reason.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from iotcore.errors import ConfigError, Problem, SpecError
from iotcore.specs import load
from iotcore.specs.importers.report import Findings, Note, Report, shown
from iotcore.specs.model import DeviceClass, DeviceSpec

DEFAULT_INTERVAL_S = 60.0
LONGEST_NAME = 40  # characters of a point's name
LAST_ADDRESS = 65_535
LONGEST_INTERVAL_S = 86_400.0  # as the spec's own limit
LARGEST_PLAIN = 1e15  # whole numbers below are written without exponent
BIT_TABLES = ("coil", "discrete")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./%-]*(?: [A-Za-z0-9_./%-]+)*\Z")
NOT_TEXT = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})  # for YAML 1.1 readers, too
WIRE_KEYS = ("table", "address", "type", "bit", "mask", "length", "byte_order")
SAY = "check against the maker's document"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What no such file says of a device, so that a person must.

    `unit` picks one of several; `interval_s` overrides what the file says.
    """

    model: str
    vendor: str
    device_class: DeviceClass
    title: str = ""
    unit: str = ""
    interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """The draft as text, the same text loaded, and the report."""

    text: str
    spec: DeviceSpec
    report: Report


@dataclass(slots=True)
class Draft:
    """Filled by an importer; `finish` makes a spec of it."""

    file: str
    origin: str  # "Telegraf inputs.modbus"
    findings: Findings = field(default_factory=Findings)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    came_from: dict[str, str] = field(default_factory=dict)  # point → where it stands in the file
    limits: dict[str, Any] = field(default_factory=dict)
    interval_s: float | None = None
    title: str = ""

    def interval(self, seconds: float | None) -> None:
        """How often the file has the unit read, when it is a time that a spec can say."""
        if seconds is not None and 0 < seconds <= LONGEST_INTERVAL_S:
            self.interval_s = seconds

    def limit(self, key: str, value: float | str, low: float, high: float, where: str) -> None:
        """A limit of the unit, when it is one that a spec can say."""
        if isinstance(value, str) or low <= value <= high:
            self.limits[key] = value
        else:
            self.findings.lost(where, f"{key} {value}", f"is not in {low:g} to {high:g}")

    def add(self, where: str, name: Any, wire: dict[str, Any], **meaning: Any) -> None:
        """One point. `wire` as in a spec (None: not said); `meaning` likewise: unit, scale, offset, range, states."""
        said = shown(name) if isinstance(name, str) else ""
        if not said:
            self.findings.lost(where, "a point", "has no name")
            return
        address = wire.get("address")
        if not isinstance(address, int) or isinstance(address, bool) or not 0 <= address <= LAST_ADDRESS:
            self.findings.lost(where, said, f"address {shown(address)} is no whole number from 0 to {LAST_ADDRESS}")
            return
        one_bit = wire["table"] in BIT_TABLES or wire["type"] == "bit"
        kind = "bool" if one_bit else "text" if wire["type"] == "string" else "enum" if meaning.get("states") else "number"
        if one_bit:
            wire = {**wire, "type": "bit"}
        point = {
            "kind": None if kind == "number" else kind,
            **{key: value for key, value in meaning.items() if value not in (None, "", {}) and not _neutral(key, value)},
            "modbus": {key: wire[key] for key in WIRE_KEYS if wire.get(key) is not None},
            "title": {"en": said},
        }
        self._keep(where, said, {key: value for key, value in point.items() if value is not None})

    def _keep(self, where: str, said: str, point: dict[str, Any]) -> None:
        wanted = point_name(said)
        name, number = wanted, 1
        while name in self.points:
            number += 1
            ending = f"_{number}"
            name = f"{wanted[: LONGEST_NAME - len(ending)]}{ending}"
        if name != wanted:
            self.findings.doubt(where, said, f"two points have this name; this one is called {name}")
        self.points[name], self.came_from[name] = point, where

    def refuse(self, why: str) -> ConfigError:
        """Nothing can be made of this file: the error that says so, with every note."""
        notes = [Problem(self.file, note.where, f"{note.what}: {note.why}") for note in self.findings.left_out]
        return ConfigError([*notes, Problem(self.file, "", why)])

    def finish(self, wanted: Wanted) -> Imported:
        """The spec, and what it lacks.

        Raises:
            ConfigError: no point could be carried over, or the wanted model, vendor or class is none.
        """
        _share_byte_order(self.points, self.limits)
        why = "are the names in the file: give each point a Vietnamese and an English one"
        self.findings.doubt("", "titles", why)
        if wanted.interval_s is None and self.interval_s is None:
            why = f"the file does not say how often a reading is expected; {DEFAULT_INTERVAL_S:g} s is our guess"
            self.findings.doubt("", "interval_s", why)
        while self.points:
            text = _text(self, wanted)
            try:
                spec = load.parse(text.encode(), f"{wanted.model}.yaml")
            except SpecError as error:
                self._drop(error)
                continue
            report = Report(len(spec.points), tuple(self.findings.left_out), tuple(_unique(self.findings.check)))
            return Imported(text, spec, report)
        raise self.refuse("holds no point that could be carried over")

    def _drop(self, error: SpecError) -> None:
        """Leave out the points that the loader refused; what it refused beside them cannot be helped."""
        refused: dict[str, list[str]] = {}
        for problem in error.problems:
            name = problem.path.split(".")[1] if problem.path.startswith("points.") else ""
            if name in self.points:
                refused.setdefault(name, []).append(problem.reason)
        if not refused:
            raise error
        for name, reasons in refused.items():
            del self.points[name]
            self.findings.lost(self.came_from[name], name, "; ".join(dict.fromkeys(reasons)))


def point_name(said: str) -> str:
    """A name as specs have them, near the one in the file: "Động cơ 1 (RPM)" → dong_co_1_rpm, "roomTemp" → room_temp."""
    text = unicodedata.normalize("NFKD", said.replace("đ", "d").replace("Đ", "D"))
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)
    text = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if not text or not text[0].isalpha():
        text = f"p_{text}".rstrip("_")
    return text[:LONGEST_NAME].rstrip("_")


def _neutral(key: str, value: Any) -> bool:
    return (key, value) in (("scale", 1.0), ("offset", 0.0))


def _share_byte_order(points: dict[str, dict[str, Any]], limits: dict[str, Any]) -> None:
    """The commonest order is said once for the unit; a point says its own only where it differs."""
    orders = Counter(point["modbus"]["byte_order"] for point in points.values() if "byte_order" in point["modbus"])
    if not orders:
        return
    limits["byte_order"] = common = orders.most_common(1)[0][0]
    for point in points.values():
        if point["modbus"].get("byte_order") == common:
            del point["modbus"]["byte_order"]


def _unique(notes: list[Note]) -> list[Note]:
    return list(dict.fromkeys(notes))


def _text(draft: Draft, wanted: Wanted) -> str:
    file = shown(draft.file)
    head = {
        "model": wanted.model,
        "vendor": wanted.vendor,
        "title": wanted.title or draft.title or wanted.model,
        "device_class": wanted.device_class,
        "protocol": "modbus",
        "source": f"imported from {file} ({draft.origin}); {SAY}",
        "verified": f"Imported from {file}; {SAY}. Not tried on a unit.",
        "interval_s": wanted.interval_s or draft.interval_s or DEFAULT_INTERVAL_S,
    }
    lines = [f"# A draft, imported from {file}: {SAY} before a unit is read with it, and name that document in `source`."]
    lines += [f"{key}: {_scalar(value)}" for key, value in head.items()]
    if draft.limits:
        lines += ["modbus:", *(f"  {key}: {_scalar(value)}" for key, value in draft.limits.items())]
    lines.append("points:")
    for name, point in draft.points.items():
        lines += [f"  {name}:", *(f"    {key}: {_scalar(value)}" for key, value in point.items())]
    return "\n".join([*lines, ""])


def _scalar(value: Any) -> str:
    """A value as YAML 1.2 and 1.1 both read it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {_scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < LARGEST_PLAIN else repr(value)
    if isinstance(value, int):
        return repr(value)
    text = shown(value)
    return text if PLAIN.match(text) and text.lower() not in NOT_TEXT else json.dumps(text, ensure_ascii=False)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[a-z_]+", key) and key not in NOT_TEXT else json.dumps(shown(key), ensure_ascii=False)

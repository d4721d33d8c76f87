"""What InfluxDB keeps of line protocol, for the fake server: points by measurement, tags and time; the type of every field.

Written from the documentation (docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/), not from ours: one field has one
type in a measurement, the first that came; a point that comes again replaces the fields it has; nothing else is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

Key = tuple[str, tuple[tuple[str, str], ...], int]
Value = float | int | str | bool

TOKEN = re.compile(r"(?:\\.|[^\\,= ])+")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z")
TRUE, FALSE = {"t", "T", "true", "True", "TRUE"}, {"f", "F", "false", "False", "FALSE"}


class Unparsable(Exception):
    """Why a line is none, in the server's words (2.7 models/points.go)."""


class Conflict(Exception):
    """A field that has another type already: the field, the measurement, the new and the old type."""

    def __init__(self, name: str, measurement: str, new: str, old: str) -> None:
        super().__init__(name, measurement, new, old)
        self.name, self.measurement, self.new, self.old = name, measurement, new, old


@dataclass(slots=True)
class Points:
    """One bucket."""

    points: dict[Key, dict[str, Value]] = field(default_factory=dict)
    types: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """Keep one line.

        Raises:
            Unparsable, Conflict: nothing of it is kept.
        """
        key, fields = parse(line)
        for name, (kind, _) in fields.items():
            old = self.types.get((key[0], name), kind)
            if old != kind:
                raise Conflict(name, key[0], kind, old)
        self.types.update({(key[0], name): kind for name, (kind, _) in fields.items()})
        self.points.setdefault(key, {}).update({name: value for name, (_, value) in fields.items()})

    def count(self, measurement: str) -> int:
        """Points of a measurement."""
        return sum(key[0] == measurement for key in self.points)


@lru_cache(maxsize=20_000)  # the same lines are sent again and again
def parse(line: str) -> tuple[Key, dict[str, tuple[str, Value]]]:
    """Measurement, tags, time; and the fields with their types."""
    measurement, at = _token(line, 0, r"(?:\\.|[^\\, ])+", "missing measurement")
    tags = []
    while line[at : at + 1] == ",":
        name, at = _token(line, at + 1, TOKEN.pattern, "missing tag key")
        if line[at : at + 1] != "=":
            raise Unparsable("missing tag value")
        value, at = _token(line, at + 1, TOKEN.pattern, "missing tag value")
        tags.append((name, value))
    if line[at : at + 1] != " ":
        raise Unparsable("missing fields")
    fields: dict[str, tuple[str, Value]] = {}
    while True:
        name, at = _token(line, at + 1, TOKEN.pattern, "missing fields" if not fields else "missing field key")
        if line[at : at + 1] != "=":
            raise Unparsable("missing field value" if "=" in line else "missing fields")
        fields[name], at = _value(line, at + 1)
        if line[at : at + 1] != ",":
            break
    rest = line[at:].strip()
    if not re.fullmatch(r"-?\d+", rest):
        raise Unparsable("bad timestamp")
    return (measurement, tuple(sorted(tags)), int(rest)), fields


def _token(line: str, at: int, pattern: str, otherwise: str) -> tuple[str, int]:
    found = re.compile(pattern).match(line, at)
    if found is None:
        raise Unparsable(otherwise)
    text = found.group()
    return (re.sub(r"\\([,= ])", r"\1", text) if "\\" in text else text), found.end()


def _value(line: str, at: int) -> tuple[tuple[str, Value], int]:
    if line[at : at + 1] == '"':
        found = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL).match(line, at)
        if found is None:
            raise Unparsable("unbalanced quotes")
        return ("string", re.sub(r'\\(["\\])', r"\1", found.group(1))), found.end()
    found = re.compile(r"[^, ]+").match(line, at)
    if found is None:
        raise Unparsable("missing field value")
    text = found.group()
    if text in TRUE | FALSE:
        return ("boolean", text in TRUE), found.end()
    if text[-1] == "i" and NUMBER.match(text[:-1]):
        return ("integer", int(text[:-1])), found.end()
    if not NUMBER.match(text):
        raise Unparsable("invalid number")
    return ("float", float(text)), found.end()

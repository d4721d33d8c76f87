"""Line protocol, read back: what `line` writes, and any other line of that protocol.

    air_station,device=a1,model=m,premises=p1 no2=18.5,o3_bad=-1.0,o3_q=2i,quality=2i 1795312800123000007
    └ measurement └ tags                      └ fields                               └ ns UTC

It knows the protocol only; what our fields mean is `stored`'s. A comma, a blank or an equals sign is escaped by the backslash
just before it, whatever stands before that one: names have no escaped backslash, texts do.
Source: InfluxDB OSS v2 documentation, "Line protocol". Pure: no clock, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

MIN_NS, MAX_NS = -(2**63), 2**63 - 1  # a timestamp is a signed integer of 64 bits
SERIES_CACHE = 10_000  # lines of one device stand together in an export; about 500 bytes each
BOOLS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(("f", "F", "false", "False", "FALSE"), False)

_SERIES = re.compile(r"((?:[^ ]|(?<=\\) )+) +")
_COMMA = re.compile(r"(?<!\\),")
_EQUALS = re.compile(r"(?<!\\)=")
_FIELD = re.compile(r'((?:[^=, ]|(?<=\\)[=, ])+)=(?:"((?:[^"\\]|\\.)*)"|([^," ]+))(?:(,)| +|\Z)')
_ESCAPED = re.compile(r"\\([,= ])")
_ESCAPED_IN_TEXT = re.compile(r'\\(["\\])')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,20}\Z", re.ASCII)

FieldValue = float | int | str | bool


class Point(NamedTuple):
    """One line: a float stays apart from an integer, as the store's field types do. `at_ns` None: the line has no timestamp."""

    measurement: str
    tags: Mapping[str, str]
    fields: dict[str, FieldValue]
    at_ns: int | None


class NotALineError(ValueError):
    """The text is no line of the protocol; the message says what is wrong with it."""


def parse(text: bytes | str) -> Point:
    """One line, without its line feed.

    Raises:
        NotALineError: for anything that InfluxDB would not take as a line.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise NotALineError(f"is not UTF-8 at byte {error.start}") from error
    found = _SERIES.match(text)
    if found is None:
        raise NotALineError("has no blank between tags and fields")
    measurement, tags = _series(found.group(1))
    fields, rest = _fields(text, found.end())
    return Point(measurement, tags, fields, _timestamp(rest))


@lru_cache(maxsize=SERIES_CACHE)
def _series(text: str) -> tuple[str, Mapping[str, str]]:
    measurement, *parts = _COMMA.split(text)
    if not measurement:
        raise NotALineError("has no measurement")
    tags: dict[str, str] = {}
    for part in parts:
        pair = _EQUALS.split(part)
        if len(pair) != 2 or not all(pair):  # noqa: PLR2004 - a name and a value
            raise NotALineError(f"has a tag that is not name=value: {part!r}")
        name = _unescaped(pair[0])
        if name in tags:
            raise NotALineError(f"has the tag {name!r} twice")
        tags[name] = _unescaped(pair[1])
    return _unescaped(measurement), MappingProxyType(tags)


def _fields(text: str, at: int) -> tuple[dict[str, FieldValue], str]:
    """The fields from `at` on, and what stands behind them."""
    fields: dict[str, FieldValue] = {}
    while True:
        found = _FIELD.match(text, at)
        if found is None:
            raise NotALineError(f"has a field that is not name=value: {text[at : at + 40]!r}")
        name, quoted, bare, comma = found.groups()
        fields[_unescaped(name)] = _ESCAPED_IN_TEXT.sub(r"\1", quoted) if quoted is not None else _bare(bare)
        at = found.end()
        if not comma:
            return fields, text[at:]


def _bare(text: str) -> FieldValue:
    """A value without quotes: integer (i, u), bool, or float."""
    if text[-1] in "iu" and _WHOLE.match(text[:-1]):
        return int(text[:-1])
    if text in BOOLS:
        return BOOLS[text]
    if _NUMBER.match(text):
        return float(text)
    raise NotALineError(f"has a value that is no number, bool or text in quotes: {text!r}")


def _timestamp(text: str) -> int | None:
    text = text.strip(" \r")
    if not text:
        return None
    if not _WHOLE.match(text) or not MIN_NS <= int(text) <= MAX_NS:
        raise NotALineError(f"has a timestamp that is no integer of 64 bits: {text!r}")
    return int(text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text

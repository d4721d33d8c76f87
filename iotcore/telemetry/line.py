"""Line protocol: one reading becomes one line of bytes, ready to be sent as it is.

One measurement for each device class; tags `device`, `model`, `premises`, and `identity=unproven` where the sender has only a
password; fields:

    <point>        float (bool as 0 or 1) or text; only where the value can be trusted (good or uncertain)
    <point>_bad    float: the number a device sent although it is bad, kept apart so that no mean ever includes it
    <point>_q      integer, only where the point is not good: 1 uncertain, 2 bad
    quality        integer, always: the worst of the message
    test           1.0, only for a reading made by a test button or a drill

A number is always written as a float: a field that is once an integer and once a float is rejected by InfluxDB. The timestamp is
a function of the reading's identity alone, so writing a reading twice leaves one point.

Escaping: InfluxDB OSS documentation, "Line protocol", special characters. Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import Point

LEVEL = {Quality.GOOD: 0, Quality.UNCERTAIN: 1, Quality.BAD: 2}
TEXT_KINDS = frozenset({"text", "enum", "flags"})  # of points: an enumeration's word is text
NS_PER_MS = 1_000_000
PREFIX_CACHE = 200_000  # devices of a large city; about 200 bytes each

_json = msgspec.json.Encoder().encode
_NAME = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\=", "\n": r"\ ", "\r": r"\ ", "\t": r"\ "})
_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ ", "\n": r"\ ", "\r": r"\ ", "\t": r"\ "})
_TEXT = str.maketrans({'"': r"\"", "\\": r"\\", "\n": " ", "\r": " "})  # line feeds are not supported inside values


def line(reading: Reading, binding: Binding) -> bytes:
    """The line of `reading`, without a line feed.

    A value whose type is not the one its spec declares (text for a number) is not written: it would turn the field's type.
    """
    identity = "" if reading.proven else "unproven"
    start = _series(binding.spec.device_class, reading.device, binding.spec.model, binding.premises, identity)
    clean = reading.clean
    fields = _fields(reading, binding.spec.points) if clean is None else _clean_fields(clean)
    if reading.test:
        fields += b",test=1.0"
    return b"%b%b %d" % (start, fields, int(reading.observed_ms) * NS_PER_MS + reading.seq % NS_PER_MS)


def _clean_fields(clean: Mapping[str, float]) -> bytes:
    """Good numbers of known points, from JSON that a C library writes: `{"a":1.5,"b":2.0}` becomes `a=1.5,b=2.0`.

    A point's name holds nothing that either of the two would escape.
    """
    return _json(clean)[2:-1].replace(b'":', b"=").replace(b',"', b",") + b",quality=0i"


def _fields(reading: Reading, points: Mapping[str, Point]) -> bytes:
    """All fields, value by value."""
    fields: list[str] = []
    worst = 0
    for value in reading.values:
        point = points.get(value.point)
        if point is None:
            continue
        written = _field(value, is_text=point.kind in TEXT_KINDS)
        level = LEVEL[value.quality]
        if written:
            fields.append(written)
        elif level == 0:
            level = 2  # declared good, yet nothing that could be stored
        if level:
            fields.append(f"{value.point}_q={level}i")
            worst = max(worst, level)
    fields.append(f"quality={worst}i")
    return ",".join(fields).encode(errors="replace")  # a lone surrogate is no UTF-8


def timestamp_ns(reading: Reading) -> int:
    """Nanoseconds UTC: the observed millisecond, and the sequence number in the digits below it.

    The same reading always has the same one, and two readings of a boot in the same millisecond do not overwrite each other.
    """
    return int(reading.observed_ms) * NS_PER_MS + reading.seq % NS_PER_MS


def _field(value: Value, *, is_text: bool) -> str:
    """`name=value` of one point, or "" when it has nothing that can be stored."""
    content = value.value
    if isinstance(content, str):
        if not is_text or value.quality is Quality.BAD:
            return ""
        return f'{value.point}="{content.translate(_TEXT)}"'
    if content is None or is_text or not math.isfinite(content):
        return ""
    name = f"{value.point}_bad" if value.quality is Quality.BAD else value.point
    return f"{name}={float(content)!r}"


@lru_cache(maxsize=PREFIX_CACHE)
def _series(measurement: str, device: str, model: str, premises: str, identity: str) -> bytes:
    """Measurement and tags, ending in the blank before the fields. An empty tag is left out: line protocol has none."""
    named = (
        ("device", device),
        ("identity", identity),
        ("model", model),
        ("premises", premises),
    )  # sorted by key, as InfluxDB wants
    tags = "".join(f",{key}={_tag(text)}" for key, text in named if text)
    return f"{measurement.translate(_MEASUREMENT)}{tags} ".encode(errors="replace")  # a lone surrogate is no UTF-8


def _tag(text: str) -> str:
    """A tag value; backslashes at its end would swallow the separator that follows, and nothing can escape them."""
    return text.rstrip("\\").translate(_NAME) or "_"

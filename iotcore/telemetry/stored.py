"""A reading as a store gives it back: the inverse of `line`, for import, export and what is read out of InfluxDB.

A line keeps of a reading what a store keeps: no boot, no sequence number, no reason of a quality. Written again it is the same
line, but for the order of its fields: points come by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, cast

from iotcore.reading import Quality, Reading, Scalar, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceClass, DeviceSpec, Point
from iotcore.telemetry.line import LEVEL, NS_PER_MS, line
from iotcore.telemetry.line_parse import FieldValue, NotALineError, parse

QUALITIES = {level: quality for quality, level in LEVEL.items()}
SHAPES = 10_000  # which points of which kinds the lines of a model have


class Stored(NamedTuple):
    """One reading: `device_class` is its measurement; values by name of the point, without `why`."""

    device_class: str
    device: str
    model: str
    premises: str
    at_ns: int
    values: tuple[Value, ...]
    test: bool = False


def from_line(text: bytes | str) -> Stored:
    """What a line says.

    Raises:
        NotALineError: when it is none, or lacks what every line of ours has: a device and a time.
    """
    point = parse(text)
    device = point.tags.get("device")
    if not device:
        raise NotALineError("has no tag `device`")
    if point.at_ns is None:
        raise NotALineError("has no timestamp")
    values, test = values_of(point.fields)
    model, premises = point.tags.get("model", ""), point.tags.get("premises", "")
    return Stored(point.measurement, device, model, premises, point.at_ns, values, test)


def reading_of(stored: Stored) -> tuple[Reading, Binding]:
    """The reading, and a device to go with it that is not asked for in the registry: it may be gone from there."""
    texts = tuple((value.point, isinstance(value.value, str)) for value in stored.values)
    binding = _binding(stored.device_class, stored.device, stored.model, stored.premises, texts)
    at_ms, seq = divmod(stored.at_ns, NS_PER_MS)
    reading = Reading(
        device=stored.device,
        boot="",
        seq=seq,
        kind="reading",
        observed_ms=float(at_ms),
        received_ms=float(at_ms),
        told=stored.values,
        test=stored.test,
    )
    return reading, binding


def to_line(stored: Stored) -> bytes:
    """The line, written by the one that writes all lines."""
    return line(*reading_of(stored))


def values_of(fields: Mapping[str, FieldValue]) -> tuple[tuple[Value, ...], bool]:
    """The values of fields as `line` names them, by name of the point, and whether they are a test's."""
    levels = {name[:-2]: value for name, value in fields.items() if name.endswith("_q") and type(value) is int}
    values: dict[str, Scalar | None] = dict.fromkeys(levels)
    for name, value in fields.items():
        if type(value) is int or name == "test":
            continue
        point = name.removesuffix("_bad")
        values[point if point in levels else name] = value
    found = [Value(name, values[name], QUALITIES.get(levels.get(name, 0), Quality.BAD)) for name in sorted(values)]
    return tuple(found), bool(fields.get("test"))


@lru_cache(maxsize=SHAPES)
def _binding(device_class: str, device: str, model: str, premises: str, texts: tuple[tuple[str, bool], ...]) -> Binding:
    """A spec with the points that a line has, each of the kind that it shows."""
    spec = DeviceSpec(
        model=model,
        vendor="",
        title="",
        device_class=cast("DeviceClass", device_class),
        protocol="canonical",
        source="",
        verified="",
        interval_s=1.0,
        points={name: Point(kind="text" if is_text else "number") for name, is_text in texts},
    )
    return Binding(device, "", spec, "", "", "", premises)

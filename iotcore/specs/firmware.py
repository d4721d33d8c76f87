"""Which layout a unit's firmware has: decided by the version that the unit itself tells, never guessed."""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec.structs import replace

from iotcore.reading import Quality, Value
from iotcore.specs import decode, raw
from iotcore.specs.model import DeviceSpec, Point, Revision

UNKNOWN = "unknown_firmware"


def layout(spec: DeviceSpec, version: str) -> DeviceSpec | None:
    """The spec with the points that `version` has; None when the spec does not know this version.

    A spec that says nothing of firmware is its own layout, whatever the version.
    """
    if spec.firmware is None or matches(spec.firmware.base, version):
        return spec
    for revision in spec.firmware.revisions:
        if matches(revision.versions, version):
            return _revised(spec, spec.firmware.revisions.index(revision))
    return None


def version(spec: DeviceSpec, words: decode.Registers) -> str | None:
    """The version that a Modbus unit tells in `words`; None when it tells none, or none that can be read."""
    wire = spec.firmware.modbus if spec.firmware is not None else None
    if wire is None:
        return None
    point = Point(kind="text" if wire.type == "string" else "number", modbus=wire)
    own = [words.get((wire.table, wire.address + i), -1) for i in range(raw.width(wire))]
    if min(own) < 0:
        return None
    said = decode.value(
        "version", point, own, decode.DEFAULT_LIMITS.byte_order if spec.modbus is None else spec.modbus.byte_order
    )
    if said.quality is not Quality.GOOD or said.value is None:
        return None
    return str(int(said.value)) if isinstance(said.value, float) and said.value.is_integer() else str(said.value)


def refused(spec: DeviceSpec) -> tuple[Value, ...]:
    """What a unit of an unknown version reads as: every point, none of them believed."""
    return tuple(Value(name, None, Quality.BAD, UNKNOWN) for name in spec.points)


def matches(patterns: tuple[str, ...], version: str) -> bool:
    """Whether a version is one of `patterns`, in which `*` stands for anything."""
    return any(_pattern(pattern).fullmatch(version) is not None for pattern in patterns)


def revised(spec: DeviceSpec, revision: Revision) -> DeviceSpec:
    """The spec as the revision has it."""
    points = {name: point for name, point in spec.points.items() if name not in revision.without}
    return replace(spec, points=points | revision.points)


@lru_cache(maxsize=512)
def _revised(spec: DeviceSpec, number: int) -> DeviceSpec:
    assert spec.firmware is not None
    return revised(spec, spec.firmware.revisions[number])


@lru_cache(maxsize=512)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")))

"""Which requests read a unit: neighbouring points in one request, holes up to a cap, never more than the unit bears.

Points of one lane and one poll interval are read together; fire points come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from iotcore.specs import raw
from iotcore.specs.model import DeviceSpec, Lane, ModbusLimits, Point, QualityWire, Table

DEFAULT_LIMITS = ModbusLimits()
FIRE_CLASSES = frozenset({"fire_detector", "fire_panel"})


@dataclass(frozen=True, slots=True)
class Request:
    """`count` words (or bits) of `table` from the 0-based `address`; `points` are those that need any of them."""

    table: Table
    address: int
    count: int
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Points that are read together, each `poll_s` seconds."""

    lane: Lane
    poll_s: float
    points: tuple[str, ...]
    requests: tuple[Request, ...]


class _Span(NamedTuple):
    table: Table
    first: int
    end: int  # exclusive
    point: str


def requests(spec: DeviceSpec) -> list[Request]:
    """The fewest requests that read every point and its quality registers, by table and address."""
    return _joined(spec, spec.points)


def groups(spec: DeviceSpec) -> list[Group]:
    """How the unit is polled: fire points first, then the more frequent ones."""
    together: dict[tuple[bool, float], list[str]] = {}
    for name, point in spec.points.items():
        if point.modbus is not None:
            key = (lane(spec, point) != "fire", point.poll_s or spec.interval_s)
            together.setdefault(key, []).append(name)
    return [
        Group("bulk" if bulk else "fire", poll_s, tuple(names), tuple(_joined(spec, names)))
        for (bulk, poll_s), names in sorted(together.items())
    ]


def lane(spec: DeviceSpec, point: Point) -> Lane:
    """Which points are polled first: by default those of fire devices."""
    return point.lane or ("fire" if spec.device_class in FIRE_CLASSES else "bulk")


def version_request(spec: DeviceSpec) -> Request | None:
    """The read that tells the unit's firmware version; None when it tells none."""
    wire = spec.firmware.modbus if spec.firmware is not None else None
    return None if wire is None else Request(wire.table, wire.address, raw.width(wire), ())


def _joined(spec: DeviceSpec, names: Iterable[str]) -> list[Request]:
    limits = spec.modbus or DEFAULT_LIMITS
    points = spec.points
    spans = sorted({span for name in names for span in _spans(name, points[name], spec.quality, limits)})
    found: list[Request] = []
    group: list[_Span] = []
    end = 0
    for span in spans:
        if group and not _joins(group[0], end, span, limits):
            found.append(_request(group, end))
            group, end = [], 0
        group.append(span)
        end = max(end, span.end)
    if group:
        found.append(_request(group, end))
    return found


def _spans(name: str, point: Point, whole: tuple[QualityWire, ...], limits: ModbusLimits) -> Iterator[_Span]:
    """Where a point's value and its verdicts stand: one span where they fit one request, so that they are of one moment."""
    wire = point.modbus
    if wire is None:
        return
    own = _Span(wire.table, wire.address, wire.address + raw.width(wire), name)
    for state in (*point.quality, *whole):
        if state.table is None or state.address is None:
            continue
        other = _Span(state.table, state.address, state.address + 1, name)
        first, second = sorted((own, other))
        if _joins(first, first.end, second, limits):
            own = _Span(own.table, first.first, max(first.end, second.end), name)
        else:
            yield other
    yield own


def _joins(first: _Span, end: int, span: _Span, limits: ModbusLimits) -> bool:
    most = limits.max_bits if span.table in raw.BIT_TABLES else limits.max_registers
    return span.table == first.table and span.first - end <= limits.max_hole and max(span.end, end) - first.first <= most


def _request(group: list[_Span], end: int) -> Request:
    names = tuple(dict.fromkeys(span.point for span in group))
    return Request(group[0].table, group[0].first, end - group[0].first, names)

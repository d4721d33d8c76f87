"""Which requests read a unit: neighbouring points in one request, holes up to a cap, never more than the unit bears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from iotcore.specs import raw
from iotcore.specs.model import DeviceSpec, ModbusLimits, Point, Table

DEFAULT_LIMITS = ModbusLimits()
MAX_BITS = 2000  # coils or discrete inputs in one request; Modbus Application Protocol 1.1b3, §6.1 and §6.2
BIT_TABLES = ("coil", "discrete")


@dataclass(frozen=True, slots=True)
class Request:
    """`count` words (or bits) of `table` from the 0-based `address`; `points` are those that need any of them."""

    table: Table
    address: int
    count: int
    points: tuple[str, ...]


class _Span(NamedTuple):
    table: Table
    first: int
    end: int  # exclusive
    point: str


def requests(spec: DeviceSpec) -> list[Request]:
    """The fewest requests that read every point and its quality register, by table and address."""
    limits = spec.modbus or DEFAULT_LIMITS
    spans = sorted(span for name, point in spec.points.items() for span in _spans(name, point, limits))
    found: list[Request] = []
    group: list[_Span] = []
    for span in spans:
        if group and not _joins(group, span, limits):
            found.append(_request(group))
            group = []
        group.append(span)
    if group:
        found.append(_request(group))
    return found


def _spans(name: str, point: Point, limits: ModbusLimits) -> list[_Span]:
    """Where a point's value and its quality stand: one span where they fit one request, so that they are of one moment."""
    if point.modbus is None:
        return []
    wire, state = point.modbus, point.quality
    own = _Span(wire.table, wire.address, wire.address + raw.WORDS[wire.type], name)
    if state is None:
        return [own]
    other = _Span(state.table, state.address, state.address + 1, name)
    first, second = sorted((own, other))
    if _joins([first], second, limits):
        return [_Span(own.table, first.first, max(first.end, second.end), name)]
    return [first, second]


def _joins(group: list[_Span], span: _Span, limits: ModbusLimits) -> bool:
    end = max(other.end for other in group)
    most = MAX_BITS if span.table in BIT_TABLES else limits.max_registers
    return span.table == group[0].table and span.first - end <= limits.max_hole and max(span.end, end) - group[0].first <= most


def _request(group: list[_Span]) -> Request:
    end = max(span.end for span in group)
    return Request(group[0].table, group[0].first, end - group[0].first, tuple(dict.fromkeys(span.point for span in group)))

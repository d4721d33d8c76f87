"""Whether two points of a layout claim the same bits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from iotcore.specs import raw
from iotcore.specs.encode import bits_of
from iotcore.specs.model import Point, Table


class _Span(NamedTuple):
    """What a point claims of one word; `bits` None: all of it. A test on a field (`true_when`) claims nothing."""

    path: str
    bits: int | None
    free: bool


def overlaps(points: Mapping[str, Point], path: str) -> Iterator[tuple[str, str]]:
    """Points that claim the same words of a table; bits of one word may, if they are different bits."""
    words: dict[tuple[Table, int], list[_Span]] = defaultdict(list)
    order = sorted(points, key=lambda name: _place(points[name]))
    for name in order:
        wire = points[name].modbus
        if wire is None:
            continue
        span = _Span(f"{path}.{name}.modbus", bits_of(points[name]), bool(points[name].true_when))
        for address in range(wire.address, wire.address + raw.width(wire)):
            taken = next((other for other in words[wire.table, address] if _clash(other, span)), None)
            if taken is not None:
                yield span.path, f"{wire.table} {wire.address} is taken by {taken.path}"
                break
        for address in range(wire.address, wire.address + raw.width(wire)):
            words[wire.table, address].append(span)
    yield from _taken_states(points, path, words)


def _taken_states(
    points: Mapping[str, Point], path: str, words: Mapping[tuple[Table, int], Iterable[_Span]]
) -> Iterator[tuple[str, str]]:
    """One status register may serve several values, but a whole word is not itself a value, unless a mask says which part."""
    for name, point in points.items():
        for i, state in enumerate(point.quality):
            if state.table is None or state.address is None or state.mask is not None or state.table in raw.BIT_TABLES:
                continue
            for value in words.get((state.table, state.address), ()):
                if value.bits is None and not value.free:
                    yield f"{path}.{name}.quality[{i}]", f"{state.table} {state.address} is taken by {value.path}"


def _place(point: Point) -> tuple[str, int, int]:
    wire = point.modbus
    return ("", 0, 0) if wire is None else (wire.table, wire.address, bits_of(point) or 0)


def _clash(before: _Span, after: _Span) -> bool:
    if before.free or after.free:
        return False
    return before.bits is None or after.bits is None or bool(before.bits & after.bits)

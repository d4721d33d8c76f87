"""Whether two points of a layout claim the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from iotcore.specs import raw
from iotcore.specs.encode import bits_of
from iotcore.specs.model import ModbusWire, Point, Table


class _Claim(NamedTuple):
    """What a point claims of its words; `bits` None: all of them."""

    table: Table
    address: int
    width: int
    bits: int | None
    name: str


def overlaps(points: Mapping[str, Point], path: str) -> Iterator[tuple[str, str]]:
    """Points that claim the same words of a table; bits of one word may, if they are different bits.

    A test on a field (`true_when`) claims nothing: it may look at bits that another point shows.
    """
    claims = [_claim(name, point.modbus, point) for name, point in points.items() if point.modbus and not point.true_when]
    claims.sort(key=lambda claim: (claim.table, claim.address, claim.bits or 0))
    words: dict[tuple[Table, int], list[_Claim]] = {}
    for claim in claims:
        keys = [(claim.table, claim.address + i) for i in range(claim.width)]
        earlier = (other for key in keys for other in words.get(key, ()))
        taken = next((other for other in earlier if _clash(other.bits, claim.bits)), None)
        if taken is not None:
            yield f"{path}.{claim.name}.modbus", f"{claim.table} {claim.address} is taken by {path}.{taken.name}.modbus"
        for key in keys:
            words.setdefault(key, []).append(claim)
    yield from _taken_states(points, path, words)


def _taken_states(
    points: Mapping[str, Point], path: str, words: Mapping[tuple[Table, int], list[_Claim]]
) -> Iterator[tuple[str, str]]:
    """One status register may serve several values, but a whole word is not itself a value, unless a mask says which part."""
    for name, point in points.items():
        for i, state in enumerate(point.quality):
            if state.table is None or state.address is None or state.mask is not None or state.table in raw.BIT_TABLES:
                continue
            for value in words.get((state.table, state.address), ()):
                if value.bits is None:
                    taken = f"{state.table} {state.address} is taken by {path}.{value.name}.modbus"
                    yield f"{path}.{name}.quality[{i}]", taken


def _claim(name: str, wire: ModbusWire, point: Point) -> _Claim:
    return _Claim(wire.table, wire.address, raw.width(wire), bits_of(point), name)


def _clash(before: int | None, after: int | None) -> bool:
    return before is None or after is None or bool(before & after)

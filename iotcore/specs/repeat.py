"""Repeats: the same points many times, written once in a spec and expanded when it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product

from msgspec.structs import replace

from iotcore.specs.model import DeviceSpec, Point, QualityWire, Repeat

Ranges = Mapping[str, tuple[int, int]]


def expand(repeats: tuple[Repeat, ...]) -> Iterator[tuple[str, Point]]:
    """Every point of the repeats with its own name, title and addresses."""
    for repeat in repeats:
        for indices in _steps(repeat, {}):
            shift = sum(repeat.stride[name] * (number - repeat.over[name][0]) for name, number in indices.items())
            for template, point in repeat.points.items():
                yield filled(template, indices), moved(point, shift, indices)


def narrow(spec: DeviceSpec, ranges: Ranges) -> DeviceSpec:
    """The spec as it is for a unit in which only these indices are fitted: two loops of ten.

    Raises:
        ValueError: no repeat has such an index, or it does not reach so far.
    """
    for name, (first, last) in ranges.items():
        spans = [repeat.over[name] for repeat in spec.repeats if name in repeat.over]
        if not spans:
            known = sorted({index for repeat in spec.repeats for index in repeat.over})
            raise ValueError(f"{spec.model} repeats nothing over {name!r}; it knows: {', '.join(known) or 'no index'}")
        if first > last or not any(low <= first and last <= high for low, high in spans):
            raise ValueError(f"{spec.model}: {name} {first} to {last} is outside {spans[0][0]} to {spans[0][1]}")
    if not ranges:
        return spec
    every = {name for repeat in spec.repeats for name in _names(repeat, {})}
    kept = {name for repeat in spec.repeats for name in _names(repeat, ranges)}
    points = {name: point for name, point in spec.points.items() if name in kept or name not in every}
    return replace(spec, points=points)


def filled(template: str, indices: Mapping[str, int]) -> str:
    """The template with each `{index}` replaced by its number; other braces stay."""
    return _pattern(template, tuple(indices)) % indices


def moved(point: Point, by: int, indices: Mapping[str, int]) -> Point:
    """The point `by` registers (or bytes) farther on."""
    wire, content = point.modbus, point.bytes
    return replace(
        point,
        modbus=None if wire is None else replace(wire, address=wire.address + by),
        bytes=None if content is None else replace(content, offset=content.offset + by),
        quality=tuple([_moved_quality(each, by) for each in point.quality]),
        title={language: filled(text, indices) for language, text in point.title.items()},
    )


@lru_cache(maxsize=4096)
def _pattern(template: str, indices: tuple[str, ...]) -> str:
    """The template in the notation of `%`, which is quick: a large panel has 100,000 names and titles."""
    found = template.replace("%", "%%")
    for name in indices:
        found = found.replace("{" + name + "}", f"%({name})d")
    return found


def _moved_quality(wire: QualityWire, by: int) -> QualityWire:
    if wire.address is not None:
        return replace(wire, address=wire.address + by)
    return wire if wire.offset is None else replace(wire, offset=wire.offset + by)


def _steps(repeat: Repeat, ranges: Ranges) -> Iterator[dict[str, int]]:
    spans = []
    for name, (low, high) in repeat.over.items():
        first, last = ranges.get(name, (low, high))
        spans.append(range(max(low, first), min(high, last) + 1))
    for numbers in product(*spans):
        yield dict(zip(repeat.over, numbers, strict=True))


def _names(repeat: Repeat, ranges: Ranges) -> Iterator[str]:
    for indices in _steps(repeat, ranges):
        for template in repeat.points:
            yield filled(template, indices)

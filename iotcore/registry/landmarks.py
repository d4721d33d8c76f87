"""What stands near a place that a crew cares about: traffic signals on the way, air stations around. Pure.

A city has thousands of them; they are kept by squares about as wide as one looks, so that to look around costs some dozen
look-ups.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Literal, cast, get_args

from iotcore.specs.model import DeviceClass

LandmarkClass = Literal["traffic_signal", "air_station"]
LANDMARKS: frozenset[str] = frozenset(get_args(LandmarkClass))
CELL_DEG: dict[str, float] = {"traffic_signal": 0.01, "air_station": 0.05}  # about 1.1 and 5.6 km from south to north
METRES_PER_DEG = 111_195.0  # of a great circle: mean radius of the Earth 6,371.0 km (IUGG)
POLE_DEG, DATE_LINE_DEG = 90.0, 180.0
MOST_CELLS = 30  # to each side: near a pole a square is narrow, and nobody looks further

Cell = tuple[str, int, int]
Cells = Mapping[Cell, tuple["Landmark", ...]]


@dataclass(frozen=True, slots=True)
class Landmark:
    """A device where it stands, degrees WGS 84. `premises`: whose place it has, "" when it has one of its own."""

    device: str
    title: str
    kind: LandmarkClass
    latitude: float
    longitude: float
    premises: str = ""


@dataclass(frozen=True, slots=True)
class Nearby:
    """A landmark, and how far it is as the crow flies."""

    landmark: Landmark
    metres: float


def located(latitude: float, longitude: float) -> bool:
    """Whether coordinates are on Earth and not the 0, 0 of a registry that was told none."""
    return abs(latitude) <= POLE_DEG and abs(longitude) <= DATE_LINE_DEG and (latitude, longitude) != (0.0, 0.0)


def landmark(
    device: str, title: str, kind: DeviceClass, own: tuple[float | None, float | None], place: tuple[str, float, float] | None
) -> Landmark | None:
    """A device as a landmark: by its `own` coordinates, else by those of its `place` (premises); None without either."""
    if kind not in LANDMARKS:
        return None
    known = cast("LandmarkClass", kind)
    latitude, longitude = own
    if latitude is not None and longitude is not None and located(latitude, longitude):
        return Landmark(device, title, known, latitude, longitude)
    if place is not None and located(place[1], place[2]):
        return Landmark(device, title, known, place[1], place[2], place[0])
    return None


def cells(found: Iterable[Landmark]) -> dict[Cell, tuple[Landmark, ...]]:
    """Landmarks by their square."""
    gathered: dict[Cell, list[Landmark]] = {}
    for one in found:
        gathered.setdefault(_cell(one.kind, one.latitude, one.longitude), []).append(one)
    return {cell: tuple(sorted(ones, key=lambda one: one.device)) for cell, ones in gathered.items()}


def moved(known: Cells, gone: Collection[str], found: Collection[Landmark]) -> Cells:
    """`known` without the devices that are `gone`, and with what was `found`; the very same when nothing differs."""
    left = {cell: kept for cell, ones in known.items() if (kept := tuple(one for one in ones if one.device not in gone)) != ones}
    if not left and not found:
        return known
    changed = {**known, **left}
    for cell, ones in cells(found).items():
        changed[cell] = tuple(sorted((*changed.get(cell, ()), *ones), key=lambda one: one.device))
    return {cell: ones for cell, ones in changed.items() if ones}


def near(known: Cells, latitude: float, longitude: float, kind: LandmarkClass, *, within_m: float, most: int) -> list[Nearby]:
    """The nearest landmarks of a kind, at most so many, the nearest first."""
    if not known or not located(latitude, longitude):
        return []
    shrink = max(math.cos(math.radians(latitude)), 1e-6)
    wide = within_m / METRES_PER_DEG / CELL_DEG[kind]
    rows, columns = math.ceil(wide), min(math.ceil(wide / shrink), MOST_CELLS)
    _, row, column = _cell(kind, latitude, longitude)
    around = [
        ((one.latitude - latitude) ** 2 + ((one.longitude - longitude) * shrink) ** 2, one.device, one)
        for i in range(row - rows, row + rows + 1)
        for j in range(column - columns, column + columns + 1)
        for one in known.get((kind, i, j), ())
    ]  # on so small a piece of the Earth a flat map tells which are the nearest; only their distance is worth a sine
    found = [Nearby(one, metres(latitude, longitude, one.latitude, one.longitude)) for *_, one in nsmallest(most, around)]
    return [one for one in found if one.metres <= within_m]


def metres(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Great-circle distance (haversine)."""
    a, b = math.radians(latitude), math.radians(to_latitude)
    half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(to_longitude - longitude) / 2) ** 2
    return 2 * math.degrees(math.asin(math.sqrt(min(half, 1.0)))) * METRES_PER_DEG


def _cell(kind: LandmarkClass, latitude: float, longitude: float) -> Cell:
    return kind, math.floor(latitude / CELL_DEG[kind]), math.floor(longitude / CELL_DEG[kind])

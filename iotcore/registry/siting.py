"""Siting: what the label `place` says of the air where a detector hangs, and what to look at when one is registered there. Pure.

At premises of the profile `verified` smoke is judged by place (docs/rules.md): where people cook or shower, lasting smoke is no
proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, get_args

from iotcore.registry.city import DeviceEntry
from iotcore.specs.model import DeviceSpec

PLACE = "place"  # the label of a device
Place = Literal["kitchen", "commercial-kitchen", "steam"]
PLACES: frozenset[str] = frozenset(get_args(Place))
SHOWN = 20  # devices of one import
HEAT, SMOKE = ("temperature", "°C"), ("smoke", "dB/m")
NAMES = ("kitchen", "bếp")  # how a zone is called in which somebody cooks


def advice(devices: Iterable[DeviceEntry], zones: Mapping[str, str], specs: Mapping[str, DeviceSpec]) -> list[str]:
    """What a person should look at in these devices, although it can be stored; `zones` are the names of its zones by id."""
    told = [said for device in devices for said in _of(device, zones.get(device.zone, ""), specs.get(device.model))]
    return [*told[:SHOWN], *([f"{len(told) - SHOWN} more devices as these"] if len(told) > SHOWN else [])]


def _of(device: DeviceEntry, zone: str, spec: DeviceSpec | None) -> Iterator[str]:
    place = device.labels.get(PLACE, "")
    if place and place not in PLACES:
        yield f"{device.id}: the label {PLACE} is {place!r}, which no rule knows; known are: {', '.join(sorted(PLACES))}"
    if spec is None or not _tells(spec, SMOKE):
        return
    if not place and any(name in zone.lower() for name in NAMES):
        yield (
            f"{device.id}: hangs in {zone!r} without the label {PLACE}: under the profile verified cooking there is told as "
            f"a fire; say {PLACE}=kitchen, or commercial-kitchen"
        )
    elif place in PLACES and not _tells(spec, HEAT):
        yield (
            f"{device.id}: measures smoke alone where {PLACE} is {place}: under the profile verified it is late to a fire or "
            "misses it; hang a detector there that measures heat too"
        )


def _tells(spec: DeviceSpec, wanted: tuple[str, str]) -> bool:
    point = spec.points.get(wanted[0])
    return point is not None and point.unit == wanted[1]

"""Conditions: what a fire rule asks of a device, as data. A few typed kinds, joined by all and any.

Nothing here looks at a reading; `engine_judge` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from msgspec import Meta

from iotcore.specs.model import DeviceSpec, Name

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=20)]


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="threshold", tag_field="kind"):
    """The mean of the newest readings is at or above `above` (or at or below `below`), until it passes `clear` on its way back.

    The mean takes every good reading of the last `mean_s` seconds and at least the newest `readings`; with fewer there is
    no verdict.
    """

    point: Name
    unit: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None  # hysteresis; without it the threshold itself
    mean_s: Seconds = 0.0
    readings: Count = 1


class Rise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="rise", tag_field="kind"):
    """The point climbs by `by` (in its unit) within `within_s`: newest mean minus mean of the window's oldest `base_s`.

    The newest mean is formed as for a threshold. A shifted zero does not matter; a window with few readings errs towards a
    smaller rise.
    """

    point: Name
    unit: str
    by: Annotated[float, Meta(gt=0)]
    within_s: Annotated[float, Meta(gt=0, le=3600)]
    mean_s: Seconds = 0.0
    base_s: Seconds = 0.0
    readings: Count = 1


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="state", tag_field="kind"):
    """A two-valued point says `is`: the detector's own alarm, a pressed call point."""

    point: Name
    is_: bool = msgspec.field(default=True, name="is")


class Each(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="each", tag_field="kind"):
    """Every two-valued point whose name matches `points` (`*` stands for anything) decides for itself when it says `is`.

    For panels: one rule for the fire of 1,590 detectors, each raised and reset apart. It is a rule's whole condition.
    """

    points: Annotated[str, Meta(pattern=r"^[a-z0-9_*]{1,40}$")]
    is_: bool = msgspec.field(default=True, name="is")

    def of(self, spec: DeviceSpec) -> Iterator[State]:
        """A condition for each point of a model that is meant."""
        for name, point in spec.points.items():
            if point.kind == "bool" and fnmatchcase(name, self.points):
                yield State(point=name, is_=self.is_)


class All(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="all", tag_field="kind"):
    """Every part holds at the same time; each part judged by its newest readings."""

    of: tuple[Condition, ...]


class AnyOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="any", tag_field="kind"):
    """At least one part holds; the first that does gives the reason."""

    of: tuple[Condition, ...]


Leaf = Threshold | Rise | State
Condition = Threshold | Rise | State | All | AnyOf


def misfit(leaf: Leaf, spec: DeviceSpec) -> str:
    """Why a leaf cannot judge this model's point; "" if it can."""
    point = spec.points.get(leaf.point)
    if point is None:
        return "no such point"
    if isinstance(leaf, State):
        return "" if point.kind == "bool" else f"needs a bool point, it is {point.kind}"
    if point.kind != "number":
        return f"needs a number, the point is {point.kind}"
    return "" if point.unit == leaf.unit else f"is judged in {leaf.unit!r}, the point is in {point.unit!r}"


def leaves(condition: Condition | Each) -> Iterator[Leaf]:
    """The conditions that look at one point that they name, in the order they are written."""
    if isinstance(condition, Each):
        return
    if isinstance(condition, All | AnyOf):
        for part in condition.of:
            yield from leaves(part)
    else:
        yield condition

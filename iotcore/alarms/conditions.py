"""Conditions: what a fire rule asks of a device, as data. A few typed kinds, joined by all, any and not.

    of one point      threshold, rise, state, bit, word, stale         of several   sum, mean
    over time         sustained, verification, during (a schedule)      over devices coincidence
    joined            all, any, not                                     each         for every point of a panel apart

Nothing here looks at a reading; `engine_nodes` does. What is not known to be good makes nothing true, and nothing false.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from iotcore.schedule import Schedule
from iotcore.specs.model import DeviceSpec, Name

WINDOW_MAX_S = 900.0  # the journal keeps 15 minutes of readings to warm the windows from after a restart
DELAY_MAX_S = 60.0  # verification: NFPA 72 and EN 54-2, from memory, allow a minute
Seconds = Annotated[float, Meta(ge=0, le=WINDOW_MAX_S)]
Duration = Annotated[float, Meta(gt=0, le=WINDOW_MAX_S)]
Count = Annotated[int, Meta(ge=1, le=20)]
Pattern = Annotated[str, Meta(pattern=r"^[a-z0-9_*]{1,40}$")]


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
    within_s: Duration
    mean_s: Seconds = 0.0
    base_s: Seconds = 0.0
    readings: Count = 1


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="state", tag_field="kind"):
    """A two-valued point says `is`: the detector's own alarm, a pressed call point."""

    point: Name
    is_: bool = msgspec.field(default=True, name="is")


class Bit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="bit", tag_field="kind"):
    """One bit of a point that is a whole number (a status word), 0 the lowest."""

    point: Name
    bit: Annotated[int, Meta(ge=0, le=31)]
    is_: bool = msgspec.field(default=True, name="is")


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="word", tag_field="kind"):
    """A point of words says one of `is`: the state of an `enum`, a set bit of `flags`; without `is`: any word."""

    point: Name
    is_: tuple[str, ...] = msgspec.field(default=(), name="is")


class Stale(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="stale", tag_field="kind"):
    """No good value of the point for `for_s`. A trouble, never a fire; a device that never spoke is for supervision to find."""

    point: Name
    for_s: Annotated[float, Meta(ge=1, le=WINDOW_MAX_S)]


class _Over(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    points: tuple[Pattern, ...]
    unit: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None

    @property
    def point(self) -> str:
        """What stands for all of them."""
        return self.points[0]

    def of(self, spec: DeviceSpec) -> list[str]:
        """The points of a model that are meant, in its order."""
        return [name for name, point in spec.points.items() if point.kind == "number" and _fits(name, self.points)]


class Sum(_Over, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="sum", tag_field="kind"):
    """The sum of the newest values of several points, as a threshold; unknown while one of them is."""


class Mean(_Over, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="mean", tag_field="kind"):
    """The mean of the newest values of several points, as a threshold; unknown while one of them is."""


class Each(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="each", tag_field="kind"):
    """Every two-valued point whose name matches `points` (`*` stands for anything) decides for itself when it says `is`.

    For panels: one rule for the fire of 1,590 detectors, each raised and reset apart. It is a rule's whole condition, or that
    of a coincidence.
    """

    points: Pattern
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


class Not(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="not", tag_field="kind"):
    """The part is known not to hold; of what is unknown, `not` is unknown."""

    of: Condition


class Sustained(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="sustained", tag_field="kind"):
    """The part has held for `for_s`. Silence neither satisfies nor ends it; time does while the last value is fresh."""

    of: Condition
    for_s: Duration


class Verification(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="verification", tag_field="kind"):
    """The part lasts for `lasts_s`, or ends and holds again within `again_within_s`; unknown after 60 s, it holds too."""

    of: Condition
    lasts_s: Annotated[float, Meta(gt=0, le=DELAY_MAX_S)] = 30.0
    again_within_s: Annotated[float, Meta(gt=0, le=DELAY_MAX_S)] = 60.0


class During(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="during", tag_field="kind"):
    """The part, while a schedule is in force; outside it does not hold."""

    of: Condition
    schedule: Schedule


class Coincidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="coincidence", tag_field="kind"):
    """The part holds at `count` points of a zone or premises, the first within `within_s` or still holding.

    As a rule's whole condition the first is a pre-alarm, cancelled when it stays alone for `within_s`; what still holds counts
    for a second all the same.
    """

    of: Condition | Each
    place: Literal["zone", "premises"] = "zone"
    count: Annotated[int, Meta(ge=2, le=20)] = 2
    within_s: Annotated[float, Meta(gt=0, le=1800, description="a first alarm alone is cancelled after 5 to 30 min")] = 300.0


Over = Sum | Mean
Leaf = Threshold | Rise | State | Bit | Word | Stale | Sum | Mean
Condition = (
    Threshold
    | Rise
    | State
    | Bit
    | Word
    | Stale
    | Sum
    | Mean
    | All
    | AnyOf
    | Not
    | Sustained
    | Verification
    | During
    | Coincidence
)
Joint = All | AnyOf
Wrapper = Not | Sustained | Verification | During | Coincidence


def misfit(leaf: Leaf, spec: DeviceSpec) -> str:  # noqa: PLR0911 - one answer for each kind
    """Why a leaf cannot judge this model's point; "" if it can."""
    if isinstance(leaf, Sum | Mean):
        wrong = [name for name in leaf.of(spec) if spec.points[name].unit != leaf.unit]
        return f"is judged in {leaf.unit!r}, not so {wrong[0]}" if wrong else "" if leaf.of(spec) else "no such point"
    point = spec.points.get(leaf.point)
    if point is None:
        return "no such point"
    if isinstance(leaf, Stale):
        return ""
    if isinstance(leaf, State):
        return "" if point.kind == "bool" else f"needs a bool point, it is {point.kind}"
    if isinstance(leaf, Word):
        return _word_misfit(leaf, (*point.states.values(), point.otherwise), point.kind)
    if point.kind != "number":
        return f"needs a number, the point is {point.kind}"
    if isinstance(leaf, Bit):
        return ""
    return "" if point.unit == leaf.unit else f"is judged in {leaf.unit!r}, the point is in {point.unit!r}"


def leaves(condition: Condition | Each) -> Iterator[Leaf]:
    """The conditions that look at points that they name, in the order they are written."""
    if isinstance(condition, Each):
        return
    if isinstance(condition, Joint):
        for part in condition.of:
            yield from leaves(part)
    elif isinstance(condition, Wrapper):
        yield from leaves(condition.of)
    else:
        yield condition


def _word_misfit(leaf: Word, words: tuple[str, ...], kind: str) -> str:
    if kind not in {"enum", "flags"}:
        return f"needs a point of words, it is {kind}"
    unknown = [word for word in leaf.is_ if word not in words]
    return f"never says {unknown[0]!r}" if unknown else ""


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

"""Where a simulated point's value comes from: a constant, a ramp, steps, a recording, the day, rain, a junction, a fire. Pure.

Each source is a table of a timeline's YAML with its `kind`. Numbers may carry noise (a standard deviation), drift (a rate), a
least, a most, and a number of decimals. Spans of time are numbers (s) or text with a unit: 500ms, 30s, 10min, 2h, 1d.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import exp
from random import Random
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from iotcore.reading import Scalar
from simulators import signals, weather
from simulators.fire_growth import Fire, Fuel, Growth, Jet, at_detector
from simulators.optics import SmokeUnit

SPAN = r"^[0-9]+(\.[0-9]+)?(ms|s|min|h|d)$(?!\n)"
Span = Annotated[float, Meta(ge=0)] | Annotated[str, Meta(pattern=SPAN, description="500ms, 30s, 10min, 2h, 1d")]
UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
Hour = Annotated[float, Meta(ge=0, lt=24)]


def seconds(span: float | str) -> float:
    """A span of time in s."""
    if isinstance(span, int | float):
        return float(span)
    found = re.fullmatch(r"([0-9.]+)([a-z]+)", span)
    assert found is not None  # its type has checked it
    return float(found[1]) * UNITS_S[found[2]]


class _Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What every number may have besides its course."""

    noise: Annotated[float, Meta(ge=0, description="standard deviation, in the point's unit")] = 0.0
    drift_per_h: float = 0.0  # added for each hour since the timeline's start
    least: float | None = None
    most: float | None = None
    decimals: Annotated[int, Meta(ge=0, le=9)] = 4


class Constant(_Number, frozen=True, tag="constant"):
    """Always the same, but for noise and drift. Without those, write the value alone."""

    value: float


class Ramp(_Number, frozen=True, tag="ramp"):
    """From one value to another within `takes`, beginning at `begins`; level before and after."""

    start: float = msgspec.field(name="from")
    to: float
    takes: Span
    begins: Span = 0.0


class Steps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="steps"):
    """One value after another: `[[0s, false], [60s, true]]`; from the start again every `again`, when given."""

    steps: tuple[tuple[Span, Scalar | None], ...]
    again: Span | None = None


class Replay(_Number, frozen=True, tag="replay"):
    """A column of a CSV file (its place is beside the timeline's): value = cell * scale + offset, linear between the rows."""

    file: str
    column: str
    time: str = "time"  # column, in s
    scale: float = 1.0
    offset: float = 0.0
    smoke_unit: SmokeUnit | None = None  # of a smoke column: turned into dB/m before anything else
    speed: Annotated[float, Meta(gt=0)] = 1.0
    begins: Span = 0.0
    loop: bool = False


class Day(_Number, frozen=True, tag="day"):
    """A cosine over the local day: temperature, humidity (negative swing), oxygen."""

    mean: float
    swing: float  # at the highest hour it is mean + swing
    highest_h: Hour = 14.0


class Rush(_Number, frozen=True, tag="rush"):
    """Low, and high at certain hours of the local day: what traffic makes."""

    low: float
    high: float
    peaks_h: tuple[Hour, ...] = (7.0, 18.0)
    width_h: Annotated[float, Meta(gt=0, le=12)] = 2.5


class InRain(_Number, frozen=True, tag="rain"):
    """How a river's point answers the timeline's rain: `dry` + `per_mm_per_h` times what reaches it."""

    dry: float
    per_mm_per_h: float
    lag: Span = "5min"
    rises: Span = "10min"
    recovers: Span = "2h"


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="signal"):
    """What a junction shows by one of the timeline's `programs`.

    `show`: "groups" one S0001 character each; "group" the one of number `group`, in `words` if given ({"1": green, N: yellow,
    A: red}); "plan", "cycle_s", "offset_s" of the plan that runs.
    """

    program: str
    show: Literal["groups", "group", "plan", "cycle_s", "offset_s"]
    group: signals.Group = 1
    words: dict[str, str] = {}


class InFire(_Number, frozen=True, tag="fire"):
    """What one of the timeline's `fires` makes of a detector: `quiet` + smoke (dB/m), or the rise of temperature (°C)."""

    fire: str
    show: Literal["smoke", "rise"]
    quiet: float = 0.0
    distance_m: Annotated[float, Meta(ge=0, le=100)] = 3.0
    ceiling_m: Annotated[float, Meta(gt=0, le=30)] = 3.0


class Above(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="above"):
    """A yes-or-no that follows another point of the same device: a detector's own decision."""

    point: str
    threshold: float


Source = Constant | Ramp | Steps | Replay | Day | Rush | InRain | Signal | InFire | Above


class Burn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A t² fire, from `at` on; put out after `burns`, its smoke leaves with the time constant `clears`."""

    at: Span
    growth: Growth = "fast"
    maximum_kw: Annotated[float, Meta(gt=0, le=100_000)] = 1_500.0
    fuel: Fuel = "polyurethane"
    burns: Span = "30min"
    clears: Span = "3min"


@dataclass(frozen=True, slots=True)
class Curve:
    """A recording: times in s, rising, and values."""

    times: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, t_s: float, *, loop: bool) -> float:
        """Linear between two rows; before the first and after the last, theirs."""
        if loop and self.times[-1] > self.times[0]:
            t_s = self.times[0] + (t_s - self.times[0]) % (self.times[-1] - self.times[0])
        after = bisect_right(self.times, t_s)
        if after in (0, len(self.times)):
            return self.values[0 if after == 0 else -1]
        t0, t1, v0, v1 = self.times[after - 1], self.times[after], self.values[after - 1], self.values[after]
        return v0 + (v1 - v0) * (t_s - t0) / (t1 - t0)


@dataclass(frozen=True, slots=True)
class World:
    """What all sources of a timeline share. `local_s`: seconds of the local day at its start."""

    seed: int = 1
    local_s: float = 0.0
    rains: tuple[weather.Rain, ...] = ()
    fires: Mapping[str, Burn] = field(default_factory=dict)
    programs: Mapping[str, signals.Program] = field(default_factory=dict)
    curves: Mapping[tuple[str, str, str], Curve] = field(default_factory=dict)


def value(source: Source, world: World, t_s: float, name: str, other: Callable[[str], Scalar | None]) -> Scalar | None:
    """The value at `t_s` since the start; `name` makes its noise its own, `other` tells another point of the device."""
    match source:
        case Steps():
            return _step(source, t_s)
        case Signal():
            return _signal(source, world, t_s)
        case Above():
            said = other(source.point)
            return None if said is None or isinstance(said, str) else said >= source.threshold
        case _:
            return _finished(source, _course(source, world, t_s), world.seed, t_s, name)


def _course(source: _Number, world: World, t_s: float) -> float:  # noqa: PLR0911 - one for each source
    match source:
        case Constant():
            return source.value
        case Ramp():
            part = (t_s - seconds(source.begins)) / max(seconds(source.takes), 1e-9)
            return source.start + (source.to - source.start) * min(max(part, 0.0), 1.0)
        case Replay():
            curve = world.curves[source.file, source.time, source.column]
            at_s = curve.times[0] + (t_s - seconds(source.begins)) * source.speed
            return curve.at(max(at_s, curve.times[0]), loop=source.loop) * source.scale + source.offset
        case Day():
            return source.mean + source.swing * weather.day(world.local_s + t_s, source.highest_h)
        case Rush():
            return source.low + (source.high - source.low) * weather.peaks(world.local_s + t_s, source.peaks_h, source.width_h)
        case InRain():
            lag_s, rises_s, recovers_s = seconds(source.lag), seconds(source.rises), seconds(source.recovers)
            reached = weather.response(world.rains, t_s, lag_s=lag_s, rises_s=rises_s, recovers_s=recovers_s)
            return source.dry + source.per_mm_per_h * reached
        case InFire():
            jet, left = _jet(source, world.fires[source.fire], t_s)
            return source.quiet + left * (jet.smoke if source.show == "smoke" else jet.rise_c)
    raise TypeError(source)


def _jet(source: InFire, burn: Burn, t_s: float) -> tuple[Jet, float]:
    """The jet at the detector and what is left of it: all while it burns, then less and less."""
    into_s, burns_s = t_s - seconds(burn.at), seconds(burn.burns)
    fire = Fire(burn.growth, burn.maximum_kw, burn.fuel)
    jet = at_detector(fire, min(into_s, burns_s), source.distance_m, source.ceiling_m)
    return jet, exp(-max(0.0, into_s - burns_s) / max(seconds(burn.clears), 1e-9))


def _finished(source: _Number, number: float, seed: int, t_s: float, name: str) -> float:
    number += source.drift_per_h * t_s / weather.HOUR_S
    if source.noise:
        number += Random(f"{seed}/{name}/{t_s:.3f}").gauss(0.0, source.noise)
    if source.least is not None:
        number = max(number, source.least)
    if source.most is not None:
        number = min(number, source.most)
    return round(number, source.decimals)


def _step(source: Steps, t_s: float) -> Scalar | None:
    if source.again is not None:
        t_s %= max(seconds(source.again), 1e-9)
    now = source.steps[0][1]
    for at, said in source.steps:
        if seconds(at) <= t_s:
            now = said
    return now


def _signal(source: Signal, world: World, t_s: float) -> Scalar:
    shown = signals.shown(world.programs[source.program], world.local_s + t_s, world.local_s)
    match source.show:
        case "groups":
            return shown.groups
        case "group":
            character = shown.groups[source.group - 1]
            return source.words.get(character, character)
        case "plan":
            return float(shown.plan.number)
        case "cycle_s":
            return shown.plan.cycle_s
        case "offset_s":
            return shown.plan.offset_s

"""The programme of a junction: fixed-time plans of phases, shown second by second. Pure; seconds of the local day.

    plan by the hour ─► phase by phase: its groups green, then yellow, then all red, then the next phase's green

A group leaves green by yellow only and yellow for red only; between two phases everything is red for `all_red_s`.
A plan begins only when the one before it has finished its cycle, so that no green is cut short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from simulators.weather import DAY_S

GREEN, YELLOW, RED = "1", "N", "A"  # S0001 characters of RSMP 3
Hour = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)", description="local time of day, hh:mm")]
Group = Annotated[int, Meta(ge=1, le=64)]


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Groups that are green together. Defaults: 3 s of yellow as in most of the world's cities, 2 s of all red."""

    greens: tuple[Group, ...]
    green_s: Annotated[float, Meta(ge=5, le=300)]
    yellow_s: Annotated[float, Meta(ge=3, le=6)] = 3.0
    all_red_s: Annotated[float, Meta(ge=0, le=10)] = 2.0

    @property
    def lasts_s(self) -> float:
        """To the next phase's green."""
        return self.green_s + self.yellow_s + self.all_red_s


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is shown from `begins` until another plan begins."""

    number: Annotated[int, Meta(ge=0, le=255)]
    begins: Hour
    phases: tuple[Phase, ...]
    offset_s: Annotated[float, Meta(ge=0, le=600)] = 0.0  # of the cycle's start, for a green wave

    @property
    def cycle_s(self) -> float:
        """All phases."""
        return sum(phase.lasts_s for phase in self.phases)


class Program(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plans of a junction over the day; `groups` is how many signal groups it has."""

    groups: Group
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a junction shows: one S0001 character for each group, and the plan by which it does."""

    groups: str
    plan: Plan


def problems(program: Program) -> Iterator[tuple[str, str]]:
    """What is wrong with a programme that its types do not tell: (path, reason)."""
    if not program.plans:
        yield "plans", "at least one"
    begins = [plan.begins for plan in program.plans]
    yield from (("plans", f"two begin at {hour}") for hour in sorted({hour for hour in begins if begins.count(hour) > 1}))
    for i, plan in enumerate(program.plans):
        if not plan.phases:
            yield f"plans[{i}].phases", "at least one"
        for j, phase in enumerate(plan.phases):
            beyond = [group for group in phase.greens if group > program.groups]
            if beyond or not phase.greens:
                yield f"plans[{i}].phases[{j}].greens", f"groups 1 to {program.groups}, at least one; got {list(phase.greens)}"


def shown(program: Program, local_s: float, since_s: float = 0.0) -> Shown:
    """What is shown at `local_s`. Both count seconds from a local midnight; at `since_s` the programme was switched on."""
    plan, began_s = _running(program, local_s, since_s)
    into_s = (local_s - began_s) % plan.cycle_s
    for phase in plan.phases:
        if into_s < phase.lasts_s:
            sign = GREEN if into_s < phase.green_s else YELLOW if into_s < phase.green_s + phase.yellow_s else RED
            return Shown("".join(sign if group in phase.greens else RED for group in range(1, program.groups + 1)), plan)
        into_s -= phase.lasts_s
    return Shown(RED * program.groups, plan)  # what rounding may leave over at the very end of the last all red


def _running(program: Program, local_s: float, since_s: float) -> tuple[Plan, float]:
    """The plan at `local_s` and when its first cycle began: at its hour, or when the plan before it had finished its cycle."""
    plans = sorted(program.plans, key=lambda plan: _seconds(plan.begins))
    plan = _by_the_hour(plans, since_s)
    began_s = since_s - plan.cycle_s + plan.offset_s % plan.cycle_s
    for change_s, later in _changes(plans, since_s):
        left_s = -(change_s - began_s) % plan.cycle_s
        if change_s + left_s > local_s:
            break
        plan, began_s = later, change_s + left_s
    return plan, began_s


def _by_the_hour(plans: Sequence[Plan], local_s: float) -> Plan:
    return next((plan for plan in reversed(plans) if _seconds(plan.begins) <= local_s % DAY_S), plans[-1])


def _changes(plans: Sequence[Plan], since_s: float) -> Iterator[tuple[float, Plan]]:
    """Every change of plan after `since_s`, for ever."""
    day_s = since_s - since_s % DAY_S
    while True:
        for plan in plans:
            at_s = day_s + _seconds(plan.begins)
            if at_s > since_s:
                yield at_s, plan
        day_s += DAY_S
        if len(plans) == 1:
            return


def _seconds(hour: str) -> float:
    return int(hour[:2]) * 3_600.0 + int(hour[3:]) * 60.0

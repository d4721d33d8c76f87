"""Escalation: whom to tell next of a fire that nobody has acknowledged. Pure.

The steps are those of the premises' response plan whose hours it is; a plan without any, or none for this hour, tells everybody:
whatever is in doubt is told to more people, never to fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iotcore.registry.response import Number, Response

FIRST_S = 30.0  # the alarm contract, 5: no human acknowledgement in 30 s → escalate
EVERYBODY_S = (FIRST_S, 120.0)  # where no plan says otherwise; ours


@dataclass(frozen=True, slots=True)
class Step:
    """The `nth` step (from 1), `after_s` after the alarm: these receivers (`everybody`: all of them), and these people."""

    nth: int
    after_s: float
    everybody: bool = False
    receivers: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()


def ladder(plan: Response, at_ms: float) -> tuple[Step, ...]:
    """The steps of a fire that was raised at this moment, ms UTC, in the order of their time."""
    rungs = [rung for rung in plan.ladder if rung.when is None or rung.when.active(at_ms)]
    if not rungs:
        return tuple(Step(nth, after_s, everybody=True, numbers=plan.numbers) for nth, after_s in enumerate(EVERYBODY_S, 1))
    people = {one.name: one for one in plan.numbers}
    return tuple(
        Step(
            nth,
            float(rung.after_s),
            receivers=tuple(name for name in rung.whom if name not in people),
            numbers=tuple(people[name] for name in rung.whom if name in people),
        )
        for nth, rung in enumerate(rungs, 1)
    )


def due(steps: Sequence[Step], done: int, elapsed_s: float) -> tuple[Step, ...]:
    """The steps whose time has come and that are not among the first `done`: several at once after an outage."""
    return tuple(step for step in steps[done:] if step.after_s <= elapsed_s + CLOSE_S)


def wait_s(steps: Sequence[Step], done: int, elapsed_s: float) -> float | None:
    """How long until the step after the first `done`; None when there is none."""
    return max(0.0, steps[done].after_s - elapsed_s) if done < len(steps) else None


CLOSE_S = 0.5  # a timer that rings this much early by another clock rings in time

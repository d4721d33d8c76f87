"""What was broken in a run, and for how long that may delay a fire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.simulated.script import RESEND_S
from tests.simulated.world import World

RETRY_S = 16.0  # after a receiver was mended: the longest pause of a dispatcher, and a reply that never came
TAKEOVER_S = 2.5  # after a replica died or came back: a lease of one second, a poll, a start
BEGUN_S = 1.0  # what a replica had in its hands when it died
EMERGENCY_S = 0.5  # a commit may take 0.25 s, the emergency log 0.1 s
HEDGED_S = 4.5  # until the alternate path is told of what the first does not answer: 3 s, a poll, a send


class Disturbance(NamedTuple):
    """Something was broken, and how long its consequences last."""

    what: str
    at_s: float
    until_s: float
    after_s: float


def disturbances(world: World) -> list[Disturbance]:
    after_s = {"broker": RESEND_S, **dict.fromkeys(world.script.receivers, RETRY_S)}
    found = [
        Disturbance(span.what, span.at_s, span.until_s, RESEND_S if span.kind == "cut" else after_s.get(span.what, TAKEOVER_S))
        for span in world.script.spans
    ]
    return found + [Disturbance(name, at_s, until_s, TAKEOVER_S) for name, at_s, until_s in _deaths(world)]


def excuse_s(world: World, seen_s: float, device: str) -> float:
    """How much longer it may take than it should: until what stood in its way is mended, and the consequences have passed.

    One replica of several, or one receiver of two, is no excuse but for what the dead one had begun: its lease. Nor is a journal
    that does not answer, but for a replica that has to start without it.
    """
    wrong = [one for one in disturbances(world) if one.until_s + one.after_s > seen_s]
    names = {one.what for one in wrong}
    excuses = [0.0]
    for one in wrong:
        left_s = one.until_s + one.after_s - seen_s
        if one.what in {"broker", device}:
            excuses.append(left_s)
        elif one.what == "journal":
            started = any(other.what.startswith("replica") and other.until_s >= one.at_s for other in wrong)
            excuses.append(left_s if started else min(left_s, EMERGENCY_S))
        elif one.what.startswith("replica"):
            alone = {f"replica-{n}" for n in range(world.script.replicas)} <= names
            excuses.append(left_s if alone else TAKEOVER_S if one.at_s < seen_s + BEGUN_S else 0.0)
        elif {"arc", "cad"} <= names:
            by_alternate = world.script.alternate and "arc-b" not in names
            excuses.append(min(left_s, HEDGED_S) if by_alternate else left_s)
    return max(excuses)


def may_be_late(world: World, made_s: float, by_s: float) -> bool:
    """Whether a reading may have been on its way at a moment: something was broken in between, or it was too fresh."""
    return any(one.at_s <= by_s + 1.0 and one.until_s + one.after_s >= made_s for one in disturbances(world)) or (
        by_s - made_s < 4 * world.script.latency_s + 0.5
    )


def _deaths(world: World) -> Iterator[tuple[str, float, float]]:
    """Each time that a replica was dead."""
    dead: dict[str, float] = {}
    for line in world.history:
        at_s, what = line.split(" ", 1)
        name, _, word = what.partition(" ")
        if word.startswith("is killed"):
            dead[name] = float(at_s)
        elif word == "starts" and name in dead:
            yield name, dead.pop(name), float(at_s)

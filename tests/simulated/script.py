"""What happens in one simulated run, drawn from its seed before it begins. Times are seconds from the start. Pure.

Calm comes at the end: whatever is broken is mended, and at `end_s` every promise must have been kept.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

ACTION_S = 40.0  # fires begin and things break within this
SETTLE_S = 14.0  # longer than the longest pause of a dispatcher (10 s), and a reply that never comes
RESEND_S = 31.0  # after a broker forgot, or a link was cut: what is not receipted comes again with the next round


@dataclass(frozen=True, slots=True)
class Burn:
    """A device sees fire from `at_s` until `until_s`."""

    device: str
    at_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Span:
    """Something is so from `at_s` until `until_s`."""

    what: str  # a replica, a device, a receiver, "broker", "journal"
    kind: str
    at_s: float
    until_s: float

    def covers(self, now_s: float) -> bool:
        return self.at_s <= now_s < self.until_s


@dataclass(frozen=True, slots=True)
class Crash:
    """A replica dies at its `nth` call off the loop after `at_s`: before it is carried out, or just after."""

    replica: int
    at_s: float
    nth: int
    after: bool
    down_s: float


@dataclass(slots=True)
class Script:
    """One run."""

    seed: int
    replicas: int
    premises: dict[str, list[str]] = field(default_factory=dict)  # premises → devices
    burns: list[Burn] = field(default_factory=list)
    resets: list[tuple[str, float]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    clock_steps: list[list[tuple[float, float]]] = field(default_factory=list)  # of each replica
    duplicates: float = 0.0  # share of messages that the broker delivers twice
    latency_s: float = 0.005

    @property
    def end_s(self) -> float:
        """When everything that was promised must have been kept."""
        calm_s = [burn.until_s for burn in self.burns] + [at_s for _, at_s in self.resets]
        calm_s += [crash.at_s + crash.down_s for crash in self.crashes]
        held_s = [span.until_s + RESEND_S for span in self.spans if span.what == "broker" or span.kind == "cut"]
        return max([10.0, *calm_s, *held_s, *(span.until_s for span in self.spans)]) + SETTLE_S

    def during(self, what: str, now_s: float) -> str:
        """The kind of what is wrong with it now; "" for nothing."""
        return next((span.kind for span in self.spans if span.what == what and span.covers(now_s)), "")


def write(seed: int) -> Script:
    """Draw a run."""
    rng = random.Random(seed)
    script = Script(seed, replicas=rng.choice((1, 2, 2, 3)), duplicates=rng.choice((0.0, 0.05, 0.4)))
    script.latency_s = rng.choice((0.001, 0.01, 0.08))
    for number in range(rng.randint(1, 3)):
        place = f"p{number}"
        script.premises[place] = [f"{place}-{kind}{n}" for n in range(rng.randint(1, 2)) for kind in ("sd", "cp")]
        if rng.random() < 0.85:
            _fire(script, place, rng)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        _break(script, rng)
    script.clock_steps = [
        [(rng.uniform(5.0, 30.0), rng.choice((-3600.0, 3600.0, 40.0)))] if rng.random() < 0.1 else []
        for _ in range(script.replicas)
    ]
    return script


def _fire(script: Script, place: str, rng: random.Random) -> None:
    """A fire that one or more points see; perhaps reset, perhaps a second one afterwards."""
    begins_s = rng.uniform(1.0, 15.0)
    points = rng.sample(script.premises[place], rng.randint(1, len(script.premises[place])))
    ends_s = begins_s
    for nth, device in enumerate(points):
        at_s = begins_s + (rng.uniform(0.0, 6.0) if nth else 0.0)
        until_s = at_s + rng.choice((0.5, 4.0, rng.uniform(5.0, 12.0)))
        script.burns.append(Burn(device, at_s, until_s))
        ends_s = max(ends_s, until_s)
    if rng.random() < 0.5:
        reset_s = ends_s + rng.uniform(3.0, 6.0)
        script.resets.append((place, reset_s))
        if rng.random() < 0.6:
            again_s = reset_s + rng.uniform(0.5, 4.0)
            script.burns.append(Burn(rng.choice(points), again_s, again_s + rng.uniform(2.0, 6.0)))


def _break(script: Script, rng: random.Random) -> None:
    at_s = rng.uniform(0.5, ACTION_S - 12.0)
    until_s = min(ACTION_S, at_s + rng.choice((0.3, 2.0, rng.uniform(3.0, 12.0))))
    devices = [device for place in script.premises.values() for device in place]
    kind = rng.choice(("crash", "crash", "crash", "stall", "link", "broker", "forgetful", "receiver", "journal", "slow"))
    if kind == "crash":
        if script.burns and rng.random() < 0.7:  # near what matters
            at_s = max(0.0, rng.choice(script.burns).at_s - rng.uniform(0.0, 0.2))
        script.crashes.append(
            Crash(rng.randrange(script.replicas), at_s, rng.randint(1, 9), rng.random() < 0.5, rng.choice((0.2, 1.5, 5.0)))
        )
    elif kind == "stall":
        script.spans.append(Span(f"replica-{rng.randrange(script.replicas)}", "stalled", at_s, until_s))
    elif kind == "link":
        script.spans.append(Span(rng.choice(devices), "cut", at_s, until_s))
    elif kind == "receiver":
        script.spans.append(Span(rng.choice(("arc", "cad")), rng.choice(("refuses", "silent", "deaf")), at_s, until_s))
    elif kind in {"journal", "slow"}:
        script.spans.append(Span("journal", kind, at_s, until_s))
    else:
        script.spans.append(Span("broker", kind, at_s, until_s))

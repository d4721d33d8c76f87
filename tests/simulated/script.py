"""What happens in one simulated run, drawn from its seed before it begins. Times are seconds from the start. Pure.

Calm comes at the end: whatever is broken is mended, and at `end_s` every promise must have been kept.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

ACTION_S = 24.0  # fires begin and things break within this; what breaks far from any fire costs time and shows nothing
ROUND_S = 10.0  # each device reports once in this
SETTLE_S = 14.0  # longer than the longest pause of a dispatcher (10 s), and a reply that never comes
RESEND_S = 31.0  # after a broker forgot, or a link was cut: what is not receipted comes again with the next round
CALL_WAIT_S = 8.0  # a crash that waits for a call which does not come takes any
PATIENT = 25  # every so many-th run waits to its end though nothing seems to be under way any more
T1_S, T2_S = 15, 5  # of a response plan with a delay; 15 s is the shortest T1 that a plan may have
OUTAGE_S = (4.0, 14.0)  # how long something is disabled or in walk test

# Calls that leave the event loop, by who asks for them: a crash may wait for one. Most are polls, which matter least
CALLS = (
    "Commits._attempt",
    "Commits.rescue",
    "Commits._drain",
    "FireLane._note_durable",
    "FireLane._over_by_time",
    "HeldBack._asked",
    "Journal.move_cursor",
    "Dispatcher._next",
    "Dispatcher._hedge",
    "Courier.deliver",
    "Courier.deliver.sent",
    "Courier._hold",
    "Courier._retry",
    "Emergency.open",
)
CALLS_OF_PEOPLE = ("Journal.reset", "Journal.acknowledge")
CALLS_OF_OUTAGES = ("Outages.look", "Outages._put_down", "Journal.alarmed_devices", "FireLane._note_tests")
KINDS = (
    *("crash", "crash", "crash", "crash", "stall", "link", "broker", "forgetful", "receiver", "receiver", "journal", "slow"),
    "journal and crash",
)
OUT = ("full", "refuses", "gone")  # a disk that is full when it commits, or before; a server that answers nothing at all
ANY = -1  # whichever replica


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
class Outage:
    """A device, or a premises' zone, is disabled, or the zone is in walk test, by the registry."""

    kind: Literal["device", "zone", "walk"]
    subject: str
    premises: str
    at_s: float
    until_s: float

    def holds(self, device: str) -> bool:
        """Whether a fire that the device sees goes to nobody meanwhile. A call point is no part of a walk test."""
        if self.kind == "device":
            return device == self.subject
        return device.startswith(f"{self.premises}-") and not (self.kind == "walk" and "-cp" in device)


@dataclass(frozen=True, slots=True)
class Crash:
    """A replica dies at its `nth` call off the loop after `at_s`: before that is carried out, or after; `call` says which."""

    replica: int
    at_s: float
    nth: int
    after: bool
    down_s: float
    call: str = ""  # any


@dataclass(slots=True)
class Script:
    """One run."""

    seed: int
    replicas: int
    premises: dict[str, list[str]] = field(default_factory=dict)  # premises → devices
    burns: list[Burn] = field(default_factory=list)
    resets: list[tuple[str, float]] = field(default_factory=list)
    taken: list[tuple[str, float]] = field(default_factory=list)  # a person acknowledges what burns at a premises
    spans: list[Span] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    clock_steps: list[list[tuple[float, float]]] = field(default_factory=list)  # of each replica
    delayed: set[str] = field(default_factory=set)  # premises whose response plan has T1 and T2
    outages: list[Outage] = field(default_factory=list)
    alternate: bool = False  # "arc" has a second path, "arc-b"
    duplicates: float = 0.0  # share of messages that the broker delivers twice
    latency_s: float = 0.005

    @property
    def patient(self) -> bool:
        """Whether it goes on to its end though nothing seems to be under way any more: something might come late."""
        return self.seed % PATIENT == 0

    @property
    def receivers(self) -> tuple[str, ...]:
        """Their names."""
        return ("arc", "cad", "arc-b") if self.alternate else ("arc", "cad")

    @property
    def busy_s(self) -> float:
        """The last that is planned to happen."""
        calm_s = [burn.until_s for burn in self.burns] + [at_s for _, at_s in (*self.resets, *self.taken)]
        calm_s += [crash.at_s + crash.down_s for crash in self.crashes]  # later if its call does not come
        calm_s += [span.until_s for span in self.spans] + [outage.until_s for outage in self.outages]
        return max([ROUND_S, *calm_s])

    @property
    def end_s(self) -> float:
        """When everything that was promised must have been kept."""
        held_s = [span.until_s + RESEND_S for span in self.spans if span.what == "broker" or span.kind == "cut"]
        waits_s = (T1_S + T2_S if self.delayed else 0.0) + (CALL_WAIT_S if any(crash.call for crash in self.crashes) else 0.0)
        return max([self.busy_s + waits_s, *held_s]) + SETTLE_S

    def during(self, what: str, now_s: float) -> str:
        """The kind of what is wrong with it now; "" for nothing."""
        return next((span.kind for span in self.spans if span.what == what and span.covers(now_s)), "")


def write(seed: int) -> Script:
    """Draw a run."""
    rng = random.Random(seed)
    script = Script(seed, replicas=rng.choice((1, 2, 2, 3)), duplicates=rng.choice((0.0, 0.05, 0.4)))
    script.latency_s = rng.choice((0.001, 0.01, 0.08))
    script.alternate = rng.random() < 0.3
    for number in range(rng.randint(1, 3)):
        place = f"p{number}"
        script.premises[place] = [f"{place}-{kind}{n}" for n in range(rng.randint(1, 2)) for kind in ("sd", "cp")]
        if rng.random() < 0.1:
            script.delayed.add(place)
        if rng.random() < 0.85:
            _fire(script, place, rng)
        if rng.random() < 0.1:
            _outage(script, place, rng)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        _break(script, rng)
    script.clock_steps = _steps(script, rng)
    return script


def _fire(script: Script, place: str, rng: random.Random) -> None:
    """A fire that one or more points see; perhaps taken by a person, perhaps reset, perhaps a second one afterwards."""
    begins_s = rng.uniform(1.0, 8.0)
    points = rng.sample(script.premises[place], rng.randint(1, len(script.premises[place])))
    ends_s = begins_s
    for nth, device in enumerate(points):
        at_s = begins_s + (rng.uniform(0.0, 6.0) if nth else 0.0)
        until_s = at_s + rng.choice((0.5, 4.0, rng.uniform(5.0, 12.0)))
        script.burns.append(Burn(device, at_s, until_s))
        ends_s = max(ends_s, until_s)
    if rng.random() < 0.25:
        script.taken.append((place, begins_s + rng.uniform(0.5, 12.0)))
    if rng.random() < 0.5:
        reset_s = ends_s + rng.uniform(3.0, 6.0)
        script.resets.append((place, reset_s))
        if rng.random() < 0.6:
            again_s = reset_s + rng.uniform(0.5, 4.0)
            script.burns.append(Burn(rng.choice(points), again_s, again_s + rng.uniform(2.0, 6.0)))


def _outage(script: Script, place: str, rng: random.Random) -> None:
    """Out of service for a time that ends by itself, before, in or after a fire."""
    kind: Literal["device", "zone", "walk"] = rng.choice(("device", "zone", "walk"))
    at_s = rng.uniform(0.5, 10.0)
    subject = rng.choice(script.premises[place]) if kind == "device" else f"{place}-z"
    script.outages.append(Outage(kind, subject, place, at_s, at_s + rng.uniform(*OUTAGE_S)))


def _steps(script: Script, rng: random.Random) -> list[list[tuple[float, float]]]:
    """What is done to wall clocks: all alike where all stand on one machine, one by one where they do not.

    What is disabled is so until a moment of a wall clock: the registry's and the replicas' are one then.
    """
    drawn = [(rng.uniform(1.0, 20.0), rng.choice((-3600.0, 3600.0, 40.0))) for _ in range(script.replicas)]
    stepped = [rng.random() < 0.1 for _ in range(script.replicas)]
    if script.outages or rng.random() < 0.5:
        return [drawn[:1] if stepped[0] else [] for _ in range(script.replicas)]
    return [[step] if is_so else [] for step, is_so in zip(drawn, stepped, strict=True)]


def _break(script: Script, rng: random.Random) -> None:
    at_s = rng.uniform(0.3, ACTION_S - 10.0)
    until_s = min(ACTION_S, at_s + rng.choice((0.3, 2.0, rng.uniform(3.0, 12.0))))
    devices = [device for place in script.premises.values() for device in place]
    kinds = (
        "crash",
        "crash",
        "crash",
        "crash",
        "stall",
        "link",
        "broker",
        "forgetful",
        "receiver",
        "receiver",
        "journal",
        "slow",
    )
    kind = rng.choice((*kinds, "journal and crash"))
    if kind == "crash":
        _crash(script, at_s, rng)
    elif kind == "stall":
        script.spans.append(Span(f"replica-{rng.randrange(script.replicas)}", "stalled", at_s, until_s))
    elif kind == "link":
        script.spans.append(Span(rng.choice(devices), "cut", at_s, until_s))
    elif kind == "receiver":
        script.spans.append(Span(rng.choice(script.receivers), rng.choice(("refuses", "silent", "deaf")), at_s, until_s))
    elif kind in {"journal", "slow"}:
        script.spans.append(Span("journal", rng.choice(OUT) if kind == "journal" else kind, at_s, until_s))
    elif kind == "journal and crash":  # what went to the emergency log is sent again, by whoever starts
        at_s = rng.choice(script.burns).at_s if script.burns else at_s
        script.spans.append(Span("journal", rng.choice(OUT), at_s - 0.1, at_s + rng.uniform(1.0, 8.0)))
        _crash(script, at_s + rng.uniform(0.0, 3.0), rng)
    else:
        script.spans.append(Span("broker", kind, at_s, until_s))


def _crash(script: Script, at_s: float, rng: random.Random) -> None:
    """Near a fire mostly: at one of the next calls of a replica, or at a certain call, whoever makes it."""
    if script.burns and rng.random() < 0.6:
        at_s = max(0.0, rng.choice(script.burns).at_s - rng.uniform(0.0, 0.2))
    after, down_s = rng.random() < 0.5, rng.choice((0.2, 1.5, 5.0))
    if rng.random() < 0.4:
        script.crashes.append(Crash(rng.randrange(script.replicas), at_s, rng.randint(1, 9), after, down_s))
        return
    calls = CALLS + CALLS_OF_PEOPLE * bool(script.resets or script.taken) + CALLS_OF_OUTAGES * bool(script.outages)
    script.crashes.append(Crash(ANY, at_s, rng.choice((1, 1, 2, 3)), after, down_s, rng.choice(calls)))

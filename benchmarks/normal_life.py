"""Normal life of a city's detectors: premises, what happens in them, and what of it each detector sees. Seeded; no fire in it.

    premises (shophouse, restaurant, school, guesthouse) ─► detectors, each so many doors from the stove, each with its own zero,
    drift, noise, battery and link ─► events (cooking, oven, shower, spray, dust, insect, incense) ─► smoke and heat at each of
    them

Air that leaves a room mixes into the next one through its doorway: one first-order stage a door. Every rate and shape is named
with its source; ASSUMED is our own. What it is for: docs/normal-life.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, log, pi, sin
from random import Random

from iotcore.registry.siting import Place

DAY_S = 86_400.0
STEP_S = 10.0  # of a course, as often as a detector reports
COURSE_MAX_S = 3 * 3600.0
GONE_DB_PER_M, GONE_C = 0.001, 0.02  # less than this of an event is none

# CPSC, pilot study of nuisance alarms from cooking (2010), 469 cooking events in nine homes: photoelectric alarms sounded in 42
# of 938 at 1.5 and 3 m (4.5 %), in 4 of 469 at 6 m (0.85 %). Read at 2 %/ft, 0.288 dB/m (ASSUMED: the middle of 1 to 4 %/ft, UL
# 217), and with a log-normal spread of 0.8 (ASSUMED), half of all cooking stays below 0.074 dB/m at the near places and 0.575
# of that at 6 m.
COOKING_MEDIAN, COOKING_SPREAD = 0.074, 0.8
MIXED = 0.575
DOOR_S = 300.0  # 40 m³ behind an open door of 0.13 m³/s, 2 °C across it (Brown and Solvason 1962)
STAIR_S = 460.0  # 60 m³
AJAR_S = 1200.0  # 40 m³ through a gap of a quarter of a door
HOOD = (0.5, 0.9)  # of smoke and heat that a hood over a commercial stove catches (ASSUMED); one that is off is not in this life

NOISES = 8191
NOISE_DB_PER_M, NOISE_C = 0.004, 0.05  # of a clean detector at rest; as in the measured quiet of NIST's tests
LONGEST_SWING_S = 300.0  # how far back a rule looks
DRIFT_DB_PER_M_DAY = (0.0, 0.0007)  # dust in the chamber: 0.02 dB/m in a month at most (ASSUMED)
USUAL = 0.95  # of the zeros; the others are anywhere up to ZERO_MOST (ASSUMED)
ZERO_MOST = 0.1  # dB/m; a detector further off is for maintenance
AIRCON_C, AIRCON_S = 1.0, 1800.0  # a room's thermostat, up and down (ASSUMED)
DAY_SWING_C = 3.0
BATTERY_LIFE_DAYS = 1095.0  # ASSUMED
LINK_LOSSES_A_DAY, LINK_LOSS_S = 0.2, 120.0  # ASSUMED; half of them are shorter


@dataclass(frozen=True, slots=True)
class Kind:
    """What happens: how often a day, how smoky next to the source, for how long, how warm.

    `median` and `spread` are of the log-normal peak in dB/m; `heat_c` is °C next to it once it has lasted; times in seconds to
    draw from.
    """

    name: str
    a_day: float
    median: float
    spread: float
    rise_s: tuple[float, float]
    stay_s: tuple[float, float]
    fade_s: tuple[float, float]
    heat_c: tuple[float, float] = (0.0, 0.0)
    heat_lag_s: float = 60.0
    hours: tuple[float, ...] = ()  # around which it happens; none: at any time


# Heat of a stove: ceiling jet (Alpert 1972), ΔT = 5.38 (Q/r)^(2/3) / H, Q 1 to 5 kW at home, r 2 m, H 1.6 m: 2 to 6.2 °C,
# through a detector and a pot that take a minute. Stays are log-normal around two minutes: half between 1.2 and 3.4, one in
# fifty over ten (ASSUMED).
COOKING = Kind(
    "cooking", 2.5, COOKING_MEDIAN, COOKING_SPREAD, (20, 120), (20, 1800), (60, 360), (2.0, 6.2), 60, (6.2, 11.2, 17.8)
)
BIG_COOKING = Kind(
    "big kitchen", 12, COOKING_MEDIAN, COOKING_SPREAD, (20, 120), (20, 1800), (60, 360), (6.2, 15.6), 60, (10, 12, 18, 19)
)
OVEN = Kind("oven, steamer", 0.3, 0.06, 0.8, (2, 8), (10, 60), (20, 60), (2.0, 6.0), 10, (7, 17))
SHOWER = Kind("shower steam", 2, 0.02, 0.8, (3, 10), (5, 60), (15, 90), (0.5, 4.0), 20, (6.5, 18, 21))
# Spray, dust and insects together reach 0.15 dB/m about 5 times a month and 1,000 detectors, one in 17 detectors a year: worse
# than the one in 20 at which BS 5839-1 wants a system looked into (from memory). Their shares and shapes are ASSUMED.
SPRAY = Kind("spray", 0.033, 0.0075, 1.0, (2, 8), (0, 10), (10, 40))
DUST = Kind("dust", 0.017, 0.0075, 1.0, (2, 6), (0, 20), (5, 20))
INSECT = Kind("insect", 0.0001, 0.6, 0.8, (0, 0), (0, 10), (0.5, 1))
# Three sticks of incense (30 to 50 mg/h each) or three cigarettes (10 mg each) an hour, in 40 m³ with one change of air an
# hour: 1 to 3 mg/m³, and 3 m² a gram: 0.015 to 0.03 dB/m; twice that right above it (ASSUMED spread).
INCENSE = Kind("incense, cigarette", 0.3, 0.02, 0.4, (30, 120), (240, 1800), (60, 600))
BATTERY = Kind("battery low", 0.0, 0.0, 0.0, (0, 0), (0, 0), (0, 0))
LOW_PERCENT = 15.0
FLUTTER_MOST = 1.2  # times the peak
STAY_MEDIAN_S, STAY_SPREAD = 120.0, 0.8


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a detector hangs: doors to the stove, whether a shower's door is near; `place` is the label that it should have."""

    name: str
    doors: tuple[float, ...] | None = None  # None: no air of the kitchen comes here; (): above the stove's own room
    shower: bool = False
    commercial: bool = False

    @property
    def place(self) -> Place | None:
        """In the kitchen or open to it, without a door that is kept shut between; or beside a shower's door."""
        if self.doors is not None and AJAR_S not in self.doors:
            return "commercial-kitchen" if self.commercial and not self.doors else "kitchen"
        return "steam" if self.shower else None


@dataclass(frozen=True, slots=True)
class Plan:
    """Premises of one sort: how many there are among 1,000 detectors, what cooks there, and its spots."""

    name: str
    count: int
    stove: Kind
    spots: tuple[Spot, ...]


def _behind(count: int, name: str, *doors: float, shower: bool = False) -> tuple[Spot, ...]:
    return tuple(Spot(f"{name} {n}", doors, shower) for n in range(1, count + 1))


# A narrow house of a Vietnamese street: kitchen at the back, stair in its middle, bedrooms above. ASSUMED, as are the counts.
# The doors of corridors close themselves.
CITY = (
    Plan(
        "shophouse",
        100,
        COOKING,
        (
            Spot("kitchen", ()),
            Spot("stair", (STAIR_S,)),
            Spot("shop", (STAIR_S, DOOR_S)),
            Spot("bedroom 1", (STAIR_S, AJAR_S), shower=True),
            Spot("bedroom 2", (STAIR_S, AJAR_S)),
        ),
    ),
    Plan(
        "restaurant",
        20,
        BIG_COOKING,
        (Spot("kitchen", (), commercial=True), Spot("dining room", (DOOR_S,)), *_behind(2, "store", DOOR_S, AJAR_S)),
    ),
    Plan(
        "school",
        10,
        BIG_COOKING,
        (
            Spot("kitchen", (), commercial=True),
            Spot("canteen", (DOOR_S,)),
            *_behind(4, "corridor", DOOR_S, AJAR_S),
            *(Spot(f"room {n}") for n in range(14)),
        ),
    ),
    Plan(
        "guesthouse",
        11,
        BIG_COOKING,
        (
            Spot("kitchen", (), commercial=True),
            Spot("breakfast", (DOOR_S,)),
            *_behind(3, "corridor", DOOR_S, AJAR_S),
            *(Spot(f"room {n}", shower=True) for n in range(15)),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens: at a time, with its drawn shape; `reach` is whom it reaches, by detector, through which doors."""

    kind: Kind
    at_s: float
    peak: float
    rise_s: float
    stay_s: float
    fade_s: float
    heat_c: float
    phase: float
    reach: Mapping[int, tuple[float, tuple[float, ...]]]  # share, doors

    def smoke(self, t: float) -> float:
        """dB/m next to the source, `t` seconds after it began; it flutters by a fifth."""
        if t < self.rise_s:
            shape = t / self.rise_s
        else:
            over = t - self.rise_s - self.stay_s
            shape = 1.0 if over <= 0.0 else exp(-over / self.fade_s)
        return self.peak * shape * (1.0 + 0.1 * sin(t / 3.7 + self.phase) + 0.1 * sin(t / 11.3 + 2.0 * self.phase))

    def most(self, share: float, doors: tuple[float, ...]) -> tuple[float, float]:
        """Smoke and heat behind these doors at the most: a room that mixes in τ has never more than all that comes in, over τ."""
        smoke, heat = FLUTTER_MOST * share * self.peak, share * self.heat_c
        on_s = self.rise_s + self.stay_s
        area, warm = smoke * (on_s + self.fade_s), heat * (on_s + 2.0 * self.kind.heat_lag_s)
        for door_s in doors:
            smoke, heat = min(smoke, area / door_s), min(heat, warm / door_s)
        return smoke, heat

    def heat(self, t: float) -> float:
        """°C above before, next to the source."""
        lag_s, on_s = self.kind.heat_lag_s, self.rise_s + self.stay_s
        warm = self.heat_c * (1.0 - exp(-min(t, on_s) / lag_s))
        return warm if t <= on_s else warm * exp(-(t - on_s) / (2.0 * lag_s))


@dataclass(frozen=True, slots=True)
class Course:
    """What one event adds at one detector: a value each `STEP_S` from `at_s`; before and after it nothing."""

    at_s: float
    smoke: tuple[float, ...]
    heat: tuple[float, ...]

    @property
    def until_s(self) -> float:
        """When it is gone."""
        return self.at_s + len(self.smoke) * STEP_S

    def at(self, t_s: float) -> tuple[float, float]:
        """Smoke in dB/m and heat in °C at this time."""
        steps = (t_s - self.at_s) / STEP_S
        n = int(steps)
        if steps < 0.0 or n + 1 >= len(self.smoke):
            return 0.0, 0.0
        part = steps - n
        smoke, heat = self.smoke, self.heat
        return smoke[n] + (smoke[n + 1] - smoke[n]) * part, heat[n] + (heat[n + 1] - heat[n]) * part


@dataclass(frozen=True, slots=True)
class Detector:
    """One detector: its spot, and what it tells when nothing happens."""

    id: str
    spot: Spot
    phase_s: float
    zero: float
    drift: float  # dB/m a day
    turn: int  # where in the noises it is
    celsius: float
    battery: float  # percent at the start
    losses: tuple[tuple[float, float], ...]  # of its link, from and until

    def quiet(self, t_s: float, reading: int) -> tuple[float, float]:
        """Smoke and temperature of its nth reading, when nothing happens."""
        n = (reading * 7919 + self.turn) % NOISES
        cycle = abs((t_s + self.turn) % AIRCON_S / AIRCON_S - 0.5) * 4.0 - 1.0
        temperature = (
            self.celsius + DAY_SWING_C * sin(2.0 * pi * (t_s / DAY_S - 0.375)) + AIRCON_C * cycle + NOISE_C * NOISE[n - 1]
        )
        return self.zero + self.drift * t_s / DAY_S + NOISE_DB_PER_M * NOISE[n], temperature

    def charge(self, t_s: float) -> float:
        """Percent left in its battery."""
        return max(0.0, self.battery - 100.0 * t_s / DAY_S / BATTERY_LIFE_DAYS)

    def silent(self, t_s: float) -> bool:
        """Whether its link is lost."""
        return any(begin <= t_s < end for begin, end in self.losses)


@dataclass(frozen=True, slots=True)
class Premises:
    """One building with its detectors and everything that happens there, in order."""

    id: str
    plan: Plan
    detectors: tuple[Detector, ...]
    events: tuple[Event, ...] = field(repr=False)


def _noise() -> tuple[float, ...]:
    random = Random("noise")
    return tuple(random.gauss(0.0, 1.0) for _ in range(NOISES))


NOISE = _noise()
SWING_DB_PER_M = NOISE_DB_PER_M * (max(NOISE) - min(NOISE)) + DRIFT_DB_PER_M_DAY[1]
SWING_C = (
    NOISE_C * (max(NOISE) - min(NOISE))
    + AIRCON_C * 4.0 * LONGEST_SWING_S / AIRCON_S
    + DAY_SWING_C * 2.0 * pi * LONGEST_SWING_S / DAY_S
)


def city(days: float, seed: int, counts: Mapping[str, int] | None = None) -> Iterator[Premises]:
    """The premises of the city, or so many of each plan, and `days` of their life.

    Each is drawn apart: the same whatever else there is.
    """
    for plan in CITY:
        for n in range(plan.count if counts is None else counts.get(plan.name, 0)):
            one = f"{plan.name}-{n}"
            random = Random(f"{seed}/{one}")
            detectors = tuple(_detector(f"{one}/{spot.name}", spot, days, random) for spot in plan.spots)
            events = sorted([*_events(plan, days, random), *_batteries(detectors, days)], key=lambda event: event.at_s)
            yield Premises(one, plan, detectors, tuple(events))


def course(event: Event, share: float, doors: tuple[float, ...]) -> Course:
    """What reaches a detector: `share` of the source, through these doors, each a room that mixes in so many seconds."""
    smoke, heat = [], []
    mixed = [(0.0, 0.0)] * len(doors)
    parts = [1.0 - exp(-STEP_S / door_s) for door_s in doors]
    over_s = event.rise_s + event.stay_s
    for n in range(int(COURSE_MAX_S / STEP_S)):
        t = n * STEP_S
        here, warm = share * event.smoke(t), share * event.heat(t)
        for i, part in enumerate(parts):
            here, warm = mixed[i] = (mixed[i][0] + (here - mixed[i][0]) * part, mixed[i][1] + (warm - mixed[i][1]) * part)
        smoke.append(here)
        heat.append(warm)
        if t > over_s and here < GONE_DB_PER_M and warm < GONE_C and all(one[0] < GONE_DB_PER_M * 2 for one in mixed):
            break
    return Course(event.at_s, tuple(smoke), tuple(heat))


def _detector(one: str, spot: Spot, days: float, random: Random) -> Detector:
    zero = random.gauss(0.01, 0.02) if random.random() < USUAL else random.uniform(0.05, ZERO_MOST)  # NIST's meters: 0 to 0.03
    losses, t = [], random.expovariate(LINK_LOSSES_A_DAY / DAY_S)
    while t < days * DAY_S:
        lasts_s = min(3600.0, random.lognormvariate(log(LINK_LOSS_S), 1.0))
        losses.append((t, t + lasts_s))
        t += lasts_s + random.expovariate(LINK_LOSSES_A_DAY / DAY_S)
    return Detector(
        id=one,
        spot=spot,
        phase_s=random.uniform(0.0, 10.0),
        zero=min(ZERO_MOST, max(-0.05, zero)),
        drift=random.uniform(*DRIFT_DB_PER_M_DAY),
        turn=random.randrange(NOISES),
        celsius=random.uniform(23.0, 31.0),
        battery=random.uniform(16.0, 100.0),
        losses=tuple(losses),
    )


def _events(plan: Plan, days: float, random: Random) -> Iterator[Event]:
    stove = {
        n: (1.0, spot.doors) if not spot.doors else (MIXED, spot.doors)
        for n, spot in enumerate(plan.spots)
        if spot.doors is not None
    }
    yield from _one_by_one(_drawn(plan.stove, days, random, stove, hood=plan.stove is BIG_COOKING))
    yield from _drawn(OVEN, days, random, stove)
    for n, spot in enumerate(plan.spots):
        near: dict[int, tuple[float, tuple[float, ...]]] = {n: (1.0, ())}
        for kind in (*((SHOWER,) if spot.shower else ()), SPRAY, DUST, INSECT, INCENSE):
            yield from _drawn(kind, days, random, near)


def _batteries(detectors: Sequence[Detector], days: float) -> Iterator[Event]:
    """Each cell that runs low."""
    for n, one in enumerate(detectors):
        at_s = (one.battery - LOW_PERCENT) / 100.0 * BATTERY_LIFE_DAYS * DAY_S
        if at_s < days * DAY_S:
            yield Event(BATTERY, at_s, 0.0, 0.0, 60.0, 1.0, 0.0, 0.0, {n: (1.0, ())})


def _one_by_one(bouts: Iterable[Event]) -> Iterator[Event]:
    """One stove: a bout of cooking, which is all of it, begins when the one before is over."""
    free_s = 0.0
    for bout in sorted(bouts, key=lambda one: one.at_s):
        at_s = max(bout.at_s, free_s)
        free_s = at_s + bout.rise_s + bout.stay_s
        yield replace(bout, at_s=at_s)


def _drawn(
    kind: Kind, days: float, random: Random, reach: Mapping[int, tuple[float, tuple[float, ...]]], *, hood: bool = False
) -> Iterator[Event]:
    t = random.expovariate(kind.a_day / DAY_S)
    while t < days * DAY_S:
        at_s = t
        if kind.hours:
            at_s = (t // DAY_S) * DAY_S + 3600.0 * min(23.9, max(0.0, random.gauss(random.choice(kind.hours), 0.7)))
        past = 1.0 - random.uniform(*HOOD) if hood else 1.0
        stay_s = random.uniform(*kind.stay_s)
        if kind in {COOKING, BIG_COOKING}:
            stay_s = min(kind.stay_s[1], max(kind.stay_s[0], random.lognormvariate(log(STAY_MEDIAN_S), STAY_SPREAD)))
        yield Event(
            kind=kind,
            at_s=at_s,
            peak=past * random.lognormvariate(log(kind.median), kind.spread),
            rise_s=random.uniform(*kind.rise_s),
            stay_s=stay_s,
            fade_s=random.uniform(*kind.fade_s),
            heat_c=past ** (2 / 3) * random.uniform(*kind.heat_c),
            phase=random.uniform(0.0, 2.0 * pi),
            reach=reach,
        )
        t += random.expovariate(kind.a_day / DAY_S)

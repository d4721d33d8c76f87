"""Weather and the clock of the day as stations feel them: rain through a river, traffic and sun through the air. Pure; s, mm/h.

A river answers rain late, rises fast and falls slowly: a linear reservoir (outflow in proportion to what is stored), whose
answer to a block of steady rain of intensity i is known in closed form:

    during   i (1 - exp(-(t - lag) / rises))        afterwards   what it was, times exp(-t' / recovers)

The answers of several rains add up. With `recovers` longer than `rises` it is the asymmetric pulse that turbidity and level show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, exp, pi

HOUR_S, DAY_S = 3_600.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Rain:
    """Steady rain for a while."""

    at_s: float
    lasts_s: float
    mm_per_h: float


def response(rains: Iterable[Rain], t_s: float, *, lag_s: float, rises_s: float, recovers_s: float) -> float:
    """What reaches a point of the river at `t_s`, mm/h: 0 when dry, near the rain's intensity when it rains for long."""
    total = 0.0
    for rain in rains:
        into_s = t_s - rain.at_s - lag_s
        if into_s <= 0.0:
            continue
        filled = rain.mm_per_h * (1.0 - exp(-min(into_s, rain.lasts_s) / rises_s))
        total += filled * exp(-max(0.0, into_s - rain.lasts_s) / recovers_s)
    return total


def intensity(rains: Iterable[Rain], t_s: float) -> float:
    """What a rain gauge would tell at `t_s`, mm/h."""
    return sum(rain.mm_per_h for rain in rains if rain.at_s <= t_s < rain.at_s + rain.lasts_s)


def day(local_s: float, highest_h: float) -> float:
    """1 at the highest hour of the local day, −1 twelve hours away; a cosine."""
    return cos(2.0 * pi * (local_s - highest_h * HOUR_S) / DAY_S)


def peaks(local_s: float, at_h: Iterable[float], width_h: float) -> float:
    """1 at each of these hours of the local day (rush hours), falling to 0 within `width_h`; a raised cosine."""
    hour = local_s % DAY_S / HOUR_S
    nearest = min((min(abs(hour - at), 24.0 - abs(hour - at)) for at in at_h), default=24.0)
    return 0.5 * (1.0 + cos(pi * nearest / width_h)) if nearest < width_h else 0.0

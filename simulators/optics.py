"""Smoke units: everything a smoke meter or a data sheet may speak in, turned into dB/m.

dB/m is the unit of EN 54-7 and of our specs: m = (10 / d) · lg(P0 / P), with path d in metres and beam power P. An optical
density per metre (base 10) is a tenth of it; an extinction coefficient (base e) is turned by 10 · lg e.
"""

from __future__ import annotations

from math import e, isfinite, log10
from typing import Literal, get_args

SmokeUnit = Literal["1/m-od10", "1/m-ext", "dB/m", "%/m", "%/ft"]
SMOKE_UNITS: tuple[str, ...] = get_args(SmokeUnit)
METRES_PER_FOOT = 0.3048  # international foot, exact
DB_PER_NEPER_POWER = 10.0 * log10(e)  # 4.343: dB of a power ratio of e


def decibels_per_metre(value: float, unit: str) -> float:
    """Smoke in dB/m.

    `unit`: "1/m-od10" optical density base 10 per metre; "1/m-ext" extinction coefficient (base e) per metre; "dB/m"; "%/m" and
    "%/ft" obscuration over one metre or one foot.

    Raises:
        ValueError: an unknown unit, a value that is not finite, or an obscuration of 100 % or more.
    """
    if not isfinite(value):
        raise ValueError(f"smoke must be a finite number, got {value}")
    match unit:
        case "dB/m":
            return value
        case "1/m-od10":
            return 10.0 * value
        case "1/m-ext":
            return DB_PER_NEPER_POWER * value
        case "%/m" | "%/ft":
            if value >= 100.0:  # noqa: PLR2004 - per cent
                raise ValueError(f"an obscuration of {value} % lets no light through: it has no optical density")
            return -10.0 * log10(1.0 - value / 100.0) / (1.0 if unit == "%/m" else METRES_PER_FOOT)
        case _:
            raise ValueError(f"unknown smoke unit {unit!r}; known are: {', '.join(SMOKE_UNITS)}")

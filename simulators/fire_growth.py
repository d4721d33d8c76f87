"""A growing fire under a flat ceiling, as a detector beside it feels it: heat release, ceiling jet, smoke.

```
Q = α t² (NFPA 72 / NFPA 92)  ─►  front arrives after a lag (Heskestad and Delichatsios)
                              ─►  ΔT and velocity of the ceiling jet at (r, H) (Alpert)  ─►  smoke = ΔT · (D/ΔT) of the fuel
```

Pure: kW, m, s, °C, dB/m. Quasi-steady: the jet at time t is that of the fire a lag earlier. The correlations are for an
unconfined smooth ceiling; a hot layer, walls and beams are left out, so that a real room fills faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pow as power
from math import sqrt
from typing import Literal

from simulators.optics import decibels_per_metre

Growth = Literal["slow", "medium", "fast", "ultra-fast"]
Fuel = Literal["wood", "paper", "polyester", "polyurethane"]

# kW/s²: 1,055 kW after 600, 300, 150 and 75 s. NFPA 72 Annex B and NFPA 92, t-squared fires.
ALPHA_KW_PER_S2: dict[Growth, float] = {"slow": 0.00293, "medium": 0.01172, "fast": 0.0469, "ultra-fast": 0.1876}

# Optical density (base 10, 1/m) per °C of temperature rise, flaming fires. Heskestad and Delichatsios, Environments of Fire
# Detectors, NBS-GCR-77-86/95 (1977), as tabled in NFPA 72 Annex B in 1/(ft °F): 0.02, 0.03, 0.3 and 0.4 times 10^-2.
PER_FOOT_FAHRENHEIT = 1.8 / 0.3048  # 1/(ft °F) in 1/(m °C)
DENSITY_PER_DEGREE: dict[Fuel, float] = {
    "wood": 0.02e-2 * PER_FOOT_FAHRENHEIT,
    "paper": 0.03e-2 * PER_FOOT_FAHRENHEIT,
    "polyester": 0.3e-2 * PER_FOOT_FAHRENHEIT,
    "polyurethane": 0.4e-2 * PER_FOOT_FAHRENHEIT,
}

TURNING_REGION = 0.18  # r/H inside which the plume turns and the temperature does not depend on r (Alpert 1972)
VELOCITY_REGION = 0.15  # likewise for velocity
CONVECTIVE_FRACTION = 0.7  # of the heat release, used by the lag correlation only (NFPA 72 Annex B)
AIR_BUOYANCY_M4_PER_S2_KJ = 9.81 / (1.0 * 293.0 * 1.2)  # g / (c_p T ρ) of air at 20 °C: kJ/(kg K), K, kg/m³


@dataclass(frozen=True, slots=True)
class Fire:
    """A t-squared fire up to its steady maximum."""

    growth: Growth = "fast"
    maximum_kw: float = 1500.0  # an armchair or a market stall; a burning room is larger
    fuel: Fuel = "polyurethane"

    @property
    def steady_after_s(self) -> float:
        """When the maximum is reached."""
        return sqrt(self.maximum_kw / ALPHA_KW_PER_S2[self.growth])


@dataclass(frozen=True, slots=True)
class Jet:
    """The ceiling jet at a detector: temperature rise °C, velocity m/s, smoke dB/m."""

    rise_c: float
    velocity_m_s: float
    smoke: float


STILL = Jet(0.0, 0.0, 0.0)


def heat_release_kw(fire: Fire, t_s: float) -> float:
    """Q = α t², 0 before ignition, never more than the maximum."""
    return min(ALPHA_KW_PER_S2[fire.growth] * max(t_s, 0.0) ** 2, fire.maximum_kw)


def jet_rise_c(heat_kw: float, distance_m: float, height_m: float) -> float:
    """Greatest temperature rise in the ceiling jet, °C.

    Alpert, Calculation of Response Time of Ceiling-Mounted Fire Detectors, Fire Technology 8 (1972); SFPE Handbook, Ceiling Jet
    Flows: 16.9 Q^(2/3) / H^(5/3) for r/H <= 0.18, else 5.38 (Q/r)^(2/3) / H. `height_m` is the ceiling's above the fuel.
    """
    _check(distance_m, height_m)
    if distance_m <= TURNING_REGION * height_m:
        return 16.9 * power(heat_kw, 2 / 3) / power(height_m, 5 / 3)
    return 5.38 * power(heat_kw / distance_m, 2 / 3) / height_m


def jet_velocity_m_s(heat_kw: float, distance_m: float, height_m: float) -> float:
    """Greatest velocity in the ceiling jet, m/s.

    Same sources: 0.96 (Q/H)^(1/3) for r/H <= 0.15, else 0.195 Q^(1/3) H^(1/2) / r^(5/6).
    """
    _check(distance_m, height_m)
    if distance_m <= VELOCITY_REGION * height_m:
        return 0.96 * power(heat_kw / height_m, 1 / 3)
    return 0.195 * power(heat_kw, 1 / 3) * sqrt(height_m) / power(distance_m, 5 / 6)


def lag_s(growth: Growth, distance_m: float, height_m: float) -> float:
    """How long the front of a t-squared fire needs to the detector.

    Heskestad and Delichatsios: 0.861 (1 + r/H) (A α_c)^(-1/5) H^(4/5), as in NFPA 72 Annex B, with A = g / (c_p T ρ).
    """
    _check(distance_m, height_m)
    scale = power(AIR_BUOYANCY_M4_PER_S2_KJ * CONVECTIVE_FRACTION * ALPHA_KW_PER_S2[growth], -0.2) * power(height_m, 0.8)
    return 0.861 * (1.0 + distance_m / height_m) * scale


def at_detector(fire: Fire, t_s: float, distance_m: float, height_m: float) -> Jet:
    """The jet `t_s` seconds after ignition, at `distance_m` from the plume's axis under a ceiling `height_m` above the fuel."""
    heat_kw = heat_release_kw(fire, t_s - lag_s(fire.growth, distance_m, height_m))
    if heat_kw <= 0.0:
        return STILL
    rise_c = jet_rise_c(heat_kw, distance_m, height_m)
    smoke = decibels_per_metre(DENSITY_PER_DEGREE[fire.fuel] * rise_c, "1/m-od10")
    return Jet(rise_c, jet_velocity_m_s(heat_kw, distance_m, height_m), smoke)


def _check(distance_m: float, height_m: float) -> None:
    if height_m <= 0.0 or distance_m < 0.0:
        raise ValueError(f"needs a ceiling above the fire and no negative distance, got H = {height_m} m, r = {distance_m} m")

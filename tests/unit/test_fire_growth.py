"""The simulated fire obeys the published correlations, and nature: more fire, nearer, lower ceiling is never less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.fire_growth import (
    ALPHA_KW_PER_S2,
    STILL,
    Fire,
    Growth,
    at_detector,
    heat_release_kw,
    jet_rise_c,
    jet_velocity_m_s,
    lag_s,
)
from simulators.optics import SMOKE_UNITS, decibels_per_metre

growths: st.SearchStrategy[Growth] = st.sampled_from(list(ALPHA_KW_PER_S2))
distances_m = st.floats(0.0, 30.0)
heights_m = st.floats(2.0, 15.0)
times_s = st.floats(0.0, 1500.0)


@pytest.mark.parametrize(("growth", "seconds"), [("slow", 600.0), ("medium", 300.0), ("fast", 150.0), ("ultra-fast", 75.0)])
def test_a_t_squared_fire_reaches_1055_kw_at_its_nfpa_growth_time(growth: Growth, seconds: float) -> None:
    assert heat_release_kw(Fire(growth, maximum_kw=5000.0), seconds) == pytest.approx(1055.0, rel=0.005)


def test_alpert_worked_example_far_from_the_axis() -> None:
    # 1 MW, ceiling 3 m above the fuel, 5 m away: 5.38 (1000/5)^(2/3) / 3 = 61.3 °C; 0.195 · 10 · sqrt(3) / 5^(5/6) = 0.883 m/s
    assert jet_rise_c(1000.0, 5.0, 3.0) == pytest.approx(61.33, abs=0.01)
    assert jet_velocity_m_s(1000.0, 5.0, 3.0) == pytest.approx(0.8833, abs=0.0005)


def test_alpert_worked_example_in_the_turning_region() -> None:
    # 1 MW under an 8 m ceiling: 16.9 · 100 / 8^(5/3) = 52.8 °C; 0.96 (1000/8)^(1/3) = 4.8 m/s
    assert jet_rise_c(1000.0, 0.5, 8.0) == pytest.approx(52.81, abs=0.01)
    assert jet_velocity_m_s(1000.0, 0.5, 8.0) == pytest.approx(4.8)


def test_the_two_temperature_formulas_meet_at_the_edge_of_the_turning_region() -> None:
    inside, outside = jet_rise_c(500.0, 0.18 * 3.0, 3.0), jet_rise_c(500.0, 0.1801 * 3.0, 3.0)
    assert outside == pytest.approx(inside, rel=0.01)


@given(growths, distances_m, heights_m, times_s, st.floats(0.0, 600.0))
def test_a_detector_never_feels_less_as_the_fire_goes_on(
    growth: Growth, distance_m: float, height_m: float, t_s: float, more_s: float
) -> None:
    fire = Fire(growth)
    earlier, later = at_detector(fire, t_s, distance_m, height_m), at_detector(fire, t_s + more_s, distance_m, height_m)
    assert later.rise_c >= earlier.rise_c
    assert later.smoke >= earlier.smoke


@given(growths, distances_m, st.floats(0.0, 20.0), heights_m, times_s)
def test_a_farther_detector_never_feels_more(
    growth: Growth, distance_m: float, more_m: float, height_m: float, t_s: float
) -> None:
    near, far = (at_detector(Fire(growth), t_s, r, height_m) for r in (distance_m, distance_m + more_m))
    assert far.rise_c <= near.rise_c * 1.01  # the published constants leave a step of 0.1 % at r/H = 0.18
    assert far.smoke <= near.smoke * 1.01


@given(growths, distances_m, heights_m, st.floats(0.0, 10.0), times_s)
def test_a_higher_ceiling_is_never_hotter(growth: Growth, distance_m: float, height_m: float, more_m: float, t_s: float) -> None:
    heat_kw = heat_release_kw(Fire(growth), t_s)
    assert jet_rise_c(heat_kw, distance_m, height_m + more_m) <= jet_rise_c(heat_kw, distance_m, height_m) * 1.01


@given(growths, distances_m, heights_m)
def test_nothing_is_felt_before_ignition_nor_before_the_front_arrives(growth: Growth, distance_m: float, height_m: float) -> None:
    front_s = lag_s(growth, distance_m, height_m)
    assert at_detector(Fire(growth), -1.0, distance_m, height_m) == STILL
    assert at_detector(Fire(growth), front_s * 0.999, distance_m, height_m) == STILL
    assert at_detector(Fire(growth), front_s + 1.0, distance_m, height_m).rise_c > 0.0


def test_the_front_of_a_medium_fire_needs_some_twenty_seconds_to_three_metres() -> None:
    # (0.0279 · 0.7 · 0.01172)^(-1/5) · 3^0.8 · 0.861 · 2 = 22.1 s
    assert lag_s("medium", 3.0, 3.0) == pytest.approx(22.1, abs=0.2)


def test_the_fire_stays_at_its_maximum() -> None:
    fire = Fire("ultra-fast", maximum_kw=900.0)
    assert heat_release_kw(fire, fire.steady_after_s) == pytest.approx(900.0)
    assert heat_release_kw(fire, 10_000.0) == 900.0


def test_foam_smokes_twenty_times_as_much_as_wood_for_the_same_heat() -> None:
    foam, wood = (at_detector(Fire("fast", fuel=fuel), 60.0, 3.0, 3.0) for fuel in ("polyurethane", "wood"))
    assert foam.rise_c == wood.rise_c
    assert foam.smoke / wood.smoke == pytest.approx(20.0)
    assert foam.smoke / foam.rise_c == pytest.approx(10 * 2.36e-2, rel=0.01)  # 2.36e-2 1/(m °C) in optical density


def test_a_ceiling_below_the_fire_is_refused() -> None:
    with pytest.raises(ValueError, match="ceiling above the fire"):
        at_detector(Fire(), 10.0, 1.0, 0.0)


def test_one_percent_per_metre_is_0_044_decibels_per_metre() -> None:
    assert decibels_per_metre(1.0, "%/m") == pytest.approx(0.0436, abs=0.0001)
    assert decibels_per_metre(1.0, "%/ft") == pytest.approx(0.0436 / 0.3048, rel=0.002)


def test_one_decibel_per_metre_is_an_extinction_coefficient_of_0_23() -> None:
    assert decibels_per_metre(0.2303, "1/m-ext") == pytest.approx(1.0, abs=0.001)
    assert decibels_per_metre(0.1, "1/m-od10") == pytest.approx(1.0)


@given(st.sampled_from(SMOKE_UNITS), st.floats(0.0, 99.0), st.floats(0.001, 0.9))
def test_more_smoke_is_more_decibels_in_every_unit(unit: str, value: float, more: float) -> None:
    assert decibels_per_metre(0.0, unit) == 0.0
    assert decibels_per_metre(value + more, unit) > decibels_per_metre(value, unit)


@pytest.mark.parametrize(("value", "unit"), [(100.0, "%/ft"), (float("nan"), "dB/m"), (float("inf"), "%/m"), (1.0, "furlongs")])
def test_smoke_that_is_no_number_or_no_unit_is_refused(value: float, unit: str) -> None:
    with pytest.raises(ValueError, match=r"finite|optical density|known are"):
        decibels_per_metre(value, unit)

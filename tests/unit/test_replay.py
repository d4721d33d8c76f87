"""Replaying a measured fire: what the file must hold, the quiet before it, and its pace."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from iotcore.errors import ConfigError
from simulators.replay import Sample, load, play, resample, source_ms, with_baseline

CURVE = tuple(Sample(2.0 * i, 0.01 * i, 20.0 + i) for i in range(20))


def write(folder: Path, text: str) -> Path:
    path = folder / "fire.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_named_columns_are_read_and_smoke_becomes_decibels_per_metre(tmp_path: Path) -> None:
    path = write(tmp_path, "TIME,TC,SM\n0,2.22E+01,1.5E-02\n2,22.3,0.03\n")
    first, second = load(path, "TIME", "SM", "TC")
    assert (first.at_s, first.temperature, second.at_s, second.temperature) == (0.0, 22.2, 2.0, 22.3)
    assert (first.smoke, second.smoke) == pytest.approx((0.15, 0.3))
    assert load(path, "TIME", "SM", "TC", smoke_unit="dB/m")[1].smoke == 0.03


def test_a_missing_column_is_refused_with_the_columns_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(write(tmp_path, "t,x\n0,1\n"), "TIME", "SM", "x")
    assert [str(p).split("fire.csv: ")[1] for p in refusal.value.problems] == [
        "TIME: no such column; the file has: t, x",
        "SM: no such column; the file has: t, x",
    ]


def test_every_bad_row_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(write(tmp_path, "t,s,c\n0,0,20\n2,nan,20\n4,0\n3,0,20\n3,0,20\n6,0,warm\n"), "t", "s", "c")
    told = [str(problem).split("fire.csv: ")[1] for problem in refusal.value.problems]
    assert told == [
        "line 3.s: is not a finite number: 'nan'",
        "line 4.c: is not a finite number: None",
        "line 6.t: time 3 does not come after 3",
        "line 7.c: is not a finite number: 'warm'",
    ]


def test_a_file_of_the_wrong_kind_is_refused_shortly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(write(tmp_path, "t,s,c\n" + "x,y,z\n" * 500), "t", "s", "c")
    assert len(refusal.value.problems) == 21
    assert "more problems" in str(refusal.value.problems[-1])


@pytest.mark.parametrize(("text", "reason"), [("", "the file is empty"), ("t,s,c\n", "no rows")])
def test_an_empty_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(write(tmp_path, text), "t", "s", "c")


def test_a_missing_or_binary_file_and_an_unknown_unit_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.csv", "t", "s", "c")
    (tmp_path / "fire.bin").write_bytes(b"\xff\xfe\xfa\x00")
    with pytest.raises(ConfigError, match="is not CSV"):
        load(tmp_path / "fire.bin", "t", "s", "c")
    with pytest.raises(ConfigError, match=r"unknown 'gallons'; known are: 1/m-od10"):
        load(write(tmp_path, "t,s,c\n0,0,20\n"), "t", "s", "c", smoke_unit="gallons")


def test_an_obscuration_of_a_hundred_percent_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2\.s: an obscuration of 100"):
        load(write(tmp_path, "t,s,c\n0,100,20\n"), "t", "s", "c", smoke_unit="%/ft")


def test_the_baseline_is_quiet_as_long_as_asked_and_joins_the_curve_at_its_own_pace() -> None:
    samples = with_baseline(CURVE, seconds=60.0, seed=7)
    quiet = samples[: -len(CURVE)]
    assert samples[-len(CURVE) :] == CURVE
    assert len(quiet) == 30
    assert quiet[0].at_s == -60.0
    assert quiet[-1].at_s == -2.0
    assert {sample.smoke for sample in quiet} <= {sample.smoke for sample in CURVE[:5]}
    assert {sample.temperature for sample in quiet} <= {sample.temperature for sample in CURVE[:5]}


def test_the_same_seed_gives_the_same_baseline() -> None:
    assert with_baseline(CURVE, 600.0, seed=1) == with_baseline(CURVE, 600.0, seed=1)
    assert with_baseline(CURVE, 600.0, seed=1) != with_baseline(CURVE, 600.0, seed=2)


def test_resampling_keeps_the_curve() -> None:
    assert resample(CURVE, 2.0) == CURVE
    fine = resample(CURVE, 0.5, phase_s=0.5)
    assert (fine[0].at_s, fine[0].smoke, fine[0].temperature) == pytest.approx((0.5, 0.0025, 20.25))
    assert fine[-1].at_s == CURVE[-1].at_s
    assert len(resample(CURVE, 10.0)) == 4


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_stamps_keep_the_curves_pace_and_are_never_ahead_of_the_clock(speed: float) -> None:
    stamps = [source_ms(sample, CURVE, 1_000_000.0, speed) for sample in CURVE]
    played = [1_000_000.0 + sample.at_s * 1000.0 / speed for sample in CURVE]
    assert all(later - earlier == pytest.approx(2000.0) for earlier, later in pairwise(stamps))
    assert all(stamp <= now + 1e-6 for stamp, now in zip(stamps, played, strict=True))
    assert stamps[-1] == pytest.approx(played[-1])


async def test_playing_keeps_the_order_and_the_scaled_pace() -> None:
    started_s = asyncio.get_running_loop().time()
    played = [sample async for sample in play(CURVE, speed=400.0)]
    assert tuple(played) == CURVE
    assert asyncio.get_running_loop().time() - started_s >= 38.0 / 400.0 * 0.9


async def test_a_speed_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        await anext(play(CURVE, speed=0.0))

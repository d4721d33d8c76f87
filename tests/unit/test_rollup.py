"""What becomes of samples in a minute or an hour, and how minutes and hours join to longer intervals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.reading import Quality
from iotcore.telemetry.rollup import HOUR_MS, MINUTE_MS, Bucket, Interval, Sample, expected, joined, of_samples, step_of

SAMPLES = st.lists(
    st.builds(
        Sample,
        st.integers(0, HOUR_MS - 1).map(float),
        st.floats(-1e6, 1e6) | st.none() | st.just("text"),
        st.sampled_from(Quality),
        st.booleans(),
    ),
    max_size=60,
)


def good(at_ms: float, value: float | str | None, quality: Quality = Quality.GOOD, *, test: bool = False) -> Sample:
    return Sample(at_ms, value, quality, test)


def test_good_and_uncertain_numbers_count_bad_ones_apart_and_tests_not_at_all() -> None:
    samples = [
        good(0, 1.0), good(1, 4.0, Quality.UNCERTAIN), good(2, 900.0, Quality.BAD), good(3, None, Quality.BAD),
        good(4, 7.0, test=True), good(5, "text"), good(60_000, 100.0),
    ]  # fmt: skip
    assert of_samples(samples, 0, MINUTE_MS, 4.0) == Bucket(0, MINUTE_MS, 2, 2.5, 1.0, 4.0, 2, 4.0)


def test_a_minute_that_only_had_bad_values_is_known_by_their_number() -> None:
    bucket = of_samples([good(0, None, Quality.BAD)], 0, MINUTE_MS, 1.0)
    assert bucket is not None
    assert (bucket.values, bucket.bad) == (0, 1)
    assert math.isnan(bucket.mean)
    assert joined("d", [bucket], HOUR_MS) == []
    assert of_samples([good(0, "text"), good(1, 1.0, test=True)], 0, MINUTE_MS, 1.0) is None


@pytest.mark.parametrize(
    ("interval_ms", "step"),
    [(1000, None), (60_000, "1m"), (90_000, None), (900_000, "1m"), (3_600_000, "1h"), (86_400_000, "1h")],
)
def test_an_interval_is_joined_from_the_coarsest_step_that_divides_it(interval_ms: int, step: str | None) -> None:
    assert step_of(interval_ms) == step


def test_means_join_weighted_by_count() -> None:
    buckets = [Bucket(0, MINUTE_MS, 1, 10.0, 10.0, 10.0), Bucket(MINUTE_MS, MINUTE_MS, 3, 2.0, 1.0, 3.0)]
    assert joined("d", buckets, HOUR_MS) == [Interval("d", 0.0, 4.0, 1.0, 10.0, 4)]


@pytest.mark.parametrize(
    ("report_s", "values", "completeness"),
    [(60.0, 30, 0.5), (60.0, 90, 1.0), (180.0, 20, 1.0), (180.0, 5, 0.25), (7200.0, 1, 1.0)],
)
def test_completeness_is_the_share_of_the_readings_owed_and_one_at_most(
    report_s: float, values: int, completeness: float
) -> None:
    (hour,) = joined("d", [Bucket(0, HOUR_MS, values, 1.0, 1.0, 1.0, 0, expected(HOUR_MS, report_s))], HOUR_MS)
    assert hour.completeness == pytest.approx(completeness)


def test_an_hour_of_minutes_that_are_missing_is_as_incomplete_as_the_hour_itself() -> None:
    owed = expected(MINUTE_MS, 180.0)  # a device that reports every three minutes leaves two of three empty
    minutes = [Bucket(at * MINUTE_MS, MINUTE_MS, 1, 1.0, 1.0, 1.0, 0, owed) for at in range(0, 30, 3)]
    (hour,) = joined("d", minutes, HOUR_MS)
    assert hour.completeness == pytest.approx(0.5)


def test_completeness_is_unknown_as_soon_as_a_part_of_it_is() -> None:
    parts = [Bucket(0, MINUTE_MS, 1, 1.0, 1.0, 1.0, 0, 1.0), Bucket(MINUTE_MS, MINUTE_MS, 1, 1.0, 1.0, 1.0)]
    assert joined("d", parts, HOUR_MS)[0].completeness is None


@given(SAMPLES)
def test_an_hour_joined_from_its_minutes_is_the_hour_of_its_samples(samples: list[Sample]) -> None:
    minutes = [of_samples(samples, at, MINUTE_MS, 1.0) for at in range(0, HOUR_MS, MINUTE_MS)]
    whole = of_samples(samples, 0, HOUR_MS, 60.0)
    by_minutes = joined("d", [one for one in minutes if one is not None], HOUR_MS)
    at_once = joined("d", [whole] if whole is not None else [], HOUR_MS)
    assert [one[:2] + one[3:] for one in by_minutes] == [one[:2] + one[3:] for one in at_once]
    for one, other in zip(by_minutes, at_once, strict=True):
        assert one.mean == pytest.approx(other.mean, abs=1e-6)

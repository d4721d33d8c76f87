"""Canonical decode: every rule of time in the wire contract."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.canonical import DAY_MS, NOW_MS, message, reading


@pytest.mark.parametrize(
    ("ts", "observed_ms", "claimed_ms", "fault"),
    [
        (None, NOW_MS, None, ""),
        (int(NOW_MS) - 7 * DAY_MS + 1, int(NOW_MS) - 7 * DAY_MS + 1, None, ""),
        (int(NOW_MS) - 7 * DAY_MS - 1, NOW_MS, int(NOW_MS) - 7 * DAY_MS - 1, "clock_past"),
        (int(NOW_MS) + 300_000, int(NOW_MS) + 300_000, None, ""),
        (int(NOW_MS) + 300_001, NOW_MS, int(NOW_MS) + 300_001, "clock_future"),
        (0, NOW_MS, 0, "clock_past"),  # 1970
        (-5, NOW_MS, -5, "clock_past"),
        (4_070_908_800_000, NOW_MS, 4_070_908_800_000, "clock_future"),  # 2099
        (10**30, NOW_MS, 2**53, "clock_future"),
        (10**18, NOW_MS, 2**53, "clock_future"),
        (-(10**18), NOW_MS, -(2**53), "clock_past"),
        ("2026-11-22T02:00:00Z", NOW_MS, None, "clock_unreadable"),
        (1.5, NOW_MS, None, "clock_unreadable"),
        (True, NOW_MS, None, "clock_unreadable"),
        ([1], NOW_MS, None, "clock_unreadable"),
    ],
)
def test_an_odd_clock_is_replaced_kept_beside_and_named(ts: Any, observed_ms: float, claimed_ms: int | None, fault: str) -> None:
    found = reading(message(ts=ts))
    assert (found.observed_ms, found.claimed_ms, found.clock_fault) == (observed_ms, claimed_ms, fault)
    assert found.received_ms == NOW_MS
    assert found.good("smoke") == 0.5
    assert not found.backlog


def test_a_reading_without_ts_is_observed_when_received() -> None:
    payload = message()
    del payload["ts"]
    assert reading(payload, received_ms=NOW_MS - 30).observed_ms == NOW_MS - 30


def test_backlog_without_a_clock_is_dated_by_its_age() -> None:
    found = reading(message(ts=None, backlog=True, age_ms=90_000))
    assert (found.observed_ms, found.backlog, found.age_ms) == (NOW_MS - 90_000, True, 90_000)


def test_backlog_with_an_odd_clock_is_dated_by_its_age() -> None:
    found = reading(message(ts=0, backlog=True, age_ms=90_000))
    assert (found.observed_ms, found.claimed_ms, found.clock_fault) == (NOW_MS - 90_000, 0, "clock_past")


def test_backlog_of_ten_days_may_carry_a_time_of_ten_days_ago() -> None:
    ts = int(NOW_MS) - 10 * DAY_MS
    found = reading(message(ts=ts, backlog=True, age_ms=10 * DAY_MS))
    assert (found.observed_ms, found.clock_fault) == (ts, "")


def test_age_without_backlog_means_nothing() -> None:
    found = reading(message(ts=None, age_ms=90_000))
    assert (found.observed_ms, found.age_ms, found.backlog) == (NOW_MS, 0, False)


def test_a_retained_reading_says_so() -> None:
    assert reading(message(), retained=True).retained
    assert not reading(message()).retained

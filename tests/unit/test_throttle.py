"""A device above ten times its spec's rate is thinned out; an outbox that empties after an outage is not."""

from __future__ import annotations

from iotcore.journal.throttle import CALM_S, LEAST_CREDIT, MAX_DEVICES, Throttle

TEN_SECONDS = 10.0  # interval_s of a spec: one reading a second is ten times its rate


def kept(throttle: Throttle, count: int, now_s: float, *, device: str = "a", backlog: bool = False) -> int:
    return sum(throttle.admit(device, TEN_SECONDS, now_s, backlog=backlog) for _ in range(count))


def tight() -> Throttle:
    """No credit to speak of, so that the rate itself shows."""
    return Throttle(live_credit_s=0.0, backlog_credit_s=0.0, least_credit=1)


def test_a_device_within_its_rate_is_never_throttled() -> None:
    throttle = Throttle()
    assert all(throttle.admit("a", TEN_SECONDS, float(second)) for second in range(20_000))
    assert throttle.take_counts() == {}


def test_above_ten_times_the_rate_of_its_spec_it_is_thinned_out_to_that_and_counted() -> None:
    throttle = tight()
    admitted = sum(throttle.admit("a", TEN_SECONDS, n / 100) for n in range(10_000))  # a hundred times the allowed, for 100 s
    assert 100 <= admitted <= 103
    assert throttle.take_counts() == {"a": 10_000 - admitted}
    assert throttle.take_counts() == {}


def test_a_spec_that_promises_one_reading_a_day_may_still_report_its_events() -> None:
    throttle = tight()
    assert all(throttle.admit("sleeper", 86_400.0, 10.0 * n) for n in range(100))


def test_ten_hours_of_readings_held_back_unmarked_are_all_kept_after_an_outage() -> None:
    assert kept(Throttle(), 3_600, now_s=50_000.0) == 3_600


def test_eight_days_of_marked_backlog_are_all_kept_beside_the_live_readings() -> None:
    throttle = Throttle()
    assert kept(throttle, 69_120, now_s=1.0, backlog=True) == 69_120
    assert kept(throttle, LEAST_CREDIT, now_s=1.0) == LEAST_CREDIT


def test_saying_backlog_does_not_open_the_door_for_ever() -> None:
    assert kept(Throttle(), 100_000, now_s=1.0, backlog=True) < 70_000


def test_a_credit_that_was_used_up_comes_back_at_ten_times_the_rate() -> None:
    throttle = Throttle()
    kept(throttle, 50_000, now_s=0.0)
    assert kept(throttle, 1_000, now_s=600.0) == 600


def test_one_that_babbles_costs_its_neighbours_nothing() -> None:
    throttle = Throttle()
    kept(throttle, 100_000, now_s=0.0, device="babbler")
    assert kept(throttle, 100, now_s=0.0, device="neighbour") == 100
    assert set(throttle.take_counts()) == {"babbler"}


def test_it_is_over_until_it_has_been_calm_for_a_while() -> None:
    throttle = tight()
    kept(throttle, 10, now_s=0.0)
    assert throttle.over("a", CALM_S - 1.0)
    assert not throttle.over("a", CALM_S)
    assert not throttle.over("a", 0.0)


def test_the_accounts_are_bounded() -> None:
    throttle = Throttle()
    for n in range(MAX_DEVICES + 1):
        throttle.admit(f"d{n}", TEN_SECONDS, 0.0)
    assert len(throttle._due_s) <= MAX_DEVICES


def test_an_installation_may_throttle_nobody() -> None:
    assert kept(Throttle(times=0.0), 100_000, now_s=1.0) == 100_000

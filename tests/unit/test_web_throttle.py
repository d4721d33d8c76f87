"""Brakes on guessing: how many tries, how soon the next, whose bucket it is."""

from __future__ import annotations

import pytest

from iotcore.clock import ManualClock
from iotcore.web.throttle import BRAKES, BUCKETS, Throttle, network


def test_an_account_has_ten_tries_and_then_one_each_forty_seconds() -> None:
    clock = ManualClock()
    throttle = Throttle(clock.monotonic_s)
    assert [throttle.take("account", "lan") for _ in range(10)] == [0.0] * 10
    wait_s = throttle.take("account", "lan")
    assert wait_s == BRAKES["account"].every_s
    clock.advance(wait_s / 2)
    assert throttle.take("account", "lan") == wait_s / 2
    clock.advance(wait_s / 2)
    assert throttle.take("account", "lan") == 0.0
    assert throttle.take("account", "lan") > 0.0
    clock.advance(3600.0)
    assert [throttle.take("account", "lan") for _ in range(10)] == [0.0] * 10


def test_no_more_than_a_hundred_guesses_an_hour() -> None:
    clock = ManualClock()
    throttle = Throttle(clock.monotonic_s)
    tries = 0
    for _ in range(3600):
        tries += throttle.take("account", "lan") == 0.0
        clock.advance(1.0)
    assert 90 <= tries <= 100  # OWASP ASVS 4.0.3, 2.2.1


def test_a_try_that_was_right_is_given_back_and_others_keep_theirs() -> None:
    throttle = Throttle(ManualClock().monotonic_s)
    for _ in range(50):
        assert throttle.take("account", "lan") == 0.0
        throttle.give_back("account", "lan")
    for _ in range(10):
        throttle.take("account", "lan")
    assert throttle.take("account", "lan") > 0.0
    assert throttle.take("account", "minh") == 0.0
    assert throttle.take("browser", "lan") == 0.0


def test_an_empty_bucket_is_news_once_in_ten_minutes() -> None:
    clock = ManualClock()
    throttle = Throttle(clock.monotonic_s)
    assert [throttle.is_news("address", "10.0.0.1") for _ in range(3)] == [True, False, False]
    clock.advance(601.0)
    assert throttle.is_news("address", "10.0.0.1")


def test_names_without_end_take_no_memory_without_end() -> None:
    throttle = Throttle(ManualClock().monotonic_s)
    for number in range(3 * BUCKETS):
        throttle.take("account", f"name-{number}")
    assert sum(len(buckets) for buckets in throttle._used.values()) == BUCKETS * len(BRAKES)


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("<local>", "<local>"),
    ],
)
def test_an_address_of_ipv6_counts_as_its_network(address: str, whose: str) -> None:
    assert network(address) == whose

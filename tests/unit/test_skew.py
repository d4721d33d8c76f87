"""Skew is measured per device from what came live; over the limit, the receive time stands for ts, kept beside and named."""

from __future__ import annotations

import pytest
from msgspec import structs

from iotcore.journal.faults import Faults
from iotcore.journal.skew import CLOCK_SKEW, HALF_WINDOW_S, LIMIT_MS, Skews
from iotcore.reading import Reading
from tests.support.fire import NOON_MS, reading


class Device:
    """Tells a time `ahead_ms` from the true one every ten seconds, with a few ms on the way."""

    def __init__(self, skews: Skews, ahead_ms: float) -> None:
        self.skews = skews
        self.ahead_ms = ahead_ms
        self.now_s = 0.0

    def tell(self, *, delay_ms: float = 20.0, backlog: bool = False, age_ms: int = 0) -> Reading:
        self.now_s += 10.0
        received_ms = NOON_MS + self.now_s * 1000.0
        said = received_ms - delay_ms - age_ms + self.ahead_ms
        one = structs.replace(
            reading(seq=int(self.now_s), smoke=0.0), observed_ms=said, received_ms=received_ms, backlog=backlog, age_ms=age_ms
        )
        return self.skews.judge(one, self.now_s)

    def tell_many(self, count: int = 20, **how: float) -> list[Reading]:
        return [self.tell(**how) for _ in range(count)]  # type: ignore[arg-type]


@pytest.fixture
def skews() -> Skews:
    return Skews()


@pytest.mark.parametrize("ahead_ms", [0.0, 59_000.0, -59_000.0])
def test_a_clock_within_the_limit_is_believed_and_measured(skews: Skews, ahead_ms: float) -> None:
    told = Device(skews, ahead_ms).tell_many()
    assert {one.clock_fault for one in told} == {""}
    assert skews.skew_ms("sd-0001") == pytest.approx(ahead_ms - 20.0)
    assert skews.take_measured() == {"sd-0001": pytest.approx(ahead_ms - 20.0)}
    assert skews.take_measured() == {}


def test_a_clock_ahead_of_the_limit_is_not_believed_from_its_first_reading_on(skews: Skews) -> None:
    told = Device(skews, LIMIT_MS + 1000.0).tell()
    assert (told.observed_ms, told.clock_fault) == (told.received_ms, CLOCK_SKEW)
    assert told.claimed_ms == int(told.received_ms - 20.0 + LIMIT_MS + 1000.0)


def test_a_clock_behind_the_limit_is_not_believed_once_a_whole_window_shows_it(skews: Skews) -> None:
    told = Device(skews, -LIMIT_MS - 1000.0).tell_many()
    assert [one.clock_fault for one in told][:5] == [""] * 5
    assert {one.clock_fault for one in told[-5:]} == {CLOCK_SKEW}
    assert told[-1].observed_ms == told[-1].received_ms


def test_readings_that_waited_in_a_broker_while_we_were_down_do_not_make_a_clock_wrong(skews: Skews) -> None:
    device = Device(skews, 0.0)
    late = [structs.replace(device.tell(delay_ms=600_000.0 - n), seq=n) for n in range(5)]  # all within the first window
    live = device.tell_many()
    assert {one.clock_fault for one in late + live} == {""}


def test_a_reading_now_and_then_that_is_late_does_not_make_a_clock_wrong(skews: Skews) -> None:
    device = Device(skews, 0.0)
    told = [device.tell(delay_ms=20.0 if n % 4 == 0 else 300_000.0) for n in range(100)]
    assert {one.clock_fault for one in told} == {""}


def test_backlog_is_no_measurement_and_is_corrected_by_its_age(skews: Skews) -> None:
    device = Device(skews, 3 * LIMIT_MS)
    assert {device.tell(backlog=True, age_ms=60_000).clock_fault for _ in range(20)} == {""}
    device.tell()
    told = device.tell(backlog=True, age_ms=90_000)
    assert (told.observed_ms, told.clock_fault) == (told.received_ms - 90_000, CLOCK_SKEW)


def test_between_half_the_limit_and_the_limit_the_fault_neither_comes_nor_goes(skews: Skews) -> None:
    device = Device(skews, -LIMIT_MS - 1000.0)
    device.tell_many()
    device.ahead_ms = -0.75 * LIMIT_MS
    assert {one.clock_fault for one in device.tell_many()} == {CLOCK_SKEW}
    device.ahead_ms = -0.25 * LIMIT_MS
    assert {one.clock_fault for one in device.tell_many()} == {""}
    device.ahead_ms = -0.75 * LIMIT_MS
    assert {one.clock_fault for one in device.tell_many()} == {""}


def test_the_trouble_is_raised_once_and_ends_when_the_clock_is_set(skews: Skews) -> None:
    device, faults = Device(skews, LIMIT_MS + 1000.0), Faults()
    for told in device.tell_many():
        faults.accepted(told)
    assert faults.take() == (((("sd-0001", CLOCK_SKEW)),), ())
    device.ahead_ms = 0.0
    faults.accepted(device.tell())
    assert faults.take() == ((), (("sd-0001", CLOCK_SKEW),))


def test_a_device_without_a_clock_is_measured_by_nothing(skews: Skews) -> None:
    without = structs.replace(reading(smoke=0.0), observed_ms=NOON_MS, received_ms=NOON_MS)
    assert skews.judge(without, HALF_WINDOW_S) is without
    assert skews.skew_ms("sd-0001") is None


def test_a_time_that_was_replaced_already_is_left_alone(skews: Skews) -> None:
    odd = structs.replace(reading(smoke=0.0), clock_fault="clock_past")
    assert skews.judge(odd, 0.0) is odd

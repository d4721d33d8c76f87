"""A value that should move and stands still is bad, on the clock of what was observed."""

from __future__ import annotations

from msgspec import structs

from iotcore.reading import Quality, Reading, Value
from iotcore.specs.model import DeviceSpec, Point
from iotcore.telemetry.quality import Standing

SPEC = DeviceSpec(
    model="test-1",
    vendor="test",
    title="test",
    device_class="air_station",
    protocol="canonical",
    source="test",
    verified="test",
    interval_s=10,
    points={"no2": Point(stuck_after_s=60), "temperature": Point()},
)


def said(no2: float | None, at_s: float, **more: object) -> Reading:
    clean = {"no2": no2, "temperature": 20.0} if no2 is not None else None
    values = (Value("no2", no2, Quality.GOOD if no2 is not None else Quality.BAD), Value("temperature", 20.0))
    reading = Reading("a1", "b", 1, "reading", at_s * 1000.0, at_s * 1000.0, values, clean=clean)
    return structs.replace(reading, **more)


def why(reading: Reading) -> dict[str, str]:
    return {one.point: one.why for one in reading.values if one.quality is Quality.BAD}


def test_a_value_that_stands_still_for_longer_than_its_spec_says_is_bad_and_keeps_its_number() -> None:
    standing = Standing()
    found = [standing.judge(said(18.0, at_s), SPEC) for at_s in (0.0, 30.0, 60.0, 61.0, 90.0)]
    assert [why(one) for one in found] == [{}, {}, {}, {"no2": "stuck"}, {"no2": "stuck"}]
    assert [one.value for one in found[-1].values] == [18.0, 20.0]
    assert found[-1].clean is None


def test_one_step_starts_its_time_anew() -> None:
    standing = Standing()
    for at_s, no2 in ((0.0, 18.0), (50.0, 18.1), (100.0, 18.1)):
        assert why(standing.judge(said(no2, at_s), SPEC)) == {}
    assert why(standing.judge(said(18.1, 111.0), SPEC)) == {"no2": "stuck"}


def test_a_bad_value_a_backlog_and_a_test_neither_move_nor_stop_the_time() -> None:
    standing = Standing()
    standing.judge(said(18.0, 0.0), SPEC)
    standing.judge(said(None, 10.0), SPEC)
    assert standing.judge(said(5.0, 20.0, backlog=True), SPEC).clean is not None
    standing.judge(said(6.0, 30.0, test=True), SPEC)
    assert why(standing.judge(said(18.0, 70.0), SPEC)) == {"no2": "stuck"}


def test_a_clock_that_is_set_back_makes_no_value_stuck() -> None:
    standing = Standing()
    standing.judge(said(18.0, 10_000.0), SPEC)
    assert why(standing.judge(said(18.0, 10.0), SPEC)) == {}
    assert why(standing.judge(said(18.0, 40.0), SPEC)) == {}


def test_two_devices_of_one_model_are_judged_apart() -> None:
    standing = Standing()
    standing.judge(said(18.0, 0.0), SPEC)
    assert why(standing.judge(said(18.0, 100.0, device="a2"), SPEC)) == {}


def test_the_values_of_modbus_units_are_left_to_their_driver() -> None:
    standing, spec = Standing(), structs.replace(SPEC, protocol="modbus")
    for at_s in (0.0, 1000.0):
        assert why(standing.judge(said(18.0, at_s), spec)) == {}

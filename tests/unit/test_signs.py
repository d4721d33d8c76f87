"""What a device says is wrong with itself has a name, until it says the opposite."""

from __future__ import annotations

from msgspec import structs

from iotcore.alarms.signs import BATTERY, LIFE_CHECK, MISSING, REMOVED, TAMPER, Signs
from iotcore.reading import Quality, Reading, Scalar, Value
from iotcore.specs import decode
from iotcore.specs.model import Table
from iotcore.specs.repeat import narrow
from iotcore.specs.stuck import Stuck
from tests.support.fire import reading
from tests.support.shipped import SPECS


def told(seq: int = 1, **values: Scalar | str) -> Reading:
    """A reading; a text "bad:…" is a bad value for that reason."""
    made = tuple(
        Value(point, None, Quality.BAD, said.removeprefix("bad:")) if isinstance(said, str) else Value(point, said)
        for point, said in values.items()
    )
    return structs.replace(reading("d1", seq), told=made)


def test_a_life_check_word_that_stands_still_is_one_fault_however_many_points_are_bad_by_it() -> None:
    signs = Signs()
    signs.judge(told(1, life_check="bad:life_check", zone1_alarm="bad:life_check", zone2_alarm="bad:life_check"))
    began, over = signs.take()
    assert [(one.device, one.reason, one.seq) for one in began] == [("d1", LIFE_CHECK, 1)]
    assert over == []
    signs.judge(told(2, zone1_alarm=False))
    assert signs.take() == ([], [])
    signs.judge(told(3, life_check=7.0, zone2_alarm=False))
    assert signs.take() == ([], [("d1", LIFE_CHECK)])


def test_a_point_that_is_not_there_is_missing_and_never_normal() -> None:
    signs = Signs()
    signs.judge(told(1, l1_d1_fire=False, l1_d2_fire="bad:not_present", l1_d2_co="bad:not_present"))
    assert [one.reason for one in signs.take()[0]] == [MISSING]
    signs.judge(told(2, l1_d2_fire=False))
    signs.judge(told(3, l1_d2_co="bad:timeout"))
    assert signs.take() == ([], []), "what is not read is not there again"
    signs.judge(told(4, l1_d2_co=False))
    assert signs.take() == ([], [("d1", MISSING)])


def from_words(model: str, ranges: dict[str, tuple[int, int]], table: Table, words: dict[int, int], seq: int = 1) -> Reading:
    """What our driver makes of registers of a shipped model; what is not given is 0."""
    spec = narrow(SPECS[model], ranges)
    wires = [point.modbus for point in spec.points.values() if point.modbus is not None]
    known = {(wire.table, wire.address): 0 for wire in wires} | {(table, at): word for at, word in words.items()}
    return structs.replace(reading("panel", seq), told=decode.values(spec, known))


def test_a_notifier_register_whose_low_byte_is_ff_is_a_missing_detector_whatever_its_bits_say() -> None:
    fitted = {"loop": (1, 1), "detector": (1, 2), "module": (1, 1)}
    for word in (0x00FF, 0x08FF):
        signs = Signs()
        said = from_words("notifier-modbus-gw", fitted, "holding", {1: word})
        assert said.good("l1_d1_fire") is False
        assert said.good("l1_d2_fire") is None
        signs.judge(said)
        assert [(one.device, one.reason) for one in signs.take()[0]] == [("panel", MISSING)]
        signs.judge(from_words("notifier-modbus-gw", fitted, "holding", {1: 0x0400}, 2))
        assert signs.take() == ([], [("panel", MISSING)])


def test_a_siemens_life_check_that_stands_still_is_the_panels_fault() -> None:
    spec = narrow(SPECS["siemens-fc20-modbus"], {"zone": (1, 2), "element": (1, 1)})
    known: dict[tuple[Table, int], int] = {
        (point.modbus.table, point.modbus.address): 0 for point in spec.points.values() if point.modbus is not None
    }
    assert ("input", 1010) in known
    stuck, signs = Stuck(spec), Signs()
    for second in range(0, 70, 2):
        judged = stuck.judge(decode.values(spec, known), known, float(second))
        signs.judge(structs.replace(reading("panel", second + 1), told=judged))
    began, over = signs.take()
    assert [(one.device, one.reason, one.seq) for one in began] == [("panel", LIFE_CHECK, 63)], "60 s, and the poll after"
    assert over == []


def test_battery_tamper_and_removal_have_names_and_end() -> None:
    signs = Signs()
    signs.judge(told(1, tamper=True, battery=9.0, smoke="bad:removed"))
    assert {one.reason for one in signs.take()[0]} == {TAMPER, BATTERY, REMOVED}
    signs.judge(told(2, tamper=False, battery=20.0, smoke=0.01))
    assert set(signs.take()[1]) == {("d1", TAMPER), ("d1", REMOVED)}
    signs.judge(told(3, battery=96.0))
    assert signs.take() == ([], [("d1", BATTERY)])
    signs.judge(told(4, battery_low=True))
    signs.judge(told(5, battery_low=False))
    began, over = signs.take()
    assert ([one.reason for one in began], over) == ([BATTERY], [("d1", BATTERY)])


def test_a_clean_reading_with_an_empty_battery_is_looked_at_too() -> None:
    signs = Signs()
    low = structs.replace(reading("d1", 1), told=(), clean={"smoke": 0.01, "battery": 3.0})
    signs.judge(low)
    assert [one.reason for one in signs.take()[0]] == [BATTERY]
    signs.judge(structs.replace(low, seq=2, clean={"smoke": 0.01, "battery": 99.0}))
    assert signs.take()[1] == [("d1", BATTERY)]


def test_what_stood_before_a_restart_ends_with_a_reading_that_does_not_bear_it() -> None:
    signs = Signs([("d1", MISSING), ("d1", "offline"), ("d2", TAMPER)])
    signs.judge(told(1, l1_d2_fire="bad:not_present"))
    assert signs.take() == ([], [])
    signs.judge(told(2, l1_d2_fire=False))
    assert signs.take() == ([], [("d1", MISSING)])
    signs.judge(structs.replace(told(3, tamper=False), device="d2"))
    assert signs.take() == ([], [("d2", TAMPER)])


def test_what_was_held_back_says_nothing_of_now() -> None:
    signs = Signs()
    signs.judge(structs.replace(told(1, tamper=True), backlog=True, age_ms=60_000))
    signs.judge(structs.replace(told(2, tamper=True), retained=True))
    assert signs.take() == ([], [])

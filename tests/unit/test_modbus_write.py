"""What may be written: decided before anything is sent, with a named reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import questions
from drivers.modbus.allow import Target
from drivers.modbus.questions import ReadWriteRequest, WriteRequest
from drivers.modbus.write import Attempt, Reason, _own, _request, decide
from iotcore.specs import raw
from iotcore.specs.model import ModbusWire

SPEED = Target("set_speed", ModbusWire("holding", 10, "uint16"), "ABCD", "routine", 60.0, (0.0, 500.0))
MODE = Target("set_mode", ModbusWire("holding", 11, "uint16"), "ABCD", "two_person", 1.0, states={"0": "off", "16": "auto"})
RUN = Target("run", ModbusWire("coil", 3, "bit"), "ABCD", "routine", 1.0)
VALVE = Target("valve", ModbusWire("holding", 20, "bit", bit=9), "ABCD", "routine", 1.0)
ATTEMPT = Attempt("a-1", "set_speed", "250", "lan")
NOW_MS = 1_795_312_800_000.0


def reason(target: Target | None, attempt: Attempt, ago_s: float | None = None) -> Reason:
    return decide(target, attempt, None if ago_s is None else NOW_MS - ago_s * 1000.0, NOW_MS).reason


def test_what_the_list_allows_is_accepted() -> None:
    decision = decide(SPEED, ATTEMPT, None, NOW_MS)
    assert (decision.reason, decision.number) == (Reason.ACCEPTED, 250)


def test_what_is_not_listed_is_never_written() -> None:
    assert reason(None, ATTEMPT) is Reason.NOT_LISTED


@pytest.mark.parametrize("value", ["501", "-1", "70000"])
def test_a_value_outside_the_range_is_refused(value: str) -> None:
    assert reason(SPEED, replace(ATTEMPT, value=value)) in {Reason.OUT_OF_RANGE, Reason.NOT_A_VALUE}


@pytest.mark.parametrize("value", ["", "fast", "nan", "2.5", "1e2", "٣", "1_0"])
def test_what_is_no_value_of_the_register_is_refused(value: str) -> None:
    assert reason(SPEED, replace(ATTEMPT, value=value)) is Reason.NOT_A_VALUE


def test_two_people_means_two() -> None:
    attempt = Attempt("a-1", "set_mode", "auto", "Lan")
    assert reason(MODE, attempt) is Reason.SECOND_PERSON
    assert reason(MODE, replace(attempt, second=" lan ")) is Reason.SAME_PERSON
    assert reason(MODE, replace(attempt, second="Minh")) is Reason.ACCEPTED


def test_somebody_must_ask() -> None:
    assert reason(SPEED, replace(ATTEMPT, by=" ")) is Reason.NOBODY


def test_what_the_spec_forbids_is_never_written_whoever_asks() -> None:
    forbidden = replace(SPEED, safety="forbidden")
    assert reason(forbidden, replace(ATTEMPT, second="minh")) is Reason.FORBIDDEN


def test_two_writes_of_one_thing_keep_their_distance_even_when_the_clock_was_set_back() -> None:
    assert reason(SPEED, ATTEMPT, ago_s=59.0) is Reason.TOO_SOON
    assert reason(SPEED, ATTEMPT, ago_s=-30.0) is Reason.TOO_SOON
    assert reason(SPEED, ATTEMPT, ago_s=60.0) is Reason.ACCEPTED


@pytest.mark.parametrize("id_", ["", "a b", "x" * 65, "-a", "a\n"])
def test_an_id_that_is_none_is_refused(id_: str) -> None:
    assert reason(SPEED, replace(ATTEMPT, id=id_)) is Reason.BAD_ID


def test_states_are_written_by_their_word_or_their_number() -> None:
    attempt = Attempt("a-1", "set_mode", "auto", "lan", "minh")
    assert decide(MODE, attempt, None, NOW_MS).number == 16
    assert decide(MODE, replace(attempt, value="16"), None, NOW_MS).number == 16
    assert reason(MODE, replace(attempt, value="1")) is Reason.NOT_A_VALUE


@pytest.mark.parametrize(("value", "bit"), [("on", 1), ("TRUE", 1), ("0", 0), ("off", 0)])
def test_a_coil_is_on_or_off(value: str, bit: int) -> None:
    decision = decide(RUN, Attempt("a-1", "run", value, "lan"), None, NOW_MS)
    assert _request(RUN, decision.number) == WriteRequest("coil", 3, (bit,))
    assert reason(RUN, Attempt("a-1", "run", "2", "lan")) is Reason.NOT_A_VALUE


def test_each_kind_of_target_goes_out_by_its_function_code() -> None:
    both = ModbusWire("holding", 30, "float32")
    ways = {
        5: (RUN, 1),
        6: (SPEED, 250),
        15: (replace(RUN, multiple=True), 1),
        16: (replace(SPEED, wire=both), 1.5),
        22: (VALVE, 1),
        23: (replace(SPEED, wire=both, read_write=True), 1.5),
    }
    for code, (target, number) in ways.items():
        assert questions.write_of(_request(target, number)).code == code


def test_a_part_of_a_register_leaves_the_rest_as_it_is() -> None:
    field = replace(SPEED, wire=ModbusWire("holding", 20, "uint16", mask=0x00F0))
    request = _request(field, 5)
    assert isinstance(request, WriteRequest)
    assert request.mask is not None
    kept, added = request.mask
    assert 0xABCD & kept | added & ~kept == 0xAB5D  # as the unit does it: Application Protocol 1.1b3, §6.16
    with pytest.raises(ValueError, match="does not fit the bits 0x00f0"):
        _request(field, 16)


@given(st.sampled_from(["ABCD", "BADC", "CDAB", "DCBA"]), st.sampled_from(["int16", "uint32", "int64", "uint64"]), st.data())
def test_what_is_written_is_what_is_read_back_in_every_order_and_to_the_last_bit(
    order: str, kind: str, data: st.DataObject
) -> None:
    low, high = raw.LIMITS[kind]
    number = data.draw(st.integers(int(low), int(high)))
    target = replace(SPEED, wire=ModbusWire("holding", 1, kind), order=order, range=(low, high))  # type: ignore[arg-type]
    decision = decide(target, replace(ATTEMPT, value=str(number)), None, NOW_MS)
    request = _request(target, decision.number)
    assert not isinstance(request, ReadWriteRequest)
    assert _own(target, request.words) == number


@given(st.text(max_size=12))
def test_no_text_crashes_the_decision_and_nothing_odd_is_accepted(value: str) -> None:
    for target in (SPEED, MODE, RUN, VALVE):
        decision = decide(target, Attempt("a-1", target.name, value, "lan", "minh"), None, NOW_MS)
        assert decision.reason in {Reason.ACCEPTED, Reason.NOT_A_VALUE, Reason.OUT_OF_RANGE}
        assert not decision.accepted or target.range is None or target.range[0] <= decision.number <= target.range[1]

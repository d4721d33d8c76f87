"""The order of a register's bytes, from what a few samples look like in each order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.specs import raw
from iotcore.specs.model import ByteOrder, RawType
from iotcore.specs.sniff import ORDERS, Fault, Hint, Sniffed, Verdict, sniff


def sampled(kind: RawType, order: ByteOrder, *numbers: float, hint: Hint | None = None) -> Sniffed:
    """What is said of a unit that has this order."""
    return sniff(kind, [raw.words(kind, number, order) for number in numbers], hint)


def faults(found: Sniffed, order: ByteOrder) -> tuple[Fault, ...]:
    return next(candidate.faults for candidate in found.candidates if order in candidate.orders)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("numbers", [(1013.25, 1013.31, 1013.2), (7.24, 7.25, 7.25), (23.1, 23.1, 23.2), (-0.4, 0.1, 0.3)])
def test_a_measured_float_shows_its_order_without_a_hint(order: ByteOrder, numbers: tuple[float, ...]) -> None:
    found = sampled("float32", order, *numbers)
    assert (found.verdict, found.order) == (Verdict.ONE, order)


@pytest.mark.parametrize("order", ORDERS)
def test_an_integer_shows_its_order_with_what_the_display_says(order: ByteOrder) -> None:
    found = sampled("uint32", order, 1013, 1014, hint=Hint(near=1010))
    assert (found.verdict, found.order) == (Verdict.ONE, order)


def test_an_integer_without_a_hint_may_fit_several_orders_and_none_is_suggested() -> None:
    found = sampled("uint32", "ABCD", 1013, 1013)
    assert (found.verdict, found.order) == (Verdict.SEVERAL, None)
    assert [candidate.orders for candidate in found.candidates if not candidate.faults] == [("ABCD",), ("BADC",)]


def test_a_range_settles_what_is_known_only_roughly() -> None:
    found = sampled("float64", "CDAB", 8.1, 8.2, hint=Hint(between=(0.0, 14.0)))
    assert (found.verdict, found.order) == (Verdict.ONE, "CDAB")
    assert Fault.OUTSIDE in faults(found, "BADC")


def test_registers_that_read_the_same_in_every_order_tell_nothing() -> None:
    assert sampled("float32", "ABCD", 0.0, 0.0).verdict is Verdict.ALIKE
    assert sampled("uint16", "ABCD", 0x2525).verdict is Verdict.ALIKE


def test_one_register_has_two_orders_and_the_first_name_of_each_is_suggested() -> None:
    found = sampled("uint16", "BADC", 700, 701, hint=Hint(near=700))
    assert (found.verdict, found.order) == (Verdict.ONE, "BADC")
    assert [candidate.orders for candidate in found.candidates] == [("BADC", "DCBA"), ("ABCD", "CDAB")]


def test_a_unit_without_a_value_says_nothing_of_its_order() -> None:
    found = sampled("float32", "ABCD", math.nan, math.nan)
    assert (found.verdict, found.order) == (Verdict.EMPTY, None)
    assert faults(found, "ABCD") == (Fault.NOT_FINITE,)


def test_a_known_value_far_away_excludes_every_order() -> None:
    found = sampled("float32", "ABCD", 7.2, 7.2, hint=Hint(near=400.0))
    assert (found.verdict, found.order) == (Verdict.NONE, None)
    assert all(Fault.FAR in candidate.faults for candidate in found.candidates)


def test_a_value_that_jumps_is_not_steady() -> None:
    assert Fault.UNSTEADY in faults(sampled("float32", "ABCD", 10.0, 500.0), "ABCD")


@pytest.mark.parametrize(
    ("kind", "samples"), [("bit", [[1]]), ("string", [[1]]), ("float32", [[1]]), ("float32", []), ("uint16", [[1, 2]])]
)
def test_what_has_no_order_or_no_sample_is_refused(kind: RawType, samples: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"order|registers"):
        sniff(kind, samples)


@given(st.sampled_from(["int16", "uint32", "int64", "float32", "float64"]), st.data())
def test_any_registers_are_judged_and_the_suggestion_is_a_candidate_without_fault(kind: RawType, data: st.DataObject) -> None:
    word = st.integers(0, 0xFFFF)
    sample = st.lists(word, min_size=raw.WORDS[kind], max_size=raw.WORDS[kind])
    found = sniff(kind, data.draw(st.lists(sample, min_size=1, max_size=3)))
    assert sorted(order for candidate in found.candidates for order in candidate.orders) == sorted(ORDERS)
    assert (found.order is not None) == (found.verdict is Verdict.ONE)
    if found.order is not None:
        assert faults(found, found.order) == ()

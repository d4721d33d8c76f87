"""Names and texts within InfluxQL stay what they are: nothing in them is ever read as a part of the query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.errors import QueryError
from iotcore.telemetry.influxql import any_of, identifier, select, string

TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))
HOSTILE = st.text(st.sampled_from("'\"\\\n;= -()/*ORDnx"))
ESCAPES = {"n": "\n", "\\": "\\", '"': '"', "'": "'"}


def scanned(source: str) -> tuple[str, str]:
    """A quoted text at the beginning of `source`, read as InfluxQL's scanner does, and what follows it."""
    quote, result = source[0], ""
    at = 1
    while True:
        sign = source[at]
        if sign == quote:
            return result, source[at + 1 :]
        assert sign != "\n", "a line feed ends the scan as a bad string"
        if sign == "\\":
            at += 1
            sign = ESCAPES[source[at]]  # any other escape is refused by the server
        result += sign
        at += 1


@given(TEXT | HOSTILE)
def test_a_text_is_read_back_as_it_was_and_nothing_is_left_over(text: str) -> None:
    assert scanned(string(text)) == (text, "")
    assert scanned(identifier(text)) == (text, "")


@given(st.lists(TEXT | HOSTILE, min_size=1, max_size=4))
def test_a_condition_of_many_values_holds_each_of_them_and_no_more(values: list[str]) -> None:
    rest = any_of("device", values)
    assert rest.startswith("(")
    rest = rest[1:]
    for number, value in enumerate(values, 1):
        name, rest = scanned(rest)
        assert (name, rest[:3]) == ("device", " = ")
        found, rest = scanned(rest[3:])
        assert found == value
        end = ")" if number == len(values) else " OR "
        assert rest.startswith(end)
        rest = rest[len(end) :]
    assert not rest


@pytest.mark.parametrize("sign", ["\0", "\r"])
def test_a_sign_that_no_influxql_can_hold_is_refused(sign: str) -> None:
    for quoted in (string, identifier):
        with pytest.raises(QueryError) as refused:
            quoted(f"a{sign}b")
        assert refused.value.reason == "bad_name"


def test_a_lone_surrogate_becomes_what_the_lines_have_for_it() -> None:
    assert string("a\ud800") == "'a?'"


def test_a_statement_is_its_parts_in_order() -> None:
    made = select(['"a"', '"b"'], ['"m"'], "x = 1", "time >= 0", then="LIMIT 1")
    assert made == 'SELECT "a", "b" FROM "m" WHERE x = 1 AND time >= 0 LIMIT 1'

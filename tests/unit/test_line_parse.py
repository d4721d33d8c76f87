"""Line protocol read back: whatever `line` writes, and what other platforms write; what is none is refused with its reason."""

from __future__ import annotations

import math
import string
from typing import cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceClass, DeviceSpec, Point
from iotcore.telemetry.line import line
from iotcore.telemetry.line_parse import MAX_NS, NotALineError, parse
from iotcore.telemetry.line_parse import Point as Parsed
from iotcore.telemetry.stored import Stored, from_line, to_line

# A line holds neither line feeds nor tabs in a name, and no backslash at the end of one: `line` writes others in their place.
PRINTED = st.characters(exclude_categories=["Cs", "Cc"])
TAGS = st.text(PRINTED, min_size=1, max_size=20).filter(lambda text: not text.endswith("\\"))
POINTS = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: name not in {"quality", "test", "time"} and not name.endswith(("_q", "_bad"))
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    st.tuples(NUMBERS, st.sampled_from(Quality)),
    st.tuples(st.booleans(), st.sampled_from(Quality)),
    st.tuples(st.text(PRINTED, max_size=30), st.sampled_from([Quality.GOOD, Quality.UNCERTAIN])),
    st.tuples(st.none(), st.sampled_from([Quality.UNCERTAIN, Quality.BAD])),
)


@st.composite
def stored_readings(draw: st.DrawFn) -> Stored:
    made = draw(st.dictionaries(POINTS, VALUES, max_size=6))
    return Stored(
        device_class=draw(st.sampled_from(get_args(DeviceClass))),
        device=draw(TAGS),
        model=draw(TAGS),
        premises=draw(st.just("") | TAGS),
        at_ns=draw(st.integers(0, 2**62)),
        values=tuple(Value(name, *made[name]) for name in sorted(made)),
        test=draw(st.booleans()),
    )


@given(stored_readings())
def test_every_reading_that_is_written_is_read_back_the_same(stored: Stored) -> None:
    points = {value.point: Point(kind="text" if isinstance(value.value, str) else "number") for value in stored.values}
    spec = DeviceSpec(stored.model, "", "", cast("DeviceClass", stored.device_class), "canonical", "", "", 1.0, points)
    binding = Binding(stored.device, "", spec, "", "", "", stored.premises)
    ms, seq = divmod(stored.at_ns, 1_000_000)
    reading = Reading(stored.device, "b", seq, "reading", float(ms), float(ms), stored.values, stored.test)
    assert from_line(line(reading, binding)) == stored


@given(stored_readings())
def test_what_was_read_is_written_again_as_the_same_line(stored: Stored) -> None:
    once = to_line(stored)
    assert to_line(from_line(once)) == once


@given(st.text(string.printable, max_size=60))
def test_no_text_at_all_makes_the_parser_fail_in_another_way(text: str) -> None:
    try:
        parse(text)
    except NotALineError as error:
        assert str(error)  # noqa: PT017 - any text may be a line or not


def test_integers_floats_bools_and_texts_stay_apart() -> None:
    found = parse(rb'm,a=b f=1,i=1i,u=7u,e=-1.5e-3,t=T,no=false,s="say \"x\", \\ = y" 5')
    assert found == Parsed(
        "m", {"a": "b"}, {"f": 1.0, "i": 1, "u": 7, "e": -0.0015, "t": True, "no": False, "s": 'say "x", \\ = y'}, 5
    )
    assert [type(value) for value in found.fields.values()] == [float, int, int, float, bool, bool, str]


def test_names_with_signs_of_the_protocol_come_back_as_they_were() -> None:
    found = parse(rb"air\ station\,x,tag\=a=b\,c\ d,k=ends\\x fie\,ld\ \=1=2 -7")
    assert found == Parsed("air station,x", {"tag=a": "b,c d", "k": "ends\\\\x"}, {"fie,ld =1": 2.0}, -7)


def test_a_line_without_a_time_has_none() -> None:
    assert parse("m f=1").at_ns is None
    assert parse(f"m f=1 {MAX_NS}").at_ns == MAX_NS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no blank"),
        ("m", "no blank"),
        (",a=b f=1", "no measurement"),
        ("m,a f=1", "a tag that is not name=value"),
        ("m,a= f=1", "a tag that is not name=value"),
        ("m,a=1,a=2 f=1", "the tag 'a' twice"),
        ("m f", "a field that is not name=value"),
        ("m f=", "a field that is not name=value"),
        ("m f=1,", "a field that is not name=value"),
        ("m f=1,,g=2", "a field that is not name=value"),
        ('m f="open', "a field that is not name=value"),
        ('m f="x"y', "a field that is not name=value"),
        ("m f=one", "no number, bool or text"),
        ("m f=nan", "no number, bool or text"),
        ("m f=1_000", "no number, bool or text"),
        ("m f=1.5i", "no number, bool or text"),
        ("m f=1 noon", "no integer of 64 bits"),
        ("m f=1 1.5", "no integer of 64 bits"),
        (f"m f=1 {MAX_NS + 1}", "no integer of 64 bits"),
        (b"m f=1\xff 1", "not UTF-8 at byte 5"),
    ],
)
def test_what_is_no_line_is_refused_with_its_reason(text: str | bytes, reason: str) -> None:
    with pytest.raises(NotALineError, match=reason):
        parse(text)


@pytest.mark.parametrize(("text", "reason"), [("m a=1 5", "no tag `device`"), ("m,device=d a=1", "no timestamp")])
def test_a_line_that_is_no_reading_of_a_device_is_refused_as_one(text: str, reason: str) -> None:
    with pytest.raises(NotALineError, match=reason):
        from_line(text)


def test_a_number_keeps_its_last_bit() -> None:
    (value,) = from_line(to_line(Stored("air_station", "a", "m", "", 0, (Value("x", math.nextafter(0.1, 1.0)),)))).values
    assert value.value == math.nextafter(0.1, 1.0)

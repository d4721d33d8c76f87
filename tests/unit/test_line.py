"""Line protocol, read back by a small parser of its own."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceSpec, Kind, Point
from iotcore.telemetry.line import line, timestamp_ns

SPEC = DeviceSpec(
    model="test-1",
    vendor="test",
    title="test",
    device_class="fire_detector",
    protocol="canonical",
    source="test",
    verified="test",
    interval_s=10,
    points={"smoke": Point(), "alarm": Point(kind="bool"), "mode": Point(kind="text"), "temperature": Point(unit="°C")},
)
BINDING = Binding(device="d1", title="", spec=SPEC, domain="fire", publisher="d1", state="active", premises="p1")
READING = Reading("d1", "b", 7, "reading", 1_795_312_800_123.9, 1_795_312_800_200.0, (Value("smoke", 0.012),))

SPLIT_AT = {name: re.compile(rf"(?<!\\){name}") for name in (",", "=", " ")}


def parsed(text: str) -> tuple[str, dict[str, str], dict[str, float | int | str], int]:
    """Measurement, tags, fields and timestamp of one line; knows nothing of the writer."""
    head, rest = SPLIT_AT[" "].split(text, maxsplit=1)
    body, stamp = rest.rsplit(" ", 1)
    measurement, *tags = SPLIT_AT[","].split(head)
    fields: dict[str, float | int | str] = {}
    while body:
        name, body = body.split("=", 1)
        found = re.match(r'"((?:[^"\\]|\\.)*)"(?:,|$)|([^,]*)(?:,|$)', body)
        assert found is not None, f"not a field value: {body!r}"
        body = body[found.end() :]
        if found.group(1) is not None:
            fields[name] = re.sub(r"\\(.)", r"\1", found.group(1))
        else:
            number = found.group(2)
            fields[name] = int(number[:-1]) if number.endswith("i") else float(number)
    pairs = (SPLIT_AT["="].split(tag) for tag in tags)
    return measurement, {key: re.sub(r"\\([,= ])", r"\1", value) for key, value in pairs}, fields, int(stamp)


def fields_of(*values: Value, test: bool = False) -> dict[str, float | int | str]:
    return parsed(line(structs.replace(READING, told=values, test=test), BINDING).decode())[2]


def test_a_good_reading_has_its_values_and_quality_zero() -> None:
    text = line(READING, BINDING)
    assert text == b"fire_detector,device=d1,model=test-1,premises=p1 smoke=0.012,quality=0i 1795312800123000007"


def test_a_device_without_premises_has_no_such_tag() -> None:
    assert b"premises" not in line(READING, replace(BINDING, premises=""))


def test_numbers_are_always_floats_and_bools_are_zero_or_one() -> None:
    text = line(structs.replace(READING, told=(Value("smoke", 3), Value("alarm", True))), BINDING)  # noqa: FBT003 - the value itself
    assert b" smoke=3.0,alarm=1.0,quality=0i " in text


@pytest.mark.parametrize(("kind", "states"), [("enum", {"1": "flash"}), ("flags", {"0": "flash"}), ("text", {})])
def test_the_word_of_a_state_is_text(kind: Kind, states: dict[str, str]) -> None:
    spec = msgspec.structs.replace(BINDING.spec, points={"mode": Point(kind=kind, states=states)})
    reading = structs.replace(READING, told=(Value("mode", "flash"),))
    assert b' mode="flash",quality=0i ' in line(reading, replace(BINDING, spec=spec))


def test_a_bad_number_is_kept_apart_from_the_values_that_means_are_made_of() -> None:
    assert fields_of(Value("smoke", 900.0, Quality.BAD, "out_of_range")) == {"smoke_bad": 900.0, "smoke_q": 2, "quality": 2}


def test_a_bad_value_without_a_number_has_no_value_field() -> None:
    assert fields_of(Value("smoke", None, Quality.BAD, "timeout"), Value("temperature", 20.0)) == {
        "smoke_q": 2,
        "temperature": 20.0,
        "quality": 2,
    }


def test_an_uncertain_value_is_stored_and_says_so() -> None:
    assert fields_of(Value("smoke", 0.5, Quality.UNCERTAIN, "warming_up")) == {"smoke": 0.5, "smoke_q": 1, "quality": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_never_reaches_the_store(value: float) -> None:
    assert fields_of(Value("smoke", value)) == {"smoke_q": 2, "quality": 2}


def test_text_for_a_number_never_turns_the_fields_type() -> None:
    assert fields_of(Value("smoke", "high", Quality.BAD, "wrong_type")) == {"smoke_q": 2, "quality": 2}
    assert fields_of(Value("mode", 3.0, Quality.BAD, "wrong_type")) == {"mode_q": 2, "quality": 2}


def test_a_reading_of_a_test_button_is_marked() -> None:
    assert fields_of(Value("smoke", 1.0), test=True)["test"] == 1.0


def test_line_feeds_in_text_cannot_start_a_second_line() -> None:
    assert b"\n" not in line(structs.replace(READING, told=(Value("mode", "a\nb\r\nfire_detector smoke=1"),)), BINDING)


def test_readings_of_one_millisecond_do_not_overwrite_each_other_and_repeats_do() -> None:
    assert timestamp_ns(READING) == timestamp_ns(structs.replace(READING, received_ms=0.0, backlog=True))
    assert timestamp_ns(READING) != timestamp_ns(structs.replace(READING, seq=8))


def test_text_that_is_no_unicode_is_replaced_not_fatal() -> None:
    assert fields_of(Value("mode", "a\ud800b"))["mode"] == "a?b"


@given(
    premises=st.text(min_size=1, max_size=20),
    smoke=st.floats(allow_nan=False, allow_infinity=False),
    mode=st.text(max_size=40),
    seq=st.integers(1, 2**53),
    observed=st.integers(1_500_000_000_000, 2_000_000_000_000),
)
def test_whatever_is_written_reads_back(premises: str, smoke: float, mode: str, seq: int, observed: int) -> None:
    reading = structs.replace(READING, seq=seq, observed_ms=float(observed), told=(Value("smoke", smoke), Value("mode", mode)))
    measurement, tags, fields, stamp = parsed(line(reading, replace(BINDING, premises=premises)).decode("utf-8"))
    assert measurement == "fire_detector"
    assert tags["device"] == "d1"
    assert tags["premises"] == (re.sub(r"[\n\r\t]", " ", premises.rstrip("\\")) or "_")
    assert fields == {"smoke": smoke, "mode": re.sub(r"[\n\r]", " ", mode), "quality": 0}
    assert stamp // 1_000_000 == observed


@given(
    st.dictionaries(st.sampled_from(["smoke", "temperature"]), st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.booleans(),
)
def test_clean_numbers_are_written_as_any_others(values: dict[str, float], test: bool) -> None:  # noqa: FBT001 - from hypothesis
    reading = structs.replace(READING, told=tuple(Value(name, value) for name, value in values.items()), test=test)
    clean = line(structs.replace(reading, clean=values), BINDING).decode()
    assert parsed(clean) == parsed(line(reading, BINDING).decode())

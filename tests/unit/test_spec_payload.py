"""Vendors' payloads: what can be used of them, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.errors import Refused
from iotcore.reading import Quality, Value
from iotcore.specs import paths, payload
from iotcore.specs.model import DeviceSpec
from tests.support.spec_documents import document, parse


def json_spec(points: dict[str, Any], **changes: Any) -> DeviceSpec:
    return parse(document(points, protocol="json", mqtt={"topic": "x/{device}", "timestamp": "t"}, **changes))


def bytes_spec(**mqtt: Any) -> DeviceSpec:
    """Six bytes as a smoke detector over LoRaWAN sends them; the event in the low half of the second byte."""
    points = {
        "event": {
            "kind": "enum",
            "bytes": {"offset": 1, "type": "uint8", "mask": 15},
            "states": {"1": "alarm", "7": "normal", "14": "test"},
        },
        "battery": {"unit": "%", "range": [0, 100], "bytes": {"offset": 2, "type": "uint8"}},
        "temperature": {"unit": "°C", "range": [-40, 85], "bytes": {"offset": 4, "type": "int8"}},
    }
    source = {"topic": "x/{device}", "length": 6, "checksum": "sum_zero"} | mqtt
    return parse(document(points, protocol="bytes", mqtt=source, test={"point": "event", "values": ["test"]}))


SMOKE = json_spec(
    {
        "smoke": {"kind": "bool", "json": {"path": "smoke"}},
        "battery": {"unit": "%", "range": [0, 100], "json": {"path": "power.battery"}},
        "mode": {"kind": "enum", "json": {"path": "mode"}, "states": {"a": "armed", "1": "off"}},
    }
)
SENSOR = json_spec({"pm25": {"unit": "µg/m³", "json": {"path": "vals[type=P2].value", "number_in_text": True}}})


def values(spec: DeviceSpec, document: Any) -> list[Any]:
    found = payload.decode(spec, document if isinstance(document, bytes) else json.dumps(document).encode())
    return [value.value if value.quality is Quality.GOOD else f"{value.quality.value}:{value.why}" for value in found.values]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"smoke": True, "power": {"battery": 96.5}, "mode": "a"}, [True, 96.5, "armed"]),
        ({"smoke": False, "power": {"battery": 101}, "mode": 1}, [False, "bad:out_of_range", "off"]),
        ({"smoke": "true", "power": {"battery": "96"}, "mode": "b"}, ["bad:wrong_type", "bad:wrong_type", "bad:unknown_state"]),
        ({"smoke": None, "power": 5}, ["bad:no_value", "bad:missing", "bad:missing"]),
        ({"smoke": [True], "power": {"battery": True}, "mode": {}}, ["bad:wrong_type", "bad:wrong_type", "bad:wrong_type"]),
        (b'{"smoke":true,"power":{"battery":NaN},"mode":"a"}', [True, "bad:not_finite", "armed"]),
    ],
)
def test_a_bad_value_spoils_no_other(said: Any, found: list[Any]) -> None:
    assert values(SMOKE, said) == found


@pytest.mark.parametrize(
    ("said", "found"), [("7.4", 7.4), (7.4, 7.4), ("-1e3", -1000.0), ("nan", "bad:not_finite"), ("7,4", "bad:wrong_type")]
)
def test_a_number_in_quotes_is_one_only_where_the_spec_says_so(said: Any, found: Any) -> None:
    assert values(SENSOR, {"vals": [{"type": "P1", "value": "9"}, {"type": "P2", "value": said}]}) == [found]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"5", "schema"),
        (b'"x"', "schema"),
        (b"\xff", "not_json"),
        (b'{"a":"\\ud800"}', "not_json"),
    ],
)
def test_what_is_no_payload_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        payload.decode(SMOKE, content)
    assert caught.value.reason == reason


def test_the_devices_own_time() -> None:
    assert payload.decode(SMOKE, b'{"t":1795312800123}').ts == 1795312800123
    assert payload.decode(SMOKE, b'{"t":"yesterday"}').ts is None


def test_six_bytes() -> None:
    """Milesight GS524N: 22 1E 64 00 1C 40 is a test, battery 100 %, 28 °C."""
    found = payload.decode(bytes_spec(), bytes.fromhex("221E64001C40"))
    assert found.values == (Value("event", "test"), Value("battery", 100.0), Value("temperature", 28.0))
    assert found.test


@pytest.mark.parametrize(
    ("mqtt", "content", "reason"),
    [
        ({}, bytes.fromhex("221E64001C41"), "checksum"),
        ({}, bytes.fromhex("221E64001C"), "length"),
        ({}, b"", "length"),
        ({"encoding": "hex"}, b"22zz", "encoding"),
        ({"encoding": "base64"}, b"???", "encoding"),
        ({"encoding": "base64", "path": "data"}, b'{"data":5}', "encoding"),
        ({"encoding": "base64", "path": "data"}, b"x", "not_json"),
    ],
)
def test_bytes_that_are_none_are_refused(mqtt: dict[str, Any], content: bytes, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        payload.decode(bytes_spec(**mqtt), content)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("mqtt", "wrap"),
    [
        ({"encoding": "hex"}, lambda content: content.hex().encode()),
        (
            {"encoding": "base64", "path": "up.data"},
            lambda c: json.dumps({"up": {"data": base64.b64encode(c).decode()}}).encode(),
        ),
    ],
)
def test_bytes_as_a_network_server_wraps_them(mqtt: dict[str, Any], wrap: Any) -> None:
    spec = bytes_spec(**mqtt)
    found = payload.decode(spec, wrap(bytes.fromhex("221E64001C40")))
    assert found.values[2] == Value("temperature", 28.0)
    assert payload.decode(spec, payload.encode(spec, {value.point: value.value for value in found.values})).values == found.values


def test_a_payload_decodes_by_the_layout_of_its_own_version() -> None:
    spec = json_spec(
        {"heat": {"unit": "°C", "json": {"path": "t1"}}},
        firmware={
            "base": ["1.*"],
            "json": {"path": "fw"},
            "revisions": [
                {"versions": ["2.*"], "differs": "its key", "points": {"heat": {"unit": "°C", "json": {"path": "t2"}}}}
            ],
        },
    )
    assert values(spec, {"t1": 5.0, "t2": 6.0, "fw": "1.9"}) == [5.0]
    assert values(spec, {"t1": 5.0, "t2": 6.0, "fw": "2.0"}) == [6.0]
    assert values(spec, {"t1": 5.0, "t2": 6.0, "fw": "3.0"}) == ["bad:unknown_firmware"]
    assert values(spec, {"t1": 5.0, "t2": 6.0}) == ["bad:unknown_firmware"]


KEYS = st.sampled_from(["smoke", "power", "battery", "mode", "vals"])
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)


@given(st.binary(max_size=60) | plain_values.map(lambda plain: json.dumps(plain).encode()))
def test_no_payload_crashes(content: bytes) -> None:
    for spec in (SMOKE, SENSOR, bytes_spec(), bytes_spec(encoding="base64", path="vals")):
        try:
            found = [value.point for value in payload.decode(spec, content).values]
        except Refused as refused:
            found = [refused.reason]
        assert found == list(spec.points) or found[0] in {"not_json", "schema", "encoding", "length", "checksum"}


@pytest.mark.parametrize("path", ["", "a..b", ".a", "a[", "a[x]", "a[=b]", "a]", "a[01]"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match=r"is no path|is empty"):
        paths.steps(path)


def test_a_path_leads_in_and_out() -> None:
    made: dict[str, Any] = {}
    for path, said in {"a.b": 1, "a.c[1]": 2, "d[k=x].v": 3, "d[k=y].v": 4}.items():
        paths.put(made, path, said)
        assert paths.find(made, path) == said
    assert made == {"a": {"b": 1, "c": [None, 2]}, "d": [{"k": "x", "v": 3}, {"k": "y", "v": 4}]}
    assert paths.find(made, "a.c[2]") is paths.MISSING

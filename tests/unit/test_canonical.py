"""Canonical decode: every reason to refuse, and what a payload from a broken device costs its neighbours."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mqtt import canonical
from iotcore.reading import Quality, Reading, Value
from iotcore.wire.arrival import Decoded
from iotcore.wire.topics import MAX_BATCH, MAX_PAYLOAD_BYTES
from tests.support.canonical import NOW_MS, TOPIC, arrive, by_point, message, reading, refusal

# what is said, and by whom


def test_a_sound_message_becomes_one_reading_with_all_it_says() -> None:
    found = reading(message(fw="2.4.1", test=True, values={"smoke": 1, "alarm": True, "battery": 97.5}))
    assert found == Reading(
        device="sd-1",
        boot="9f3c12ab",
        seq=7,
        kind="reading",
        observed_ms=int(NOW_MS) - 200,
        received_ms=NOW_MS,
        told=(Value("smoke", 1.0), Value("alarm", value=True), Value("battery", 97.5)),
        test=True,
        firmware="2.4.1",
    )
    assert type(found.values[0].value) is float


def test_an_event_keeps_its_kind() -> None:
    assert reading(message(), TOPIC.replace("reading", "event")).kind == "event"


def test_a_gateway_speaks_for_its_device() -> None:
    assert reading(message(), "iot/v1/fire/gw-1/up/reading/sd-2").device == "sd-2"


def test_an_unknown_field_is_no_reason_to_refuse() -> None:
    assert reading(message(added_in_v1_1={"x": [1]})).seq == 7


@pytest.mark.parametrize(
    ("topic", "reason", "device"),
    [
        ("iot/v1/fire/sd-9/up/reading/sd-9", "unknown_device", "sd-9"),
        ("iot/v1/air/sd-1/up/reading/sd-1", "wrong_domain", "sd-1"),
        ("iot/v1/fire/sd-3/up/reading/sd-1", "wrong_publisher", "sd-1"),
        ("iot/v1/fire/sd-2/up/reading/sd-2", "wrong_publisher", "sd-2"),
        ("iot/v1/fire/sd-3/up/reading/sd-3", "not_accepted:suspended", "sd-3"),
        ("iot/v1/fire/sd-1/down/command/sd-1", "topic", ""),
        ("iot/v1/fire/sd-1/up/gossip/sd-1", "topic", ""),
        ("iot/v2/fire/sd-1/up/reading/sd-1", "topic", ""),
        ("iot/v1/fire/sd-1/up/reading/extra/sd-1", "topic", ""),
        ("sd-1", "topic", ""),
        ("", "topic", ""),
    ],
)
def test_who_may_not_say_it_is_refused_by_name(topic: str, reason: str, device: str) -> None:
    refused = refusal(message(), topic)
    assert (refused.reason, refused.device, refused.topic) == (reason, device, topic)


# payloads


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"hello",
        b'{"boot": "9f3c12ab", "seq": 7, "values": {}} x',
        b"\xff\xfe{\x00}\x00",
        b'{"boot":"9f3c12ab","seq":7,"values":{"smoke":"\\ud800"}}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"boot":"9f3c12ab","seq":7,"values":{"smoke":0.5},"more":' + b"[" * 30_000,
    ],
)
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    refused = refusal(payload)
    assert (refused.reason, refused.device, refused.payload) == ("not_json", "sd-1", payload)


@pytest.mark.parametrize(
    "wrong",
    [
        {"boot": "with space"},
        {"boot": "line\n"},
        {"boot": ""},
        {"boot": None},
        {"seq": 0},
        {"seq": -1},
        {"seq": 1.5},
        {"seq": 2**53 + 1},
        {"seq": "7"},
        {"v": 2},
        {"values": [1]},
        {"values": None},
        {"backlog": "yes"},
        {"test": 1},
        {"age_ms": -1},
        {"age_ms": 10**18},
        {"q": {"smoke": 1}},
        {"fw": "x" * 65},
    ],
)
def test_what_breaks_the_schema_is_refused_with_what_is_wrong(wrong: dict[str, Any]) -> None:
    refused = refusal(message(**wrong))
    assert refused.reason == "schema"
    assert refused.detail
    assert refused.device == "sd-1"


@pytest.mark.parametrize("payload", [b"1", b'"text"', b"null", b"NaN", b"true"])
def test_json_that_is_no_message_is_refused(payload: bytes) -> None:
    assert refusal(payload).reason == "schema"


def test_a_payload_of_a_megabyte_is_refused_unread_and_only_its_start_is_kept() -> None:
    payload = json.dumps(message(values={f"p{i}": 0.5 for i in range(100_000)})).encode()
    refused = refusal(payload)
    assert len(payload) > 1_000_000
    assert refused.reason == "oversized"
    assert refused.payload == payload[: canonical.KEPT_BYTES]


def test_sixty_four_kibibytes_are_accepted_and_one_byte_more_is_not() -> None:
    bare = json.dumps(message()).encode()
    full = bare + b" " * (MAX_PAYLOAD_BYTES - len(bare))
    assert reading(full).seq == 7
    assert refusal(full + b" ").reason == "oversized"


# batches


def test_a_batch_is_as_many_readings_in_its_order() -> None:
    decoded = arrive([message(seq=seq) for seq in range(1, MAX_BATCH // 2)])
    assert [each.seq for each in decoded.readings] == list(range(1, MAX_BATCH // 2))
    assert decoded.refusals == ()


def test_an_empty_batch_is_nothing() -> None:
    assert arrive([]) == Decoded()


@pytest.mark.parametrize("odd", [[], ["NaN"]])
def test_a_batch_above_the_limit_is_refused_whole(odd: list[str]) -> None:
    batch = ['{"boot":"a","seq":1,"values":{"smoke":1}}'] * MAX_BATCH
    assert len(arrive(f"[{','.join(batch)}]".encode()).readings) == MAX_BATCH
    assert refusal(f"[{','.join([*batch, *(odd or batch[:1])])}]".encode()).reason == "batch_too_long"


def test_one_bad_element_is_refused_alone() -> None:
    bad = message(seq=0)
    decoded = arrive([message(seq=1), bad, message(seq=3)])
    assert [each.seq for each in decoded.readings] == [1, 3]
    assert [(each.reason, json.loads(each.payload)) for each in decoded.refusals] == [("schema", bad)]
    assert decoded.refusals[0].device == "sd-1"


def test_every_element_bad_is_as_many_refusals_and_no_more_bytes_than_came() -> None:
    decoded = arrive([1, "x", None, [], {}] * 20)
    assert decoded.readings == ()
    assert {each.reason for each in decoded.refusals} == {"schema"}
    assert len(decoded.refusals) == 100
    assert sum(len(each.payload) for each in decoded.refusals) < 1000


# values


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "-" + "9" * 5000])
def test_a_value_that_is_not_finite_costs_only_itself(literal: str) -> None:
    payload = f'{{"boot":"9f3c12ab","seq":7,"values":{{"smoke":0.5,"temperature":{literal},"alarm":true}}}}'
    found = by_point(reading(payload.encode()))
    assert found == {
        "smoke": Value("smoke", 0.5),
        "temperature": Value("temperature", None, Quality.BAD, "not_finite"),
        "alarm": Value("alarm", value=True),
    }


def test_not_finite_in_one_element_of_a_batch_leaves_the_others_whole() -> None:
    one = '{"boot":"9f3c12ab","seq":%d,"values":{"smoke":%s}}'
    decoded = arrive(f"[{one % (1, '0.5')},{one % (2, 'NaN')},{one % (3, '7')}]".encode())
    assert decoded.refusals == ()
    assert [each.values[0].value for each in decoded.readings] == [0.5, None, 7.0]


@pytest.mark.parametrize("said", ["0.5", True, [0.5], {"a": 1}])
def test_a_value_of_a_wrong_kind_is_bad_and_its_neighbour_good(said: Any) -> None:
    found = by_point(reading(message(values={"smoke": said, "temperature": 24.1})))
    assert found["smoke"] == Value("smoke", None, Quality.BAD, "wrong_type")
    assert found["temperature"] == Value("temperature", 24.1)


@pytest.mark.parametrize(("point", "said"), [("alarm", 1), ("alarm", "true")])
def test_one_is_not_true(point: str, said: Any) -> None:
    assert by_point(reading(message(values={point: said})))[point] == Value(point, None, Quality.BAD, "wrong_type")


def test_text_is_for_points_of_text() -> None:
    topic = "iot/v1/traffic/sc-1/up/reading/sc-1"
    found = by_point(reading(message(values={"mode": "local", "groups": 11, "plan": 3}), topic))
    assert found["mode"] == Value("mode", "local")
    assert found["groups"].why == "wrong_type"
    assert found["plan"] == Value("plan", 3.0)


@pytest.mark.parametrize(("said", "why"), [(-1.01, "out_of_range"), (100.01, "out_of_range"), (0.0, ""), (50.0, "")])
def test_a_value_outside_the_range_keeps_its_number_and_is_bad(said: float, why: str) -> None:
    quality = Quality.BAD if why else Quality.GOOD
    assert by_point(reading(message(values={"smoke": said})))["smoke"] == Value("smoke", said, quality, why)


@pytest.mark.parametrize(
    ("said", "words", "value"),
    [
        (0.5, "good", Value("smoke", 0.5)),
        (0.5, "uncertain", Value("smoke", 0.5, Quality.UNCERTAIN)),
        (0.5, "uncertain:warming_up", Value("smoke", 0.5, Quality.UNCERTAIN, "warming_up")),
        (0.5, "bad:dirty", Value("smoke", 0.5, Quality.BAD, "dirty")),
        (101.0, "bad:dirty", Value("smoke", 101.0, Quality.BAD, "dirty")),
        (101.0, "uncertain:warming_up", Value("smoke", 101.0, Quality.BAD, "out_of_range")),
        (None, "bad:timeout", Value("smoke", None, Quality.BAD, "timeout")),
        (None, "uncertain:why", Value("smoke", None, Quality.BAD, "why")),
        (None, "good", Value("smoke", None, Quality.BAD, "no_value")),
        (0.5, "splendid", Value("smoke", 0.5, Quality.UNCERTAIN, "unknown_quality")),
        (0.5, "bad:" + "x" * 1000, Value("smoke", 0.5, Quality.BAD, "x" * 64)),
        ("0.5", "bad:dirty", Value("smoke", None, Quality.BAD, "wrong_type")),
    ],
)
def test_the_senders_word_on_quality_is_respected(said: Any, words: str, value: Value) -> None:
    found = by_point(reading(message(values={"smoke": said, "temperature": 24.1}, q={"smoke": words})))
    assert found == {"smoke": value, "temperature": Value("temperature", 24.1)}


def test_null_without_a_reason_is_bad() -> None:
    assert reading(message(values={"smoke": None})).values == (Value("smoke", None, Quality.BAD, "no_value"),)


def test_a_quality_without_a_value_is_a_value_that_could_not_be_read() -> None:
    found = by_point(reading(message(q={"battery": "bad:timeout", "smoke": "good", "nonsense": "bad"})))
    assert found["battery"] == Value("battery", None, Quality.BAD, "timeout")
    assert "nonsense" not in found


def test_an_unknown_point_is_refused_and_the_others_kept() -> None:
    payload = message(values={"smoke": 0.5, "soot": 1, "ash": 2})
    decoded = arrive(payload)
    assert decoded.readings[0].values == (Value("smoke", 0.5),)
    assert [(each.reason, each.detail) for each in decoded.refusals] == [
        ("unknown_point", "soot, ash: not in spec iotcore-smoke-heat")
    ]
    assert json.loads(decoded.refusals[0].payload) == payload


def test_a_thousand_unknown_points_are_one_refusal() -> None:
    decoded = arrive(message(values={f"{'x' * 30}{i}": 1 for i in range(1000)}))
    assert len(decoded.refusals) == 1
    assert len(decoded.refusals[0].detail) <= canonical.DETAIL_LENGTH


def test_an_unknown_point_in_a_batch_is_refused_with_its_own_element() -> None:
    decoded = arrive([message(seq=1), message(seq=2, values={"soot": 1})])
    assert len(decoded.readings) == 2
    assert json.loads(decoded.refusals[0].payload)["seq"] == 2


# status and result


@pytest.mark.parametrize("state", ["online", "offline"])
def test_a_status_is_a_presence_and_no_reading(state: str) -> None:
    decoded = arrive({"v": 1, "state": state, "boot": "9f3c12ab"}, "iot/v1/gateway/gw-1/up/status/gw-1", retained=True)
    assert not decoded.readings
    assert not decoded.refusals
    assert decoded.presence is not None
    assert (decoded.presence.device, decoded.presence.publisher) == ("gw-1", "gw-1")
    assert decoded.presence.message.state == state


@pytest.mark.parametrize(("payload", "reason"), [(b"", "not_json"), (b'{"state":"asleep"}', "schema"), (b"[]", "schema")])
def test_a_status_that_is_none_is_refused(payload: bytes, reason: str) -> None:
    assert refusal(payload, "iot/v1/fire/sd-1/up/status/sd-1").reason == reason


def test_a_result_is_no_reading_and_a_bad_one_is_refused() -> None:
    topic = "iot/v1/fire/sd-1/up/result/sd-1"
    assert arrive({"id": "c1", "state": "done"}, topic) == Decoded()
    assert refusal({"id": "c1"}, topic).reason == "schema"


# nothing raises

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["boot", "seq", "ts", "values", "q", "backlog", "age_ms", "test", "fw", "v"])


@given(st.binary(max_size=200) | json_like.map(lambda plain: json.dumps(plain).encode()))
def test_no_payload_raises(payload: bytes) -> None:
    decoded = arrive(payload)
    assert decoded.readings or decoded.refusals or payload.strip() == b"[]"


@given(st.lists(st.dictionaries(keys, json_like, max_size=4).map(lambda odd: message() | odd), max_size=3))
def test_whatever_stands_in_its_fields_each_message_is_a_reading_or_a_refusal(batch: list[dict[str, Any]]) -> None:
    decoded = arrive(batch)
    whole = [each for each in decoded.refusals if each.reason in {"not_json", "batch_too_long"}]
    refused = [each for each in decoded.refusals if each.reason == "schema"]
    assert whole or len(decoded.readings) + len(refused) == len(batch)
    for found in decoded.readings:
        assert 0 <= found.observed_ms <= NOW_MS + 300_000
        json.dumps(msgspec.to_builtins(found.values), allow_nan=False).encode()
        assert found.claimed_ms is None or abs(found.claimed_ms) <= 2**53


@given(st.text(max_size=60))
def test_no_topic_raises(topic: str) -> None:
    assert arrive(message(), topic).refusals[0].reason == "topic"

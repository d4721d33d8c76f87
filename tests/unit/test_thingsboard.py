"""ThingsBoard's gateway format: the documents' own examples, and what is odd."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.errors import SpecError
from tests.support.vendors import CHILD, NOW_MS, arrive, binding, directory, spec

AT = int(NOW_MS) - 60_000
TELEMETRY = "v1/gateway/telemetry"


def heard(topic: str, payload: Any, **how: Any) -> list[tuple[str, float, dict[str, Any]]]:
    decoded = arrive(topic, payload, **how)
    return [(r.device, r.observed_ms, {v.point: v.value for v in r.values}) for r in decoded.readings]


def test_the_documented_example_is_a_reading_for_each_entry_of_each_device() -> None:
    payload = {  # the documents' own, moved to the day of this test
        "Device A": [
            {"ts": AT, "values": {"temperature": 42, "humidity": 80}},
            {"ts": AT + 1000, "values": {"temperature": 43, "humidity": 82}},
        ],
        "Device B": [{"ts": AT, "values": {"temperature": 42, "humidity": 80}}],
    }
    assert heard(TELEMETRY, payload) == [
        ("a", AT, {"temperature": 42, "humidity": 80}),
        ("a", AT + 1000, {"temperature": 43, "humidity": 82}),
        ("b", AT, {"temperature": 42, "humidity": 80}),
    ]


def test_the_documents_times_of_2017_are_replaced_by_ours_and_kept_beside() -> None:
    (found,) = arrive(TELEMETRY, {"Device A": [{"ts": 1483228800000, "values": {"temperature": 42}}]}).readings
    assert (found.observed_ms, found.claimed_ms, found.clock_fault) == (NOW_MS, 1483228800000, "clock_past")


@pytest.mark.parametrize(
    "entry", [{"temperature": 42}, [{"temperature": 42}], {"values": {"temperature": 42}}, [{"values": {"temperature": 42}}]]
)
def test_without_a_time_it_is_when_it_was_received(entry: Any) -> None:
    assert heard(TELEMETRY, {"Device A": entry}) == [("a", NOW_MS, {"temperature": 42})]


@pytest.mark.parametrize(
    "payload",
    [
        {"eventsProduced": 7},
        [{"eventsProduced": 7}],
        {"ts": AT, "values": {"eventsProduced": 7}},
        [{"ts": AT, "values": {"eventsProduced": 7}}],
    ],
)
def test_the_device_api_is_the_gateway_s_own_telemetry(payload: Any) -> None:
    ((device, _, values),) = heard("v1/devices/me/telemetry", payload)
    assert (device, values) == ("tb-1", {"events_produced": 7})


def test_attributes_that_a_point_has_are_told_and_others_are_left() -> None:
    assert heard("v1/gateway/attributes", {"Device A": {"humidity": 51, "fw_version": "1.0"}}) == [
        ("a", NOW_MS, {"humidity": 51})
    ]
    decoded = arrive("v1/gateway/attributes", {"Device A": {"fw_version": "1.0"}})
    assert (decoded.readings, decoded.refusals) == ((), ())


@pytest.mark.parametrize(("topic", "state"), [("v1/gateway/connect", "online"), ("v1/gateway/disconnect", "offline")])
def test_connect_and_disconnect_are_presence(topic: str, state: str) -> None:
    presence = arrive(topic, {"device": "Device A"}).presence
    assert presence is not None
    assert (presence.device, presence.publisher, presence.message.state) == ("a", "tb-1", state)


def test_one_that_is_refused_costs_no_other() -> None:
    payload = {
        "Nobody": [{"temperature": 1}],
        "Device A": [{"temperature": 2}, 5],
        "Device B": {"ts": "now", "values": {"humidity": 1}},
    }
    decoded = arrive(
        TELEMETRY, payload | {"Device C": {"temperature": 3}}, of=directory(binding("c", "acme-child", "tb-1", name="Device C"))
    )
    assert [(r.device, r.good("temperature")) for r in decoded.readings] == [("c", 3.0)]
    assert [(one.reason, one.device) for one in decoded.refusals] == [("unknown_device", ""), ("schema", "a"), ("schema", "b")]
    assert decoded.refusals[1].payload == b'{"Device A":[{"temperature":2},5]}'


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (TELEMETRY, [1], "schema"),
        (TELEMETRY, b"{", "not_json"),
        ("v1/gateway/connect", {"name": "Device A"}, "schema"),
        ("v1/gateway/connect", {"device": "Nobody"}, "unknown_device"),
        (TELEMETRY, {"Device A": [{"temperature": n} for n in range(501)]}, "batch_too_long"),
    ],
)
def test_what_is_no_message_of_the_format_is_refused(topic: str, payload: Any, reason: str) -> None:
    decoded = arrive(topic, payload)
    assert [one.reason for one in decoded.refusals] == [reason]
    assert (decoded.readings, decoded.presence) == ((), None)


def test_two_gateways_are_told_apart_by_nothing_so_their_own_telemetry_is_refused() -> None:
    two = directory(binding("tb-2", "thingsboard-gateway"), binding("other-a", "acme-child", "tb-2", name="Device A"))
    assert [one.reason for one in arrive("v1/devices/me/telemetry", {"eventsSent": 1}, of=two).refusals] == ["ambiguous"]
    assert [one.reason for one in arrive(TELEMETRY, {"Device A": {"temperature": 1}}, of=two).refusals] == ["ambiguous"]
    assert heard(TELEMETRY, {"Device B": {"temperature": 1}}, of=two) == [("b", NOW_MS, {"temperature": 1})]


def test_a_spec_of_the_format_leaves_topics_and_times_to_it() -> None:
    with pytest.raises(SpecError, match=r"mqtt\.topic.*the format's own"):
        spec(CHILD.replace("{format: thingsboard}", '{format: thingsboard, topic: "x/{device}"}'))

"""Vendors' messages to readings: whose they are, when they were, and which reading they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.journal.progress import BY_TIME, Progress
from iotcore.reading import Quality
from iotcore.registry import vendors
from iotcore.telemetry.line import line, timestamp_ns
from iotcore.wire.topics import FIELD_DOMAINS, FIRE_DOMAIN
from tests.support.canonical import DIRECTORY as CANONICAL
from tests.support.canonical import TOPIC, message
from tests.support.vendors import DIRECTORY, NOW_MS, arrival, arrive, binding, decoder, directory

AT = int(NOW_MS) - 1000
DAY_MS = 86_400_000


def said(pm25: float = 17.5, at: Any = None) -> dict[str, Any]:
    return {"sensors": [{"name": "pm25", "value": str(pm25)}]} | ({"at": at} if at is not None else {})


def reason(topic: str, payload: Any, **how: Any) -> tuple[str, str]:
    decoded = arrive(topic, payload, **how)
    assert decoded.readings == ()
    (refusal,) = decoded.refusals
    return refusal.reason, refusal.device


def test_a_vendor_s_message_becomes_a_reading_of_the_device_that_its_topic_is_bound_to() -> None:
    (found,) = arrive("acme/st-1/measures", said()).readings
    assert (found.device, found.kind, found.received_ms, found.good("pm25")) == ("st-1", "reading", NOW_MS, 17.5)


def test_the_name_on_the_vendor_s_side_may_be_another_than_ours() -> None:
    assert arrive("acme/Trạm 2/measures", said()).readings[0].device == "st-2"
    assert reason("acme/st-2/measures", said()) == ("unknown_topic", "")


def test_a_level_that_a_topic_leaves_open_matches_any_one_level() -> None:
    assert arrive("app/17/wild-1/up", {"co": 2}).readings[0].device == "wild-1"
    assert reason("app/17/18/wild-1/up", {"co": 2}) == ("unknown_topic", "")


def test_a_vendor_s_reading_is_marked_unproven_and_a_canonical_one_is_not() -> None:
    (found,) = arrive("acme/st-1/measures", said()).readings
    assert not found.proven
    assert line(found, DIRECTORY.devices["st-1"]).startswith(b"air_station,device=st-1,identity=unproven,model=acme-station ")
    (ours,) = decoder()(arrival(TOPIC, message()), CANONICAL, NOW_MS).readings
    assert ours.proven
    assert b"identity" not in line(ours, CANONICAL.devices["sd-1"])


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        ("acme/off-1/measures", said(), ("not_accepted:suspended", "off-1")),
        ("acme/nobody/measures", said(), ("unknown_topic", "")),
        ("iot/v1/air/st-1/up/reading/st-1/more", said(), ("topic", "")),
        ("acme/st-1/measures", b"{", ("not_json", "st-1")),
        ("acme/st-1/measures", b"17", ("schema", "st-1")),
        ("acme/st-1/measures", b"\xff\x00", ("not_json", "st-1")),
        ("acme/st-1/measures", b" " * 70_000, ("oversized", "st-1")),
    ],
)
def test_what_is_not_accepted_is_refused_by_name(topic: str, payload: Any, expected: tuple[str, str]) -> None:
    assert reason(topic, payload) == expected


def test_a_topic_that_two_accepted_devices_claim_belongs_to_neither() -> None:
    both = directory(binding("twin", "acme-station", name="st-1"))
    assert reason("acme/st-1/measures", said(), of=both) == ("ambiguous", "")
    replaced = directory(binding("old", "acme-station", name="st-1", state="retired"))
    assert arrive("acme/st-1/measures", said(), of=replaced).readings[0].device == "st-1"


@given(st.sampled_from(["acme/st-1/measures", "zigbee2mqtt/Bếp", "v1/gateway/telemetry", "v1/gateway/connect", "?"]), st.binary())
def test_no_bytes_raise(topic: str, payload: bytes) -> None:
    decoded = decoder()(arrival(topic, payload), DIRECTORY, NOW_MS)
    assert isinstance(decoded.readings, tuple)


KEYS = st.sampled_from(["Device A", "Device B", "device", "ts", "values", "temperature", "sensors", "name"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(LEAVES, lambda of: st.lists(of) | st.dictionaries(KEYS, of)))
def test_no_json_raises_or_claims_another_device(document: Any) -> None:
    for topic in ("acme/st-1/measures", "v1/gateway/telemetry", "v1/gateway/attributes", "v1/gateway/disconnect",
                  "v1/devices/me/telemetry"):  # fmt: skip
        decoded = decoder()(arrival(topic, json.dumps(document).encode()), DIRECTORY, NOW_MS)
        assert {r.device for r in decoded.readings} <= {"st-1", "a", "b", "tb-1"}


def test_the_time_is_judged_as_the_contract_says() -> None:
    def of(at: Any) -> tuple[float, int | None, str]:
        (found,) = arrive("acme/st-1/measures", said(at=at)).readings
        return found.observed_ms, found.claimed_ms, found.clock_fault

    assert of(AT) == (AT, None, "")
    assert of(int(NOW_MS) - 7 * DAY_MS - 1) == (NOW_MS, int(NOW_MS) - 7 * DAY_MS - 1, "clock_past")
    assert of(int(NOW_MS) + 300_001) == (NOW_MS, int(NOW_MS) + 300_001, "clock_future")
    assert of(10**30) == (NOW_MS, 2**53, "clock_future")
    assert of("soon") == (NOW_MS, None, "")


def test_the_same_message_with_a_time_is_the_same_reading_and_the_same_point_in_the_store_whoever_decodes_it() -> None:
    once, again = (decoder()(arrival("acme/st-1/measures", said(at=AT)), DIRECTORY, NOW_MS).readings[0] for _ in range(2))
    assert once.identity == again.identity
    assert once.boot == BY_TIME
    assert timestamp_ns(once) == timestamp_ns(again)
    other = arrive("acme/st-1/measures", said(18.0, at=AT)).readings[0]  # of the same millisecond
    assert other.identity != once.identity
    assert timestamp_ns(other) != timestamp_ns(once)


def test_messages_without_a_time_or_with_an_odd_one_are_counted_in_a_boot_of_this_process() -> None:
    one = decoder()
    found = [one(arrival("acme/st-1/measures", said(at=at)), DIRECTORY, NOW_MS).readings[0] for at in (None, None, 5)]
    assert [(r.boot, r.seq) for r in found] == [("@b1", 1), ("@b1", 2), ("@b1", 3)]


def test_a_boot_of_ours_is_none_that_a_device_can_claim() -> None:
    for boot in ("@b1", BY_TIME):
        decoded = decoder()(arrival(TOPIC, message(boot=boot)), CANONICAL, NOW_MS)
        assert [refusal.reason for refusal in decoded.refusals] == ["schema"]


def test_readings_by_time_are_told_apart_in_any_order_and_leave_no_gap() -> None:
    progress = Progress()
    stage = progress.stage(0.0)
    assert [stage.take("st-1", BY_TIME, seq) for seq in (9_000_000, 5_000_000, 9_000_000, 7_000_000)] == [True, True, False, True]
    progress.apply(stage.changed)
    track = Progress(stage.rows()).track("st-1", BY_TIME)
    assert (track.missing, track.lost) == (0, 0)
    late = Progress(stage.rows()).stage(1000.0)
    assert [late.take("st-1", BY_TIME, seq) for seq in (5_000_000, 7_000_000, 8_000_000)] == [False, False, True]
    for seq in range(10_000_000, 10_100_000, 1000):
        late.take("st-1", BY_TIME, seq)
    assert len(late.changed["st-1", BY_TIME].above) == 32  # a device's memory is bounded
    assert late.changed["st-1", BY_TIME].up_to < 0  # nothing to receipt


def test_a_fire_device_s_readings_are_counted_even_if_they_tell_a_time() -> None:
    of = directory(binding("smoke-a", "acme-smoke", "tb-1", name="Smoke A"))
    (found,) = arrive("v1/gateway/telemetry", {"Smoke A": [{"ts": AT, "values": {"smoke": True}}]}, of=of).readings
    assert (found.boot, found.seq, found.observed_ms, found.good("alarm")) == ("@b1", 1, AT, True)


def test_a_retained_message_is_marked_for_the_lane_to_refuse() -> None:
    (found,) = arrive("zigbee2mqtt/Bếp", {"smoke": True}, retained=True).readings
    assert found.retained


def test_a_process_leaves_domains_of_others_alone() -> None:
    air = decoder("air")
    assert air(arrival("zigbee2mqtt/Bếp", {"smoke": True}), DIRECTORY, NOW_MS).readings == ()
    assert air(arrival("zigbee2mqtt/Bếp", {"smoke": True}), DIRECTORY, NOW_MS).refusals == ()
    assert len(air(arrival("acme/st-1/measures", said()), DIRECTORY, NOW_MS).readings) == 1


def test_a_changed_directory_counts_from_the_next_message_on() -> None:
    one = decoder()
    assert one(arrival("acme/st-1/measures", said()), DIRECTORY, NOW_MS).readings
    gone = directory(binding("st-1", "acme-station", state="retired"))
    assert one(arrival("acme/st-1/measures", said()), gone, NOW_MS).refusals[0].reason == "not_accepted:retired"


def test_lanes_hear_a_filter_for_each_kind_of_topic_on_the_broker_of_its_domain() -> None:
    assert vendors.filters(DIRECTORY, (FIRE_DOMAIN,)) == ("zigbee2mqtt/+",)
    assert vendors.filters(DIRECTORY, FIELD_DOMAINS) == (
        "+/bridge/state",
        "acme/+/measures",
        "app/+/+/up",
        "v1/devices/me/attributes",
        "v1/devices/me/telemetry",
        "v1/gateway/attributes",
        "v1/gateway/connect",
        "v1/gateway/disconnect",
        "v1/gateway/telemetry",
    )


def test_bytes_are_decoded_by_their_spec() -> None:
    of = directory(binding("lora-1", "milesight-gs524n"))
    (found,) = arrive("lorawan/lora-1/event/up", b'{"data":"Ih5kABxA"}', of=of).readings
    assert found.test
    assert found.values[0].quality is Quality.GOOD

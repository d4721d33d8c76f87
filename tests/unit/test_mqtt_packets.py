"""MQTT as bytes: what two libraries make of ours, what we make of theirs, in any pieces, and a named error otherwise."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from drivers.mqtt import packets
from drivers.mqtt.packets import ProtocolError
from drivers.mqtt.publishes import NO_TOKEN, Batch, Topics, read
from iotcore.wire.arrival import Arrival

TOPICS = st.text("ab/é€", min_size=1, max_size=150)
PAYLOADS = st.binary(max_size=20) | st.sampled_from([60, 120, 250, 16_300, 16_390]).map(lambda size: b"x" * size)
MESSAGES = st.lists(
    st.tuples(TOPICS, PAYLOADS, st.integers(1, 65_535), st.sampled_from([0, 1]), st.booleans(), st.booleans()), max_size=5
)


def sent(topic: str, payload: bytes, mid: int, qos: int, *, dup: bool, retain: bool, five: bool, extra: bytes = b"\0") -> bytes:
    """A PUBLISH as a broker may send it, by the standard and not by our encoder."""
    name = topic.encode()
    body = struct.pack("!H", len(name)) + name + (struct.pack("!H", mid) if qos else b"") + (extra if five else b"") + payload
    size = len(body)
    digits = []
    while size >= 128:
        digits.append(size % 128 + 128)
        size //= 128
    return bytes([0x30 | (8 if dup and qos else 0) | qos << 1 | retain, *digits, size]) + body


def taken(chunk: bytes, *, five: bool, limit: int = 1_000, at: int = 0) -> tuple[list[Arrival], list[bytes], int]:
    batch = Batch(Topics(), five, 5.0, 100)
    end = read(chunk, at, limit, batch)
    return batch.arrivals, batch.mids, end


async def by_amqtt(packet: type[Any], wire: bytes) -> Any:
    reader = BufferReader(wire)
    header = await MQTTFixedHeader.from_stream(reader)
    return await packet.from_stream(reader, fixed_header=header)


@pytest.mark.parametrize("five", [True, False])
@given(messages=MESSAGES, cut=st.integers(0, 200))
def test_publishes_come_out_as_they_went_in_however_they_are_cut(messages: list[Any], cut: int, *, five: bool) -> None:
    wire = b"".join(sent(t, p, mid, qos, dup=dup, retain=keep, five=five) for t, p, mid, qos, dup, keep in messages)
    whole, mids, end = taken(wire, five=five)
    assert [(a.topic, a.payload, a.retained) for a in whole] == [(t, p, keep) for t, p, _, _, _, keep in messages]
    assert [int.from_bytes(mid, "big") for mid in mids] == [mid for _, _, mid, qos, _, _ in messages if qos]
    assert [a.token for a in whole if a.token != NO_TOKEN] == list(range(100, 100 + len(mids)))
    assert [a.token == NO_TOKEN for a in whole] == [not qos for _, _, _, qos, _, _ in messages]
    assert end == len(wire)
    early = max(0, len(wire) - cut)
    first, _, at = taken(wire[:early], five=five)
    rest, _, end = taken(wire, five=five, at=at)
    assert [a.payload for a in first + rest] == [p for _, p, _, _, _, _ in messages]
    assert end == len(wire)


@given(MESSAGES, st.integers(0, 8))
def test_no_more_than_the_limit_is_taken_and_the_rest_stays(messages: list[Any], limit: int) -> None:
    wire = b"".join(sent(t, p, mid, qos, dup=dup, retain=keep, five=True) for t, p, mid, qos, dup, keep in messages)
    first, _, at = taken(wire, five=True, limit=limit)
    assert len(first) == min(limit, len(messages))
    assert len(first) + len(taken(wire, five=True, at=at)[0]) == len(messages)


@given(st.text(max_size=90), st.integers(1, 2**32 - 1), st.integers(0, 3))
def test_properties_as_another_library_packs_them_are_passed_over(text: str, expiry: int, users: int) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = expiry
    properties.ContentType = text.replace("\0", "")
    properties.UserProperty = [("key", text.replace("\0", ""))] * users
    extra = properties.pack()  # type: ignore[no-untyped-call]
    wire = sent("a/b", b"payload", 7, 1, dup=False, retain=False, five=True, extra=extra)
    (arrival,), _, end = taken(wire + b"\xd0\x00", five=True)
    assert (arrival.topic, arrival.payload, end) == ("a/b", b"payload", len(wire))
    found, stop = packets.properties(extra, 0, len(extra))
    assert (found[0x02], stop) == (expiry.to_bytes(4, "big"), len(extra))


@pytest.mark.parametrize("five", [True, False])
@given(chunk=st.binary(max_size=400))
def test_arbitrary_bytes_end_in_a_named_error_or_wait_for_more(chunk: bytes, *, five: bool) -> None:
    at = 0
    packet = None
    with contextlib.suppress(ProtocolError):
        _, _, at = taken(chunk, five=five)
        packet = packets.split(chunk, at)
    assert at <= len(chunk)
    if packet is None:
        return
    assert packet.start <= packet.end <= len(chunk)
    for parse in (packets.connack, packets.suback):
        with contextlib.suppress(ProtocolError):
            parse(chunk, packet, five=five)
    for short in (packets.puback, packets.goodbye):
        with contextlib.suppress(ProtocolError):
            short(chunk, packet)


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (b"\x34\x07\x00\x01a\x00\x01\x00x", "QoS 2"),
        (b"\x32\x01\x00", "without a topic"),
        (b"\x32\x05\x00\x09a\x00\x01", "topic is longer"),
        (b"\x32\x06\x00\x01a\x00\x01\x05", "properties are longer"),
        (b"\x32\x06\x00\x01a\x00\x01\xff", "properties are longer"),
        (b"\x32\x05\x00\x00\x00\x01\x00", "no topic"),
        (b"\x32\x06\x00\x01+\x00\x01\x00", "no topic"),
        (b"\x32\x06\x00\x01\xff\x00\x01\x00", "not UTF-8"),
        (b"\x32\xff\xff\xff\xff\x01", "more than four bytes"),
    ],
)
def test_what_mqtt_does_not_allow_is_refused_by_name(wire: bytes, said: str) -> None:
    good = sent("a", b"1", 1, 1, dup=False, retain=False, five=True)
    with pytest.raises(ProtocolError, match=said):
        taken(good + wire, five=True)


@pytest.mark.parametrize(
    ("value", "said"),
    [(b"\x02\x7f\x00", "unknown property 0x7f"), (b"\x02\x21\x00", "cut off"), (b"\x05\x21\x00", "longer than their packet")],
)
def test_malformed_properties_of_a_connack_are_refused_by_name(value: bytes, said: str) -> None:
    wire = b"\x20" + bytes([2 + len(value)]) + b"\x00\x00" + value
    packet = packets.split(wire, 0)
    assert packet is not None
    with pytest.raises(ProtocolError, match=said):
        packets.connack(wire, packet, five=True)


def test_a_connack_says_what_the_broker_grants_and_why_it_refuses() -> None:
    def answer(wire: bytes, *, five: bool) -> packets.Connack:
        packet = packets.split(wire, 0)
        assert packet is not None
        return packets.connack(wire, packet, five=five)

    granted = answer(b"\x20\x02\x01\x00", five=False)
    assert (granted.session_present, granted.code) == (True, 0)
    assert answer(bytes.fromhex("20 06 01 00 03 21 00 14"), five=True).receive_maximum == 20
    refused = answer(bytes.fromhex("20 0a 00 87 07 1f 00 04") + b"gone", five=True)
    assert refused.said == "0x87 not authorized (gone)"
    assert answer(b"\x20\x02\x00\x01", five=True).wrong_version
    assert answer(b"\x20\x02\x00\x84", five=True).wrong_version


async def test_an_independent_library_reads_what_we_write() -> None:
    wire = packets.connect("svc.fire.1.in", five=False, keepalive_s=10, session_expiry_s=0)
    connect = await by_amqtt(ConnectPacket, wire)
    assert connect.payload.client_id == "svc.fire.1.in"
    assert (connect.variable_header.keep_alive, connect.variable_header.clean_session_flag) == (10, False)
    subscribe = await by_amqtt(SubscribePacket, packets.subscribe(9, ["a/+", "b/#"], five=False))
    assert (subscribe.variable_header.packet_id, subscribe.payload.topics) == (9, [("a/+", 1), ("b/#", 1)])
    publish = await by_amqtt(PublishPacket, packets.publish("a/b", b"x" * 300, 65_535, five=False))
    assert (publish.topic_name, publish.data, publish.packet_id, publish.qos) == ("a/b", b"x" * 300, 65_535, 1)


@given(st.lists(st.integers(1, 65_535).map(lambda mid: mid.to_bytes(2, "big")), min_size=1, max_size=10))
def test_acknowledgements_are_one_puback_each_in_order(mids: list[bytes]) -> None:
    wire, at, seen = packets.acknowledgements(mids), 0, []
    while packet := packets.split(wire, at):
        assert packet.head == packets.PUBACK
        assert packets.puback(wire, packet)[1] == 0
        seen.append(wire[packet.start : packet.end])
        at = packet.end
    assert (seen, at) == (mids, len(wire))


@given(st.integers(0, 268_435_455))
def test_a_remaining_length_is_read_as_it_is_written(size: int) -> None:
    wire = packets.length(size)
    assert packets.variable(wire, 0, len(wire)) == (size, len(wire))


def test_a_topic_is_checked_once_and_the_own_heartbeat_every_time() -> None:
    topics = Topics("iotcore/heartbeat/me")
    assert topics[b"a/b"] is topics[b"a/b"]
    assert [topics[b"iotcore/heartbeat/me"] for _ in range(3)] == ["iotcore/heartbeat/me"] * 3
    assert (topics.beats, len(topics)) == (3, 1)

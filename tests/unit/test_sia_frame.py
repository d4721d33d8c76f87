"""DC-09 frames: published vectors, what the standard demands of a reply, and that nothing a registry holds breaks a frame."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.dispatch import sia_contact_id, sia_event
from iotcore.dispatch.sia_frame import (
    PAD_CHARACTERS,
    Address,
    crc16,
    decrypt,
    encrypt,
    frame,
    message,
    parse_reply,
    parse_timestamp,
    random_pad,
    timestamp,
    unframe,
)
from iotcore.errors import Refused
from iotcore.journal.records import Notice
from tests.support.fire import notice

EIGHT = datetime(2026, 1, 15, 8, 0, 0, tzinfo=UTC).timestamp()
KEY = b"A" * 16
HOME = Address("1", "0", "1234")
INCIDENT = "F20261122-020000-3FA9C1"

# ANSI/SIA DC-09 frames with their CRC and length recomputed
CONTACT_ID = b'\n1D05003D"ADM-CID"0001R1L0#1234[#1234|1110 01 015]_08:00:00,01-15-2026\r'
SIA_FIRE = b'\n299B003D"SIA-DCS"0003R1L0#1234[#1234|Nri01/FA015]_08:00:00,01-15-2026\r'
LINK_TEST = b'\n82000029"NULL"0000R1L0#1234[]_08:00:10,01-15-2026\r'
ENCRYPTED = (
    b'\nF7A90078"*SIA-DCS"0001R1L0#1234[0490059072224D4B792C79B6EEBCCDE0'
    b"2F858E12A371258F39D9511AEB9D47F349BD622A86C67E8F46FFB214BFFDF4C8\r"
)

keys = st.sampled_from([16, 24, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
numbers = st.integers(1, 9999)
hexes = st.text("0123456789ABCDEF", min_size=1, max_size=6)
accounts = st.text("0123456789ABCDEF", min_size=3, max_size=16)
addresses = st.builds(Address, receiver=hexes, line=hexes, account=accounts)
moments = st.integers(0, 4_102_444_800)  # to 2100


def ack(number: str = "0003", receiver: str = "R1", line: str = "L0", account: str = "#1234", tail: str = "[]") -> bytes:
    return frame(f'"ACK"{number}{receiver}{line}{account}{tail}'.encode())


def secret_ack(content: bytes, key: bytes = KEY) -> bytes:
    return frame(b'"*ACK"0003R1L0#1234[' + encrypt(content, key))


@pytest.mark.parametrize(
    ("kind", "number", "content", "at_s", "expected"),
    [
        ("ADM-CID", 1, b"#1234|1110 01 015]", EIGHT, CONTACT_ID),
        ("SIA-DCS", 3, b"#1234|Nri01/FA015]", EIGHT, SIA_FIRE),
        ("NULL", 0, b"]", EIGHT + 10, LINK_TEST),
    ],
)
def test_a_plain_frame_is_the_published_one(kind: str, number: int, content: bytes, at_s: float, expected: bytes) -> None:
    assert message(kind, number, HOME, content, at_s) == expected


def test_an_encrypted_frame_is_the_published_one() -> None:
    made = message("SIA-DCS", 1, HOME, b"#1234|Nri01/FA015]", EIGHT, key=KEY, pad=lambda count: b"0" * count)
    assert made == ENCRYPTED


def test_the_crc_is_crc_16_arc() -> None:
    assert crc16(b"123456789") == 0xBB3D  # the check value of CRC-16/ARC


@given(body=st.binary(max_size=4000).map(lambda rest: b'"' + rest))
def test_what_is_framed_comes_out_again(body: bytes) -> None:
    assert unframe(frame(body)) == body


@given(position=st.integers(0, len(SIA_FIRE) - 1), change=st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(position: int, change: int) -> None:
    broken = bytearray(SIA_FIRE)
    broken[position] ^= change
    if bytes(broken).upper() == SIA_FIRE:  # hex digits may be lower-case
        return
    with pytest.raises(Refused) as caught:
        unframe(bytes(broken))
    assert caught.value.reason in ("not_a_frame", "bad_length", "bad_crc")


def test_a_body_too_long_for_its_length_field_is_refused() -> None:
    assert len(frame(b'"' * 0xFFF)) == 0xFFF + 10
    with pytest.raises(ValueError, match="4095 is the limit"):
        frame(b'"' * 0x1000)


@pytest.mark.parametrize("number", [-1, 10_000])
def test_a_number_that_four_digits_cannot_say_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="no DC-09 sequence number"):
        message("NULL", number, HOME, b"]", EIGHT)


@given(content=st.text("#|]0123456789ABC ", max_size=300).map(str.encode), key=keys)
def test_padding_stands_in_front_and_fills_whole_blocks(content: bytes, key: bytes) -> None:
    secret = encrypt(content, key)
    assert re.fullmatch(rb"([0-9A-F]{32})+", secret)
    padding, bar, rest = decrypt(secret, key).partition(b"|")
    assert (bar, rest) == (b"|", content)
    assert 1 <= len(padding) <= 16
    assert not set(padding) & set(b"|[]")


def test_equal_alarms_look_different_on_the_wire() -> None:
    assert len({encrypt(b"#1234|Nri01/FA015]", KEY) for _ in range(20)}) == 20
    assert set(random_pad(2000)) <= set(PAD_CHARACTERS)


@given(at_s=moments)
def test_a_timestamp_is_utc_and_reads_back_to_the_second(at_s: int) -> None:
    assert parse_timestamp(timestamp(at_s)) == at_s


def test_a_date_that_does_not_exist_is_none() -> None:
    assert parse_timestamp(b"_08:00:00,02-30-2026") is None


@given(number=numbers, address=addresses, key=st.none() | keys, at_s=moments)
def test_every_ack_is_read_back_as_it_was_written(number: int, address: Address, key: bytes | None, at_s: int) -> None:
    kind = "*ACK" if key else "ACK"
    head = f'"{kind}"{number:04d}R{address.receiver}L{address.line}#{address.account}['.encode()
    tail = b"]" + timestamp(at_s)
    reply = parse_reply(frame(head + (encrypt(tail, key) if key else tail)), key or b"")
    assert (reply.kind, reply.number, reply.address, reply.at_s) == ("ACK", number, address, at_s)


def test_a_plain_ack_needs_no_timestamp() -> None:
    assert parse_reply(ack()).at_s is None


def test_a_nak_tells_the_time_of_the_receiver_also_to_one_who_encrypts() -> None:
    nak = frame(b'"NAK"0000R0L0A0[]' + timestamp(EIGHT))
    assert parse_reply(nak).at_s == parse_reply(nak, KEY).at_s == EIGHT
    assert parse_reply(frame(b'"NAK"0000L0R0A0[]_08:00:00,01-15-2026')).at_s == EIGHT  # pysiaalarm's order
    assert parse_reply(frame(b'"NAK"0000R0L0A0[]')).at_s is None


def test_duh_is_never_encrypted() -> None:
    assert parse_reply(frame(b'"DUH"0003R1L0#1234[]'), KEY).kind == "DUH"


@pytest.mark.parametrize(
    ("received", "key", "reason"),
    [
        (b"\n\r", b"", "not_a_frame"),  # pysiaalarm's answer to a bad CRC
        (b'"ACK"\r', b"", "not_a_frame"),
        (b"", b"", "not_a_frame"),
        (ack().replace(b"0003R1", b"0004R1"), b"", "bad_crc"),
        (ack()[:-1], b"", "not_a_frame"),
        (ack(receiver=""), b"", "not_a_reply"),  # we always send R: an ACK without it is not ours
        (ack(receiver="RNone"), b"", "not_a_reply"),
        (ack(line=""), b"", "not_a_reply"),
        (ack(account=""), b"", "not_a_reply"),
        (ack(number="3"), b"", "not_a_reply"),
        (ack(tail="[]_yesterday"), b"", "not_a_reply"),
        (frame(b'"RSP"0003R1L0#1234[]'), b"", "not_a_reply"),
        (ack(), KEY, "not_encrypted"),
        (secret_ack(b"]" + timestamp(EIGHT)), b"", "not_a_reply"),
        (frame(b'"*ACK"0003R1L0#1234[ABCD'), KEY, "not_cipher_text"),
        (frame(b'"*ACK"0003R1L0#1234[xyz'), KEY, "not_cipher_text"),
        (frame(b'"*ACK"0003R1L0#1234['), KEY, "not_cipher_text"),
        (secret_ack(b"]" + timestamp(EIGHT), b"B" * 16), KEY, "wrong_key"),
        (secret_ack(b"]"), KEY, "wrong_key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",  # encrypted ones differ from run to run
)
def test_only_a_valid_ack_is_an_ack(received: bytes, key: bytes, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_reply(received, key)
    assert caught.value.reason == reason


@given(received=st.binary(max_size=200), key=st.sampled_from([b"", KEY]))
def test_no_bytes_crash_the_reader_of_replies(received: bytes, key: bytes) -> None:
    for attempt in (received, frame(b'"' + received), frame(b'"*ACK"0003R1L0#1234[' + received.hex().encode())):
        with pytest.raises(Refused):
            parse_reply(attempt, key)


def text_of(told: Notice) -> str:
    return sia_event.content(told).decode("ascii")


def fire(**changes: object) -> Notice:
    return msgspec.structs.replace(notice(), incident=INCIDENT, **changes)


def test_a_notice_says_what_where_and_which_incident_in_ascii() -> None:
    assert text_of(fire()) == (
        "#1001|Nri01/FA001][H_02:00:00,11-22-2026][IF20261122-020000-3FA9C1 FIRE smoke 0.4 dB/m sd-0001]"
        "[LTang 1, Gian hang][SCho Vuon Hoa, Duong Le Hoan, Thanh Hoa][X105E46.560][Y19N48.420]"
    )


@pytest.mark.parametrize(
    ("hazard", "alarm", "restore"),
    [
        ("smoke", "FA", "FH"),
        ("heat", "KA", "KH"),
        ("manual", "FA", "FH"),
        ("flame", "FA", "FH"),
        ("co", "FA", "FH"),
        ("waterflow", "SA", "SH"),
        ("a hazard of next year", "FA", "FH"),
    ],
)
def test_each_hazard_has_its_code_and_an_unknown_one_is_a_fire(hazard: str, alarm: str, restore: str) -> None:
    assert f"Nri01/{alarm}001]" in text_of(fire(hazard=hazard))
    assert f"Nri01/{restore}001]" in text_of(fire(hazard=hazard, event="restore"))


def test_delayed_and_unconfirmed_alarms_say_so() -> None:
    assert f"{INCIDENT} FIRE DELAYED UNCONFIRMED smoke" in text_of(fire(delayed=True, unconfirmed=True))


def test_what_nobody_gave_is_not_sent() -> None:
    assert "[L" not in text_of(fire(floor="", zone_name="")) + text_of(fire(floor="[]", zone_name="火"))


def test_a_call_point_says_no_number() -> None:
    assert f"[I{INCIDENT} FIRE manual sd-0001]" in text_of(fire(hazard="manual", value=True, unit=""))


@pytest.mark.parametrize(("latitude", "longitude"), [(0.0, 0.0), (float("nan"), 105.0), (91.0, 105.0), (19.0, 181.0)])
def test_coordinates_that_nobody_gave_are_not_sent(latitude: float, longitude: float) -> None:
    assert "[X" not in text_of(fire(latitude=latitude, longitude=longitude))


def test_coordinates_round_up_into_the_next_degree_and_know_their_hemisphere() -> None:
    text = text_of(fire(latitude=-0.9999999, longitude=-179.9999999))
    assert text.endswith("[X180W00.000][Y01S00.000]")


@pytest.mark.parametrize("account", ["", "12", "xyz", "0" * 17, "12 4"])
def test_an_account_that_the_wire_cannot_carry_keeps_no_fire_from_going_out(account: str) -> None:
    assert text_of(fire(account=account)).startswith("#0000|")


@pytest.mark.parametrize(
    ("reason", "sia", "contact_id"),
    [
        ("gap", ("FT", "FJ"), "373"),
        ("offline", ("FT", "FJ"), "373"),
        ("bad:smoke:timeout", ("FT", "FJ"), "380"),
        ("battery_low", ("YT", "YR"), "302"),
        ("bad:battery:low", ("YT", "YR"), "302"),
        ("tamper", ("TA", "TR"), "380"),
        ("path", ("YC", "YK"), "350"),
        ("undelivered", ("YC", "YK"), "350"),
    ],
)
def test_a_trouble_is_named_by_its_reason(reason: str, sia: tuple[str, str], contact_id: str) -> None:
    for event, code, qualifier in (("alarm", sia[0], "1"), ("restore", sia[1], "3")):
        told = fire(severity="trouble", reason=reason, event=event)
        assert (sia_event.code(told), sia_contact_id.code(told)) == (code, qualifier + contact_id)


@pytest.mark.parametrize(
    ("changes", "sia", "contact_id", "says"),
    [
        ({"hazard": "manual"}, "FA", "1115", "FIRE manual"),
        ({"hazard": "waterflow"}, "SA", "1113", "FIRE waterflow"),
        ({"hazard": "co"}, "FA", "1112", "FIRE co"),
        ({"hazard": "a hazard of next year"}, "FA", "1110", "FIRE a hazard of next year"),
        ({"event": "update"}, "FA", "1111", "FIRE ALSO smoke"),
        ({"event": "test"}, "FX", "1604", "TEST smoke"),
        ({"event": "test", "device": ""}, "RX", "1602", "TEST smoke"),
        ({"purpose": "exercise"}, "FX", "1604", "EXERCISE smoke"),
        ({"purpose": "test", "event": "restore"}, "FK", "3604", "RESTORE TEST smoke"),
        ({"severity": "supervisory"}, "FS", "1200", "SUPERVISORY smoke"),
        ({"severity": "supervisory", "event": "restore"}, "FV", "3200", "RESTORE smoke"),
    ],
)
def test_each_event_has_its_code_in_both_formats_and_its_words(
    changes: dict[str, object], sia: str, contact_id: str, says: str
) -> None:
    told = fire(**changes)
    assert (sia_event.code(told), sia_contact_id.code(told)) == (sia, contact_id)
    assert f"[I{INCIDENT} {says} " in text_of(told)
    assert f"[I{INCIDENT} {says} " in sia_contact_id.content(told).decode()


def test_contact_id_says_zone_and_where_in_its_one_block() -> None:
    assert sia_contact_id.content(fire(zone_number=115)) == (
        b"#1001|1111 15 115][IF20261122-020000-3FA9C1 FIRE smoke 0.4 dB/m sd-0001; Tang 1, Gian hang; "
        b"Cho Vuon Hoa, Duong Le Hoan, Thanh Hoa]"
    )
    assert sia_contact_id.content(fire(zone_number=15), "none") == b"#1001|1111 15 015]"


@pytest.mark.parametrize("zone", [-1, 1000, 10**9])
def test_a_zone_that_three_digits_cannot_say_keeps_no_fire_from_going_out(zone: int) -> None:
    assert sia_contact_id.content(fire(zone_number=zone), "none") == b"#1001|1111 00 000]"


@given(told=st.from_type(Notice), key=keys)
def test_whatever_the_registry_holds_makes_one_frame_of_at_most_a_thousand_bytes(told: Notice, key: bytes) -> None:
    told = msgspec.structs.replace(told, incident=INCIDENT, occurred_ms=1.8e12, zone_number=told.zone_number % 1000)
    both = (("SIA-DCS", sia_event.content(told)), ("ADM-CID", sia_contact_id.content(told)))
    for secret, (kind, content) in itertools.product((b"", key), both):
        home = Address("FFFFFF", "FFFFFF", sia_event.account(told))
        made = message(kind, 9999, home, content, EIGHT, key=secret)
        body = unframe(made)
        plain = decrypt(body.partition(b"[")[2], secret).partition(b"|")[2] if secret else body.partition(b"[")[2]
        assert plain.isascii()
        assert plain.count(b"[") + 1 == plain.count(b"]")
        assert f"[I{INCIDENT} ".encode() in plain
        assert b"\r" not in made[:-1]
        assert len(made) <= 1000  # pysiaalarm reads so much at a time

"""What bytes answer to a question: the right ones in any pieces, and nothing else ever."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import frames, questions
from drivers.modbus.questions import Fault, Question, ReadWriteRequest, Reply, WriteRequest

ASK = questions.read("holding", 100, 2)
BITS = questions.read("coil", 0, 11)
PDU = bytes((3, 4, 0x12, 0x34, 0xAB, 0xCD))
WORDS = (0x1234, 0xABCD)


def _mbap(stream: bytes, question: Question = ASK) -> Reply | None:
    return frames.heard_mbap(stream, 7, 17, question).reply


def _rtu(stream: bytes, question: Question = ASK) -> frames.Heard:
    return frames.heard_rtu(stream, 17, question)


def test_the_frames_of_the_documents() -> None:
    assert frames.rtu(17, questions.read("holding", 0x6B, 3).pdu).hex(" ") == "11 03 00 6b 00 03 76 87"
    assert frames.mbap(1, 17, questions.read("holding", 0x6B, 3).pdu).hex(" ") == "00 01 00 00 00 06 11 03 00 6b 00 03"


@pytest.mark.parametrize("end", range(len(frames.mbap(7, 17, PDU))))
def test_half_a_frame_is_no_answer_yet(end: int) -> None:
    assert _mbap(frames.mbap(7, 17, PDU)[:end]) is None
    assert _rtu(frames.rtu(17, PDU)[:end]).reply is None or end >= len(frames.rtu(17, PDU))


def test_a_whole_frame_is() -> None:
    assert _mbap(frames.mbap(7, 17, PDU)) == Reply(WORDS)
    assert _rtu(frames.rtu(17, PDU)).reply == Reply(WORDS)


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        (frames.mbap(8, 17, PDU), "transaction"),
        (frames.mbap(0, 17, PDU), "transaction"),
        (frames.mbap(7, 18, PDU), "unit"),
        (frames.mbap(7, 17, b"\x04" + PDU[1:]), "function"),
        (frames.mbap(7, 17, PDU[:-1]), "length"),
        (frames.mbap(7, 17, PDU + b"\x00"), "length"),
        (frames.mbap(7, 17, bytes((3, 6)) + PDU[2:]), "length"),
        (frames.mbap(7, 17, bytes((3, 2, 0, 1))), "length"),
        (frames.mbap(7, 17, bytes((0x83,))), "length"),
        (frames.mbap(7, 17, bytes((0x84, 2))), "function"),
        (frames.mbap(7, 17, PDU) + b"\x00", "extra"),
        (frames.mbap(7, 17, PDU) * 2, "extra"),
        (struct.pack(">HHHB", 7, 1, 7, 17) + PDU, "protocol"),
        (struct.pack(">HHHB", 7, 0, 1, 17), "length"),
        (struct.pack(">HHHB", 7, 0, 300, 17), "length"),
        (b"HTTP/1.1 400 Bad Request", "protocol"),
    ],
)
def test_on_tcp_anything_else_is_wrong_at_once(stream: bytes, what: str) -> None:
    assert _mbap(stream) == Reply(why=f"wrong_reply:{what}", fault=Fault.WRONG)


def test_an_exception_is_an_answer_and_a_gateways_word_for_a_silent_unit_means_silence() -> None:
    assert _mbap(frames.mbap(7, 17, b"\x83\x02")) == Reply(why="exception:2", fault=Fault.EXCEPTION)
    assert _mbap(frames.mbap(7, 17, b"\x83\x0b")) == Reply(why="exception:11", fault=Fault.DEAD)
    assert _rtu(frames.rtu(17, b"\x83\x06")).reply == Reply(why="exception:6", fault=Fault.EXCEPTION)


def test_on_a_serial_line_others_late_answers_are_dropped_and_the_true_one_is_taken() -> None:
    other_unit, other_length = frames.rtu(5, PDU), frames.rtu(17, bytes((3, 2, 9, 9)))
    late = _rtu(other_unit + other_length)
    assert (late.reply, late.left, late.why) == (None, b"", "wrong_reply:length")
    assert _rtu(other_unit + other_length + frames.rtu(17, PDU)).reply == Reply(WORDS)
    assert _rtu(other_unit[:4]).reply is None


@pytest.mark.parametrize("noise", [b"\x05", b"\xff\x00\xff", b"\x11", b"\x05\x03\x04\x00", b"\x11\x03"])
def test_on_a_serial_line_bytes_of_nobody_before_the_answer_do_not_hide_it(noise: bytes) -> None:
    whole = noise + frames.rtu(17, PDU)
    heard = [_rtu(whole[:cut]).reply for cut in range(len(noise) + 3, len(whole))]
    assert _rtu(whole).reply == Reply(WORDS)
    assert [reply for reply in heard if reply is not None and reply.words] == []


def test_on_a_serial_line_another_units_late_answer_behind_ours_spoils_nothing() -> None:
    assert _rtu(frames.rtu(17, PDU) + frames.rtu(5, PDU)).reply == Reply(WORDS)
    assert _rtu(frames.rtu(17, PDU) + b"\x05").reply == Reply(WORDS)


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        (frames.rtu(17, PDU)[:-1] + b"\x00", "crc"),
        (frames.rtu(17, PDU) + b"\x11", "extra"),
        (frames.rtu(17, PDU) * 2, "extra"),
        (b"\x11\x00\x00\x00", "function"),
        (b"\xff\xff\xff\xff\xff\xff", "crc"),
    ],
)
def test_on_a_serial_line_what_cannot_be_an_answer_is_wrong(stream: bytes, what: str) -> None:
    assert _rtu(stream).reply == Reply(why=f"wrong_reply:{what}", fault=Fault.WRONG)


@given(st.binary(max_size=300))
def test_no_garbage_is_ever_a_value(garbage: bytes) -> None:
    for question in (ASK, BITS):
        for reply in (_mbap(garbage, question), _rtu(garbage, question).reply):
            assert reply is None or not reply.words


@given(st.lists(st.integers(0, 1), min_size=1, max_size=2000))
def test_bits_come_back_as_they_were_packed(bits: list[int]) -> None:
    question = questions.read("discrete", 0, len(bits))
    packed = sum(bit << i for i, bit in enumerate(bits)).to_bytes((len(bits) + 7) // 8, "little")
    assert questions.answer(question, bytes((2, len(packed))) + packed) == Reply(bits)


@pytest.mark.parametrize(
    ("request_", "pdu", "answer"),
    [
        (WriteRequest("coil", 0xAC, (1,)), "05 00 ac ff 00", "05 00 ac ff 00"),
        (WriteRequest("coil", 0xAC, (0,)), "05 00 ac 00 00", "05 00 ac 00 00"),
        (WriteRequest("holding", 1, (3,)), "06 00 01 00 03", "06 00 01 00 03"),
        (WriteRequest("holding", 1, (3,), multiple=True), "10 00 01 00 01 02 00 03", "10 00 01 00 01"),
        (WriteRequest("coil", 0x13, (1, 0, 1, 1, 0, 0, 1, 1, 1, 0)), "0f 00 13 00 0a 02 cd 01", "0f 00 13 00 0a"),
        (WriteRequest("holding", 1, (10, 258)), "10 00 01 00 02 04 00 0a 01 02", "10 00 01 00 02"),
        (WriteRequest("holding", 4, mask=(0xF2, 0x25)), "16 00 04 00 f2 00 25", "16 00 04 00 f2 00 25"),
        (
            ReadWriteRequest(3, 2, 14, (0xFF, 0xFF)),
            "17 00 03 00 02 00 0e 00 02 04 00 ff 00 ff",
            "17 04 12 34 ab cd",
        ),
    ],
)
def test_writes_are_the_examples_of_the_application_protocol(
    request_: WriteRequest | ReadWriteRequest, pdu: str, answer: str
) -> None:
    question = questions.write_of(request_)
    assert question.pdu.hex(" ") == pdu
    taken = questions.answer(question, bytes.fromhex(answer))
    assert (tuple(taken.words), taken.why) == (WORDS if isinstance(request_, ReadWriteRequest) else (), "")
    changed = bytearray.fromhex(answer)
    changed[2] ^= 1
    if not isinstance(request_, ReadWriteRequest):
        assert questions.answer(question, bytes(changed)).why == "wrong_reply:echo"


@pytest.mark.parametrize(
    "request_",
    [
        WriteRequest("holding", 0, ()),
        WriteRequest("holding", 0, (1,) * 124),
        WriteRequest("holding", 65_535, (1, 2)),
        WriteRequest("holding", 0, (65_536,)),
        WriteRequest("coil", 0, (2,)),
        WriteRequest("coil", 0, (1,) * 1969),
        WriteRequest("coil", 0, mask=(1, 1)),
        WriteRequest("holding", 0, (1,), mask=(1, 1)),
        ReadWriteRequest(0, 126, 0, (1,)),
        ReadWriteRequest(0, 1, 0, (1,) * 122),
    ],
)
def test_what_modbus_cannot_write_is_refused_before_it_is_sent(request_: WriteRequest | ReadWriteRequest) -> None:
    with pytest.raises(ValueError, match=r"cannot|takes|is no 16-bit word"):
        questions.write_of(request_)

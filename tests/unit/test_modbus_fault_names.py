"""Faults of simulated Modbus units by name, and the frames they make."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.errors import ConfigError
from simulators.modbus_faults import FAULTS, parse
from simulators.modbus_frames import BrokenStream, Frame, RtuReader, TcpReader, crc16, mbap, rtu
from simulators.modbus_wrong import Answer, DuplicateUnit, ExceptionAnswer, Late, Reset, Slow, TwoFrames

DOCS = Path(__file__).parents[2] / "docs" / "simulators.md"
ASKED = Frame(7, 3, struct.pack(">BHH", 3, 0, 2))
RIGHT = bytes((3, 4, 0, 1, 0, 2))


def test_a_name_alone_has_the_usual_arguments() -> None:
    assert parse("slow") == Slow(byte_s=1.0)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("exception:0x0B", ExceptionAnswer(code=11)), ("reset:mid_answer", Reset(when="mid_answer")), ("late:0.5", Late(by_s=0.5))],
)
def test_the_first_argument_may_follow_the_name(name: str, fault: object) -> None:
    assert parse(name) == fault


def test_arguments_by_name() -> None:
    assert parse("slow", {"byte_s": 0.25}) == Slow(byte_s=0.25)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("exeption", {}, "no Modbus fault 'exeption'; known are: exception, "),
        ("silent:3", {}, "takes no argument"),
        ("exception:5", {}, "Invalid enum value 5"),
        ("slow", {"bytes": 1}, "unknown key; known are: byte_s"),
        ("late", {"by_s": -1}, "> 0"),
    ],
)
def test_what_is_no_fault_is_refused_with_the_reason(name: str, args: dict[str, object], words: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=words):
        parse(name, args)


def test_every_name_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in FAULTS if f"`{name}" not in text] == []


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in {"silent", "close", "slow", "late", "held", "reset"}])
@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_every_fault_of_the_frame_changes_the_frame_where_the_framing_has_what_it_changes(name: str, framing: str) -> None:
    answer = Answer("tcp" if framing == "tcp" else "rtu", ASKED, RIGHT, Frame(6, 3, bytes((3, 4, 0, 9, 0, 9))))
    sending = parse(name).sent(answer)
    assert sending is not None
    same_there = {"wrong_transaction": "rtu", "bad_crc": "tcp"}.get(name) == framing
    of_registers = name in {"exception", "swapped_words", "nan", "infinite", "stuck", "ones", "counter_wrap"}
    assert (sending.content == answer.bytes_of(answer.right)) is (same_there or of_registers)


def test_two_frames_are_the_old_answer_and_the_right_one() -> None:
    old = Frame(6, 3, bytes((3, 2, 0, 9)))
    sending = TwoFrames().sent(Answer("tcp", ASKED, RIGHT, old))
    assert sending.content == mbap(6, 3, old.pdu) + mbap(7, 3, RIGHT)


def test_a_duplicated_unit_answers_with_other_values_in_sound_frames() -> None:
    sending = DuplicateUnit(other="before").sent(Answer("rtu", ASKED, RIGHT))
    first, second = sending.content[: len(sending.content) // 2], sending.content[len(sending.content) // 2 :]
    assert crc16(first[:-2]) == int.from_bytes(first[-2:], "little")
    assert second == rtu(3, RIGHT)
    assert first[3:-2] != second[3:-2]


def test_the_checksum_is_the_one_of_the_standard() -> None:
    assert crc16(bytes((0x02, 0x07))) == 0x1241  # Modbus over Serial Line 1.02, appendix B
    assert rtu(1, struct.pack(">BHH", 3, 0, 10)).hex() == "01030000000ac5cd"  # a frame known from many manuals


@given(
    st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 255), st.binary(min_size=1, max_size=253)), max_size=5), st.data()
)
def test_frames_come_whole_out_of_a_stream_however_it_is_cut(told: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(mbap(*frame) for frame in told)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = TcpReader()
    found = [frame for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for frame in reader.feed(stream[a:b])]
    assert found == [Frame(*frame) for frame in told]


@given(
    st.lists(st.tuples(st.integers(1, 247), st.integers(1, 6), st.integers(0, 65535), st.integers(0, 65535)), max_size=5),
    st.data(),
)
def test_rtu_requests_come_whole_out_of_a_stream_however_it_is_cut(
    told: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    frames = [Frame(0, unit, struct.pack(">BHH", function, a, b)) for unit, function, a, b in told]
    stream = b"".join(rtu(frame.unit, frame.pdu) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = RtuReader()
    found = [frame for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for frame in reader.feed(stream[a:b])]
    assert found == frames


@given(st.binary(max_size=600))
def test_rubbish_ends_a_stream_or_waits_and_never_crashes(rubbish: bytes) -> None:
    reader, serial = TcpReader(), RtuReader()
    try:
        for frame in reader.feed(rubbish):
            assert 1 <= len(frame.pdu) <= 253
    except BrokenStream:
        pass
    for frame in (*serial.feed(rubbish), *serial.silence()):
        assert rtu(frame.unit, frame.pdu) in rubbish

"""Text messages: counted as networks count them, cut at words, and never without the incident's id and the address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.dispatch import telegram, texts
from iotcore.dispatch.telegram import length
from iotcore.dispatch.texts import Language
from tests.support.fire import full_notice


@pytest.mark.parametrize(
    ("text", "alphabet", "units", "segments"),
    [
        ("", "gsm7", 0, 1),
        ("a" * 160, "gsm7", 160, 1),
        ("a" * 161, "gsm7", 161, 2),
        ("a" * 306, "gsm7", 306, 2),
        ("a" * 307, "gsm7", 307, 3),
        ("€" * 80, "gsm7", 160, 1),
        ("a" + "€" * 80, "gsm7", 161, 2),
        ("a" * 152 + "€" + "a" * 152, "gsm7", 306, 3),  # the pair does not fit into the last septet of the first segment
        ("à" * 160, "gsm7", 160, 1),
        ("ạ" * 70, "ucs2", 70, 1),
        ("ạ" * 71, "ucs2", 71, 2),
        ("ạ" * 134, "ucs2", 134, 2),
        ("ạ" * 135, "ucs2", 135, 3),
        ("🔥" * 35, "ucs2", 70, 1),
        ("ạ" * 66 + "🔥" + "ạ" * 66, "ucs2", 134, 3),
        ("`", "ucs2", 1, 1),
    ],
)
def test_a_text_takes_as_many_segments_as_networks_count(text: str, alphabet: str, units: int, segments: int) -> None:
    assert length(text) == telegram.Length(alphabet, units, segments)


def test_vietnamese_loses_its_marks_and_nothing_else() -> None:
    assert telegram.without_marks("Đường Lê Hoàn – “Chợ Vườn Hoa”, tầng 2") == 'Duong Le Hoan - "Cho Vuon Hoa", tang 2'
    assert telegram.without_marks("\u0110\u0301ỡ`\x00\n日本") == "Do'"


def test_the_messages_read_as_people_write_them() -> None:
    told = full_notice()
    assert texts.sms(told, "vi", marks=True, segments=4) == (
        "BÁO CHÁY: khói. Chợ Vườn Hoa. Đường Lê Hoàn, Thanh Hóa. Tầng 1, Gian hàng, Trần, trên cửa phòng 101. "
        "09:00 22/11. Khói, quầy 12. F20261122-020000-3FA9C1"
    )
    plain = texts.sms(told, "vi", marks=False, segments=1)
    assert plain == (
        "BAO CHAY: khoi. Cho Vuon Hoa. Duong Le Hoan, Thanh Hoa. Tang 1, Gian hang, Tran, tren cua phong 101. "
        "09:00 22/11. Khoi, quay 12. F20261122-020000-3FA9C1"
    )
    assert length(plain) == telegram.Length("gsm7", len(plain), 1)
    assert texts.sms(told, "vi", marks=True, segments=2) == (
        "BÁO CHÁY: khói. Chợ Vườn Hoa. Đường Lê Hoàn, Thanh Hóa. Tầng 1, Gian hàng, Trần, trên cửa phòng 101. "
        "09:00. F20261122-020000-3FA9C1"
    )
    assert texts.sms(full_notice(event="restore", delayed=True), "en", marks=False, segments=1).startswith(
        "FIRE ALARM RESET: smoke (delayed). Cho Vuon Hoa."
    )
    assert texts.spoken(full_notice(purpose="exercise"), "vi") == (
        "DIỄN TẬP: BÁO CHÁY: khói. Chợ Vườn Hoa. Đường Lê Hoàn, Thanh Hóa. Tầng 1, Gian hàng, Trần, trên cửa phòng 101. "
        "Nhấn phím 1 nếu có cháy thật. Nhấn phím 2 nếu báo nhầm."
    )


def test_where_there_is_no_address_the_name_of_the_building_stays() -> None:
    told = full_notice(address="", premises_name="Kho " * 60)
    assert "Kho Kho" in texts.sms(told, "vi", marks=False, segments=1)
    assert length(texts.sms(told, "vi", marks=False, segments=1)).segments > 1


names = st.text(max_size=300)


@given(
    name=names,
    address=names,
    zone=names,
    title=names,
    language=st.sampled_from(["vi", "en"]),
    marks=st.booleans(),
    most=st.integers(1, 6),
)
def test_whatever_a_building_is_called_id_and_address_are_whole_and_the_length_is_kept(
    name: str, address: str, zone: str, title: str, language: Language, *, marks: bool, most: int
) -> None:
    told = full_notice(premises_name=name, address=address, zone_name=zone, title=title)
    text = texts.sms(told, language, marks=marks, segments=most)
    whole = (telegram.clean if marks else telegram.without_marks)(address)
    bare = full_notice(premises_name="", address=address or name, zone_name="", title="", location="", floor="")
    assert text.endswith(told.incident)
    assert whole.rstrip(".") in text
    assert length(text).segments <= max(most, length(texts.sms(bare, language, marks=marks, segments=1)).segments)
    assert not any(ord(one) < 0x20 for one in text)
    if not marks:
        assert length(text).alphabet == "gsm7"

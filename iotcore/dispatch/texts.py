"""What people are told of a fire, in Vietnamese and English: text messages, calls, and lines for mail and CAP. Pure.

Times are Vietnam's. What the registry does not know is left out.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

from iotcore.dispatch.telegram import clean, fitted, without_marks
from iotcore.journal.facts import Person
from iotcore.journal.records import Notice

Language = Literal["vi", "en"]
ZONE = timezone(timedelta(hours=7))  # Asia/Ho_Chi_Minh since 1975, without the history before it
LATEST_MS = 32_503_680_000_000.0  # the year 3000: what lies beyond is no time of a fire
MS_PER_S = 1000.0

HAZARDS: dict[Language, dict[str, str]] = {
    "vi": {
        "smoke": "khói",
        "heat": "nhiệt độ cao",
        "co": "khí CO",
        "manual": "nút nhấn báo cháy",
        "flame": "ngọn lửa",
        "waterflow": "đầu phun chữa cháy đã mở",
        "fire": "cháy",
    },
    "en": {
        "smoke": "smoke",
        "heat": "heat",
        "co": "carbon monoxide",
        "manual": "call point",
        "flame": "flame",
        "waterflow": "sprinkler flow",
        "fire": "fire",
    },
}
WORDS: dict[Language, dict[str, str]] = {
    "vi": {
        "alarm": "BÁO CHÁY",
        "update": "CẬP NHẬT BÁO CHÁY",
        "restore": "KẾT THÚC BÁO CHÁY",
        "exercise": "DIỄN TẬP",
        "test": "THỬ NGHIỆM",
        "escalated": "chưa ai tiếp nhận",
        "delayed": "tin đến trễ",
        "unconfirmed": "chưa xác nhận",
        "incident": "Mã vụ",
        "place": "Nơi cháy",
        "address": "Địa chỉ",
        "zone": "Khu vực",
        "detector": "Đầu báo",
        "value": "Giá trị",
        "time": "Lúc",
        "points": "Các đầu báo khác",
        "contacts": "Liên hệ",
        "keys": "giữ chìa khóa",
        "hydrants": "Nguồn nước",
        "risk": "Mức nguy hiểm",
        "signals": "Đèn giao thông gần nhất",
        "air": "Không khí gần đó",
        "account": "Số thuê bao",
        "coordinates": "Tọa độ",
        "low": "thấp",
        "medium": "trung bình",
        "high": "cao",
        "very_high": "rất cao",
        "owner": "Chủ cơ sở",
        "confirmed": "xác nhận có cháy",
        "denied": "báo là không có cháy",
        "press": "Nhấn phím 1 nếu có cháy thật. Nhấn phím 2 nếu báo nhầm",
    },
    "en": {
        "alarm": "FIRE ALARM",
        "update": "FIRE ALARM UPDATE",
        "restore": "FIRE ALARM RESET",
        "exercise": "EXERCISE",
        "test": "TEST",
        "escalated": "nobody has acknowledged it",
        "delayed": "delayed",
        "unconfirmed": "unconfirmed",
        "incident": "Incident",
        "place": "Premises",
        "address": "Address",
        "zone": "Zone",
        "detector": "Detector",
        "value": "Value",
        "time": "At",
        "points": "Other detectors",
        "contacts": "Contacts",
        "keys": "has the keys",
        "hydrants": "Water",
        "risk": "Risk",
        "signals": "Nearest traffic signals",
        "air": "Air nearby",
        "account": "Account",
        "coordinates": "Coordinates",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "very_high": "very high",
        "owner": "Owner",
        "confirmed": "confirms a fire",
        "denied": "says that there is no fire",
        "press": "Press 1 if there is a fire. Press 2 if it is a false alarm",
    },
}


def headline(notice: Notice, language: Language) -> str:
    """`BÁO CHÁY: khói` with what marks it: an exercise, late, unconfirmed."""
    words = WORDS[language]
    holding = (("escalated", notice.escalated > 0), ("delayed", notice.delayed), ("unconfirmed", notice.unconfirmed))
    marks = [words[mark] for mark, holds in holding if holds]
    event = words.get(notice.event, words["alarm"])
    before = "" if notice.purpose in {"fire", notice.event} else f"{words[notice.purpose]}: "
    return clean(f"{before}{event}: {hazard(notice, language)}" + (f" ({', '.join(marks)})" if marks else ""))


def hazard(notice: Notice, language: Language) -> str:
    """What it is, in words; what the rules call it where there are none."""
    return HAZARDS[language].get(notice.hazard, notice.hazard)


def clock(at_ms: float) -> str:
    """`09:00:00 22/11/2026`."""
    return f"{moment(at_ms):%H:%M:%S %d/%m/%Y}"


def moment(at_ms: float) -> datetime:
    """A time in Vietnam; what is no time of a fire becomes the nearest that is."""
    near_ms = min(at_ms, LATEST_MS) if at_ms > 0.0 else 0.0
    return datetime.fromtimestamp(near_ms / MS_PER_S, UTC).astimezone(ZONE)


def where(notice: Notice) -> str:
    """Floor, zone, and where the detector hangs."""
    return ", ".join(text for one in (notice.floor, notice.zone_name, notice.location) if (text := clean(one)))


def sms(notice: Notice, language: Language, *, marks: bool, segments: int) -> str:
    """A text message of at most so many segments; the incident's id and the address are never cut off."""
    shape = clean if marks else without_marks
    address = shape(notice.address)
    parts = [
        (shape(headline(notice, language)), 0),
        (shape(notice.premises_name), 1 if address else 0),
        (address, 0),
        (shape(where(notice)), 2),
        (f"{moment(notice.occurred_ms):%H:%M %d/%m}", 3),
        (shape(notice.title), 4),
        (shape(notice.incident), 0),
    ]
    return fitted(parts, segments)


def spoken(notice: Notice, language: Language) -> str:
    """What a voice says on the telephone."""
    words = WORDS[language]
    said = [headline(notice, language), clean(notice.premises_name), clean(notice.address), where(notice), words["press"]]
    return ". ".join(one for one in said if one) + "."


def lines(notice: Notice, language: Language) -> list[tuple[str, str]]:
    """Everything that is known, as label and text, in the order in which a crew asks."""
    words = WORDS[language]
    every = [
        ("incident", notice.incident),
        ("time", clock(notice.occurred_ms)),
        ("place", notice.premises_name),
        ("address", notice.address),
        ("zone", where(notice)),
        ("detector", " ".join((notice.title, f"({notice.device}/{notice.point})"))),
        ("value", measured(notice)),
        ("points", "; ".join(notice.points[1:])),
        ("owner", words.get(notice.owner_said, notice.owner_said)),
        ("contacts", "; ".join(person(one, language) for one in notice.people)),
        ("hydrants", notice.hydrants),
        ("risk", words.get(notice.risk_class, notice.risk_class)),
        ("signals", "; ".join(f"{one.title or one.device} ({one.metres} m)" for one in notice.signals)),
        ("air", "; ".join(f"{one.device} {one.point} {one.value:g} {one.unit}".strip() for one in notice.air)),
        ("account", notice.account),
        ("coordinates", coordinates(notice)),
    ]
    return [(words[name], text) for name, raw in every if (text := clean(raw))]


def person(one: Person, language: Language) -> str:
    """Name, what they are, telephone, keys."""
    keys = WORDS[language]["keys"] if one.keys else ""
    return ", ".join(part for part in (one.name, one.role, one.phone, keys) if part)


def measured(notice: Notice) -> str:
    """The value that the rule saw, with its unit; "" for a plain yes."""
    if notice.value is None or isinstance(notice.value, bool):
        return ""
    value = f"{notice.value:g}" if isinstance(notice.value, float) else str(notice.value)
    return f"{value} {notice.unit}".strip()


def coordinates(notice: Notice) -> str:
    """Latitude and longitude, degrees; "" when unknown."""
    if (notice.latitude, notice.longitude) == (0.0, 0.0):
        return ""
    return f"{notice.latitude:.6f}, {notice.longitude:.6f}"

"""What people call the columns, the sheets and the values, in Vietnamese and English.

Compared without case, accents and punctuation: "Địa chỉ", "dia chi" and "DIA_CHI" are one name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache

from iotcore.registry.kinds import KINDS

REASON = "rejected_because"  # the column that a file of refused rows has more
SHEETS: dict[str, tuple[str, ...]] = {
    "areas": ("area", "khu vực", "địa bàn"),
    "premises": ("building", "buildings", "cơ sở", "toà nhà", "công trình"),
    "contacts": ("contact", "liên hệ", "người liên hệ", "danh bạ"),
    "zones": ("zone", "khu", "vùng", "vùng báo cháy"),
    "devices": ("device", "thiết bị"),
}
EVERYWHERE: dict[str, tuple[str, ...]] = {
    "id": ("mã", "mã số", "code"),
    "name": ("tên",),
    "latitude": ("lat", "vĩ độ"),
    "longitude": ("lon", "lng", "long", "kinh độ"),
    "premises": ("building", "cơ sở", "toà nhà", "mã cơ sở"),
}
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "areas": {
        "kind": ("type", "loại", "cấp"),
        "parent": ("lies in", "thuộc", "trực thuộc"),
    },
    "premises": {
        "address": ("địa chỉ",),
        "account": ("account number", "số tài khoản", "tài khoản", "mã thuê bao"),
        "key_site": ("trọng điểm", "cơ sở trọng điểm"),
        "area": ("ward", "phường", "xã", "phường xã", "khu vực", "địa bàn"),
        "risk_class": ("risk", "mức nguy hiểm", "hạng nguy hiểm", "nguy hiểm cháy"),
        "hydrants": ("hydrant", "trụ nước", "trụ nước chữa cháy", "nguồn nước"),
    },
    "contacts": {
        "role": ("chức vụ", "vai trò"),
        "phone": ("telephone", "tel", "điện thoại", "số điện thoại"),
        "email": ("e-mail", "mail", "thư điện tử"),
        "key_holder": ("giữ chìa khoá", "người giữ chìa khoá"),
    },
    "zones": {
        "number": ("no", "số", "số khu"),
        "floor": ("tầng",),
    },
    "devices": {
        "title": ("name", "tên", "tên thiết bị"),
        "model": ("kiểu", "mẫu", "mẫu thiết bị"),
        "parent": ("gateway", "cổng", "bộ tập trung"),
        "zone": ("khu", "vùng", "vùng báo cháy"),
        "connection": ("kết nối",),
        "serial": ("serial number", "s/n", "sn", "số sê-ri", "số máy"),
        "location": ("vị trí", "vị trí lắp đặt"),
        "labels": ("label", "tags", "nhãn"),
    },
}
VALUES: dict[str, str] = {
    "tỉnh": "province",
    "thành phố": "city",
    "phường": "ward",
    "xã": "ward",
    "thấp": "low",
    "trung bình": "medium",
    "cao": "high",
    "rất cao": "very_high",
}
YES = frozenset({"true", "yes", "y", "1", "x", "co", "dung"})
NO = frozenset({"false", "no", "n", "0", "khong", "sai"})


@cache
def fold(text: str) -> str:
    """A name as it is compared."""
    plain = unicodedata.normalize("NFD", text.casefold().replace("đ", "d"))
    kept = "".join(sign if sign.isalnum() else " " for sign in plain if not unicodedata.combining(sign))
    return " ".join(kept.split())


@cache
def columns(kind: str) -> Mapping[str, str]:
    """Folded name → field, of one kind."""
    found = {fold(name): name for name in KINDS[kind].fields}
    for field in KINDS[kind].fields:
        for word in (*COLUMNS[kind].get(field, ()), *EVERYWHERE.get(field, ())):
            found.setdefault(fold(word), field)
    return found


@cache
def kinds() -> Mapping[str, str]:
    """Folded name of a sheet → kind."""
    return {fold(word): kind for kind, words in SHEETS.items() for word in (kind, *words)}


def kind_of(name: str) -> str:
    """The kind that a sheet is called after, or a file such as `devices-2026.rejected.csv`; "" for none or for several."""
    rest, found = f" {fold(name)} ", set()
    for word in sorted(kinds(), key=len, reverse=True):  # khu vực before khu
        if f" {word} " in rest:
            found.add(kinds()[word])
            rest = rest.replace(f" {word} ", " ")
    return found.pop() if len(found) == 1 else ""


def literal(text: str, allowed: tuple[str, ...]) -> str | None:
    """One of the allowed words, as it is or in Vietnamese; None when it is none of them."""
    folded = fold(text)
    by_fold = {fold(word): word for word in allowed} | {fold(vi): en for vi, en in VALUES.items() if en in allowed}
    return text if text in allowed else by_fold.get(folded)

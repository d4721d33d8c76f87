"""What we tell an alarm receiving centre (SIA-DCS): event codes and extended data of a notice. Pure.

Text is ASCII on the wire. The standard allows Windows-1252 in some fields, which has no ơ, ư or ạ, and receivers exist that drop
every other byte before they check the CRC; so Vietnamese is sent without its marks, as in a telegram: "Chợ Vườn Hoa" becomes
"Cho Vuon Hoa". The webhook carries the full names.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping
from typing import Literal, TypeVar

from iotcore.dispatch.sia_frame import timestamp
from iotcore.journal.records import Notice

log = logging.getLogger(__name__)

# Alarm and restore codes (SIA DC-03). A call point, a flame and the carbon monoxide of a fire are fires: FA, told apart in the
# text. GA would send a gas crew; MA and PA are medical and panic.
CODES = {
    "smoke": ("FA", "FH"),
    "heat": ("KA", "KH"),
    "co": ("FA", "FH"),
    "manual": ("FA", "FH"),
    "flame": ("FA", "FH"),
    "waterflow": ("SA", "SH"),
    "fire": ("FA", "FH"),
}
UNKNOWN_HAZARD = ("FA", "FH")  # fails open: whatever the rules call it, somebody goes and looks
SUPERVISORY = ("FS", "FV")
TEST, PATH_TEST = ("FX", "FK"), ("RX", "RX")  # of a detector, of a path alone
OUTAGES = {"disablement": ("FB", "FU"), "walk": ("FI", "FK")}  # fire bypass and unbypass, fire test begin and end (SIA DC-03)
# Troubles, by how their reason begins: the link of a detector or of a path, a battery, a cover, and else the fire loop.
TROUBLES = {
    "path": ("YC", "YK"),
    "undelivered": ("YC", "YK"),
    "battery": ("YT", "YR"),
    "bad:battery": ("YT", "YR"),
    "tamper": ("TA", "TR"),
}
ANY_TROUBLE = ("FT", "FJ")
OUTAGE_WORDS = {"disablement": ("DISABLED", "ENABLED"), "walk": ("WALK TEST", "WALK TEST OVER")}
NO_ACCOUNT = "0000"

Amount = Literal["all", "text", "none"]  # of extended data
Code = TypeVar("Code")

MAX_ONE_TEXT = 250  # characters of a text that is all there is; the standard allows 256
MAX_TEXT = 110  # characters of alarm text and of site; the standard allows 256, but receivers exist that read
MAX_LOCATION = 60  # 1,000 bytes at a time, and encryption doubles every byte
POLE, DATE_LINE = 90.0, 180.0  # degrees
_ACCOUNT = re.compile(r"[0-9A-F]{3,16}")
_FORBIDDEN = re.compile(r'[^\x20-\x7E]|[\[\]|"]')  # brackets, bars and quotes are the frame's own


def plain(text: str, limit: int) -> str:
    """Text for the wire: Vietnamese without marks, no frame characters, at most `limit` characters."""
    bare = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    bare = "".join(letter for letter in bare if not unicodedata.combining(letter))
    return re.sub(r"\s+", " ", _FORBIDDEN.sub(" ", bare)).strip()[:limit].rstrip()


def account(notice: Notice) -> str:
    """The premises' account, 3–16 hex digits. A wrong one keeps no fire from going out: it goes as 0000, the text says where."""
    name = notice.account.upper()
    if _ACCOUNT.fullmatch(name):
        return name
    log.error("account %r of premises %s is not 3-16 hex digits; its alarms go out under %s", name, notice.premises, NO_ACCOUNT)
    return NO_ACCOUNT


def code(notice: Notice) -> str:
    """The SIA event code of a notice."""
    begins, ends = _pair(notice)
    return ends if notice.event == "restore" else begins


def is_test(notice: Notice) -> bool:
    """Whether it is no fire but a drill: an exercise, a test, a trial of a path."""
    return notice.event == "test" or notice.purpose != "fire"


def _pair(notice: Notice) -> tuple[str, str]:
    if notice.outage:
        return OUTAGES[notice.outage]
    if is_test(notice):
        return TEST if notice.device else PATH_TEST
    if notice.severity == "trouble":
        return chosen(TROUBLES, notice.reason, ANY_TROUBLE)
    if notice.severity == "supervisory":
        return SUPERVISORY
    return CODES.get(notice.hazard, UNKNOWN_HAZARD)


def chosen(of_reason: Mapping[str, Code], reason: str, other: Code) -> Code:
    """What a trouble is called, by how its reason begins."""
    return next((code for begin, code in of_reason.items() if reason.startswith(begin)), other)


def content(notice: Notice, more: Amount = "all") -> bytes:
    """What stands behind the first `[`: `#acct|Nri<zone>/<code><zone>]` and extended data, without the timestamp."""
    zone = max(notice.zone_number, 0)
    event = f"#{account(notice)}|Nri{zone:02d}/{code(notice)}{zone:03d}]"
    return (event + extended(notice, more)).encode("ascii")


def extended(notice: Notice, more: Amount) -> str:
    """The extended data of a notice, each block in brackets; of the `text` alone one block that says where, too.

    H time of occurrence (UTC), I text, L floor and zone, S name and address of the premises, X and Y (degrees, minutes).
    """
    location = _joined(notice.floor, notice.zone_name, notice.location, limit=MAX_LOCATION)
    site = _joined(notice.premises_name, notice.address, limit=MAX_TEXT)
    if more == "none":
        return ""
    if more == "text":
        return f"[I{plain('; '.join(part for part in (_text(notice), location, site) if part), MAX_ONE_TEXT)}]"
    blocks = {
        "H": timestamp(notice.occurred_ms / 1000.0).decode("ascii"),
        "I": plain(_text(notice), MAX_TEXT),
        "L": location,
        "S": site,
    }
    if _known(notice.latitude, notice.longitude):
        blocks |= {"X": _degrees(notice.longitude, "EW", 3), "Y": _degrees(notice.latitude, "NS", 2)}
    return "".join(f"[{name}{text}]" for name, text in blocks.items() if text)


def _text(notice: Notice) -> str:
    """`F20261122-020000-3FA9C1 FIRE smoke 0.41 dB/m sd-0001`: the incident first, for it is what makes repeats harmless."""
    value = f"{notice.value:g} {notice.unit}" if isinstance(notice.value, float) else ""
    marks = [mark for mark, holds in _marks(notice) if holds]
    return " ".join((notice.incident, _what(notice), *marks, notice.hazard, value, notice.device))


def _what(notice: Notice) -> str:
    """The words that an operator reads first; no drill says FIRE."""
    if notice.outage:
        return OUTAGE_WORDS[notice.outage][notice.event == "restore"]
    drill = "EXERCISE" if notice.purpose == "exercise" else "TEST" if is_test(notice) else ""
    if notice.event == "restore":
        return f"RESTORE {drill}".rstrip()
    if drill or notice.severity != "alarm":
        return drill or notice.severity.upper()
    return "FIRE ALSO" if notice.event == "update" else "FIRE"


def _marks(notice: Notice) -> tuple[tuple[str, bool], ...]:
    return (("DELAYED", notice.delayed), ("UNCONFIRMED", notice.unconfirmed), ("NOT ACKNOWLEDGED", notice.escalated > 0))


def _joined(*parts: str, limit: int) -> str:
    return ", ".join(bare for part in parts if (bare := plain(part, limit)))[:limit].rstrip()


def _known(latitude: float, longitude: float) -> bool:
    """Whether coordinates are on Earth and not the 0, 0 of a registry that was told none."""
    return abs(latitude) <= POLE and abs(longitude) <= DATE_LINE and (latitude, longitude) != (0.0, 0.0)


def _degrees(value: float, signs: str, width: int) -> str:
    """DDD{E|W}MM.mmm or DD{N|S}MM.mmm, as in `[X105E46.560][Y19N48.420]`."""
    thousandths = round(abs(value) * 60_000)
    return f"{thousandths // 60_000:0{width}d}{signs[value < 0]}{thousandths % 60_000 / 1000:06.3f}"

"""How long a text message is on the air, and text that costs less there. Pure (3GPP TS 23.038).

One segment has 160 characters of the default alphabet or 70 of UCS-2; a part of a longer message 153 or 67, for its header takes
six bytes. One character outside the default alphabet (ệ, ư, …) makes the whole message UCS-2.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

GSM7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_ESCAPED = frozenset("^{}\\[~]|€\f")  # two septets each
SINGLE = {"gsm7": 160, "ucs2": 70}
PART = {"gsm7": 153, "ucs2": 67}
_PLAINER = str.maketrans({"`": "'", "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\t": " "})


@dataclass(frozen=True, slots=True)
class Length:
    """`units` are septets or 16-bit characters."""

    alphabet: str  # gsm7 or ucs2
    units: int
    segments: int


def length(text: str) -> Length:
    """What a text takes on the air. A character that takes two units is never split between two segments."""
    alphabet = "gsm7" if all(one in GSM7 or one in GSM7_ESCAPED for one in text) else "ucs2"
    weights = [_weight(one, alphabet) for one in text]
    units = sum(weights)
    if units <= SINGLE[alphabet]:
        return Length(alphabet, units, 1)
    segments, free = 1, PART[alphabet]
    for weight in weights:
        if weight > free:
            segments, free = segments + 1, PART[alphabet]
        free -= weight
    return Length(alphabet, units, segments)


def without_marks(text: str) -> str:
    """Vietnamese as in a telegram, in the default alphabet: "Chợ Vườn Hoa" becomes "Cho Vuon Hoa"."""
    bare = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D").translate(_PLAINER))
    bare = "".join(one for one in bare if not unicodedata.combining(one))
    return clean("".join(one if one in GSM7 or one in GSM7_ESCAPED else " " for one in bare))


def clean(text: str) -> str:
    """One line, without what a telephone cannot show: control characters, halves of characters."""
    shown = "".join(one if unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Co", "Cn"} else " " for one in text)
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", shown)).strip()


def _weight(one: str, alphabet: str) -> int:
    if alphabet == "gsm7":
        return 2 if one in GSM7_ESCAPED else 1
    return 2 if ord(one) > 0xFFFF else 1  # noqa: PLR2004 - the end of the basic plane: UTF-16 needs two


def fitted(parts: list[tuple[str, int]], segments: int) -> str:
    """Join parts, in their order, into at most so many segments. Rank 0 always stands whole; others by rank, cut at a word.

    What rank 0 alone does not fit into takes the segments that it needs: an address is never cut off.
    """
    kept = {at: text for at, (text, rank) in enumerate(parts) if rank == 0 and text}
    for at, (text, rank) in sorted(enumerate(parts), key=lambda one: one[1][1]):
        if not rank or not text:
            continue
        words = text.split(" ")
        while words and length(_joined({**kept, at: " ".join(words)})).segments > segments:
            words.pop()
        if words:
            kept[at] = " ".join(words).rstrip(",;-")
    return _joined(kept)


def _joined(kept: dict[int, str]) -> str:
    return ". ".join(kept[at].rstrip(".") for at in sorted(kept))

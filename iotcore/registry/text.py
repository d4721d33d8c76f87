"""Text as it is kept: composed, without space at its ends, without signs that nobody sees. Pure."""

from __future__ import annotations

import unicodedata
from typing import Any


def tidy(value: Any) -> Any:
    """A text as it is compared and shown: composed (NFC), without space at its ends; the same from every kind of file."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value).strip()
    return {key: tidy(one) for key, one in value.items()} if isinstance(value, dict) else value


def unseen(value: Any) -> str:
    """What is wrong with a text, or a table of texts, that holds control characters; "" when nothing is."""
    if isinstance(value, dict):
        return next((reason for one in value.values() if (reason := unseen(one))), "")
    if not isinstance(value, str) or value.isprintable():
        return ""
    found = next((sign for sign in value if unicodedata.category(sign) == "Cc" and sign not in "\t\n\r"), "")
    return f"holds the invisible character U+{ord(found):04X}; remove it" if found else ""

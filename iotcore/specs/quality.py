"""The quality words of the wire: `good`, `uncertain[:why]`, `bad[:why]`."""

from __future__ import annotations

from iotcore.reading import Quality

LONGEST_WHY = 64  # characters; a reason is a name, not a text


def parse_quality(words: str) -> tuple[Quality, str] | None:
    """Quality and reason of `words`; None when they are not of the contract."""
    name, _, why = words.partition(":")
    if name == "good":
        return None if why or words != "good" else (Quality.GOOD, "")
    if name == "uncertain":
        return Quality.UNCERTAIN, why[:LONGEST_WHY]
    if name == "bad":
        return Quality.BAD, why[:LONGEST_WHY]
    return None

"""Raw types of Modbus registers: how many words, which numbers they hold, how their bytes lie.

A 32-bit number is the bytes A B C D, A the most significant. Orders say how they come over the wire, two in each register:
ABCD plain; BADC bytes swapped in each word; CDAB low word first; DCBA both. A 64-bit number follows the same two swaps, a
16-bit one has only the first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from iotcore.specs.model import ByteOrder, RawType

WORDS: dict[RawType, int] = {"bit": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "float64": 4}
LIMITS: dict[RawType, tuple[float, float]] = {
    "bit": (0, 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "float32": (-3.4028234663852886e38, 3.4028234663852886e38),  # IEEE 754 binary32
    "float64": (-1.7976931348623157e308, 1.7976931348623157e308),  # IEEE 754 binary64
}
FLOATS = frozenset({"float32", "float64"})
_NUMBER: dict[RawType, struct.Struct] = {
    "bit": struct.Struct(">H"),
    "int16": struct.Struct(">h"),
    "uint16": struct.Struct(">H"),
    "int32": struct.Struct(">i"),
    "uint32": struct.Struct(">I"),
    "float32": struct.Struct(">f"),
    "float64": struct.Struct(">d"),
}
_WORDS: dict[int, dict[bool, struct.Struct]] = {
    n: {swapped: struct.Struct(f"{'<' if swapped else '>'}{n}H") for swapped in (False, True)} for n in (1, 2, 4)
}


def number(kind: RawType, words: Sequence[int], order: ByteOrder) -> float:
    """The raw number that `words` (as many as WORDS says, each 0–65535) hold; a float may be NaN or infinite."""
    if order in ("CDAB", "DCBA"):
        words = words[::-1]
    swapped = order in ("BADC", "DCBA")
    value: float = _NUMBER[kind].unpack(_WORDS[len(words)][swapped].pack(*words))[0]
    return value


def words(kind: RawType, raw: float, order: ByteOrder) -> list[int]:
    """The registers that hold `raw`, the inverse of `number`; an integer type takes an int.

    Raises:
        ValueError: when `raw` does not fit the type.
    """
    try:
        content = _NUMBER[kind].pack(raw)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{raw} does not fit {kind}") from error
    found = list(_WORDS[WORDS[kind]][order in ("BADC", "DCBA")].unpack(content))
    return found[::-1] if order in ("CDAB", "DCBA") else found

"""Raw types of Modbus registers: how many words, which numbers they hold, how their bytes lie.

A 32-bit number is the bytes A B C D, A the most significant. Orders say how they come over the wire, two in each register:
ABCD plain; BADC bytes swapped in each word; CDAB low word first; DCBA both. A 64-bit number follows the same two swaps, a
16-bit one and a text have only the first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from iotcore.specs.model import ByteOrder, ModbusWire, RawType

WORDS: dict[RawType, int] = {
    "bit": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "int64": 4, "uint64": 4, "float32": 2, "float64": 4,
}  # fmt: skip
LIMITS: dict[str, tuple[float, float]] = {
    "bit": (0, 1),
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "float32": (-3.4028234663852886e38, 3.4028234663852886e38),  # IEEE 754 binary32
    "float64": (-1.7976931348623157e308, 1.7976931348623157e308),  # IEEE 754 binary64
}
FLOATS = frozenset({"float32", "float64"})
BIT_TABLES = frozenset({"coil", "discrete"})
_LETTERS = dict(zip(WORDS, "HhHiIqQfd", strict=True))  # of struct, in the same order
_NUMBER: dict[RawType, struct.Struct] = {kind: struct.Struct(f">{letter}") for kind, letter in _LETTERS.items()}
_WORDS: dict[int, dict[bool, struct.Struct]] = {
    n: {swapped: struct.Struct(f"{'<' if swapped else '>'}{n}H") for swapped in (False, True)} for n in (1, 2, 4)
}
_BYTES_SWAPPED = ("BADC", "DCBA")
_WORDS_SWAPPED = ("CDAB", "DCBA")


def width(wire: ModbusWire) -> int:
    """How many words (or bits) a point takes."""
    return wire.length or 1 if wire.type == "string" else WORDS[wire.type]


def number(kind: RawType, words: Sequence[int], order: ByteOrder) -> float:
    """The raw number that `words` (as many as WORDS says, each 0–65535) hold; a float may be NaN or infinite."""
    if order in _WORDS_SWAPPED:
        words = words[::-1]
    value: float = _NUMBER[kind].unpack(_WORDS[len(words)][order in _BYTES_SWAPPED].pack(*words))[0]
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
    found = list(_WORDS[WORDS[kind]][order in _BYTES_SWAPPED].unpack(content))
    return found[::-1] if order in _WORDS_SWAPPED else found


def text(words: Sequence[int], order: ByteOrder) -> str | None:
    """The text in `words`, two characters each, without what pads it; None when it is no printable UTF-8."""
    letters = b"".join(word.to_bytes(2, "little" if order in _BYTES_SWAPPED else "big") for word in words)
    try:
        found = letters.rstrip(b"\0 \xff").lstrip(b" ").decode("utf-8")
    except UnicodeDecodeError:
        return None
    return found if found.isprintable() else None


def text_words(content: str, length: int, order: ByteOrder) -> list[int]:
    """The registers that hold a text, padded with NUL; the inverse of `text`.

    Raises:
        ValueError: when it does not fit.
    """
    letters = content.encode()
    if len(letters) > 2 * length:
        raise ValueError(f"{content!r} does not fit {length} registers")
    letters = letters.ljust(2 * length, b"\0")
    byteorder = "little" if order in _BYTES_SWAPPED else "big"
    return [int.from_bytes(letters[i : i + 2], byteorder) for i in range(0, 2 * length, 2)]  # type: ignore[arg-type]


def masked(word: int, mask: int) -> int:
    """The bits of `word` that `mask` names, shifted down so that its lowest one is bit 0."""
    return (word & mask) >> shift(mask)


def shift(mask: int) -> int:
    """How far a field stands above bit 0."""
    return (mask & -mask).bit_length() - 1

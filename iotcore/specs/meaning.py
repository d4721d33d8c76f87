"""From what stands on the wire to what it means: one raw number, word or flag of any protocol becomes a Value.

Pure: what cannot be read is a BAD value with its reason, never an exception and never the last one again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from iotcore.reading import Quality, Value
from iotcore.specs import raw
from iotcore.specs.model import Point, QualityWire
from iotcore.specs.quality import parse_quality

DIGITS = 15  # decimal digits that a binary64 keeps (IEEE 754): 231 × 0.1 is 23.1, not 23.100000000000001
UNKNOWN_STATE = (Quality.BAD, "unknown_state")
GOOD = (Quality.GOOD, "")
_RANK = {Quality.GOOD: 0, Quality.UNCERTAIN: 1, Quality.BAD: 2}
Raw = float | int | bool | str


def value(name: str, point: Point, said: Raw, quality: Quality = Quality.GOOD, why: str = "", *, single: bool = False) -> Value:
    """`said` in the point's own terms. `single`: it stood on the wire as a binary32.

    A number out of range or called bad is kept beside its quality; one that is not finite or a sentinel is None.
    """
    if point.kind == "number":
        return _number(name, point, said, quality, why, single=single)
    if point.kind == "bool":
        if point.true_when:
            return Value(name, word(said) in point.true_when, quality, why)
        return Value(name, bool(said), quality, why) if not isinstance(said, str) else _wrong(name)
    if point.kind == "enum":
        found = point.states.get(word(said)) or point.otherwise
        return Value(name, found, quality, why) if found else Value(name, None, *worse((quality, why), UNKNOWN_STATE))
    if point.kind == "flags":
        return _wrong(name) if isinstance(said, str) else Value(name, flags(point, int(said)), quality, why)
    return Value(name, said, quality, why) if isinstance(said, str) else _wrong(name)


def word(said: Raw) -> str:
    """A raw value as a spec writes it in `states` and `true_when`: 16, true, ON."""
    if isinstance(said, bool):
        return "true" if said else "false"
    if isinstance(said, float) and said.is_integer():
        return str(int(said))
    return str(said)


def flags(point: Point, bits: int) -> str:
    """The words of all set bits, lowest first; a bit that the spec does not name is `bit7`."""
    return " ".join(point.states.get(str(i), f"bit{i}") for i in range(bits.bit_length()) if bits >> i & 1)


def scaled(point: Point, number: float) -> float:
    """A raw number in the point's unit."""
    if point.scale == 1.0 and point.offset == 0.0:
        return float(number)
    return float(f"{number * point.scale + point.offset:.{DIGITS}g}")


def verdict(wires: Sequence[QualityWire], states: Sequence[Raw | None]) -> tuple[Quality, str]:
    """The worst of what the quality wires say; `states` are their raw values in the same order, None where one is missing."""
    worst = GOOD
    for wire, state in zip(wires, states, strict=True):
        words = "bad:not_read" if state is None else wire.states.get(word(state), wire.otherwise)
        worst = worse(worst, parse_quality(words) or UNKNOWN_STATE)
    return worst


def worse(one: tuple[Quality, str], other: tuple[Quality, str]) -> tuple[Quality, str]:
    """The worse of two verdicts; of two that are as bad, the first."""
    return other if _RANK[other[0]] > _RANK[one[0]] else one


def _number(name: str, point: Point, said: Raw, quality: Quality, why: str, *, single: bool) -> Value:
    if isinstance(said, (bool, str)):
        return _wrong(name)
    missing = "no_value" if _is_sentinel(point, said, single=single) else "" if math.isfinite(said) else "not_finite"
    if missing:
        return Value(name, None, Quality.BAD, why if quality is Quality.BAD else missing)
    number = scaled(point, said)
    if point.range is not None and quality is not Quality.BAD and not point.range[0] <= number <= point.range[1]:
        return Value(name, number, Quality.BAD, "out_of_range")
    return Value(name, number, quality, why)


def _is_sentinel(point: Point, said: float, *, single: bool) -> bool:
    if not point.sentinels:
        return False
    if math.isnan(said):
        return any(map(math.isnan, point.sentinels))
    if single:  # -9999.9 on the wire is the nearest binary32, and that is what is compared
        return any(said == raw.number("float32", raw.words("float32", each, "ABCD"), "ABCD") for each in point.sentinels)
    return said in point.sentinels


def _wrong(name: str) -> Value:
    return Value(name, None, Quality.BAD, "wrong_type")

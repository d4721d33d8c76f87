"""Values to registers: the inverse of `decode`, for simulated units and for the proof that decoding is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from iotcore.reading import Scalar
from iotcore.specs import decode, raw
from iotcore.specs.model import ByteOrder, DeviceSpec, ModbusLimits, Point, QualityWire, Table
from iotcore.specs.quality import parse_quality

DEFAULT_LIMITS = ModbusLimits()
WHOLE_WORD = 0xFFFF


class Patch(NamedTuple):
    """What a value changes in one word: the bits of `mask` become those of `content`, unless the word is `told` already."""

    key: tuple[Table, int]
    content: int
    mask: int = WHOLE_WORD
    told: Callable[[int], bool] | None = None  # says of a word whether it says so anyway: then what it holds may stay


def registers(point: Point, value: Scalar | None, order: ByteOrder) -> list[int]:
    """The registers of a Modbus point that tell `value`; None tells "no value": the first sentinel, or NaN for a float.

    A bit or field of a register comes in its place in the word (the caller joins those of one word, as `image` does), a coil as
    0 or 1.

    Raises:
        ValueError: when the value does not fit the point.
    """
    wire = point.modbus
    if wire is None:
        raise ValueError("is no Modbus point")
    order = wire.byte_order or order
    if wire.type == "string":
        return raw.text_words(_text(value), wire.length or 1, order)
    number = raw_value(point, value, exact=wire.type in raw.FLOATS)
    if isinstance(number, str):
        raise ValueError(f"{number!r} stands for no register value")  # noqa: TRY004 - callers promise ValueError
    if wire.type == "bit" or wire.bit is not None:
        return raw.words("bit", int(number) << (wire.bit or 0), order)
    if wire.mask is not None:
        word = int(number) << raw.shift(wire.mask)
        if word & ~wire.mask:
            raise ValueError(f"{value!r} does not fit the bits {wire.mask:#06x}")
        return raw.words("uint16", word, order)
    return raw.words(wire.type, number, order)


def image(
    spec: DeviceSpec, values: Mapping[str, Scalar | None], qualities: Mapping[str, str] | None = None
) -> dict[tuple[Table, int], int]:
    """The words of a whole unit by (table, address), in which each point tells its value.

    `qualities` gives points the words of a state that their spec knows ("bad:not_assigned"); the others say good.

    Raises:
        ValueError: naming the point, when a value or a state does not fit it.
    """
    words: dict[tuple[Table, int], int] = {}
    for patch in unit_patches(spec):
        merge(words, patch)
    for name, value in values.items():
        for patch in patches(spec, name, value, (qualities or {}).get(name, "good")):
            merge(words, patch)
    return words


def patches(spec: DeviceSpec, name: str, value: Scalar | None, quality: str = "good") -> list[Patch]:
    """What one point's value and quality change in a unit's words.

    Raises:
        ValueError: naming the point, when the value or the quality does not fit it.
    """
    order = (spec.modbus or DEFAULT_LIMITS).byte_order
    point = spec.points[name]
    try:
        content = registers(point, value, order)
        state = list(_states(point, quality, order))
    except ValueError as error:
        raise ValueError(f"{spec.model}: {name}: {error}") from error
    wire = point.modbus
    assert wire is not None  # or `registers` had raised
    mask = WHOLE_WORD
    if wire.table not in raw.BIT_TABLES and (bits := bits_of(point)) is not None:
        mask = raw.words("uint16", bits, wire.byte_order or order)[0]
    own = [] if point.true_when and value is False and content == [0] else _own(point, content, mask)
    return [*state, *own] if quality == "good" else [*own, *state]  # a verdict may stand on the value's own bits


def unit_patches(spec: DeviceSpec) -> list[Patch]:
    """The words by which the unit as a whole says that it is well, and which firmware it has."""
    order = (spec.modbus or DEFAULT_LIMITS).byte_order
    found = [_state(wire, "good", order) for wire in spec.quality]
    wire = spec.firmware.modbus if spec.firmware else None
    if spec.firmware is not None and wire is not None:
        version = spec.firmware.base[0].replace("*", "0")
        told: list[int]
        if wire.type == "string":
            told = raw.text_words(version, wire.length or 1, wire.byte_order or order)
        else:
            number = float(version) if wire.type in raw.FLOATS else int(version)
            told = raw.words(wire.type, number, wire.byte_order or order)
        found += [Patch((wire.table, wire.address + i), word) for i, word in enumerate(told)]
    return found


def merge(words: dict[tuple[Table, int], int], patch: Patch) -> None:
    """Change a word as the patch says."""
    before = words.get(patch.key)
    if before is None or patch.told is None or not patch.told(before):
        words[patch.key] = (before or 0) & ~patch.mask | patch.content


def bits_of(point: Point) -> int | None:
    """The bits of its word that a point takes; None: the whole of its words."""
    wire = point.modbus
    if wire is None:
        return None
    if wire.bit is not None:
        return 1 << wire.bit
    return wire.mask


def raw_value(point: Point, value: Scalar | None, *, exact: bool) -> float | int | str:
    """What a value is on the wire, before its bytes: a number, or a word where the wire has words (JSON).

    Raises:
        ValueError: when the value does not fit the point.
    """
    if point.kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return _truth(point, value=value) if point.true_when else int(value)
    if point.kind == "enum":
        return _number_or_word(_key(point, _text(value)))
    if point.kind == "flags":
        names = {word: int(bit) for bit, word in point.states.items()}
        try:
            return sum(1 << (names[word] if word in names else int(word.removeprefix("bit"))) for word in _text(value).split())
        except ValueError:
            raise ValueError(f"{value!r} names a flag that its spec does not know") from None
    if point.kind == "text":
        return _text(value)
    return _raw_number(point, value, exact=exact)


def state_of(wire: QualityWire, quality: str) -> float | int | str:
    """The raw value with which a quality wire says `quality`.

    Raises:
        ValueError: it cannot say that.
    """
    for key, known in wire.states.items():
        if known == quality:
            return _number_or_word(key)
    if wire.otherwise == quality:
        return next(number for number in range(len(wire.states) + 1) if str(number) not in wire.states)
    raise ValueError(f"has no state {quality!r}" if parse_quality(quality) else f"{quality!r} is no quality")


def _own(point: Point, content: list[int], mask: int) -> list[Patch]:
    wire = point.modbus
    assert wire is not None
    return [Patch((wire.table, wire.address + i), word, mask) for i, word in enumerate(content)]


def _raw_number(point: Point, value: Scalar | None, *, exact: bool) -> float:
    if value is None:
        if point.sentinels:
            return point.sentinels[0] if exact else int(point.sentinels[0])
        if exact:
            return math.nan
        raise ValueError("has no sentinel, so it cannot say that there is no value")
    number = math.inf if isinstance(value, (bool, str)) else (value - point.offset) / point.scale
    if not math.isfinite(number) and not (exact and isinstance(value, float)):
        raise ValueError(f"{value!r} is no number that fits")
    return number if exact else round(number)


def _truth(point: Point, *, value: bool) -> float | int | str:
    if value:
        return _number_or_word(point.true_when[0])
    if all(isinstance(_number_or_word(known), str) for known in point.true_when):
        return "" if "OFF" in point.true_when else "OFF"
    return next(number for number in range(len(point.true_when) + 1) if str(number) not in point.true_when)


def _key(point: Point, wanted: str) -> str:
    for key, known in point.states.items():
        if known == wanted:
            return key
    if point.otherwise and point.otherwise == wanted:
        return next(str(number) for number in range(len(point.states) + 1) if str(number) not in point.states)
    raise ValueError(f"{wanted!r} is none of: {', '.join(point.states.values())}")


def _number_or_word(key: str) -> int | str:
    return int(key) if key.removeprefix("-").isdecimal() else key


def _text(value: Scalar | None) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text that fits")  # noqa: TRY004 - callers promise ValueError
    return value


def _states(point: Point, words: str, order: ByteOrder) -> Iterator[Patch]:
    """The quality registers that say `words`: all say good, but for the first that can say it."""
    said = words == "good"
    for wire in point.quality:
        if not said:
            try:
                yield _state(wire, words, order)
                said = True
                continue
            except ValueError:
                pass
        yield _state(wire, "good", order)
    if not said:
        known = sorted({state for wire in point.quality for state in wire.states.values()})
        raise ValueError(
            f"has no state {words!r}; known are: {', '.join(known)}" if known else f"has no quality register to say {words!r}"
        )


def _state(wire: QualityWire, words: str, order: ByteOrder) -> Patch:
    number = state_of(wire, words)
    assert wire.table is not None
    assert wire.address is not None
    key = (wire.table, wire.address)

    def told(word: int) -> bool:
        return decode.verdict((wire,), {key: word}, order) == parse_quality(words)

    if wire.table in raw.BIT_TABLES:
        return Patch(key, int(number), told=told)
    if wire.mask is None:
        return Patch(key, raw.words("uint16", int(number), order)[0], told=told)
    field = int(number) << raw.shift(wire.mask)
    content, mask = (raw.words("uint16", each, order)[0] for each in (field, wire.mask))
    return Patch(key, content, mask, told)

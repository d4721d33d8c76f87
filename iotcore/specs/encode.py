"""Values to registers: the inverse of `decode`, for simulated units and for the proof that decoding is right."""

from __future__ import annotations

import math
from collections.abc import Mapping

from iotcore.reading import Scalar
from iotcore.specs import raw
from iotcore.specs.model import ByteOrder, DeviceSpec, ModbusLimits, Point, Table
from iotcore.specs.quality import parse_quality

DEFAULT_LIMITS = ModbusLimits()


def registers(point: Point, value: Scalar | None, order: ByteOrder) -> list[int]:
    """The registers of a Modbus point that tell `value`; None tells "no value": the first sentinel, or NaN for a float.

    A bit of a register comes as its mask (the caller joins the bits of one word, as `image` does), a coil as 0 or 1.

    Raises:
        ValueError: when the value does not fit the point.
    """
    wire = point.modbus
    if wire is None:
        raise ValueError("is no Modbus point")
    order = wire.byte_order or order
    if point.kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return raw.words("bit", value << (wire.bit or 0), order)
    return raw.words(wire.type, _raw_number(point, value, exact=wire.type in raw.FLOATS), order)


def image(
    spec: DeviceSpec, values: Mapping[str, Scalar | None], qualities: Mapping[str, str] | None = None
) -> dict[tuple[Table, int], int]:
    """The words of a whole unit by (table, address), in which each point tells its value.

    `qualities` gives points the words of a state that their spec knows ("bad:not_assigned"); the others say good.

    Raises:
        ValueError: naming the point, when a value or a state does not fit it.
    """
    order = (spec.modbus or DEFAULT_LIMITS).byte_order
    words: dict[tuple[Table, int], int] = {}
    for name, value in values.items():
        point = spec.points[name]
        try:
            content = registers(point, value, order)
            state = _state(point, (qualities or {}).get(name, "good"), order)
        except ValueError as error:
            raise ValueError(f"{spec.model}: {name}: {error}") from error
        assert point.modbus is not None  # or `registers` had raised
        for i, word in enumerate(content):
            key = (point.modbus.table, point.modbus.address + i)
            words[key] = words.get(key, 0) | word if point.kind == "bool" else word
        if point.quality is not None:
            words[point.quality.table, point.quality.address] = state
    return words


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


def _state(point: Point, words: str, order: ByteOrder) -> int:
    """The content of the quality register that says `words`; 0 where the point has none and nothing but good is said."""
    if point.quality is None:
        if words != "good":
            raise ValueError(f"has no quality register to say {words!r}")
        return 0
    for number, known in point.quality.states.items():
        if known == words:
            return raw.words("uint16", int(number), order)[0]
    wanted = parse_quality(words)
    raise ValueError(f"has no state {words!r}" if wanted else f"{words!r} is no quality")

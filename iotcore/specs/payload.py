"""Vendor payloads to values and back: JSON with the maker's own keys, or a few bytes with a checksum. Pure.

A payload that is none at all is Refused; a value that cannot be read is BAD with its reason and spoils no other.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from typing import Any

import msgspec

from iotcore.errors import Refused
from iotcore.reading import Quality, Value
from iotcore.specs import firmware, meaning, paths, raw
from iotcore.specs.model import BytesWire, DeviceSpec, MqttSource, Point, QualityWire
from iotcore.specs.unload import LETTERS, encode

__all__ = ["Payload", "decode", "document", "encode", "told"]

LONGEST_NUMBER = 40  # characters; a longer number in quotes is no quantity of this world
SOURCE = MqttSource(topic="{device}")


@dataclass(frozen=True, slots=True)
class Payload:
    """What one vendor message tells. `ts` is ms UTC of the device's own clock, None where it tells none."""

    values: tuple[Value, ...]
    ts: int | None = None
    test: bool = False
    firmware: str = ""


def decode(spec: DeviceSpec, payload: bytes) -> Payload:
    """What a vendor's payload tells, every point of the spec in its order.

    Raises:
        Refused: `not_json`, `schema`, `encoding`, `length` or `checksum`: nothing of it can be used.
    """
    source = spec.mqtt or SOURCE
    if spec.protocol == "bytes":
        content = _bytes(source, payload)
        return _whole(spec, content, None, "")
    whole = document(payload)
    said = paths.find(whole, source.timestamp) if source.timestamp else None
    return told(spec, whole, said if type(said) is int else None)


def told(spec: DeviceSpec, said: Any, ts: int | None) -> Payload:
    """What a part of a larger JSON document tells of one device at `ts`, every point of the spec in its order."""
    wire = spec.firmware.json if spec.firmware is not None else None
    version = paths.find(said, wire.path) if wire is not None else ""
    return _whole(spec, said, ts, version if isinstance(version, str) else "")


def marked_test(spec: DeviceSpec, values: tuple[Value, ...]) -> bool:
    """Whether the values say that somebody pressed a test button. A bad value does not: the smoke beside it may be a fire."""
    mark = spec.test
    return mark is not None and any(
        value.point == mark.point and value.quality is Quality.GOOD and value.value in mark.values for value in values
    )


def _whole(spec: DeviceSpec, said: Any, ts: int | None, version: str) -> Payload:
    layout = firmware.layout(spec, version) if version or (spec.protocol == "json" and _tells_version(spec)) else spec
    if layout is None:
        return Payload(firmware.refused(spec), ts, firmware=version)
    whole = meaning.verdict(layout.quality, [_state(wire, said) for wire in layout.quality])
    values = tuple(_value(name, point, said, whole) for name, point in layout.points.items())
    return Payload(values, ts, marked_test(layout, values), version)


def _tells_version(spec: DeviceSpec) -> bool:
    return spec.firmware is not None and spec.firmware.json is not None


def _value(name: str, point: Point, said: Any, whole: tuple[Quality, str]) -> Value:
    own = meaning.verdict(point.quality, [_state(wire, said) for wire in point.quality])
    quality, why = meaning.worse(whole, own)
    if point.bytes is not None:
        number = _number(point.bytes, said)
        if number is None:
            return Value(name, None, Quality.BAD, "short")
        return meaning.value(name, point, number, quality, why, single=point.bytes.type == "float32")
    assert point.json is not None  # the loader sees to it
    found = paths.find(said, point.json.path)
    if found is paths.MISSING or found is None:
        return Value(name, None, Quality.BAD, "missing" if found is paths.MISSING else "no_value")
    if point.json.number_in_text and isinstance(found, str):
        found = _in_text(found)
    if not isinstance(found, (bool, int, float, str)) or (
        point.kind == "bool" and not point.true_when and type(found) is not bool
    ):
        return Value(name, None, Quality.BAD, "wrong_type")  # 1 is not true, as in the wire contract
    return meaning.value(name, point, found, quality, why)


def _in_text(found: str) -> float | str:
    try:
        return float(found) if len(found) <= LONGEST_NUMBER else found
    except ValueError:
        return found


def _state(wire: QualityWire, said: Any) -> meaning.Raw | None:
    if wire.path is not None:
        found = paths.find(said, wire.path)
        return found if isinstance(found, (bool, int, float, str)) else None
    offset = wire.offset or 0
    if not isinstance(said, bytes) or offset >= len(said):
        return None
    return said[offset] if wire.mask is None else raw.masked(said[offset], wire.mask)


def _number(wire: BytesWire, said: bytes) -> float | None:
    form = struct.Struct(("<" if wire.byte_order == "little" else ">") + LETTERS[wire.type])
    if wire.offset + form.size > len(said):
        return None
    number: float = form.unpack_from(said, wire.offset)[0]
    return number if wire.mask is None else raw.masked(int(number), wire.mask)


def document(payload: bytes) -> Any:
    """The payload's JSON; the words NaN and Infinity, which some firmware prints, cost only their own value.

    Raises:
        Refused: `not_json`, or `schema` when it is neither an object nor an array.
    """
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            found = json.loads(payload)
            msgspec.json.encode(found)  # a lone surrogate is no text: nothing downstream could write it
        except (ValueError, RecursionError) as error:
            raise Refused("not_json", str(error)) from error
    if not isinstance(found, (dict, list)):
        raise Refused("schema", f"expected an object or an array, got {type(found).__name__}")
    return found


def _bytes(source: MqttSource, payload: bytes) -> bytes:
    text: bytes = payload
    if source.path:
        found = paths.find(document(payload), source.path)
        if not isinstance(found, str):
            raise Refused("encoding", f"{source.path} is no text")
        text = found.encode()
    try:
        if source.encoding == "hex":
            content = bytes.fromhex(text.decode("ascii"))
        else:
            content = base64.b64decode(text, validate=True) if source.encoding == "base64" else text
    except (ValueError, binascii.Error) as error:
        raise Refused("encoding", f"no {source.encoding}: {error}") from error
    if source.length is not None and len(content) != source.length:
        raise Refused("length", f"{len(content)} bytes; {source.length} are expected")
    if source.checksum == "sum_zero" and sum(content) % 256:
        raise Refused("checksum", f"the bytes add up to {sum(content) % 256}, not to 0")
    return content

"""Values to vendor payloads: the inverse of `payload`, for simulated devices and for the proof that decoding is right."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from iotcore.reading import Scalar
from iotcore.specs import paths, raw
from iotcore.specs.encode import raw_value, state_of
from iotcore.specs.model import BytesWire, DeviceSpec, MqttSource, Point, QualityWire

LETTERS = {"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f", "float64": "d"}


def encode(spec: DeviceSpec, values: Mapping[str, Scalar | None], qualities: Mapping[str, str] | None = None) -> bytes:
    """The vendor's payload that tells `values`; points that are not among them are left out (JSON) or zero (bytes).

    Raises:
        ValueError: naming the point, when a value or a quality does not fit it.
    """
    qualities = qualities or {}
    source = spec.mqtt or MqttSource(topic="{device}")
    if spec.protocol == "bytes":
        return _wrapped(source, _content(spec, source, values, qualities))
    document: dict[str, Any] = {}
    for name, value in values.items():
        try:
            _say(document, spec.points[name], value, qualities.get(name, "good"))
        except ValueError as error:
            raise ValueError(f"{spec.model}: {name}: {error}") from error
    for wire in spec.quality:
        paths.put(document, wire.path or "", _plain(state_of(wire, "good")))
    if spec.firmware is not None and spec.firmware.json is not None:
        paths.put(document, spec.firmware.json.path, spec.firmware.base[0].replace("*", "0"))
    return json.dumps(document, ensure_ascii=False).encode()


def _say(document: dict[str, Any], point: Point, value: Scalar | None, quality: str) -> None:
    assert point.json is not None
    said: Any = None
    if value is not None:
        said = value if point.kind == "bool" and not point.true_when else _plain(raw_value(point, value, exact=True))
    if point.json.number_in_text and said is not None:
        said = str(said)
    paths.put(document, point.json.path, said)
    for wire in point.quality:
        paths.put(document, wire.path or "", _plain(state_of(wire, quality)))


def _plain(said: float | str) -> Any:
    """As JSON has it: the words true and false are truth values, a whole number needs no point."""
    if isinstance(said, str):
        return {"true": True, "false": False}.get(said, said)
    return int(said) if isinstance(said, float) and math.isfinite(said) and said.is_integer() else said


def _content(spec: DeviceSpec, source: MqttSource, values: Mapping[str, Scalar | None], qualities: Mapping[str, str]) -> bytes:
    wires = [point.bytes for point in spec.points.values() if point.bytes is not None]
    ends = [wire.offset + struct.calcsize(LETTERS[wire.type]) for wire in wires]
    content = bytearray(source.length or max(ends, default=0))
    bad = {name: words for name, words in qualities.items() if words != "good" and name in values}
    _verdicts(content, spec, {name: "good" for name in values if name not in bad})
    for name, value in values.items():  # after the good verdicts and before the others: they may stand in the value's own byte
        point = spec.points[name]
        if point.true_when and value is False:  # whatever else is told of that byte
            continue
        try:
            assert point.bytes is not None
            _pack(content, point.bytes, raw_value(point, value, exact=point.bytes.type in raw.FLOATS))
        except (ValueError, struct.error) as error:
            raise ValueError(f"{spec.model}: {name}: {error}") from error
    _verdicts(content, spec, bad)
    for wire in spec.quality:
        _merge(content, wire, int(state_of(wire, "good")))
    if source.checksum == "sum_zero":
        content[-1] = -sum(content[:-1]) % 256
    return bytes(content)


def _verdicts(content: bytearray, spec: DeviceSpec, words: Mapping[str, str]) -> None:
    for name, said in words.items():
        try:
            for wire in spec.points[name].quality:
                _merge(content, wire, int(state_of(wire, said)))
        except ValueError as error:
            raise ValueError(f"{spec.model}: {name}: {error}") from error


def _pack(content: bytearray, wire: BytesWire, said: float | str) -> None:
    if isinstance(said, str):
        raise ValueError(f"{said!r} stands for no number")  # noqa: TRY004 - callers promise ValueError
    form = struct.Struct(("<" if wire.byte_order == "little" else ">") + LETTERS[wire.type])
    if wire.mask is not None:
        (before,) = form.unpack_from(content, wire.offset)
        said = before & ~wire.mask | (int(said) << raw.shift(wire.mask)) & wire.mask
    form.pack_into(content, wire.offset, said)


def _merge(content: bytearray, wire: QualityWire, number: int) -> None:
    offset, mask = wire.offset or 0, wire.mask or 0xFF
    content[offset] = content[offset] & ~mask | (number << raw.shift(mask) if wire.mask else number) & mask


def _wrapped(source: MqttSource, content: bytes) -> bytes:
    text = {"raw": content, "hex": content.hex().upper().encode(), "base64": base64.b64encode(content)}[source.encoding]
    if not source.path:
        return text
    document: dict[str, Any] = {}
    paths.put(document, source.path, text.decode("ascii"))
    return msgspec.json.encode(document)

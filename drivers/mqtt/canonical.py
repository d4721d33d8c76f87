"""Canonical payloads to readings: the first stage of both lanes, pure and on the hot path.

    topic → who may say it → JSON → a message or a batch of them → each value with its quality → when it was

One decode into typed structs serves every sound message. What that refuses goes the slow way (`mend`), which keeps all that can
be kept: a bad element of a batch is refused alone, and a NaN costs only itself, because the value beside it may be a fire.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec

from drivers.mqtt import mend
from drivers.mqtt.times import when
from iotcore.errors import Refused
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import firmware
from iotcore.specs.model import DeviceSpec, Point
from iotcore.specs.quality import parse_quality
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Decoded, Presence, Refusal
from iotcore.wire.messages import ReadingMessage, ResultMessage, StatusMessage

KEPT_BYTES = 4096  # of an oversized payload, for the person who looks at the quarantine
DETAIL_LENGTH = 200  # characters of a refusal's detail
REFUSED_WHOLE = ("oversized", "batch_too_long")  # by whom it may come from; each of its messages counts as handled
CHECKED_SPECS = 4096  # models, and layouts of their firmwares; a city has a few dozen
NAMED_POINTS = 5  # unknown points that a refusal names before it counts the rest
TYPE_OF_KIND: dict[str, Any] = {"number": float, "bool": bool, "text": str, "flags": str, "enum": None}  # enum: see _judged

Check = tuple[Any, Any, Any]  # of a good value: type, lowest, highest. What fails gets a longer look (`_judged`)
Said = tuple[tuple[Value, ...], list[str]]


class Layout(NamedTuple):
    """What the values of a model are held against; `numbers` are the spans of its points that are numbers.

    `by_firmware` says that a device's own version decides which layout it has: this one is only where to look for it.
    """

    points: Mapping[str, Point]
    checks: Mapping[str, Check]
    numbers: Mapping[str, tuple[float, float]]
    by_firmware: bool


Route = tuple[Binding, str, Layout]  # whose topic, of which kind

_readings = msgspec.json.Decoder(ReadingMessage | list[ReadingMessage]).decode
_status = msgspec.json.Decoder(StatusMessage)
_result = msgspec.json.Decoder(ResultMessage)
GOOD = Quality.GOOD  # an Enum looks its members up anew each time
_T = TypeVar("_T")


def decode(arrival: Arrival, directory: Directory, now_ms: float) -> Decoded:
    """What one arrival holds. Never raises: what is not accepted comes back as refusals with their reasons.

    `now_ms` is wall time, against which a sender's clock is judged; readings carry the arrival's own receive time.
    """
    try:
        binding, kind, layout = directory.routes.get(arrival.topic) or _route(arrival.topic, directory)
        if len(arrival.payload) > topics.MAX_PAYLOAD_BYTES:
            raise _oversized(arrival.payload)
        if kind == "status":
            return Decoded(presence=Presence(binding.device, binding.publisher, _whole(_status, arrival.payload)))
        if kind == "result":  # answers a command, whose sender listens for it; no lane has a use for it
            _whole(_result, arrival.payload)
            return Decoded()
        try:
            message = _readings(arrival.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _batch(mend.elements(arrival.payload), kind, arrival, binding, now_ms)
        if type(message) is not ReadingMessage:
            mend.check_length(message)
            return _batch([mend.Element(each) for each in message], kind, arrival, binding, now_ms)
        reading, unknown = _reading(message, kind, arrival, binding, now_ms, layout=layout)
        return Decoded((reading,)) if not unknown else Decoded((reading,), (_unknown(unknown, arrival, binding, None),))
    except Refused as refused:
        device = "" if refused.reason == "topic" else arrival.topic.rpartition("/")[2]
        handled = mend.identities(arrival.payload) if refused.reason in REFUSED_WHOLE else ()
        return Decoded(refusals=(_refusal(refused.reason, refused.detail, arrival, device, None, identities=handled),))


def said(message: ReadingMessage, arrival: Arrival, binding: Binding, now_ms: float) -> Reading:
    """One message as a reading of a device, whoever says it, by the points of its model whatever its firmware.

    Raises:
        Refused: `unknown_point`.
    """
    layout = _layout(binding.spec)._replace(by_firmware=False)
    reading, unknown = _reading(message, "event", arrival, binding, now_ms, layout=layout)
    if unknown:
        raise Refused("unknown_point", f"{', '.join(unknown[:NAMED_POINTS])}: not in spec {binding.spec.model}")
    return reading


def _route(topic: str, directory: Directory) -> Route:
    """Whose topic it is, once for each topic and directory; only what is accepted is remembered, so devices bound it."""
    parts = topic.split("/")
    binding = directory.devices.get(parts[-1])
    if binding is None or not _may_say(parts, binding):
        raise _why_not(topic, binding)
    route = directory.routes[topic] = (binding, parts[5], _layout(binding.spec))
    return route


def _may_say(parts: list[str], binding: Binding) -> bool:
    """Whether these are the parts of an `up` topic of the contract, from one who may speak for the device."""
    return (
        len(parts) == topics.PARTS
        and parts[3] == binding.publisher
        and parts[2] == binding.domain
        and parts[4] == "up"
        and parts[5] in topics.UP_KINDS
        and parts[1] == "v1"
        and parts[0] == "iot"
        and binding.accepted
    )


def _why_not(topic: str, binding: Binding | None) -> Refused:
    try:
        said = topics.parse(topic)
    except Refused as refused:
        return refused
    if said.direction != "up":
        return Refused("topic", f"{topic!r} is not for us to hear")
    if binding is None:
        return Refused("unknown_device", f"{said.device} is not in the registry; {said.publisher} speaks for it")
    if said.domain != binding.domain:
        return Refused("wrong_domain", f"{said.device} is of domain {binding.domain}, not {said.domain}")
    if said.publisher != binding.publisher:
        return Refused("wrong_publisher", f"{said.publisher} may not speak for {said.device}")
    return Refused(f"not_accepted:{binding.state}", f"{said.device} is {binding.state}")


def _oversized(payload: bytes) -> Refused:
    return Refused("oversized", f"{len(payload)} bytes; at most {topics.MAX_PAYLOAD_BYTES}")


def _whole(decoder: msgspec.json.Decoder[_T], payload: bytes) -> _T:
    """A message that is accepted whole or not at all."""
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise Refused("schema", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("not_json", str(error)) from error


def _batch(
    elements: Iterable[mend.Element | mend.Unfit], kind: str, arrival: Arrival, binding: Binding, now_ms: float
) -> Decoded:
    readings: list[Reading] = []
    refusals: list[Refusal] = []
    layout = _layout(binding.spec)
    for element in elements:
        if isinstance(element, mend.Unfit):
            refusals.append(
                _refusal("schema", element.detail, arrival, binding.device, element.payload, identities=element.identities)
            )
            continue
        message, faults, clock_fault = element
        reading, unknown = _reading(
            message, kind, arrival, binding, now_ms, layout=layout, faults=faults, clock_fault=clock_fault
        )
        readings.append(reading)
        if unknown:
            refusals.append(_unknown(unknown, arrival, binding, msgspec.json.encode(message)))
    return Decoded(tuple(readings), tuple(refusals))


def _reading(
    message: ReadingMessage,
    kind: str,
    arrival: Arrival,
    binding: Binding,
    now_ms: float,
    *,
    layout: Layout,
    faults: Mapping[str, str] = mend.NO_FAULTS,
    clock_fault: str = "",
) -> tuple[Reading, list[str]]:
    """The reading, and the names of the points it speaks of that its device's spec does not know."""
    clean: Mapping[str, float] | None = None
    values: tuple[Value, ...] = ()
    unknown: list[str] = []
    found = _layout_of(binding.spec, message.fw) if layout.by_firmware else layout
    if found is None:
        values = firmware.refused(binding.spec)
    elif _is_clean(message, found):
        clean = message.values  # type: ignore[assignment] # each is a float
    else:
        values, unknown = _values(message, found, faults)
    received_ms = arrival.received_ms
    age_ms = message.age_ms if message.backlog else 0
    observed_ms, claimed_ms, odd = when(message.ts, age_ms, received_ms, now_ms)
    reading = Reading(
        binding.device,
        message.boot,
        message.seq,
        kind,
        observed_ms,
        received_ms,
        values,
        message.test,
        message.backlog,
        age_ms,
        arrival.retained,
        claimed_ms,
        odd or clock_fault,
        message.fw,
        clean,
    )
    return reading, unknown


@lru_cache(maxsize=CHECKED_SPECS)
def _layout(spec: DeviceSpec) -> Layout:
    checks = {name: _check(point) for name, point in spec.points.items()}
    numbers = {name: (check[1], check[2]) for name, check in checks.items() if check[0] is float}
    # a gateway has decoded its units' registers by their own version
    return Layout(spec.points, checks, numbers, by_firmware=spec.firmware is not None and spec.protocol == "canonical")


def _layout_of(spec: DeviceSpec, version: str) -> Layout | None:
    revised = firmware.layout(spec, version)
    return None if revised is None else _layout(revised)


def _check(point: Point) -> Check:
    kind = TYPE_OF_KIND[point.kind]
    if point.range is not None:
        return (kind, *point.range)
    if kind is str:
        return (kind, "", "\U0010ffff")
    return (kind, -sys.float_info.max, sys.float_info.max)  # what is infinite, or no number, fails


def _values(message: ReadingMessage, layout: Layout, faults: Mapping[str, str]) -> Said:
    """The values in the order they were told, the names that the layout does not know."""
    words = message.q
    values: list[Value] = []
    unknown: list[str] = []
    said: Any  # of the type that its point's kind wants, once compared
    for name, said in message.values.items():
        check = layout.checks.get(name)
        if check is None:
            unknown.append(name)
        elif not words and type(said) is check[0] and check[1] <= said <= check[2]:
            values.append(Value(name, said, GOOD, ""))
        else:
            values.append(_judged(name, layout.points[name], said, words.get(name, "good"), faults.get(name, "")))
    for name, why in words.items():  # a point of which nothing is told but why
        if name not in message.values and name in layout.points and why != "good":
            values.append(_judged(name, layout.points[name], None, why, ""))
    return tuple(values), unknown


def _is_clean(message: ReadingMessage, layout: Layout) -> bool:
    """Whether every value is a good number of a known point."""
    numbers = layout.numbers
    said: Any
    for name, said in message.values.items():
        span = numbers.get(name)
        if span is None or type(said) is not float or not span[0] <= said <= span[1]:
            return False
    return bool(message.values) and not message.q


def _judged(name: str, point: Point, said: Any, words: str, fault: str) -> Value:
    """A value that needs more than a look: with words of its sender, of a wrong kind, out of range, or missing."""
    quality, why = parse_quality(words) or (Quality.UNCERTAIN, "unknown_quality")
    if fault:
        return Value(name, None, Quality.BAD, fault)
    if said is None:
        return Value(name, None, Quality.BAD, why or "no_value")
    wanted: Any = TYPE_OF_KIND[point.kind] or str
    if type(said) is not wanted:
        return Value(name, None, Quality.BAD, "wrong_type")
    if point.kind == "enum" and said != point.otherwise and said not in point.states.values():
        return Value(name, None, Quality.BAD, "unknown_state")
    if quality is not Quality.BAD and point.range is not None and not point.range[0] <= said <= point.range[1]:
        return Value(name, said, Quality.BAD, "out_of_range")
    return Value(name, said, quality, why)


def _unknown(names: list[str], arrival: Arrival, binding: Binding, payload: bytes | None) -> Refusal:
    more = f" and {len(names) - NAMED_POINTS} more" if len(names) > NAMED_POINTS else ""
    detail = f"{', '.join(names[:NAMED_POINTS])}{more}: not in spec {binding.spec.model}"
    return _refusal("unknown_point", detail, arrival, binding.device, payload)


def _refusal(
    reason: str,
    detail: str,
    arrival: Arrival,
    device: str,
    payload: bytes | None,
    *,
    identities: tuple[tuple[str, int], ...] = (),
) -> Refusal:
    """`payload` is the element that is refused; None means the arrival's own."""
    whole = arrival.payload if payload is None else payload
    kept = whole if len(whole) <= topics.MAX_PAYLOAD_BYTES else whole[:KEPT_BYTES]
    return Refusal(reason, detail[:DETAIL_LENGTH], arrival.topic, device, kept, len(whole), arrival.received_ms, identities)

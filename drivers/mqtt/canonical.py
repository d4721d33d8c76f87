"""Canonical payloads to readings: the first stage of both lanes, pure and on the hot path.

    topic → who may say it → JSON → a message or a batch of them → each value with its quality → when it was

One decode into typed structs serves every sound message. What that refuses goes the slow way (`mend`), which keeps all that can
be kept: a bad element of a batch is refused alone, and a NaN costs only itself, because the value beside it may be a fire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from drivers.mqtt import mend
from iotcore.errors import Refused
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import firmware
from iotcore.specs.model import Point
from iotcore.specs.quality import parse_quality
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Decoded, Presence, Refusal
from iotcore.wire.messages import ReadingMessage, ResultMessage, StatusMessage

PAST_LIMIT_MS = 7 * 86_400_000  # wire contract, "Time"
FUTURE_LIMIT_MS = 5 * 60_000  # wire contract, "Time"
LARGEST_CLAIM_MS = 2**53  # a claimed time is kept as evidence; beyond this it is noise that a store cannot hold
KEPT_BYTES = 4096  # of an oversized payload, for the person who looks at the quarantine
DETAIL_LENGTH = 200  # characters of a refusal's detail
REFUSED_WHOLE = ("oversized", "batch_too_long")  # by whom it may come from; each of its messages counts as handled
NAMED_POINTS = 5  # unknown points that a refusal names before it counts the rest
TYPE_OF_KIND: dict[str, Any] = {"number": float, "bool": bool, "text": str, "flags": str, "enum": None}  # enum: see _judged

_readings = msgspec.json.Decoder(ReadingMessage | list[ReadingMessage])
_status = msgspec.json.Decoder(StatusMessage)
_result = msgspec.json.Decoder(ResultMessage)
GOOD = Quality.GOOD  # an Enum looks its members up anew each time
_new = tuple.__new__  # a NamedTuple's own constructor takes twice the time, four times a message
_T = TypeVar("_T")


def decode(arrival: Arrival, directory: Directory, now_ms: float) -> Decoded:
    """What one arrival holds. Never raises: what is not accepted comes back as refusals with their reasons.

    `now_ms` is wall time, against which a sender's clock is judged; readings carry the arrival's own receive time.
    """
    parts = arrival.topic.split("/")
    binding = directory.devices.get(parts[-1])
    try:
        if binding is None or not _may_say(parts, binding):
            raise _why_not(arrival.topic, binding)
        if len(arrival.payload) > topics.MAX_PAYLOAD_BYTES:
            raise _oversized(arrival.payload)
        kind = parts[5]
        if kind == "status":
            return Decoded(presence=Presence(binding.device, binding.publisher, _whole(_status, arrival.payload)))
        if kind == "result":  # answers a command, whose sender listens for it; no lane has a use for it
            _whole(_result, arrival.payload)
            return Decoded()
        try:
            message = _readings.decode(arrival.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _batch(mend.elements(arrival.payload), kind, arrival, binding, now_ms)
        if type(message) is not ReadingMessage:
            mend.check_length(message)
            return _batch([mend.Element(each) for each in message], kind, arrival, binding, now_ms)
        reading, unknown = _reading(message, kind, arrival, binding, now_ms)
        return Decoded((reading,)) if not unknown else Decoded((reading,), (_unknown(unknown, arrival, binding, None),))
    except Refused as refused:
        device = "" if refused.reason == "topic" else parts[-1]
        handled = mend.identities(arrival.payload) if refused.reason in REFUSED_WHOLE else ()
        return Decoded(refusals=(_refusal(refused.reason, refused.detail, arrival, device, None, identities=handled),))


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
    for element in elements:
        if isinstance(element, mend.Unfit):
            refusals.append(
                _refusal("schema", element.detail, arrival, binding.device, element.payload, identities=element.identities)
            )
            continue
        message, faults, clock_fault = element
        reading, unknown = _reading(message, kind, arrival, binding, now_ms, faults=faults, clock_fault=clock_fault)
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
    faults: Mapping[str, str] = mend.NO_FAULTS,
    clock_fault: str = "",
) -> tuple[Reading, list[str]]:
    """The reading, and the names of the points it speaks of that its device's spec does not know."""
    spec = binding.spec
    if spec.firmware is None or spec.protocol != "canonical":  # a gateway has decoded its units' registers by their own version
        values, unknown = _values(message, spec.points, faults)
    elif (layout := firmware.layout(spec, message.fw)) is not None:
        values, unknown = _values(message, layout.points, faults)
    else:
        values, unknown = firmware.refused(spec), []
    received_ms = arrival.received_ms
    age_ms = message.age_ms if message.backlog else 0
    observed_ms, claimed_ms = received_ms - age_ms, message.ts
    if claimed_ms is not None:
        if claimed_ms > now_ms + FUTURE_LIMIT_MS:
            claimed_ms, clock_fault = min(claimed_ms, LARGEST_CLAIM_MS), "clock_future"
        elif claimed_ms < now_ms - age_ms - PAST_LIMIT_MS:
            claimed_ms, clock_fault = max(claimed_ms, -LARGEST_CLAIM_MS), "clock_past"
        else:
            observed_ms, claimed_ms = float(claimed_ms), None
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
        clock_fault,
        message.fw,
    )
    return reading, unknown


def _values(
    message: ReadingMessage, points: Mapping[str, Point], faults: Mapping[str, str]
) -> tuple[tuple[Value, ...], list[str]]:
    """The values in the order they were told, and the names that `points` does not know."""
    words = message.q
    values: list[Value] = []
    unknown: list[str] = []
    said: Any  # of the type that its point's kind wants, once compared
    for name, said in message.values.items():
        point = points.get(name)
        if point is None:
            unknown.append(name)
        elif (
            not words and type(said) is TYPE_OF_KIND[point.kind] and ((span := point.range) is None or span[0] <= said <= span[1])
        ):
            values.append(_new(Value, (name, said, GOOD, "")))
        else:
            values.append(_judged(name, point, said, words.get(name, "good"), faults.get(name, "")))
    for name, why in words.items():  # a point of which nothing is told but why
        if name not in message.values and name in points and why != "good":
            values.append(_judged(name, points[name], None, why, ""))
    return tuple(values), unknown


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

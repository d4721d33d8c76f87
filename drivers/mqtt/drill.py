"""Drills off the fire broker: a service of ours speaks in the place of a fire device, and of nothing else than a test.

    iotcore/v1/drill/{service}/{device} ──► marked as a test, live, one device's points? ──► readings for the rules alone
                                       └──► anything else is refused, and a security event

What it says never becomes a reading of the device: it is in none of its streams.
"""

from __future__ import annotations

import re

import msgspec

from drivers.mqtt import canonical
from iotcore.errors import Refused
from iotcore.reading import Reading
from iotcore.registry.directory import Directory
from iotcore.wire import topics
from iotcore.wire.arrival import DRILL_REFUSED, Arrival, Decoded, Refusal
from iotcore.wire.messages import ReadingMessage

MOST_READINGS = 20  # in a row; no rule asks for more (`alarms.conditions.Count`)
DETAIL_LENGTH = 200
SPEAKER = re.compile(r"svc\.drill\.[1-9][0-9]?\.out\Z")

_several = msgspec.json.Decoder(list[ReadingMessage])


def decode(arrival: Arrival, directory: Directory, now_ms: float) -> Decoded:
    """What a drill says, or why it is refused; it never raises."""
    try:
        return Decoded(drill=_readings(arrival, directory, now_ms))
    except Refused as refused:
        payload = arrival.payload[: topics.MAX_PAYLOAD_BYTES]
        reason = f"{DRILL_REFUSED}:{refused.reason}"
        return Decoded(refusals=(Refusal(reason, refused.detail[:DETAIL_LENGTH], arrival.topic, "", payload),))


def _readings(arrival: Arrival, directory: Directory, now_ms: float) -> tuple[Reading, ...]:
    parts = arrival.topic.split("/")
    if len(parts) != topics.DRILL_PARTS or not SPEAKER.match(parts[3]):
        raise Refused("topic", f"{arrival.topic!r} is no topic of a drill")
    binding = directory.devices.get(parts[4])
    if binding is None or binding.domain != topics.FIRE_DOMAIN or not binding.accepted:
        raise Refused("unknown_device", f"{parts[4]} is no fire device that is in use")
    if arrival.retained:
        raise Refused("retained", "a retained drill is history")
    try:
        messages = _several.decode(arrival.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("schema", str(error)) from error
    if not 0 < len(messages) <= MOST_READINGS or len({one.boot for one in messages}) != 1:
        raise Refused("schema", f"holds {len(messages)} readings; a drill has 1 to {MOST_READINGS} of one boot")
    if not all(one.test and not one.backlog for one in messages):
        raise Refused("unmarked", f"{parts[3]} spoke for {parts[4]} without the mark of a test")
    return tuple(canonical.said(one, arrival, binding, now_ms) for one in messages)

"""ThingsBoard's gateway API: one publisher speaks for many devices, which it names in its payloads.

    v1/gateway/telemetry     {"Device A": [{"ts": 1483228800000, "values": {"temperature": 42}}], "Device B": …}
    v1/gateway/attributes    {"Device A": {"battery": 87}, …}
    v1/gateway/connect       {"device": "Device A"}                        and v1/gateway/disconnect
    v1/devices/me/telemetry  the gateway's own: {"a": 1} | [{"a": 1}, …] | {"ts": …, "values": {…}} | [{"ts": …, …}, …]

What stands for one device has any of the four forms of the last line; `ts` may be left out. A message tells some points, never
all of them. Source: https://thingsboard.io/docs/reference/gateway-api/telemetry/ and …/mqtt-api/telemetry/. Pure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from drivers.mqtt.vendor_index import Index, check
from iotcore.errors import Refused
from iotcore.registry.directory import Binding
from iotcore.specs import payload
from iotcore.wire import thingsboard, topics
from iotcore.wire.arrival import Arrival, Presence
from iotcore.wire.messages import StatusMessage

OWN = frozenset(thingsboard.OWN)
TOPICS = OWN.union(thingsboard.GATEWAY)


class Told(NamedTuple):
    """One entry of one device; `content` is that entry alone."""

    binding: Binding
    told: payload.Payload
    content: bytes


class Unfit(NamedTuple):
    """What of a payload is refused; `device` is "" where it cannot be told."""

    refused: Refused
    device: str
    content: bytes


class Parsed(NamedTuple):
    """What one message holds."""

    told: tuple[Told, ...] = ()
    unfit: tuple[Unfit, ...] = ()
    presence: Presence | None = None


def parse(arrival: Arrival, index: Index) -> Parsed:
    """The entries of one message, each with its device.

    Raises:
        Refused: nothing of it can be used: `not_json`, `schema`, `batch_too_long`, or as `Index` says whose it is.
    """
    document = payload.document(arrival.payload)
    if arrival.topic in OWN:
        gateway = index.gateway()
        check(gateway)
        return _gathered([(gateway, entry) for entry in _entries(document)], [])
    if not isinstance(document, dict):
        raise Refused("schema", f"expected an object by device, got {type(document).__name__}")
    if arrival.topic in (thingsboard.CONNECT, thingsboard.DISCONNECT):
        return Parsed(presence=_presence(document, index, online=arrival.topic == thingsboard.CONNECT))
    found: list[tuple[Binding, Any]] = []
    unfit: list[Unfit] = []
    for name, said in document.items():
        device = ""
        try:
            binding = index.child(name)
            device = binding.device
            check(binding)
            found += [(binding, entry) for entry in _entries(said)]
        except Refused as refused:
            unfit.append(Unfit(refused, device, msgspec.json.encode({name: said})))
        if len(found) + len(unfit) > topics.MAX_BATCH:
            raise Refused("batch_too_long", f"more than {topics.MAX_BATCH} entries")
    return _gathered(found, unfit)


def _presence(document: dict[str, Any], index: Index, *, online: bool) -> Presence:
    name = document.get("device")
    if not isinstance(name, str):
        raise Refused("schema", 'expected {"device": NAME}')
    binding = index.child(name)
    check(binding)
    return Presence(binding.device, binding.publisher, StatusMessage(state="online" if online else "offline"))


def _entries(said: Any) -> list[dict[str, Any]]:
    """The entries of one device.

    Raises:
        Refused: `schema`.
    """
    entries = said if isinstance(said, list) else [said]
    for entry in entries:
        if not isinstance(entry, dict):
            raise Refused("schema", f"expected an object of values, got {type(entry).__name__}")
    return entries


def _gathered(found: list[tuple[Binding, Any]], unfit: list[Unfit]) -> Parsed:
    told = []
    for binding, entry in found:
        content = msgspec.json.encode(entry)
        try:
            one = _told(binding, entry)
        except Refused as refused:
            unfit.append(Unfit(refused, binding.device, content))
            continue
        if one.values:  # keys that no point has: attributes of the other platform's own
            told.append(Told(binding, one, content))
    return Parsed(tuple(told), tuple(unfit))


def _told(binding: Binding, entry: dict[str, Any]) -> payload.Payload:
    """The points that an entry has; those that it leaves out are not bad, they are not told now.

    Raises:
        Refused: `schema`.
    """
    values, ts = entry, None
    if isinstance(entry.get("values"), dict):
        values, ts = entry["values"], entry.get("ts")
        if ts is not None and type(ts) is not int:
            raise Refused("schema", f"ts is {type(ts).__name__}, not whole milliseconds")
    whole = payload.told(binding.spec, values, ts)
    return payload.Payload(tuple(v for v in whole.values if v.why != "missing"), whole.ts, whole.test, whole.firmware)

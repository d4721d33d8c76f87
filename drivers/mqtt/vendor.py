"""Vendors' payloads to readings: topic → device → its maker's format → values → when it was. No receipts, no proof of identity.

    topic ──► index (of the registry's bindings) ──► payload by the device's spec ──► time ──► identity ──► reading, unproven

Vendors' devices number nothing, so the identity of a reading is made here:

- A device that tells its time, and is no fire device: boot `@time`, and a number made of its time and its content. The same
  message again, after a reconnect or a crash, is the same reading, and the same point in the store.
- Every other: a boot made anew at each start of the process, in which each device's messages are counted. What a broker delivers
  twice then counts twice (at least once). Fire devices are counted so even if they tell a time: a reset closes an episode up to
  a number, and a number made of a clock that went back would hide the next fire. A fire reading that comes twice still makes one
  incident: the second joins the open episode.
- A retained message: boot `@time` and a number made of its content alone, so that a broker that hands the same one over at each
  new subscription tells the same story once.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Collection

from drivers.mqtt import thingsboard, vendor_index
from drivers.mqtt.times import when
from iotcore.errors import Refused
from iotcore.journal.progress import BY_TIME, OURS
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import payload
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival, Decoded, Refusal

KEPT_BYTES = 4096  # of an oversized payload, for the person who looks at the quarantine
DETAIL_LENGTH = 200  # characters of a refusal's detail
DIGEST_DIGITS = 1_000_000  # below a millisecond in a number by time; a store's timestamp takes as many digits of it


class Vendors:
    """Decodes what does not come on a topic of the contract. One for each process: it counts, in a boot of its own.

    `domains` are those that the process answers for: one topic of a vendor's gateway may tell of several, and what belongs to
    another process is left to that.
    """

    def __init__(self, domains: Collection[str] = topics.DOMAINS, boot: str = "") -> None:
        self._domains = frozenset(domains)
        self._boot = boot or f"{OURS}{secrets.token_hex(4)}"
        self._counted: dict[str, int] = {}  # device → messages; bounded by the registry
        self._known = Directory()
        self._index = vendor_index.index(self._known)

    def decode(self, arrival: Arrival, directory: Directory, now_ms: float) -> Decoded:
        """What one arrival holds. Never raises: what is not accepted comes back as refusals with their reasons.

        A retained message becomes a reading that is marked so: a lane refuses it as history, unless it is a fire.
        """
        if directory is not self._known:
            self._known, self._index = directory, vendor_index.index(directory)
        device = ""
        try:
            if arrival.topic in thingsboard.TOPICS:
                _check_size(arrival)
                return self._several(thingsboard.parse(arrival, self._index), arrival, now_ms)
            binding = self._index.find(arrival.topic)
            device = binding.device
            if binding.domain not in self._domains:
                return Decoded()
            vendor_index.check(binding)
            _check_size(arrival)
            told = payload.decode(binding.spec, arrival.payload)
            return Decoded((self._reading(binding, told, arrival.payload, arrival, now_ms),))
        except Refused as refused:
            return Decoded(refusals=(_refusal(refused, arrival, device, arrival.payload),))

    def _several(self, parsed: thingsboard.Parsed, arrival: Arrival, now_ms: float) -> Decoded:
        """A payload that speaks of many devices: one that is refused costs no other."""
        return Decoded(
            tuple(
                self._reading(each.binding, each.told, each.content, arrival, now_ms)
                for each in parsed.told
                if each.binding.domain in self._domains
            ),
            tuple(_refusal(each.refused, arrival, each.device, each.content) for each in parsed.unfit),
            parsed.presence,
        )

    def _reading(self, binding: Binding, told: payload.Payload, content: bytes, arrival: Arrival, now_ms: float) -> Reading:
        observed_ms, claimed_ms, clock_fault = when(told.ts, 0, arrival.received_ms, now_ms)
        believed_ms = observed_ms if told.ts is not None and not clock_fault else None
        boot, seq = self._identity(binding, believed_ms, content, retained=arrival.retained)
        return Reading(
            device=binding.device,
            boot=boot,
            seq=seq,
            kind="reading",
            observed_ms=observed_ms,
            received_ms=arrival.received_ms,
            told=told.values,
            test=told.test,
            retained=arrival.retained,
            claimed_ms=claimed_ms,
            clock_fault=clock_fault,
            firmware=told.firmware,
            proven=False,
        )

    def _identity(self, binding: Binding, ts_ms: float | None, content: bytes, *, retained: bool) -> tuple[str, int]:
        if retained:
            return BY_TIME, 1 + zlib.crc32(content)
        if ts_ms is not None and binding.domain != topics.FIRE_DOMAIN:
            return BY_TIME, int(ts_ms) * DIGEST_DIGITS + zlib.crc32(content) % DIGEST_DIGITS
        count = self._counted[binding.device] = self._counted.get(binding.device, 0) + 1
        return self._boot, count


def _check_size(arrival: Arrival) -> None:
    if len(arrival.payload) > topics.MAX_PAYLOAD_BYTES:
        raise Refused("oversized", f"{len(arrival.payload)} bytes; at most {topics.MAX_PAYLOAD_BYTES}")


def _refusal(refused: Refused, arrival: Arrival, device: str, content: bytes) -> Refusal:
    kept = content if len(content) <= topics.MAX_PAYLOAD_BYTES else content[:KEPT_BYTES]
    return Refusal(refused.reason, refused.detail[:DETAIL_LENGTH], arrival.topic, device, kept)

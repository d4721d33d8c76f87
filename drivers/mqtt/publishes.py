"""PUBLISH packets off a buffer: the one loop that every message of a city goes through.

    0x32 length topic-length topic packet-id [properties] payload    → Arrival, and the packet id's two bytes for its PUBACK

The loop takes whole QoS 1 packets of usual form by index and slice, about a microsecond each; whatever it does not like it
leaves to `_careful`, which knows the rest of the standard (QoS 0, long properties) and says what is wrong with what is wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from drivers.mqtt.packets import PUBLISH, ProtocolError, split, variable
from iotcore.wire.arrival import Arrival

TOPIC_LIMIT = 131_072  # names remembered, about 250 bytes each; beyond it all are forgotten and learnt again
NO_TOKEN = -1  # QoS 0: nothing to acknowledge
# The first five bytes. Behind a length of two bytes (the first above 127) `word` is the length of the topic; behind one of one
# byte it begins a byte earlier.
_BEGIN = struct.Struct(">BBBH").unpack_from


class Topics(dict[bytes, str]):
    """Topic names as they came → text, checked once each. Our own heartbeat's is never kept, so that each of them is seen."""

    def __init__(self, heartbeat: str = "") -> None:
        super().__init__()
        self.beats = 0
        self._heartbeat = heartbeat

    def __missing__(self, raw: bytes) -> str:
        try:
            topic = raw.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"a topic that is not UTF-8: {raw[:80]!r}") from error
        if not topic or "\0" in topic or "+" in topic or "#" in topic:  # MQTT 5, 3.3.2.1 and 4.7.3; we allow no topic alias
            raise ProtocolError(f"no topic to publish to: {topic[:80]!r}")
        if topic == self._heartbeat:
            self.beats += 1
            return topic
        if len(self) >= TOPIC_LIMIT:
            self.clear()
        self[raw] = topic
        return topic


class Published(NamedTuple):
    """One PUBLISH: `mid` is b"" at QoS 0, `end` where the next packet begins."""

    topic: bytes
    payload: bytes
    retained: bool
    mid: bytes
    end: int


@dataclass(slots=True)
class Batch:
    """What comes off one buffer. Arrivals at QoS 1 get the tokens `token`, `token` + 1 …; `mids` are theirs, in that order."""

    topics: Topics
    five: bool
    now_ms: float
    token: int
    arrivals: list[Arrival] = field(default_factory=list)
    mids: list[bytes] = field(default_factory=list)


def read(data: bytes, at: int, limit: int, batch: Batch) -> int:
    """Take the whole PUBLISH packets that begin at `at`, at most `limit`; returns where they end.

    It stops at a packet of another kind and at one that is not all there.

    Raises:
        ProtocolError: what follows is no PUBLISH that MQTT allows.
    """
    arrivals, mids = batch.arrivals, batch.mids
    while len(arrivals) < limit:
        at = _usual(data, at, limit - len(arrivals), batch)
        if len(arrivals) < limit:
            one = _careful(data, at, five=batch.five)
            if one is None:
                break
            token = batch.token + len(mids) if one.mid else NO_TOKEN
            arrivals.append(Arrival(batch.topics[one.topic], one.payload, one.retained, batch.now_ms, token))
            if one.mid:
                mids.append(one.mid)
            at = one.end
    return at


def _usual(data: bytes, at: int, count: int, batch: Batch) -> int:  # noqa: C901 - one loop, every message pays for it
    """Take at most `count` packets of usual form; returns where the first other one begins."""
    topics, five, now_ms = batch.topics, batch.five, batch.now_ms
    unpack, add, note = _BEGIN, batch.arrivals.append, batch.mids.append
    stop, token = len(data), batch.token + len(batch.mids)
    try:
        for serial in range(token, token + count):
            head, size, high, word = unpack(data, at)
            if head == 0x32:  # noqa: PLR2004
                retained = False
            elif head & 0xF6 == 0x32:  # noqa: PLR2004
                retained = head & 1 == 1
            else:
                break
            if size > 127:  # noqa: PLR2004
                if high > 127:  # noqa: PLR2004
                    break
                start = at + 5
                end = at + 3 + size + (high << 7) - 128
                name = start + word
            else:
                start = at + 4
                end = at + 2 + size
                name = start + (high << 8 | word >> 8)
            begin = name + 2
            if five:
                extra = data[begin]
                if extra:
                    if extra > 127:  # noqa: PLR2004
                        break
                    begin += extra
                begin += 1
            if begin > end or end > stop:
                break
            add(Arrival(topics[data[start:name]], data[begin:end], retained, now_ms, serial))
            note(data[name : name + 2])
            at = end
    except (IndexError, struct.error):  # the last one is not all there
        pass
    return at


def _careful(data: bytes, at: int, *, five: bool) -> Published | None:
    """The PUBLISH at `at`, whatever its form; None when there is none, or not all of it."""
    packet = split(data, at)
    if packet is None or packet.head & 0xF0 != PUBLISH:
        return None
    head, start, end = packet
    qos = head >> 1 & 3
    if qos > 1:
        raise ProtocolError(f"a PUBLISH at QoS {qos} at byte {at}: only QoS 1 was asked for")
    if start + 2 > end:
        raise ProtocolError(f"a PUBLISH without a topic at byte {at}")
    name = start + 2 + int.from_bytes(data[start : start + 2], "big")
    begin = name + 2 * qos
    if begin > end:
        raise ProtocolError(f"a PUBLISH whose topic is longer than itself at byte {at}")
    if five:
        extra = variable(data, begin, end)
        if extra is None or sum(extra) > end:
            raise ProtocolError(f"a PUBLISH whose properties are longer than itself at byte {at}")
        begin = sum(extra)
    return Published(data[start + 2 : name], data[begin:end], bool(head & 1), data[name : name + 2 * qos], end)

"""What an outbox holds: a draft has no number yet, a row has one and keeps it for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from iotcore.wire.messages import ReadingMessage, Scalar, encode

Key = tuple[str, str, int]  # device, boot, seq: the identity of a reading
BEGIN = -(2**40)  # the id to begin a round after: below that of every row


class Row(NamedTuple):
    """A kept reading. `body` is its message as it goes out live; `put_s` is uptime of `machine` (see iotcore.clock.Uptime).

    `id` orders rows: those of the file count up from 1, those of the reserve are negative and come before them.
    """

    id: int
    domain: str
    device: str
    kind: str
    boot: str
    seq: int
    put_ms: float
    put_s: float
    machine: str
    body: bytes

    @property
    def key(self) -> Key:
        """Its identity."""
        return (self.device, self.boot, self.seq)


@dataclass(frozen=True, slots=True)
class Draft:
    """A reading that has no number yet."""

    domain: str
    device: str
    kind: str
    values: Mapping[str, Scalar | None]
    q: Mapping[str, str]
    ts: int | None
    fw: str
    test: bool
    put_ms: float
    put_s: float

    def numbered(self, boot: str, seq: int, machine: str) -> Row:
        """The row of this draft; it has no id until it is in the file."""
        message = ReadingMessage(
            boot=boot, seq=seq, values=dict(self.values), q=dict(self.q), ts=self.ts, fw=self.fw, test=self.test
        )
        return Row(0, self.domain, self.device, self.kind, boot, seq, self.put_ms, self.put_s, machine, encode(message))


def held_back(row: Row, age_ms: int) -> bytes:
    """The message of a row that was not sent at once: marked as backlog, with its age."""
    message = msgspec.json.decode(row.body, type=ReadingMessage)
    return encode(msgspec.structs.replace(message, backlog=True, age_ms=age_ms))

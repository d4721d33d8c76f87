"""Message types of the wire contract; `iotcore/wire/*.json` are generated from them (`python -m iotcore.wire.schemas`).

Payloads are JSON, UTF-8, at most 64 KiB: one object, or an array of at most 500.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Boot = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$(?!\n)", description="random at every start of the device")]
Seq = Annotated[int, Meta(ge=1, le=2**53, description="counts up from 1 within one boot")]
Scalar = float | bool | str
MAX_AGE_MS = 10 * 366 * 86_400_000  # ten years: no outbox holds longer, and a store can hold the time it leads to


class ReadingMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A reading (periodic) or an event (change of state), by the topic's kind."""

    boot: Boot
    seq: Seq
    values: dict[str, Scalar | None]
    v: Literal[1] = 1
    ts: Annotated[int | None, Meta(description="source time, ms UTC, or null")] = None
    fw: Annotated[str, Meta(max_length=64, description="firmware version")] = ""
    backlog: Annotated[bool, Meta(description="held back by the sender's outbox; set age_ms")] = False
    age_ms: Annotated[int, Meta(ge=0, le=MAX_AGE_MS, description="ms held back, by a monotonic clock")] = 0
    test: Annotated[bool, Meta(description="made by a test button or a drill; never dispatched")] = False
    q: Annotated[dict[str, str], Meta(description="good | uncertain[:why] | bad:why per point; missing = good")] = {}


class StatusMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Presence: retained birth message, and the last will {"state": "offline"}."""

    state: Literal["online", "offline"]
    v: Literal[1] = 1
    boot: str = ""
    fw: str = ""


class CommandMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An intent for a device; published with MQTT message expiry where the broker has it."""

    id: str
    name: str
    expires: Annotated[int, Meta(description="ms UTC; a later command is rejected")]
    by: str
    args: dict[str, Scalar | None] = {}
    v: Literal[1] = 1


class ResultMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command."""

    id: str
    state: Literal["accepted", "rejected", "done", "failed"]
    reason: str = ""


class ReceiptMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Cumulative: every reading of `boot` up to and including `up_to` is stored; the sender may forget it."""

    boot: Boot
    up_to: Seq
    ts: Annotated[int, Meta(description="server time, ms UTC")]


def encode(message: msgspec.Struct) -> bytes:
    """The JSON bytes of a message."""
    return msgspec.json.encode(message)

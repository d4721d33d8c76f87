"""Message types of the wire contract; `iotcore/wire/*.json` are generated from them (`python -m iotcore.wire.schemas`).

Payloads are JSON, UTF-8, at most 64 KiB: one object, or an array of at most 500.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

BOOT_PATTERN = r"^[A-Za-z0-9_-]{1,32}$(?!\n)"
BOOT_SAID = "random at every start of the device"
BOOT = re.compile(r"[A-Za-z0-9_-]{1,32}")
KNOWN_BOOTS = 131_072  # about 100 bytes each; beyond it all are looked at anew
Boot = Annotated[str, Meta(pattern=BOOT_PATTERN, description=BOOT_SAID)]
Seq = Annotated[int, Meta(ge=1, le=2**53, description="counts up from 1 within one boot")]
Scalar = float | bool | str
MAX_AGE_MS = 10 * 366 * 86_400_000  # ten years: no outbox holds longer, and a store can hold the time it leads to


_known_boots: dict[str, None] = {}


def _check_boot(boot: str) -> None:
    """Each boot is looked at once: in every message it would cost as much as all the rest of its decoding."""
    if not BOOT.fullmatch(boot):
        raise ValueError(f"boot {boot!r} is not of 1 to 32 letters, digits, _ and -")
    if len(_known_boots) >= KNOWN_BOOTS:
        _known_boots.clear()
    _known_boots[boot] = None


class ReadingMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A reading (periodic) or an event (change of state), by the topic's kind."""

    boot: Annotated[str, Meta(max_length=32, description=BOOT_SAID, extra_json_schema={"pattern": BOOT_PATTERN})]
    seq: Seq
    values: dict[str, Scalar | None]
    v: Literal[1] = 1
    ts: Annotated[int | None, Meta(description="source time, ms UTC, or null")] = None
    fw: Annotated[str, Meta(max_length=64, description="firmware version")] = ""
    backlog: Annotated[bool, Meta(description="held back by the sender's outbox; set age_ms")] = False
    age_ms: Annotated[int, Meta(ge=0, le=MAX_AGE_MS, description="ms held back, by a monotonic clock")] = 0
    test: Annotated[bool, Meta(description="made by a test button or a drill; never dispatched")] = False
    q: Annotated[dict[str, str], Meta(description="good | uncertain[:why] | bad:why per point; missing = good")] = {}

    def __post_init__(self) -> None:
        """The rest of what `boot` must be."""
        if self.boot not in _known_boots:
            _check_boot(self.boot)


class ReportedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is set to, since it took a version that was wanted of it."""

    version: Annotated[int, Meta(ge=1, le=2**31 - 1, description="the wanted version that it took last")]
    body: Annotated[dict[str, Any], Meta(description="its settings as they are now; at most 60 kB of JSON")]


class StatusMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Presence: retained birth message, and the last will {"state": "offline"}."""

    state: Literal["online", "offline"]
    v: Literal[1] = 1
    boot: str = ""
    fw: str = ""
    config: ReportedConfig | None = None


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

"""How an MQTT device misbehaves: each fault by its name, begun and ended by whoever plays a timeline. Pure: no clock, no network.

disconnect            the cable is pulled: no goodbye, the broker publishes the will; no connection until it ends
flap_link             the same again and again: `every_s` connected, `every_s` not
flap                  a yes-or-no point turns every `every_s` (alarm, clear, alarm …), and the device tells each turn
duplicate             every publish goes out `copies` times, byte by byte the same
reorder               reports wait until there are `window` of them, then go out newest first
clock_skew            the device's clock is ahead by `by_s` (behind: negative)
expired_certificate   it shows `certificate` and `key` (files), or one of its own making that ended yesterday
oversized             one reading of `size` bytes, more than the contract takes, when the fault begins
raw                   one payload as it stands, when the fault begins
silent                it stays connected and reports nothing
stuck                 it reports what it said last, with fresh numbers and times
deaf                  it hears no receipt, so that it sends everything again
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from iotcore.reading import Scalar
from iotcore.strict import convert
from iotcore.wire.topics import MAX_PAYLOAD_BYTES

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
REORDER_LIMIT_S = 5.0  # a window that does not fill goes out all the same


class Disconnect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cable is pulled."""


class FlapLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cable has a loose contact."""

    every_s: Seconds = 2.0


class Flap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A point that cannot make up its mind."""

    point: str = "alarm"
    every_s: Seconds = 1.0


class Duplicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each publish more than once."""

    copies: Annotated[int, Meta(ge=2, le=100)] = 2


class Reorder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Newest first."""

    window: Annotated[int, Meta(ge=2, le=100)] = 2


class ClockSkew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A clock that is wrong."""

    by_s: Annotated[float, Meta(ge=-4e9, le=4e9)] = 3600.0


class ExpiredCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate past its day."""

    certificate: str = ""
    key: str = ""


class Oversized(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """More than the contract allows in one message."""

    size: Annotated[int, Meta(ge=1, le=2_000_000)] = MAX_PAYLOAD_BYTES + 1


class Raw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Any text as a payload."""

    payload: str = "\x00"
    retain: bool = False


class Silent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There, and dumb."""


class Stuck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last values again."""


class Deaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Receipts do not reach it."""


Fault = (
    Disconnect | FlapLink | Flap | Duplicate | Reorder | ClockSkew | ExpiredCertificate | Oversized | Raw | Silent | Stuck | Deaf
)
FAULTS: dict[str, type[Fault]] = {
    "disconnect": Disconnect,
    "flap_link": FlapLink,
    "flap": Flap,
    "duplicate": Duplicate,
    "reorder": Reorder,
    "clock_skew": ClockSkew,
    "expired_certificate": ExpiredCertificate,
    "oversized": Oversized,
    "raw": Raw,
    "silent": Silent,
    "stuck": Stuck,
    "deaf": Deaf,
}
F = TypeVar("F", bound=Fault)


def parse(name: str, args: Mapping[str, Any] | None = None) -> Fault:
    """The fault of this name.

    Raises:
        ValueError: there is none; the known ones are listed.
        ConfigError: arguments that it does not have, or values that it does not take.
    """
    if name not in FAULTS:
        raise ValueError(f"no MQTT fault {name!r}; known are: {', '.join(FAULTS)}")
    return convert(dict(args or {}), FAULTS[name], name)


class Faults:
    """What is wrong with a device now. A fault of a kind replaces the one that holds; ending what does not hold does nothing."""

    def __init__(self) -> None:
        self._now: dict[type[Any], tuple[Fault, float]] = {}

    def begin(self, fault: Fault, at_s: float) -> None:
        """From now on; `at_s` on the caller's clock."""
        self._now[type(fault)] = (fault, at_s)

    def end(self, fault: Fault) -> None:
        """No longer."""
        self._now.pop(type(fault), None)

    def now(self, kind: type[F]) -> F | None:
        """The fault of a kind that holds."""
        found = self._now.get(kind)
        return found[0] if found is not None else None  # type: ignore[return-value]  # keyed by its type

    def is_cut(self, at_s: float) -> bool:
        """Whether the cable is out."""
        return self.now(Disconnect) is not None or self._turned(FlapLink, at_s, start=True)

    def cut_changes_in_s(self, at_s: float) -> float | None:
        """Until a loose contact changes next; None where there is none."""
        found = self._now.get(FlapLink)
        if found is None:
            return None
        fault, began_s = found
        assert isinstance(fault, FlapLink)
        return fault.every_s - (at_s - began_s) % fault.every_s

    def stamp(self, ts: int) -> int:
        """What the device's clock says when it is `ts`, ms UTC."""
        skew = self.now(ClockSkew)
        return ts + round(skew.by_s * 1000.0) if skew is not None else ts

    def seen(
        self, values: Mapping[str, Scalar | None], told: Mapping[str, Scalar | None], at_s: float
    ) -> dict[str, Scalar | None]:
        """What the device believes when `values` is so, and it said `told` last."""
        believed = dict(told) if told and self.now(Stuck) is not None else dict(values)
        flap = self.now(Flap)
        if flap is not None:
            believed[flap.point] = self._turned(Flap, at_s, start=True)
        return believed

    def _turned(self, kind: type[FlapLink | Flap], at_s: float, *, start: bool) -> bool:
        found = self._now.get(kind)
        if found is None:
            return False
        fault, began_s = found
        assert isinstance(fault, FlapLink | Flap)
        return (int((at_s - began_s) / fault.every_s) % 2 == 0) is start


def existing(fault: ExpiredCertificate) -> tuple[Path, Path] | None:
    """The files that it names, or None for one of the device's own making."""
    return (Path(fault.certificate), Path(fault.key)) if fault.certificate else None

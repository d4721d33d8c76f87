"""What the lane asks of a telemetry store: InfluxDB (`influx`) or SQLite (`embedded`).

A store says how one reading becomes one record of bytes, and takes many of them at once. Writing a record twice must leave one.
Confidential readings have a store of their own, of the same kind: a database or file apart, with its own drain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from iotcore.reading import Reading
from iotcore.registry.directory import Binding

CONFIDENTIAL = ".confidential"  # after the name of a format: records for the confidential store


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that the store will never take, and what it said."""

    record: bytes
    detail: str


@dataclass(frozen=True, slots=True)
class Written:
    """All records are in the store, except those it rejected for good."""

    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """The store cannot take them now: `reason` is a name, `detail` what it said; not before `after_s` if it gave a time."""

    reason: str
    detail: str
    after_s: float = 0.0


class Store(Protocol):
    """A telemetry store."""

    format: str  # name of the record format; the spool keeps records of different formats apart

    def record(self, reading: Reading, binding: Binding) -> bytes:
        """One reading as bytes without a line feed."""

    async def ensure(self) -> Later | None:
        """Make sure that the database exists; None when it does. Never raises for a store that is down."""

    async def write(self, body: bytes, lines: int) -> Written | Later:
        """Write `lines` records, joined by line feeds, once; on `Later` some of them may be in the store already.

        The bytes go on as they are: nobody splits them unless the store rejects some. Never raises for a store that is down.
        """


@dataclass(frozen=True, slots=True)
class Confidential:
    """Where confidential readings go, and whose they are: domains or device classes."""

    store: Store
    classes: frozenset[str]

    def has(self, binding: Binding) -> bool:
        """Whether the readings of a device are confidential."""
        return binding.domain in self.classes or binding.spec.device_class in self.classes

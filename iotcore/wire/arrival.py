"""What passes between a driver and a lane: arrivals, and what decoding makes of them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotcore.reading import Reading
from iotcore.wire.messages import StatusMessage


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker, and the certificate to meet it with."""

    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts only `ca_file` and shows our certificate."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.ca_file))
        context.load_cert_chain(str(self.cert_file), str(self.key_file))
        return context


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it came off the broker; `token` is the driver's own handle to acknowledge it with."""

    topic: str
    payload: bytes
    retained: bool
    received_ms: float
    token: Any = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message, or one element of a batch, that is not accepted. `device` is "" where it cannot be told."""

    reason: str
    detail: str
    topic: str
    device: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Presence:
    """A device or gateway said that it is there, or its broker said that it is gone."""

    device: str
    publisher: str
    message: StatusMessage


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one arrival holds: readings to use, refusals to quarantine, perhaps a presence."""

    readings: tuple[Reading, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    presence: Presence | None = None

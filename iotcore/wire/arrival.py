"""What passes between a driver and a lane: arrivals, and what decoding makes of them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from iotcore.reading import Reading
from iotcore.wire.messages import StatusMessage

DRILL_REFUSED = "drill"  # how the reason of a refusal begins that is a security event: a drill that is none


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker, and the certificate to meet it with."""

    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts only `ca_file` and shows our certificate, if we have one."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.ca_file))
        if self.cert_file != Path():
            context.load_cert_chain(str(self.cert_file), str(self.key_file))
        context.sslsocket_class = _TidySocket
        return context


class _TidySocket(ssl.SSLSocket):
    """Closed when its handshake fails: paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's signature
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A message as it came off the broker; `token` is the driver's own handle to acknowledge it with."""

    topic: str
    payload: bytes
    retained: bool
    received_ms: float
    token: Any = None


class Broker(Protocol):
    """What a lane asks of its connection to a broker (`drivers.mqtt.ingest.Ingest`)."""

    async def take(self, limit: int) -> list[Arrival]:
        """Wait for at least one arrival; up to `limit` of those that are there."""

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Acknowledge what is durable; every arrival, refused ones too."""

    def working(self) -> None:
        """Say that the lane lives although it does not come back for more (`iotcore.process.watchdog`)."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; raises DeliveryError when that cannot be now."""


class Refusal(msgspec.Struct, frozen=True):
    """A message, or one element of a batch, that is not accepted. `device` is "" where it cannot be told.

    `size` is how much came when `payload` is less; 0: all of it. `identities` are the (boot, seq) that could be read from what
    its own device sent: they count as handled, so that no receipt waits for what will never be accepted.
    """

    reason: str
    detail: str
    topic: str
    device: str
    payload: bytes
    size: int = 0
    received_ms: float = 0.0
    identities: tuple[tuple[str, int], ...] = ()


class Presence(msgspec.Struct, frozen=True):
    """A device or gateway said that it is there, or its broker said that it is gone."""

    device: str
    publisher: str
    message: StatusMessage


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What one arrival holds: readings to use, refusals to quarantine, perhaps a presence.

    `drill` are readings of a drill: for the rules alone, in no stream of the device that they name.
    """

    readings: tuple[Reading, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    presence: Presence | None = None
    drill: tuple[Reading, ...] = ()


class Delivered(msgspec.Struct, frozen=True):
    """What became of a message that asks for an answer, once it is durable.

    `taken` counts its readings that are stored, now or before; `up_to` says for each of its boots how far all are.
    """

    taken: int
    up_to: Mapping[str, int]
    refusals: tuple[Refusal, ...] = ()

"""The channel to a computer-aided dispatch system: signed JSON over HTTP, answered with accepted or rejected.

    Iotcore-Timestamp   seconds since 1970 UTC at which this attempt was signed
    Iotcore-Signature   v1=<hex HMAC-SHA-256 of timestamp + "." + body, with the shared secret>
    Idempotency-Key     <incident>:<event>, of an update with :<part>; the same for every attempt

The body is a `Report`; its JSON Schema is `cad_webhook.schema.json` (`python -m iotcore.dispatch.cad_webhook` prints it).
The life cycle follows ASAP (APCO/CSAA): the alarm goes out, dispatch answers accepted or rejected.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from iotcore.clock import Clock
from iotcore.dispatch.egress import Egress
from iotcore.dispatch.post import HttpLink, refusal
from iotcore.errors import DeliveryError
from iotcore.journal.facts import Measured, Near, Person
from iotcore.journal.records import Event, Notice, OutboxRow, Severity
from iotcore.settings_receivers import WebhookReceiver

FRESH_S = 300  # a signature that is older or newer than this is not believed

Instant = Annotated[str, Meta(description="RFC 3339, UTC, milliseconds", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The premises, as the registry knows them."""

    id: str
    name: str
    address: str
    account: Annotated[str, Meta(description="number at the alarm receiving centre")]
    latitude: Annotated[float, Meta(description="degrees north, WGS 84; 0 with longitude 0 means unknown")]
    longitude: Annotated[float, Meta(description="degrees east, WGS 84")]
    risk_class: Annotated[str | UnsetType, Meta(description="low | medium | high | very_high")] = UNSET
    hydrants: Annotated[str | UnsetType, Meta(description="water, in words")] = UNSET


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the premises that a crew goes to first."""

    id: str
    number: int
    name: str
    floor: str


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What raised the alarm."""

    device: str
    point: str
    value: float | bool | str | None
    unit: str
    rule: str
    reason: str
    title: Annotated[str | UnsetType, Meta(description="what people call the detector")] = UNSET
    location: Annotated[str | UnsetType, Meta(description="where in the building it hangs")] = UNSET


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a crew calls."""

    name: str
    phone: str
    role: str
    keys: Annotated[bool, Meta(description="can open the building")]


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A device near the fire."""

    device: str
    title: str
    metres: Annotated[int, Meta(description="as the crow flies", ge=0)]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What an air station nearby measured last."""

    device: str
    point: str
    value: float
    unit: str
    measured_at: Instant


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm, or the end of one."""

    incident: Annotated[str, Meta(description="the same for every message about one fire", min_length=1)]
    event: Event
    hazard: Annotated[str, Meta(description="smoke | heat | co | manual | flame | waterflow | fire")]
    severity: Severity
    occurred_at: Instant
    delayed: Annotated[bool, Meta(description="held back by a broken link, still active")]
    unconfirmed: Annotated[bool, Meta(description="found on a broker after a restart: a person must look")]
    premises: Place
    zone: Part
    cause: Cause
    contacts: Annotated[tuple[Contact, ...] | UnsetType, Meta(description="who has the keys first")] = UNSET
    signals: Annotated[tuple[Neighbour, ...] | UnsetType, Meta(description="traffic signals, the nearest first")] = UNSET
    air_stations: Annotated[tuple[Neighbour, ...] | UnsetType, Meta(description="the nearest first")] = UNSET
    air: Annotated[tuple[Sample, ...] | UnsetType, Meta(description="only in updates: the alarm waits for nothing")] = UNSET
    points: Annotated[tuple[str, ...] | UnsetType, Meta(description="device/point of all so far, first-in first")] = UNSET
    owner: Annotated[str | UnsetType, Meta(description="confirmed | denied, by the owner; cancels nothing")] = UNSET
    part: Annotated[int | UnsetType, Meta(description="of an update: 1, 2, …")] = UNSET
    purpose: Annotated[Literal["exercise", "test"] | UnsetType, Meta(description="missing: a fire")] = UNSET
    v: Literal[1] = 1


class Answer(msgspec.Struct, frozen=True):
    """What dispatch answers with, status 200–299. Other members are ignored."""

    status: Literal["accepted", "rejected"]
    reason: str = ""
    reference: str = ""


def report(notice: Notice, part: int = 0) -> Report:
    """The body for a notice; `part` numbers the updates of an incident."""
    return Report(
        incident=notice.incident,
        event=notice.event,
        hazard=notice.hazard,
        severity=notice.severity,
        occurred_at=_instant(notice.occurred_ms),
        delayed=notice.delayed,
        unconfirmed=notice.unconfirmed,
        premises=_place(notice),
        zone=Part(id=notice.zone, number=notice.zone_number, name=notice.zone_name, floor=notice.floor),
        cause=_cause(notice),
        contacts=tuple(map(_contact, notice.people)) or UNSET,
        signals=tuple(map(_neighbour, notice.signals)) or UNSET,
        air_stations=tuple(map(_neighbour, notice.stations)) or UNSET,
        air=tuple(map(_sample, notice.air)) or UNSET,
        points=notice.points if len(notice.points) > 1 else UNSET,
        owner=notice.owner_said or UNSET,
        part=part or UNSET,
        purpose=UNSET if notice.purpose == "fire" else notice.purpose,
    )


def _place(notice: Notice) -> Place:
    return Place(
        id=notice.premises,
        name=notice.premises_name,
        address=notice.address,
        account=notice.account,
        latitude=notice.latitude,
        longitude=notice.longitude,
        risk_class=notice.risk_class or UNSET,
        hydrants=notice.hydrants or UNSET,
    )


def _cause(notice: Notice) -> Cause:
    return Cause(
        device=notice.device,
        point=notice.point,
        value=notice.value,
        unit=notice.unit,
        rule=notice.rule,
        reason=notice.reason,
        title=notice.title or UNSET,
        location=notice.location or UNSET,
    )


def _contact(one: Person) -> Contact:
    return Contact(name=one.name, phone=one.phone, role=one.role, keys=one.keys)


def _neighbour(one: Near) -> Neighbour:
    return Neighbour(device=one.device, title=one.title, metres=max(one.metres, 0))


def _sample(one: Measured) -> Sample:
    return Sample(device=one.device, point=one.point, value=one.value, unit=one.unit, measured_at=_instant(one.at_ms))


def _instant(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000.0, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `Iotcore-Signature`."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()


def unproven(secret: str, timestamp: str, signature: str, body: bytes, now_s: float) -> str:
    """Why a request that carries our way of signing is not believed; "" when it is. A recorded one is worth nothing later."""
    if not timestamp.isascii() or not hmac.compare_digest(signature.encode(), sign(secret, timestamp, body).encode()):
        return "bad_signature"
    return "" if timestamp.isdecimal() and abs(now_s - int(timestamp)) <= FRESH_S else "bad_time"


def schema() -> dict[str, Any]:
    """The JSON Schema of the body."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Report)}


class WebhookChannel:
    """Posts notices to one dispatch system; implements `iotcore.dispatch.outbox.Channel`."""

    def __init__(self, receiver: WebhookReceiver, clock: Clock) -> None:
        self._receiver = receiver
        self._clock = clock
        self._link = HttpLink(clock, receiver.reply_timeout_s, Egress.of(receiver))

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Post a notice; returns "accepted" and the reference that dispatch gave it.

        Raises:
            DeliveryError: anything but an acceptance; not recoverable when dispatch understood and rejected it.
        """
        body = msgspec.json.encode(report(row.notice, row.part))
        return _judged(*await self._link.ask("POST", self._receiver.url, body, lambda: self._headers(row, body), sent))

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()

    def _headers(self, row: OutboxRow, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._clock.wall_ms() / 1000.0))
        return {
            "Content-Type": "application/json",
            "Iotcore-Timestamp": timestamp,
            "Iotcore-Signature": sign(self._receiver.secret, timestamp, body),
            "Idempotency-Key": f"{row.incident}:{row.notice.event}" + (f":{row.part}" if row.part else ""),
        }


def _judged(status: int, text: bytes) -> str:
    if (refused := refusal(status, text)) is not None:
        raise refused
    try:
        answer = msgspec.json.decode(text, type=Answer)
    except msgspec.DecodeError as error:  # a captive portal's 200 is nobody's acceptance
        raise DeliveryError("not_an_answer", str(error)) from error
    if answer.status == "rejected":
        raise DeliveryError("rejected", answer.reason or "no reason given", recoverable=False)
    return f"accepted {answer.reference}".rstrip()


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n")

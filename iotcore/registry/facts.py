"""What the registry knows of a batch of requests: read once for all of them, inside the transaction that decides.

The records are mutable: what one request of the batch uses up is gone for the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from iotcore.registry import supersede
from iotcore.registry.asked import Asked, ByCertificate, BySecret
from iotcore.registry.tables import CertificateRow, DeviceRow, TokenRow
from iotcore.registry.tables_enrolment import BatchTokenRow, ClaimRow, RequestRow

WAITS, APPROVED, REFUSED, ISSUED = "waiting", "approved", "rejected", "issued"  # states of a request


@dataclass(slots=True)
class Device:
    """A place."""

    id: str
    model: str
    state: str
    parent: str | None
    serial: str  # of the unit that stands there; "" if nobody said


@dataclass(slots=True)
class Token:
    """Of one device."""

    hash: str
    device: str
    expires_ms: int
    used_ms: int | None
    revoked_ms: int | None
    approval: bool


@dataclass(slots=True)
class Unit:
    """Of a maker's batch."""

    id: int
    serial: str
    batch: str
    secret: str
    expires_ms: int
    device: str | None
    spent_ms: int | None
    revoked_ms: int | None


@dataclass(slots=True)
class BatchToken:
    """For so many units of a batch."""

    hash: str
    batch: str
    uses: int
    used: int
    approval: bool
    expires_ms: int
    revoked_ms: int | None


@dataclass(slots=True)
class Key:
    """A certificate that was issued for a key."""

    key: str
    cn: str
    issued_ms: int
    revoked_ms: int | None


@dataclass(slots=True)
class Request:
    """One that a person has looked at, or has to."""

    id: int
    device: str
    key: str
    anchor: str
    token: str
    state: str
    expires_ms: int
    reason: str


@dataclass(slots=True)
class Facts:
    """Everything that a batch needs."""

    now_ms: int
    devices: dict[str, Device] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    units: dict[str, list[Unit]] = field(default_factory=lambda: defaultdict(list))  # by serial
    batch_tokens: dict[str, BatchToken] = field(default_factory=dict)
    keys: dict[str, list[Key]] = field(default_factory=lambda: defaultdict(list))
    revoked: set[str] = field(default_factory=set)  # of serial numbers that were shown; or superseded by newer certificates
    requests: dict[tuple[str, str, str], Request] = field(default_factory=dict)  # by device, key, anchor
    waiting: dict[str, int] = field(default_factory=dict)  # requests that wait, by device
    all_waiting: int = 0


async def read(db: BaseDBAsyncClient, now_ms: int, asked: Sequence[Asked]) -> Facts:
    """The facts for these requests."""
    facts = Facts(now_ms)
    hashes = {one.right.hash for one in asked if isinstance(one.right, BySecret)}
    columns = ("hash", "device_id", "expires_ms", "used_ms", "revoked_ms", "approval")
    facts.tokens = {row[0]: Token(*row) for row in await _rows(db, TokenRow, "hash", hashes, columns)}
    names = {one.name for one in asked} | {one.right.holder for one in asked if isinstance(one.right, ByCertificate)}
    names |= await _units(db, facts, asked, hashes - set(facts.tokens))
    rows = await _rows(db, DeviceRow, "id", names, ("id", "model", "state", "parent_id", "serial"))
    facts.devices = {row[0]: Device(*row) for row in rows}
    keys = {one.key for one in asked}
    for row in await _rows(db, CertificateRow, "key", keys, ("key", "cn", "issued_ms", "revoked_ms")):
        facts.keys[row[0]].append(Key(*row))
    shown = {one.right.serial for one in asked if isinstance(one.right, ByCertificate)}
    for serial, revoked_ms in await _rows(db, CertificateRow, "serial", shown, ("serial", "revoked_ms")):
        if revoked_ms is not None:
            facts.revoked.add(serial)
    facts.revoked |= (await supersede.moments(db, shown)).keys()
    return facts


async def read_requests(db: BaseDBAsyncClient, facts: Facts, asked: Sequence[Asked]) -> None:
    """What persons have said of these requests; only asked where somebody has to approve."""
    columns = ("id", "device_id", "key", "anchor", "token", "state", "expires_ms", "reason")
    for row in await _rows(db, RequestRow, "key", {one.key for one in asked}, columns):
        facts.requests[row[1], row[2], row[3]] = Request(*row)
    waiting = RequestRow.filter(state=WAITS, expires_ms__gt=facts.now_ms)
    for device in await waiting.using_db(db).values_list("device_id", flat=True):
        facts.waiting[str(device)] = facts.waiting.get(str(device), 0) + 1
        facts.all_waiting += 1


async def _units(db: BaseDBAsyncClient, facts: Facts, asked: Sequence[Asked], hashes: set[str]) -> set[str]:
    """Read units and batch tokens, where a secret is no token of a device; the devices they are bound to."""
    serials = {one.name for one in asked if isinstance(one.right, BySecret) and one.right.hash in hashes}
    columns = ("id", "serial", "batch", "secret", "expires_ms", "device_id", "spent_ms", "revoked_ms")
    bound = set()
    for row in await _rows(db, ClaimRow, "serial", serials, columns):
        facts.units[row[1]].append(Unit(*row))
        bound.add(row[5])
    if facts.units:
        of_token = ("hash", "batch", "uses", "used", "approval", "expires_ms", "revoked_ms")
        facts.batch_tokens = {row[0]: BatchToken(*row) for row in await _rows(db, BatchTokenRow, "hash", hashes, of_token)}
    return bound - {None}


async def _rows(
    db: BaseDBAsyncClient, table: type[Model], column: str, values: Iterable[str], columns: tuple[str, ...]
) -> Sequence[tuple[Any, ...]]:
    wanted = sorted(values)
    return await table.filter(**{f"{column}__in": wanted}).using_db(db).values_list(*columns) if wanted else ()

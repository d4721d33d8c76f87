"""A real registry with devices, tokens and units, and the real listener over it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iotcore.app.common import anchors_of
from iotcore.clock import Clock, ManualClock, SystemClock
from iotcore.errors import EnrolmentError
from iotcore.provision.ca import Authority
from iotcore.provision.enroll import Enrolment
from iotcore.provision.refusals import PER_ADDRESS
from iotcore.registry.admissions import Admissions
from iotcore.registry.asked import POLL_S, Asked, BySecret
from iotcore.registry.claims import UnitEntry
from iotcore.registry.enrolments import Enrolments
from iotcore.registry.records import Certificate, State
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.tables import TokenRow
from iotcore.registry.tokens import hash_of
from iotcore.web.est import EstListener, server_context
from tests.support.registered import SPECS

BY = "tester"
DAY_S = 86_400.0


@dataclass
class Book:
    """A registry, and what a test asks of it."""

    registry: Registry
    admissions: Admissions
    enrolments: Enrolments = field(init=False)

    def __post_init__(self) -> None:
        self.enrolments = Enrolments(self.registry.database)

    def enrolment(self, authority: Authority) -> Enrolment:
        """The road to a certificate."""
        return Enrolment(authority, self.admissions.admit, self.admissions.refuse)

    async def give(self, token: str, device: str, ttl_s: float = DAY_S, *, approval: bool = False) -> None:
        """A token of a text that the test knows."""
        async with self.registry.database.writing() as work:
            expires_ms = work.now_ms + int(ttl_s * 1000)
            await TokenRow.create(
                using_db=work.db, hash=hash_of(token), device_id=device, expires_ms=expires_ms, approval=approval
            )
            work.note(BY, "token.create", device)

    async def open_tokens(self) -> list[str]:
        """Devices whose tokens could still be used."""
        now_ms = self.registry.database.now_ms()
        return [token.device for token in await self.enrolments.tokens() if token.is_open(now_ms)]

    async def recorded(self) -> list[Certificate]:
        """Certificates, newest first."""
        return await self.registry.certificates()

    async def refused(self) -> list[tuple[str, str, str]]:
        """Refusals in the audit: action, whose, and the reason that was told."""
        entries = await self.registry.audit_entries(limit=10_000)
        return [
            (entry.deed.action, entry.deed.subject, json.loads(entry.deed.detail).get("detail", ""))
            for entry in entries
            if entry.deed.action in {"enrolment_refused", "renewal_refused"}
        ]

    async def actions(self) -> list[str]:
        """What the audit says, oldest first."""
        return [entry.deed.action for entry in await self.registry.audit_entries(limit=10_000)]

    async def states(self) -> dict[str, str]:
        """Device → state."""
        return {name: binding.state for name, binding in (await self.registry.directory(SPECS)).devices.items()}

    async def put_out(self, device: str) -> None:
        """Suspend a device, through whatever states lead there."""
        steps: tuple[State, ...] = ("provisioned", "active", "suspended")
        state = (await self.states())[device]
        for step in steps[steps.index(state) + 1 if state in steps else 0 :]:
            await self.registry.set_state(device, step, BY)


def device(name: str, model: str = "signal", parent: str = "", **more: Any) -> dict[str, Any]:
    """A device's entry; a detector hangs in the one building of the city."""
    entry: dict[str, Any] = {"id": name, "title": name, "model": model, **more}
    if model == "smoke-heat":
        entry |= {"premises": "p1", "zone": "p1-z1"}
    return entry | ({"parent": parent} if parent else {})


def city(*devices: Mapping[str, Any]) -> dict[str, Any]:
    """One building, and these devices."""
    place = {"id": "p1", "name": "Trường", "address": "1 Lê Lợi", "latitude": 19.8, "longitude": 105.77, "account": "a001"}
    zone = {"id": "p1-z1", "premises": "p1", "number": 1, "floor": "2", "name": "Bếp"}
    return {"premises": [place], "zones": [zone], "devices": list(devices)}


CITY = [
    device("d1", "smoke-heat"),
    device("d2", "smoke-heat"),
    device("s1"),
    device("gw-1", "gateway"),
    device("child-1", "smoke-heat", parent="gw-1"),
]
UNTIL_MS = 9_000_000_000_000
LOT = [UnitEntry("smoke-heat", "SN1", hash_of("secret 1")), UnitEntry("smoke-heat", "SN2", "")]


def signs(key: str) -> Callable[[str, str], Certificate]:
    """A certificate without an authority: what the registry keeps of one."""

    def issue(name: str, anchor: str) -> Certificate:
        return Certificate(hash_of(f"{key}{name}")[:32], name, anchor, UNTIL_MS, hash_of(key), key=key)

    return issue


def asking(name: str, secret: str, key: str = "", *, anchor: str = "") -> Asked:
    key = hash_of(key or f"key of {name} and {secret}")
    return Asked(name, key, BySecret(hash_of(secret)), signs(key), anchor, "192.0.2.7")


async def said(kept: Book, asked: Asked) -> str:
    """The anchor of the certificate, or why there is none."""
    try:
        return (await kept.admissions.admit(asked)).anchor
    except EnrolmentError as error:
        return error.reason


async def whys(kept: Book) -> list[str]:
    """What the audit says of refusals, and the device does not hear."""
    entries = await kept.registry.audit_entries(limit=10_000)
    return [json.loads(e.deed.detail).get("why", "") for e in entries if e.deed.action == "enrolment_refused"]


@asynccontextmanager
async def book(
    url: str | Path,
    devices: Sequence[Mapping[str, Any]] = (),
    clock: Clock | None = None,
    *,
    approval: bool = False,
    poll_s: float = POLL_S,
) -> AsyncIterator[Book]:
    """A registry at a URL (or in a folder) with devices in it."""
    where = f"sqlite://{url / 'registry.db'}" if isinstance(url, Path) else url
    async with await open_registry(where, clock or ManualClock(now_ms=SystemClock().wall_ms())) as registry:
        if devices:
            await registry.import_city(city(*devices), SPECS, BY)
        async with Admissions(
            registry.database, lambda model: anchors_of(SPECS, model), approval=approval, poll_s=poll_s
        ) as admissions:
            yield Book(registry, admissions)


@asynccontextmanager
async def listening(
    kept: Book, authority: Authority, folder: Path, clock: Clock, *, max_refusals: int = PER_ADDRESS
) -> AsyncIterator[EstListener]:
    """The listener over a book, on a free port."""
    tls = server_context(authority, folder / "certs", ["localhost", "127.0.0.1"])
    listener = EstListener(kept.enrolment(authority), tls, clock, host="127.0.0.1", port=0, max_refusals=max_refusals)
    async with listener:
        yield listener

"""A gateway's certificate for one broker, from its first to its last: got, renewed at half life, never lost.

    none ──first()──► current ──half life──► new key, new certificate ──switch()──► connected with it ──► current
                         ▲                      (file beside: *.next.pem)               │ refused
                         └──────────────────────────────────────────────────────────────┘ tried again later

The old file is replaced only after the broker has taken a connection with the new certificate. A cut at any point leaves either
the old identity, or the old one with a new one beside it that is tried again. That a broker has let the current one in is told
to the core after each start and each renewal, until it has heard it: then those before it are revoked there.

Where certificates come from is a `Source`: EST at a site, the authority itself where the gateway runs beside it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509

from iotcore.clock import Clock
from iotcore.errors import EnrolmentError, IotError
from iotcore.provision.ca import Anchor, Authority, IssuedCertificate
from iotcore.provision.est_client import EstServer
from iotcore.provision.identity import Identity, NewKey, keep_key, kept_key, load, new_key, own_certificate, store

log = logging.getLogger(__name__)

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 300.0  # between attempts to get the first certificate: without it nothing is heard of the site
RENEW_RETRY_S = 600.0  # a renewal has half a life's time; for short lives a fiftieth of what is left
LOOK_S = 3600.0  # the longest sleep: the wall clock may be set meanwhile
CONFIRM_LOOK_S = 0.5
CONFIRM_RETRY_S = 60.0  # nothing is lost meanwhile: two certificates are good instead of one
TRIES = 3  # of one new certificate; a broker that is down is not a broker that refuses it
SPARE_MS = 60_000.0  # a certificate with less left than this counts as none

STILL_OUT = ("pending", "unreachable", "http_429", "http_503")  # nothing was decided: the same request goes out again

Switch = Callable[[Path], Awaitable[str]]
Ours = Callable[[x509.Certificate], bool]


class Source(Protocol):
    """Where certificates come from; both raise EnrolmentError, or another IotError that trying again may mend."""

    async def first(self, key: NewKey) -> x509.Certificate:
        """The first certificate, for a gateway that has none."""

    async def renewed(self, key: NewKey, current: Identity) -> x509.Certificate:
        """Another one for the holder of `current`."""

    async def confirmed(self, current: Identity) -> None:
        """A broker has let `current` in: those before it may end. A second time changes nothing."""


@dataclass(frozen=True, slots=True)
class OverEst:
    """At a site: a one-time token for the first, the certificate itself for the next."""

    server: EstServer
    anchor: Anchor
    gateway: str
    token: str

    async def first(self, key: NewKey) -> x509.Certificate:
        if not self.token:
            raise EnrolmentError(
                "token", f"no {self.anchor.value} certificate, and no token to get one: set gateway.{self.anchor.value}_token"
            )
        answer = await asyncio.to_thread(self.server.enrol, key.request, self.anchor, self.gateway, self.token)
        return own_certificate(answer, key, self.gateway)

    async def renewed(self, key: NewKey, current: Identity) -> x509.Certificate:
        answer = await asyncio.to_thread(self.server.renew, key.request, self.anchor, current.file)
        return own_certificate(answer, key, self.gateway)

    async def confirmed(self, current: Identity) -> None:
        await asyncio.to_thread(self.server.confirm, current.file)


@dataclass(frozen=True, slots=True)
class AtHand:
    """Beside the core: the authority is at hand. `record` keeps what was issued, `confirm(serial)` which one has connected."""

    authority: Callable[[], Authority]
    anchor: Anchor
    gateway: str
    record: Callable[[IssuedCertificate], Awaitable[None]]
    confirm: Callable[[str], Awaitable[object]]

    async def first(self, key: NewKey) -> x509.Certificate:
        authority = await asyncio.to_thread(self.authority)
        issued = authority.issue_device(self.anchor, key.public, self.gateway)
        await self.record(issued)
        return x509.load_pem_x509_certificate(issued.pem)

    async def renewed(self, key: NewKey, current: Identity) -> x509.Certificate:
        del current
        return await self.first(key)

    async def confirmed(self, current: Identity) -> None:
        await self.confirm(f"{current.certificate.serial_number:x}")


class Upkeep:
    """Keeps one identity of `gateway` in `folder`, of one anchor. `ours`: whether a certificate counts, where that is known."""

    def __init__(
        self, folder: Path, gateway: str, anchor: Anchor, source: Source, clock: Clock, *, ours: Ours = lambda _: True
    ) -> None:
        self.file = folder / f"{gateway}-{anchor.value}.pem"
        self.last_error = ""
        self._next = self.file.with_suffix(".next.pem")
        self._gateway = gateway
        self._anchor = anchor
        self._source = source
        self._clock = clock
        self._ours = ours
        self._current: Identity | None = None
        self._refused = 0
        self._confirmed: Identity | None = None

    def days_left(self) -> float:
        """Until the certificate in use expires; negative when it has, 0 when there is none."""
        return (self._current.expires_ms - self._clock.wall_ms()) / 86_400_000.0 if self._current else 0.0

    async def first(self) -> Path:
        """The file of a valid identity; gets one if there is none, and tries until it has."""
        pause_s = FIRST_RETRY_S
        while True:
            try:
                self._current = self._valid(self.file) or self._promoted() or await self._enrol()
                self.last_error = ""
            except IotError as error:
                self._failed(error, "no certificate yet")
            else:
                return self.file
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)  # noqa: S311 - jitter, not a secret
            pause_s = min(2.0 * pause_s, LONGEST_RETRY_S)

    async def run(self, switch: Switch) -> None:
        """Renew in time, for ever. `switch(file)` goes over to another identity: "", or why it stays with the old one."""
        while True:
            assert self._current is not None, "first() comes first"
            wait_s = (self._current.renew_ms - self._clock.wall_ms()) / 1000.0
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, LOOK_S))
                continue
            try:
                await self.renew(switch)
                self.last_error = ""
            except IotError as error:
                self._failed(error, "not renewed yet")
                left_s = max(0.0, self._current.expires_ms - self._clock.wall_ms()) / 1000.0
                await asyncio.sleep(random.uniform(0.5, 1.0) * min(RENEW_RETRY_S, 1.0 + left_s / 50.0))  # noqa: S311 - jitter

    async def tell(self, connected: Callable[[], bool]) -> None:
        """Have the core know, for ever, which identity a broker has let in. `connected()`: the one in use is in now."""
        said = ""
        while True:
            current = self._current
            if current is not None and current != self._confirmed and connected():
                try:
                    await self._source.confirmed(current)
                except IotError as error:
                    if str(error) != said:
                        log.warning("%s: those before it are not revoked yet: %s", self.file.name, error)
                    said = str(error)
                    await asyncio.sleep(random.uniform(0.5, 1.0) * CONFIRM_RETRY_S)  # noqa: S311 - jitter, not a secret
                else:
                    self._confirmed, said = current, ""
            await asyncio.sleep(CONFIRM_LOOK_S)

    async def renew(self, switch: Switch) -> None:
        """Get the next identity (or take the one that an earlier try left), and use it if the broker takes it.

        Raises:
            IotError: not issued, or not taken; the old one stays in use.
        """
        assert self._current is not None, "first() comes first"
        following = self._valid(self._next)
        if following is None or following.expires_ms <= self._current.expires_ms:
            key = await asyncio.to_thread(new_key, self._gateway)
            following = store(self._next, key, await self._source.renewed(key, self._current))
        said = await switch(self._next)
        if said:
            self._refused += 1
            if self._refused % TRIES == 0:
                self._next.unlink(missing_ok=True)  # the next try asks for another: this one may be what is wrong
            raise EnrolmentError("not_taken", f"the {self._anchor.value} broker does not take the new certificate: {said}")
        self._current = self._promoted()
        assert self._current is not None
        log.info("%s: renewed, good for %.0f days", self.file.name, self.days_left())

    def _promoted(self) -> Identity | None:
        """The next identity in the place of the current one, if there is a valid one."""
        following = self._valid(self._next)
        if following is None:
            return None
        self._next.replace(self.file)
        return Identity(self.file, following.certificate)

    def _valid(self, file: Path) -> Identity | None:
        found = load(file, self._gateway)
        if found is None or found.expires_ms - SPARE_MS <= self._clock.wall_ms():
            return None
        return found if self._ours(found.certificate) else None

    async def _enrol(self) -> Identity:
        """The same key as long as the answer is out: a person may have to approve, and approves a key."""
        asked = self.file.with_suffix(".asked.pem")
        key = kept_key(asked, self._gateway)
        if key is None:
            key = await asyncio.to_thread(new_key, self._gateway)
            keep_key(asked, key)
        try:
            certificate = await self._source.first(key)
        except EnrolmentError as error:
            if error.reason not in STILL_OUT:
                asked.unlink(missing_ok=True)
            raise
        identity = store(self.file, key, certificate)
        asked.unlink(missing_ok=True)
        return identity

    def _failed(self, error: IotError, what: str) -> None:
        if str(error) != self.last_error:
            log.warning("%s: %s: %s", self.file.name, what, error)
        self.last_error = str(error)

"""The keeper's hands on the revocation lists and on the brokers: what the registry wants, carried out within a second."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import IotError
from iotcore.process import home
from iotcore.process.follow import forever
from iotcore.provision import alternate, expiry, revoke
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import BrokerHome, refresh_crl
from iotcore.registry.records import Standing
from iotcore.registry.store import Registry
from iotcore.settings import Settings

LOOK_S = 60.0
SUPERSEDE_S = 60.0  # certificates that newer ones have replaced go on a list together, so often at most
TIDY_S = 3_600.0  # between looks for what may leave the lists
CONCERNS = frozenset({"device", "certificate"})  # kinds of changes
TROUBLE = "revocations are not carried out: devices that were suspended or revoked may stay connected"
log = logging.getLogger(__name__)


class Revoking:
    """One for a keeper: its two callers take turns, so that no older list is written over a newer one."""

    def __init__(self, settings: Settings, clock: Clock, *, supersede_s: float = SUPERSEDE_S) -> None:
        self._supersede_s = supersede_s
        self._superseded_s = -math.inf  # when they last did
        self._put_off = False
        self._tidied_s = -math.inf
        self._settings = settings
        self._clock = clock
        self._turn = threading.Lock()
        self._seen = -1
        self._expiries: list[expiry.Expiry] = []
        self._running_out: set[tuple[str, str]] = set()
        self._external = [name for name in BrokerName if home.broker_settings(settings, name).run == "external"]

    def republish(self) -> None:
        """Sign the lists anew and hand them to the brokers: they must never run out."""
        with self._turn:
            authority = home.authority(self._settings, self._clock)
            authority.republish()
            alternate.refresh(authority, home.given(self._settings))
            for broker in self._homes():
                refresh_crl(authority, broker)

    async def follow(self, registry: Registry) -> None:
        """Carry out what the registry says, at the start and after every change; until cancelled."""
        await forever(lambda: self.once(registry), TROUBLE)

    async def once(self, registry: Registry) -> None:
        """Carry out what changed since the last time; what fails is tried again the next time.

        Raises:
            IotError: it could not be done to the end.
        """
        if self._seen < 0:
            last, concerned = await registry.last_change(), True
        else:
            changes = await registry.changes_after(self._seen)
            last = changes[-1].id if changes else self._seen
            concerned = any(change.kind in CONCERNS for change in changes)
        if concerned or (self._put_off and not self._patient()):
            held = await asyncio.to_thread(self._held)
            await asyncio.to_thread(self._carry_out, await registry.standings(held))
        if self._clock.monotonic_s() - self._tidied_s >= TIDY_S:
            known = await registry.standings(await asyncio.to_thread(self._on_lists))
            ends_ms = {one.certificate.serial: one.certificate.not_after_ms for one in known}
            await asyncio.to_thread(self._tidy, ends_ms)
            self._tidied_s = self._clock.monotonic_s()
        self._seen = last

    def state(self) -> dict[str, Any]:
        """For the keeper's beat: what runs out."""
        return {"running_out": [str(one) for one in self._expiries if one.alarming]}

    def figures(self) -> None:
        """Let Prometheus ask how long each kind of thing still holds."""
        for kind in ("authority", "list", "service"):
            metrics.keeper_left.ask(lambda kind=kind: self._left_s(kind), kind)  # type: ignore[misc]

    async def watch(self) -> None:
        """Look now and every minute, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except (IotError, OSError):
                log.exception("what runs out cannot be looked at")
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """See what runs out, and say it once for each thing that comes to do so."""
        self._expiries = expiry.examined(home.authority(self._settings, self._clock), home.shown(self._settings), self._clock)
        alarming = {(one.kind, one.name): one for one in self._expiries if one.alarming}
        for key in alarming.keys() - self._running_out:
            log.error("%s. %s", alarming[key], expiry.REMEDIES[alarming[key].kind])
        self._running_out = set(alarming)

    def _left_s(self, kind: str) -> float:
        return min((one.left_s for one in self._expiries if one.kind == kind), default=math.nan)

    def _held(self) -> set[str]:
        return revoke.held(revoke.listed(home.authority(self._settings, self._clock)))

    def _on_lists(self) -> set[str]:
        return set(revoke.listed(home.authority(self._settings, self._clock)))

    def _patient(self) -> bool:
        return self._clock.monotonic_s() - self._superseded_s < self._supersede_s

    def _tidy(self, ends_ms: Mapping[str, int]) -> None:
        """Drop from the lists what has run out."""
        with self._turn:
            authority = home.authority(self._settings, self._clock)
            ended = revoke.ended(authority, ends_ms)
            for anchor, serials in ended.items():
                authority.change_lists(anchor, {}, ended=serials)
                log.info("%d certificates that have run out left the %s lists", len(serials), anchor.value)
            alternate.refresh(authority, home.given(self._settings))
            for broker in self._homes() if ended else ():
                refresh_crl(authority, broker)

    def _carry_out(self, standings: Sequence[Standing]) -> None:
        with self._turn:
            authority = home.authority(self._settings, self._clock)
            changes, self._put_off = revoke.carry_out(authority, self._homes(), standings, patient=self._patient())
            alternate.refresh(authority, home.given(self._settings))
        if any(change.reason is revoke.Reason.superseded for change in changes):
            self._superseded_s = self._clock.monotonic_s()
        names = {one.certificate.serial: one.certificate.cn for one in standings}
        for change in changes:
            done = f"revoked ({change.reason.value})" if change.reason else "taken off the list again"
            log.warning("the %s certificate %s of %s is %s", change.anchor.value, change.serial, names[change.serial], done)
        for broker in self._external if changes else ():
            log.warning("the %s broker is external: give it the new revocation list, and end these sessions there", broker.value)

    def _homes(self) -> list[BrokerHome]:
        return [home.broker_home(self._settings, name) for name in BrokerName if name not in self._external]

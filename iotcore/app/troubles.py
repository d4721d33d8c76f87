"""What is wrong with devices that no reading of theirs says: certificates that run out, names that two hold.

registry ── certificates ──┐
run/broker-*.json ─ clones ┴──► fire lane: faults of the device, on its page and in the journal
                            ──► keeper: figures, log, audit
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import IotError
from iotcore.journal.faults import Fault
from iotcore.process.serve import beats
from iotcore.provision.acl import BrokerName
from iotcore.provision.expiry import DAY_S, LIMITS_S
from iotcore.registry.directory import Directory
from iotcore.registry.endings import Ending
from iotcore.registry.store import Registry
from iotcore.settings import Settings
from iotcore.wire.topics import FIRE_DOMAIN

LOOK_S = 10.0
ENDING, EXPIRED, CLONED = "certificate_ending", "certificate_expired", "cloned"
FAMILY = frozenset({ENDING, EXPIRED, CLONED})
MOST = 1_000  # devices whose faults are kept; fire devices first
TOLD = 10  # devices in a line of the log, in the beat
LANES = ("fire", "telemetry")
ENDING_S = LIMITS_S["device"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clone:
    """A name that connects from two addresses by turns, at `broker`, since `since_ms` (UTC)."""

    broker: str
    name: str
    addresses: tuple[str, ...]
    since_ms: float


async def endings(registry: Registry, clock: Clock) -> list[Ending]:
    """Whose certificates have run out, or do so within 14 days."""
    return await registry.certificates_ending(int(clock.wall_ms() + ENDING_S * 1000.0))


def clones(settings: Settings, clock: Clock) -> list[Clone]:
    """What the processes of the brokers on this machine say lately."""
    told = beats(settings.folder, clock)
    return [
        Clone(broker.value, one["name"], tuple(one["addresses"]), one["since_ms"])
        for broker in BrokerName
        for one in told.get(f"broker-{broker.value}", {}).get("clones", ())
    ]


def faults(ending: Collection[Ending], cloned: Collection[Clone], directory: Directory, now_ms: float) -> list[Fault]:
    """As faults of devices, those of fire devices first, at most `MOST`."""
    found = [(one.name, CLONED) for one in cloned if one.name in directory.devices]
    found += [(one.device, EXPIRED if one.until_ms <= now_ms else ENDING) for one in ending if one.device in directory.devices]
    fire_first = sorted(dict.fromkeys(found), key=lambda fault: directory.devices[fault[0]].domain != FIRE_DOMAIN)
    return fire_first[:MOST]


async def tell_lane(
    settings: Settings,
    registry: Registry,
    directory: Callable[[], Directory],
    troubled: Callable[[Collection[Fault], Collection[str]], Awaitable[None]],
    clock: Clock,
) -> None:
    """Keep the fire lane's faults as they are, until cancelled; what cannot be read now leaves them as they were."""
    failing = False
    while True:
        try:
            ending, cloned = await endings(registry, clock), await asyncio.to_thread(clones, settings, clock)
            await troubled(faults(ending, cloned, directory(), clock.wall_ms()), FAMILY)
            failing = False
        except IotError as error:
            if not failing:
                log.error("whose certificate runs out cannot be asked; it is tried again: %s", error)  # noqa: TRY400 - expected
            failing = True
        await asyncio.sleep(LOOK_S)


class Watching:
    """The keeper's part: figures, one line of the log for each that begins, one entry of the audit for each clone."""

    def __init__(self, settings: Settings, registry: Registry, directory: Callable[[], Directory], clock: Clock) -> None:
        self._settings = settings
        self._registry = registry
        self._directory = directory
        self._clock = clock
        self._ending: list[Ending] = []
        self._said: dict[tuple[str, str], str] = {}
        self._noted: set[tuple[str, str, float]] = set()

    def figures(self) -> None:
        """Let Prometheus ask."""
        for state in ("ending", "expired"):
            for lane in LANES:
                metrics.keeper_device_certificates.ask(lambda s=state, of=lane: float(self.count(s, of)), state, lane)  # type: ignore[misc]

    def count(self, state: str, lane: str) -> int:
        """Certificates that are `ending` or `expired`, of the devices of a lane."""
        now_ms = self._clock.wall_ms()
        return sum(
            (one.until_ms <= now_ms) == (state == "expired") and self._is_fire(one) == (lane == "fire") for one in self._ending
        )

    def state(self) -> dict[str, Any]:
        """For the keeper's beat, which the doctor reads."""
        first = [f"{one.device} ({one.anchor}) {self._when(one)}" for one in self._ending[:TOLD]]
        counts = {state: sum(self.count(state, lane) for lane in LANES) for state in ("ending", "expired")}
        return {"device_certificates": {**counts, "expired_fire": self.count("expired", "fire"), "first": first}}

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            try:
                await self.look()
            except IotError:
                log.exception("certificates of devices and clones cannot be looked at")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """See what runs out, and who is two; say it once.

        Raises:
            IotError: the registry does not answer.
        """
        self._ending = await endings(self._registry, self._clock)
        now_ms = self._clock.wall_ms()
        found = {(one.device, one.anchor): EXPIRED if one.until_ms <= now_ms else ENDING for one in self._ending}
        self._say({key: state for key, state in found.items() if self._said.get(key) != state})
        self._said = found
        cloned = await asyncio.to_thread(clones, self._settings, self._clock)
        for one in cloned:
            key = (one.broker, one.name, one.since_ms)
            if key not in self._noted:
                said = f"{one.broker} broker: from {', '.join(one.addresses)} by turns"
                await self._registry.note("keeper", "identity.cloned", one.name, said)
        self._noted = {(one.broker, one.name, one.since_ms) for one in cloned}

    def _say(self, fresh: Mapping[tuple[str, str], str]) -> None:
        for state, words in ((EXPIRED, "have run out"), (ENDING, f"run out within {ENDING_S / DAY_S:.0f} days")):
            names = [device for (device, _), one in fresh.items() if one == state]
            if names:
                more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
                level = logging.CRITICAL if state == EXPIRED and any(map(self._fire_name, names)) else logging.WARNING
                log.log(level, "certificates of devices %s: %s%s", words, ", ".join(names[:TOLD]), more)

    def _when(self, one: Ending) -> str:
        days = (one.until_ms - self._clock.wall_ms()) / 1000.0 / DAY_S
        return f"in {days:.1f} days" if days > 0 else f"{-days:.1f} days ago"

    def _is_fire(self, one: Ending) -> bool:
        return self._fire_name(one.device)

    def _fire_name(self, name: str) -> bool:
        binding = self._directory().devices.get(name)
        return binding is not None and binding.domain == FIRE_DOMAIN

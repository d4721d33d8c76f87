"""Telemetry workers: what each owns, what it listens to, and what its process, certificates and spool are called.

    one worker       hears everything on the field broker, and the fire values on the fire broker
    several          worker 1   iot/v1/air/+/up/#  …         its own domains, a filter each
                     worker 2   iot/v1/water/+/up/#  …       its own; and the status of gateways, whose loss is its devices' loss
                     worker 1   svc.telemetry.1.stray        what is said where nobody owns the domain: refused, counted, shown

No shared subscriptions: a device's readings must come to one worker, in order, or its receipts would claim too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iotcore.process.replicas import replicas
from iotcore.provision.acl import UP
from iotcore.settings import Settings
from iotcore.wire.topics import DOMAINS, FIELD_DOMAINS, FIRE_DOMAIN

GATEWAY_DOMAIN = "gateway"
GATEWAY_STATUS = "iot/v1/gateway/+/up/status/+"


def of_domain(domain: str) -> str:
    """The filter of everything that devices of a domain say."""
    return f"iot/v1/{domain}/+/up/#"


# all that a worker may ever subscribe to: a session outlives its process, so whatever of these it does not want it gives up
POSSIBLE = (UP, GATEWAY_STATUS, *(of_domain(domain) for domain in DOMAINS))


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the telemetry workers of an installation; `number` counts from 1."""

    number: int
    domains: frozenset[str]
    alone: bool

    @property
    def name(self) -> str:
        """What its process is called."""
        return "telemetry" if self.alone else f"telemetry-{self.number}"

    @property
    def field_cn(self) -> str:
        """The name of its certificate for the field broker; the session there is kept under it."""
        return f"svc.telemetry.{self.number}.field"

    @property
    def fire_cn(self) -> str:
        """The name of its certificate for the fire broker."""
        return f"svc.telemetry.{self.number}.fire"

    @property
    def stray_cn(self) -> str:
        """The name under which it hears, on the field broker, what belongs to no worker."""
        return f"svc.telemetry.{self.number}.stray"

    @property
    def owns_fire(self) -> bool:
        """Whether it brings the fire values, and the incidents, to the store."""
        return FIRE_DOMAIN in self.domains

    @property
    def hears_strays(self) -> bool:
        """Whether what is said in a domain of nobody's comes to it by a connection of its own; a single worker hears all."""
        return self.number == 1 and not self.alone

    @property
    def field_filters(self) -> tuple[str, ...]:
        """What it subscribes to on the field broker."""
        if self.alone:
            return (UP,)
        own = tuple(of_domain(domain) for domain in FIELD_DOMAINS if domain in self.domains)
        return own if GATEWAY_DOMAIN in self.domains else (*own, GATEWAY_STATUS)

    @property
    def fire_filters(self) -> tuple[str, ...]:
        """What it subscribes to on the fire broker."""
        return (of_domain(FIRE_DOMAIN),) if self.owns_fire else ()

    def clients(self) -> list[str]:
        """The certificates that it needs."""
        return [self.field_cn, *([self.fire_cn] if self.owns_fire else []), *([self.stray_cn] if self.hears_strays else [])]

    def spool(self, folder: Path) -> Path:
        """Its spool file."""
        return folder / f"spool-{self.number}.db"


def given_up(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The filters that an earlier split may have left in a session, and that are no longer wanted."""
    return tuple(one for one in POSSIBLE if one not in wanted)


def workers(settings: Settings) -> list[Worker]:
    """The telemetry workers that the settings ask for."""
    alone = len(settings.telemetry) == 1
    return [Worker(number, frozenset(one.domains), alone) for number, one in enumerate(settings.telemetry, 1)]


def parts(settings: Settings) -> tuple[str, ...]:
    """Every process of the platform but the brokers, by name; fire first."""
    return (*(one.name for one in replicas(settings)), *(worker.name for worker in workers(settings)), "modbus", "web", "keeper")

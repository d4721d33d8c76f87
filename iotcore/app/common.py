"""What several processes are wired from: specs, rules, the registry, brokers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol

from iotcore.alarms import rules as fire_rules
from iotcore.app.receivers import with_secrets
from iotcore.clock import Clock
from iotcore.errors import ConfigError, StartError, StoreError
from iotcore.process import home
from iotcore.process.follow import Follower
from iotcore.process.room import Room
from iotcore.provision import policy
from iotcore.provision.acl import UP, BrokerName
from iotcore.provision.broker import choose
from iotcore.provision.ca import Anchor, IssuedCertificate
from iotcore.registry import vendors
from iotcore.registry.records import Certificate
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from iotcore.specs.load import Specs, load_folder, shipped_folder
from iotcore.specs.model import DeviceSpec
from iotcore.wire.topics import DOMAIN_OF_CLASS

log = logging.getLogger(__name__)

EVERYTHING = (UP,)  # a broker throws away what nobody subscribes to: a device in the wrong place would fall silent unseen


def specs_of(settings: Settings) -> Specs:
    """The device specs of this installation; `check` has refused them whole when one is wrong."""
    return Specs(_specs_folder(settings))


def _specs_folder(settings: Settings) -> Path:
    return Path(settings.specs) if settings.specs else shipped_folder()


def rules_of(settings: Settings, specs: Mapping[str, DeviceSpec]) -> tuple[fire_rules.Rule, ...]:
    """The fire rules of this installation, refused whole when one is wrong or does not fit one of `specs`."""
    path = Path(settings.rules) if settings.rules else fire_rules.default_path()
    loaded = fire_rules.load(path)
    problems = fire_rules.mismatches(loaded, specs, str(path))
    if problems:
        raise ConfigError(problems)
    return loaded


@asynccontextmanager
async def opened(settings: Settings, clock: Clock, room: Room | None = None) -> AsyncIterator[tuple[Registry, Follower]]:
    """The registry, open and read once; closed at the end. With `room`, as soon as the disk has some; else now or never."""
    async with AsyncExitStack() as stack:
        if room is None:
            yield await stack.enter_async_context(_registry(settings, clock))
        else:
            yield await room.enter(stack, lambda: _registry(settings, clock))


@asynccontextmanager
async def _registry(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Registry, Follower]]:
    async with await open_registry(settings.registry_url, clock) as registry:
        follower = Follower(registry, specs_of(settings))
        await follower.refresh()
        yield registry, follower


class Subscriber(Protocol):
    """What of a connection to a broker is asked here (`drivers.mqtt.ingest.Ingest`)."""

    def subscribe(self, filters: Sequence[str]) -> None:
        """Hear these too, in place of those of the last call."""


async def heard(follower: Follower, *ears: tuple[Subscriber, Collection[str]]) -> None:
    """Keep the directory as the registry says, and each lane hearing the vendors' devices of its domains; until cancelled."""

    def follow() -> None:
        for ear, domains in ears:
            ear.subscribe(vendors.filters(follower.directory, domains))

    follow()
    await follower.run(follow)


async def activate(registry: Registry, device: str) -> None:
    """A device's first accepted reading makes it active; a registry that is down is asked again at the next start."""
    try:
        await registry.activate(device, "ingest")
    except StoreError as error:
        log.warning("%s could not be marked active: %s", device, error)


def check(settings: Settings) -> None:
    """Refuse a bad configuration as a whole before anything starts: specs, rules, brokers."""
    rules_of(settings, load_folder(_specs_folder(settings)))
    with_secrets(settings)
    for name in BrokerName:
        broker = home.broker_settings(settings, name)
        if choose(broker.run) == "amqtt" and broker.password_port:
            raise StartError(
                f"The embedded {name.value} broker has no password listener (brokers.{name.value}.password_port)",
                "Install Mosquitto, or set the port to 0.",
            )


def version_of(settings: Settings, name: BrokerName) -> Literal["5", "3.1.1"]:
    """The MQTT version of a broker: the embedded amqtt knows 3.1.1 only."""
    return "3.1.1" if choose(home.broker_settings(settings, name).run) == "amqtt" else "5"


def ingest_version(settings: Settings, name: BrokerName) -> Literal["5", "3.1.1", "auto"]:
    """What a consumer speaks to a broker: what we know of those we run, else whatever it has."""
    return "auto" if home.broker_settings(settings, name).run == "external" else version_of(settings, name)


def recorded(issued: IssuedCertificate) -> Certificate:
    """An issued certificate as the registry keeps it."""
    key = policy.hash_of_certificate(issued.pem)
    return Certificate(issued.serial, issued.cn, issued.anchor.value, int(issued.not_after_ms), issued.fingerprint, key=key)


def anchors_of(specs: Mapping[str, DeviceSpec], model: str) -> tuple[str, ...]:
    """Of which anchors a device of this model may have a certificate, its usual one first."""
    if model not in specs:
        return ()
    domain = DOMAIN_OF_CLASS[specs[model].device_class]
    if domain == "gateway":
        return (Anchor.FIELD.value, Anchor.FIRE.value)
    return (Anchor.FIRE.value,) if domain == "fire" else (Anchor.FIELD.value,)

"""What an operator does from the command line: make tokens, look at devices and incidents, take and reset them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime

import msgspec

from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.errors import Refused
from iotcore.journal.database import connect_readonly
from iotcore.journal.timeline import incidents as read_incidents
from iotcore.process import home
from iotcore.provision import vendor_access
from iotcore.registry import vendors
from iotcore.registry.records import IntentKind, State
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import Settings
from iotcore.web.view import StoredView

UNPROVEN = "unproven, no receipt"  # of a vendor's MQTT device
BY = "iotcore"  # who stands in the audit when the command line acts


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Registry]:
    """The registry, closed at the end."""
    home.check_folder(settings.folder)
    registry = await open_registry(settings.registry_url, SystemClock())
    try:
        yield registry
    finally:
        await registry.close()


async def give_credential(settings: Settings, device: str) -> str:
    """A new password for a vendor's device or gateway, in place of the one before; shown here once and stored hashed.

    Raises:
        Refused: `no_vendor` for a device that has no vendor's topics, or why the registry gives it none.
    """
    secret = vendor_access.new_secret()
    async with opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
        ours = [b for b in directory.devices.values() if vendors.is_vendor(b) and device in (b.device, b.publisher)]
        if device in directory.devices and not ours:
            raise Refused("no_vendor", f"{device!r} speaks our own contract: it needs a token, for a certificate")
        if ours and all(b.publisher != device for b in ours):
            raise Refused("no_vendor", f"{device!r} stands behind {ours[0].publisher!r}: that one needs the password")
        await registry.keep_credential(device, vendor_access.hashed(secret), BY)
    return secret


async def revoke_credential(settings: Settings, device: str) -> bool:
    """Take the password of a vendor's device away; whether it had one."""
    async with opened(settings) as registry:
        return await registry.revoke_credential(device, BY)


async def revoke_certificates(settings: Settings, device: str) -> list[str]:
    """Mark every certificate of a device as revoked, for the keeper to carry out; the serials of those that were not yet.

    Those that have run out too: on the alternate path they still raise alarms (docs/alternate-path.md).

    Raises:
        Refused: `unknown_device` for a name that has no certificate and is no device.
    """
    async with opened(settings) as registry:
        certificates = await registry.certificates(device)
        if not certificates and device not in (await registry.directory(common.specs_of(settings))).devices:
            raise Refused("unknown_device", f"{device!r} is not registered; `iotcore devices` lists all that are")
        return [one.serial for one in certificates if await registry.revoke_certificate(one.serial, BY)]


async def set_state(settings: Settings, device: str, state: State) -> bool:
    """Move a device along its life; whether it moved."""
    async with opened(settings) as registry:
        return await registry.set_state(device, state, BY)


async def devices(settings: Settings) -> list[dict[str, object]]:
    """All devices, a row each, with what is odd about how they deliver."""
    async with opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
    with closing(StoredView(settings.folder, lambda: directory)) as view:
        conduct = view.conduct()
    return [
        {
            "device": b.device,
            "title": b.title,
            "model": b.spec.model,
            "state": b.state,
            "premises": b.premises,
            "zone": b.zone,
            "publisher": b.publisher,
            "connection": b.connection,
            "identity": UNPROVEN if vendors.is_vendor(b) else "",
            **{name: value for name, value in conduct.get(b.device, {}).items() if value},
        }
        for b in directory.devices.values()
    ]


def incidents(settings: Settings) -> list[dict[str, object]]:
    """The newest incidents with their timelines, a row each."""
    path = settings.folder / "journal.db"
    if not path.exists():
        return []
    with closing(connect_readonly(path)) as connection:
        return [{**msgspec.to_builtins(one), "latencies_ms": one.latencies_ms()} for one in read_incidents(connection)]


def moment(at_ms: float | None) -> str:
    """A time in UTC as people read it; a dash for none."""
    return "–" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000.0, UTC):%Y-%m-%d %H:%M:%SZ}"


async def intend(settings: Settings, kind: IntentKind, incident: str, by: str) -> None:
    """Ask the fire lane to acknowledge or reset; it applies intents within a fraction of a second."""
    async with opened(settings) as registry:
        await registry.intent(kind, incident, by)

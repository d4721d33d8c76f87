"""What an operator does from the command line: passwords and certificates of devices, their life, taking and ending incidents.

The audit names whoever is at the command line (`who`).
"""

from __future__ import annotations

from iotcore.app import common
from iotcore.commands import office, who
from iotcore.errors import Refused
from iotcore.provision import vendor_access
from iotcore.registry import vendors
from iotcore.registry.records import IntentKind, State
from iotcore.settings import Settings


async def give_credential(settings: Settings, device: str) -> str:
    """A new password for a vendor's device or gateway, in place of the one before; shown here once and stored hashed.

    Raises:
        Refused: `no_vendor` for a device that has no vendor's topics, or why the registry gives it none.
    """
    secret = vendor_access.new_secret()
    async with office.opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
        ours = [b for b in directory.devices.values() if vendors.is_vendor(b) and device in (b.device, b.publisher)]
        if device in directory.devices and not ours:
            raise Refused("no_vendor", f"{device!r} speaks our own contract: it needs a token, for a certificate")
        if ours and all(b.publisher != device for b in ours):
            raise Refused("no_vendor", f"{device!r} stands behind {ours[0].publisher!r}: that one needs the password")
        await registry.keep_credential(device, vendor_access.hashed(secret), await who.by(settings, registry.database))
    return secret


async def revoke_credential(settings: Settings, device: str) -> bool:
    """Take the password of a vendor's device away; whether it had one."""
    async with office.opened(settings) as registry:
        return await registry.revoke_credential(device, await who.by(settings, registry.database))


async def revoke_certificates(settings: Settings, device: str) -> list[str]:
    """Mark every certificate of a device as revoked, for the keeper to carry out; the serials of those that were not yet.

    Those that have run out too: on the alternate path they still raise alarms (docs/alternate-path.md).

    Raises:
        Refused: `unknown_device` for a name that has no certificate and is no device.
    """
    async with office.opened(settings) as registry:
        certificates = await registry.certificates(device)
        if not certificates and device not in (await registry.directory(common.specs_of(settings))).devices:
            raise Refused("unknown_device", f"{device!r} is not registered; `iotcore devices` lists all that are")
        by = await who.by(settings, registry.database)
        return [one.serial for one in certificates if await registry.revoke_certificate(one.serial, by)]


async def set_state(settings: Settings, device: str, state: State) -> bool:
    """Move a device along its life; whether it moved."""
    async with office.opened(settings) as registry:
        return await registry.set_state(device, state, await who.by(settings, registry.database))


async def intend(settings: Settings, kind: IntentKind, incident: str, by: str) -> None:
    """Ask the fire lane to acknowledge or reset; it applies intents within a fraction of a second.

    `by` is who it says, where it is not known who is at the command line (`who.named`). Raises Refused(`bad_token`).
    """
    async with office.opened(settings) as registry:
        await registry.intent(kind, incident, await who.named(settings, registry.database, by))

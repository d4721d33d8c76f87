"""Passwords of vendors' devices: one for each device, kept as a hash, made anew or taken away at any time.

A device that can show a certificate has none: the password would be a second, weaker way to be it.
All functions run inside the caller's transaction.
"""

from __future__ import annotations

from iotcore.errors import Refused
from iotcore.registry import states
from iotcore.registry.database import Writing
from iotcore.registry.tables import CertificateRow, CredentialRow, DeviceRow
from iotcore.registry.tokens import ENROLLABLE


async def keep(work: Writing, device: str, hashed: str, by: str) -> None:
    """Keep a device's password, in place of the one before; a registered device becomes provisioned by it.

    Raises:
        Refused: `unknown_device`, `not_enrollable` for one that is suspended or retired, `has_certificate`.
    """
    row = await DeviceRow.get_or_none(id=device, using_db=work.db)
    if row is None:
        raise Refused("unknown_device", f"{device!r} is not registered")
    if row.state not in ENROLLABLE:
        raise Refused("not_enrollable", f"{device!r} is {row.state}")
    proven = CertificateRow.filter(cn=device, revoked_ms=None, not_after_ms__gt=work.now_ms)
    if await proven.using_db(work.db).exists():
        raise Refused("has_certificate", f"{device!r} can show a certificate; revoke that first")
    before = await CredentialRow.filter(device_id=device).using_db(work.db).delete()
    await CredentialRow.create(using_db=work.db, device_id=device, hash=hashed, made_ms=work.now_ms)
    work.note(by, "credential.rotate" if before else "credential.create", device)
    work.changed("credential", device)
    await states.move_from(work, device, "registered", "provisioned", by)


async def remove(work: Writing, device: str, by: str) -> bool:
    """Take a device's password away; False when it has none."""
    if not await CredentialRow.filter(device_id=device).using_db(work.db).delete():
        return False
    work.note(by, "credential.revoke", device)
    work.changed("credential", device)
    return True

"""A device's life: registered → provisioned → active ⇄ suspended → retired, one step at a time.

All functions run inside the caller's transaction.
"""

from __future__ import annotations

from iotcore.errors import Refused
from iotcore.registry.database import Writing
from iotcore.registry.records import NEXT_STATES, Certificate
from iotcore.registry.tables import CertificateRow, DeviceRow


async def move(work: Writing, device: str, state: str, by: str) -> bool:
    """Take a step; False when the device is there already.

    Raises:
        Refused: `unknown_device`, or `transition` for a step that its life does not have.
    """
    row = await DeviceRow.get_or_none(id=device, using_db=work.db)
    if row is None:
        raise Refused("unknown_device", f"{device!r} is not registered")
    if row.state == state:
        return False
    if state not in NEXT_STATES[row.state]:
        allowed = ", ".join(sorted(NEXT_STATES[row.state])) or "nothing"
        raise Refused("transition", f"{device!r} is {row.state}; from there it can become: {allowed}")
    await DeviceRow.filter(id=device).using_db(work.db).update(state=state)
    work.note(by, "device.state", device, before=row.state, after=state)
    work.changed("device", device)
    return True


async def move_from(work: Writing, device: str, before: str, after: str, by: str) -> bool:
    """Take the step from `before` to `after`; False, and nothing done, for a device in any other state or an unknown one."""
    row = await DeviceRow.get_or_none(id=device, state=before, using_db=work.db)
    return row is not None and await move(work, device, after, by)


async def certify(work: Writing, certificate: Certificate, by: str) -> None:
    """Keep an issued certificate; a registered device becomes provisioned by it."""
    await CertificateRow.create(
        using_db=work.db,
        serial=certificate.serial,
        cn=certificate.cn,
        anchor=certificate.anchor,
        not_after_ms=certificate.not_after_ms,
        fingerprint=certificate.fingerprint,
        issued_ms=work.now_ms,
        key=certificate.key or None,
    )
    work.note(by, "certificate.issue", certificate.cn, serial=certificate.serial, anchor=certificate.anchor)
    work.changed("certificate", certificate.cn)
    await move_from(work, certificate.cn, "registered", "provisioned", by)


async def revoke(work: Writing, serial: str, by: str) -> bool:
    """Mark a certificate as revoked; False when it is unknown or was revoked before."""
    row = await CertificateRow.get_or_none(serial=serial, revoked_ms=None, using_db=work.db)
    if row is None:
        return False
    await CertificateRow.filter(serial=serial).using_db(work.db).update(revoked_ms=work.now_ms)
    work.note(by, "certificate.revoke", row.cn, serial=serial)
    work.changed("certificate", row.cn)
    return True

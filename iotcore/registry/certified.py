"""Writing what was granted: rights used up, certificates, states, audit; a statement for a batch where there can be one.

All functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from tortoise.expressions import F

from iotcore.registry import credentials
from iotcore.registry.asked import Admitted, Asked, ByCertificate
from iotcore.registry.database import Writing
from iotcore.registry.facts import ISSUED
from iotcore.registry.records import Certificate
from iotcore.registry.tables import CertificateRow, CredentialRow, DeviceRow, TokenRow
from iotcore.registry.tables_enrolment import BatchTokenRow, ClaimRow, RequestRow

BY = "est"  # who stands in the audit when a right of a device's own was used

Granted = Sequence[tuple[Asked, Admitted, Certificate]]


async def write(work: Writing, granted: Granted) -> None:
    """Keep all of it; who was registered becomes provisioned, and loses its password if it had one."""
    if not granted:
        return
    await _use_up(work, granted)
    rows = []
    for asked, admitted, one in granted:
        rows.append(
            CertificateRow(
                serial=one.serial, cn=one.cn, anchor=one.anchor, not_after_ms=one.not_after_ms, fingerprint=one.fingerprint,
                issued_ms=work.now_ms, key=asked.key,
            )
        )  # fmt: skip
        by = asked.right.holder if isinstance(asked.right, ByCertificate) else BY
        work.note(by, "certificate.issue", one.cn, serial=one.serial, anchor=one.anchor, address=asked.address)
        work.changed("certificate", one.cn)
        if admitted.registered:
            work.note(by, "device.state", admitted.device, before="registered", after="provisioned")
            work.changed("device", admitted.device)
    await CertificateRow.bulk_create(rows, using_db=work.db)
    new = sorted({admitted.device for _, admitted, _ in granted if admitted.registered})
    if new:
        await DeviceRow.filter(id__in=new, state="registered").using_db(work.db).update(state="provisioned")
    names = sorted({admitted.device for _, admitted, _ in granted})
    for name in await CredentialRow.filter(device_id__in=names).using_db(work.db).values_list("device_id", flat=True):
        await credentials.remove(work, str(name), BY)


async def _use_up(work: Writing, granted: Granted) -> None:
    admitted = [one for _, one, _ in granted]
    tokens = sorted(one.token for one in admitted if one.token)
    if tokens:
        await TokenRow.filter(hash__in=tokens).using_db(work.db).update(used_ms=work.now_ms)
    units = sorted(one.claim for one in admitted if one.claim)
    if units:
        await ClaimRow.filter(id__in=units).using_db(work.db).update(spent_ms=work.now_ms)
    approved = sorted(one.request for one in admitted if one.request)
    if approved:
        await RequestRow.filter(id__in=approved).using_db(work.db).update(state=ISSUED)
    for hashed in {one.batch_token for one in admitted if one.batch_token}:
        times = sum(one.batch_token == hashed for one in admitted)
        await BatchTokenRow.filter(hash=hashed).using_db(work.db).update(used=F("used") + times)
    for asked, one, _ in granted:
        if one.token:
            work.note(one.device, "token.use", one.device, token=one.token)
        if one.claim:
            work.note(one.device, "unit.claim", one.device, serial=asked.name, **_token(one.batch_token))


def _token(hashed: str) -> dict[str, str]:
    return {"token": hashed} if hashed else {}

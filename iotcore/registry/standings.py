"""Which certificates are to be refused: what the keeper makes the revocation lists of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import cast

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Q, Subquery

from iotcore.registry import supersede
from iotcore.registry.records import Certificate, Standing, State
from iotcore.registry.tables import CertificateRow, DeviceRow
from iotcore.registry.tables_certs import SupersededRow

AT_ONCE = 500  # serials in one query: SQLite takes 999 values everywhere
OUT = ("suspended", "retired")


async def read(db: BaseDBAsyncClient, now_ms: int, serials: Collection[str]) -> list[Standing]:
    """Certificates in time that are revoked, superseded, or of a suspended or retired device; and those of `serials`."""
    devices = DeviceRow.filter(state__in=OUT).using_db(db).values("id")
    replaced = SupersededRow.all().using_db(db).values("certificate_id")
    refused = Q(revoked_ms__isnull=False) | Q(cn__in=Subquery(devices)) | Q(serial__in=Subquery(replaced))
    found = {row.serial: row for row in await CertificateRow.filter(refused, not_after_ms__gt=now_ms).using_db(db)}
    wanted = sorted(serials)
    for first in range(0, len(wanted), AT_ONCE):
        rows = CertificateRow.filter(serial__in=wanted[first : first + AT_ONCE]).using_db(db)
        found |= {row.serial: row for row in await rows}
    states = await _states(db, {row.cn for row in found.values()})
    superseded = await supersede.moments(db, found.keys())
    return [Standing(_plain(row, superseded), states.get(row.cn, "")) for _, row in sorted(found.items())]


async def refuses(db: BaseDBAsyncClient, serial: str) -> bool:
    """Whether the certificate `serial` is marked as revoked or superseded."""
    revoked = CertificateRow.filter(serial=serial, revoked_ms__isnull=False).using_db(db)
    return await revoked.exists() or bool(await supersede.moments(db, [serial]))


async def certificates(db: BaseDBAsyncClient, cn: str) -> list[Certificate]:
    """Issued certificates, newest first; of one device or service, or all."""
    found = CertificateRow.filter(cn=cn) if cn else CertificateRow.all()
    rows = await found.using_db(db).order_by("-issued_ms", "serial")
    superseded = await supersede.moments(db, [row.serial for row in rows])
    return [_plain(row, superseded) for row in rows]


async def _states(db: BaseDBAsyncClient, names: Iterable[str]) -> dict[str, State]:
    found: dict[str, State] = {}
    wanted = sorted(names)
    for first in range(0, len(wanted), AT_ONCE):
        rows = DeviceRow.filter(id__in=wanted[first : first + AT_ONCE]).using_db(db)
        found |= {row.id: cast("State", row.state) for row in await rows.only("id", "state")}
    return found


def _plain(row: CertificateRow, superseded: Mapping[str, int]) -> Certificate:
    return Certificate(
        row.serial,
        row.cn,
        row.anchor,
        row.not_after_ms,
        row.fingerprint,
        row.issued_ms,
        row.revoked_ms,
        row.key or "",
        superseded.get(row.serial),
    )

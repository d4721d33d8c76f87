"""Which certificates somebody wants refused: what the keeper makes the revocation lists of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import cast

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import Q, Subquery

from iotcore.registry.records import Certificate, Standing, State
from iotcore.registry.tables import CertificateRow, DeviceRow

AT_ONCE = 500  # serials in one query: SQLite takes 999 values everywhere
OUT = ("suspended", "retired")


async def read(db: BaseDBAsyncClient, now_ms: int, serials: Collection[str]) -> list[Standing]:
    """Certificates in time that are revoked, or of a suspended or retired device; and those of `serials`, however they are."""
    devices = DeviceRow.filter(state__in=OUT).using_db(db).values("id")
    refused = Q(revoked_ms__isnull=False) | Q(cn__in=Subquery(devices))
    found = {row.serial: row for row in await CertificateRow.filter(refused, not_after_ms__gt=now_ms).using_db(db)}
    wanted = sorted(serials)
    for first in range(0, len(wanted), AT_ONCE):
        rows = CertificateRow.filter(serial__in=wanted[first : first + AT_ONCE]).using_db(db)
        found |= {row.serial: row for row in await rows}
    states = await _states(db, {row.cn for row in found.values()})
    return [Standing(_plain(row), states.get(row.cn, "")) for _, row in sorted(found.items())]


async def _states(db: BaseDBAsyncClient, names: Iterable[str]) -> dict[str, State]:
    found: dict[str, State] = {}
    wanted = sorted(names)
    for first in range(0, len(wanted), AT_ONCE):
        rows = DeviceRow.filter(id__in=wanted[first : first + AT_ONCE]).using_db(db)
        found |= {row.id: cast("State", row.state) for row in await rows.only("id", "state")}
    return found


def _plain(row: CertificateRow) -> Certificate:
    return Certificate(row.serial, row.cn, row.anchor, row.not_after_ms, row.fingerprint, row.issued_ms, row.revoked_ms)
